# SPDX-License-Identifier: Apache-2.0
"""A deployment's LoggingConfig, seen in the log of its replicas."""

from test_python import drive  # noqa: F401 (a fixture)

LOGS = """
import glob, logging
from manta.serve.schema import LoggingConfig

def lines(folder, name):
    found = glob.glob(f"{folder}/replica_default_{name}_*.log")
    return [line for path in found for line in open(path).read().splitlines()]

def await_line(folder, name, text):
    until(lambda: any(text in line for line in lines(folder, name)), f"{text} is in {lines(folder, name)}")
    return next(line for line in lines(folder, name) if text in line)

class Says:
    async def __call__(self, request):
        logger = logging.getLogger("ray.serve")
        logger.debug("a detail")
        logger.info("a word", extra={"colour": "red", "ray_serve_extra_fields": {"size": 3}})
        logger.info("GET / 200", extra={"serve_access_log": True})
        try:
            1 / 0
        except ZeroDivisionError:
            logger.exception("a failure")
        return "said"

def run(name, **config):
    config.setdefault("logs_dir", os.path.join(os.path.dirname(__file__), name))
    serve.run(serve.deployment(name=name, logging_config=LoggingConfig(**config))(Says).bind())
    status, body, _ = get("/", headers={"x-request-id": "my-request"})
    assert (status, body) == (200, b"said")
    return config["logs_dir"]
"""


def test_text_goes_to_the_directory_with_the_request_and_further_attributes(drive):
    drive(
        LOGS
        + """
folder = run("text", log_level="DEBUG", additional_log_standard_attrs=["funcName", "name"])
line = await_line(folder, "text", "a word")
words = line.split()
assert words[0] == "INFO", line
assert words[3:] == ["default_text", words[4], "my-request", "__call__", "manta.serve", "--", "a", "word"], line
assert await_line(folder, "text", "a detail").startswith("DEBUG ")
await_line(folder, "text", "ZeroDivisionError: division by zero")
await_line(folder, "text", "GET / 200")
await_line(folder, "text", "ready: deployment 'text'")  # lines that are not Python's too
"""
    )


def test_json_has_ray_serves_keys(drive):
    drive(
        LOGS
        + """
folder = run("json", encoding="JSON", additional_log_standard_attrs=["process"])
told = json.loads(await_line(folder, "json", "a word"))
assert told.pop("asctime") and told.pop("lineno") > 0 and told.pop("replica") and told.pop("process") > 0
assert told == {
    "levelname": "INFO", "message": "a word", "filename": "driver.py", "request_id": "my-request", "route": "/",
    "application": "default", "deployment": "json", "component_name": "replica", "colour": "red", "size": 3,
}, told
failure = json.loads(await_line(folder, "json", "a failure"))
assert "ZeroDivisionError: division by zero" in failure["exc_text"], failure
assert all(json.loads(line) for line in lines(folder, "json"))
assert not any("a detail" in line for line in lines(folder, "json"))
"""
    )


def test_level_and_access_log_are_the_deployments_own(drive):
    drive(
        LOGS
        + """
quiet = run("quiet", log_level="ERROR")
await_line(quiet, "quiet", "a failure")
assert not any("a word" in line or "ready" in line for line in lines(quiet, "quiet")), lines(quiet, "quiet")
plain = run("plain", enable_access_log=False)
await_line(plain, "plain", "a word")
await_line(plain, "plain", "a failure")
assert not any("GET / 200" in line for line in lines(plain, "plain"))
"""
    )


def test_an_applications_config_is_for_deployments_without_one(drive):
    drive(
        LOGS
        + """
folder = os.path.join(os.path.dirname(__file__), "app")
own = os.path.join(os.path.dirname(__file__), "own")
Outer = serve.deployment(name="outer")(Says)
serve.run(Outer.bind(), logging_config={"logs_dir": folder, "encoding": "JSON"})
assert get("/")[0] == 200
assert json.loads(await_line(folder, "outer", "a word"))["deployment"] == "outer"
serve.run(Outer.options(logging_config={"logs_dir": own}).bind(), logging_config={"logs_dir": folder, "encoding": "JSON"})
assert get("/")[0] == 200
assert await_line(own, "outer", "a word").startswith("INFO ")
"""
    )


def test_lines_outside_of_requests_are_written_too(drive):
    drive(
        LOGS
        + """
class Early:
    def __init__(self):
        logging.getLogger("ray.serve").info("from the constructor")
        threading.Thread(target=logging.getLogger("ray.serve").info, args=("from a thread",)).start()

    async def __call__(self, request):
        return "said"

for encoding in ("TEXT", "JSON"):
    folder = os.path.join(os.path.dirname(__file__), encoding)
    config = LoggingConfig(encoding=encoding, logs_dir=folder)
    serve.run(serve.deployment(name=encoding, logging_config=config)(Early).bind())
    await_line(folder, encoding, "from the constructor")
    await_line(folder, encoding, "from a thread")
"""
    )
