# SPDX-License-Identifier: Apache-2.0
"""Programs that import ``ray.serve`` and get Manta's.  A fresh interpreter per story."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python"
APP = """
import ray
from ray import serve

@serve.deployment
class Adder:
    def __init__(self, base):
        self.base = base

    def __call__(self, x):
        if x < 0:
            raise ValueError("negative")
        return self.base + x

app = Adder.bind(40)
"""


def program(words, paths=(), cwd=None, **variables):
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={
            **variables,
            "PYTHONPATH": os.pathsep.join(map(str, (*paths, PACKAGE))),
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def lines_of(code, paths=()):
    """What a program prints that runs as if with Ray Serve."""
    before = "import manta.as_ray_serve\nmanta.as_ray_serve.install()\n"
    run = program(["-c", before + code], paths)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def error_of(statement):
    """The kind and the text of the error that a statement raises."""
    code = f"""
try:
    exec({statement!r})
except Exception as error:
    print(type(error).__name__)
    print(error)
"""
    kind, text = lines_of(code)
    return kind, text


def test_the_modules_and_classes_are_the_very_same():
    code = """
import ray, ray.serve, ray.serve.handle, ray.serve.config, ray.exceptions, ray.serve.schema
import manta.exceptions, manta.serve.config, manta.serve.handle, manta.serve.schema
import manta.serve
print(ray.serve is manta.serve, ray.serve.handle is manta.serve.handle)
print(ray.serve.config.HTTPOptions is manta.serve.config.HTTPOptions)
print(ray.serve.schema.LoggingConfig is manta.serve.schema.LoggingConfig)
print(ray.exceptions.RayTaskError is manta.exceptions.RayTaskError)
print(manta.serve.__name__, manta.serve.__spec__.name, manta.serve.handle.__spec__.name)
"""
    pytest.importorskip("pydantic")
    assert lines_of(code) == [
        "True True",
        "True",
        "True",
        "True",
        "manta.serve manta.serve manta.serve.handle",
    ]


@pytest.mark.parametrize(
    "first",
    [
        "import ray.serve.deployment",
        "from ray.serve import deployment",
        "import ray.serve.handle as handle; import ray.serve.deployment",
        "import manta.serve.deployment; import ray.serve.deployment; from ray import serve",
    ],
)
def test_the_decorator_is_not_hidden_by_the_module_of_its_name(first):
    code = f"{first}\nimport ray\nfrom ray import serve\nprint(type(serve.deployment).__name__)"
    assert lines_of(code) == ["function"]


def test_a_program_runs_with_its_arguments_and_as_main(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        APP
        + """
import sys
import neighbour
if __name__ == "__main__":
    ray.init()
    handle = serve.run(app, _local_testing_mode=True)
    print(sys.argv[1:], ray.get(handle.remote(2)), ray.get([handle.remote(1)], timeout=30))
    print(neighbour.NAME, sys.modules["__main__"].app is app)
    sys.exit(7)
"""
    )
    (tmp_path / "neighbour.py").write_text("NAME = 'beside'\n")
    run = program(["-m", "manta.as_ray_serve", script, "--flag", "x"])
    assert run.stdout.splitlines() == ["['--flag', 'x'] 42 [41]", "beside True"], run.stderr
    assert run.returncode == 7


def test_a_module_runs_as_main(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "package/entry.py").write_text(
        "import sys\nfrom ray import serve\nprint(__name__, sys.argv[1:], serve.__name__)\n"
    )
    run = program(["-m", "manta.as_ray_serve", "-m", "package.entry", "a"], cwd=tmp_path)
    assert run.stdout == "__main__ ['a'] manta.serve\n", run.stderr


def test_tests_that_were_written_for_ray_serve_run_without_it(tmp_path):
    (tmp_path / "test_service.py").write_text(
        APP
        + """
import pytest

@pytest.fixture(scope="module")
def handle():
    ray.init(num_cpus=2)
    yield serve.run(app)  # Local, because the environment says so.
    serve.shutdown()
    ray.shutdown()

def test_it_adds(handle):
    assert handle.remote(2).result() == 42

def test_it_fails(handle):
    with pytest.raises(ValueError, match="negative"):
        ray.get(handle.remote(-1))
"""
    )
    words = ["-m", "manta.as_ray_serve", "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path]
    run = program(words, RAY_SERVE_FORCE_LOCAL_TESTING_MODE="1")
    assert run.returncode == 0, run.stdout
    assert "2 passed" in run.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "usage: python -m manta.as_ray_serve"),
        (["-m"], "-m wants the name of a module"),
        (["--what"], "unknown option '--what'"),
        (["no/such/program.py"], "no/such/program.py cannot be read: No such file"),
    ],
)
def test_wrong_words_on_the_command_line_are_told(words, told):
    run = program(["-m", "manta.as_ray_serve", *words])
    assert run.returncode == 2
    assert told in run.stderr


def test_the_program_is_compiled_as_if_it_stood_alone(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("def f(x: int): pass\nprint(f.__annotations__['x'] is int)\n")
    assert program(["-m", "manta.as_ray_serve", script]).stdout == "True\n"


def test_an_error_of_the_program_is_the_programs(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("from ray import serve\nraise KeyError('its own')\n")
    run = program(["-m", "manta.as_ray_serve", script])
    assert run.returncode == 1
    assert "program.py\", line 2" in run.stderr
    assert "KeyError: 'its own'" in run.stderr


def test_init_and_shutdown_are_harmless_and_say_so_once():
    code = """
import ray
print(ray.is_initialized())
context = ray.init(address="auto", runtime_env={"pip": ["x"]}, num_cpus=4)
print(ray.is_initialized(), context.dashboard_url)
ray.init(ignore_reinit_error=True)
ray.shutdown()
print(ray.is_initialized())
with ray.init(namespace="serve"):
    print(ray.is_initialized())
print(ray.is_initialized())
try:
    ray.init(); ray.init()
except RuntimeError as error:
    print(str(error)[:38])
"""
    before = "import manta.as_ray_serve\nmanta.as_ray_serve.install()\n"
    run = program(["-c", before + code])
    assert run.stdout.splitlines() == [
        "False",
        "True None",
        "False",
        "True",
        "False",
        "Maybe you called ray.init twice by acc",
    ], run.stderr
    assert run.stderr.count("ray.init() starts nothing") == 1


def test_get_raises_what_rays_does():
    code = (
        APP
        + """
import asyncio
from ray.exceptions import GetTimeoutError

@serve.deployment
class Slow:
    async def __call__(self):
        await asyncio.sleep(60)

handle = serve.run(app, _local_testing_mode=True)
slow = serve.run(Slow.bind(), name="slow", route_prefix="/slow", _local_testing_mode=True)
for ask in (lambda: ray.get(handle.remote(-1)), lambda: ray.get(slow.remote(), timeout=0.05)):
    try:
        ask()
    except (ValueError, GetTimeoutError) as error:
        print(type(error).__name__, isinstance(error, TimeoutError))
try:
    ray.get(7)
except TypeError as error:
    print(error)
"""
    )
    told = lines_of(code)
    assert told[:2] == ["ValueError False", "GetTimeoutError True"]
    assert told[2].startswith("ray.get() takes responses of deployment handles here, got <class 'int'>")


@pytest.mark.parametrize(
    ("statement", "kind", "told"),
    [
        ("import ray; ray.remote", "AttributeError", "ray.remote is not part of Manta"),
        ("import ray; ray.remote", "AttributeError", "make the function or class a deployment"),
        ("from ray import remote", "ModuleNotFoundError", "make the function or class a"),
        ("from ray import train", "ModuleNotFoundError", "training is not part of it"),
        ("import ray.data", "ModuleNotFoundError", "read the data in the deployment"),
        ("import ray.util.metrics", "ModuleNotFoundError", "use ray.serve.metrics"),
        ("import ray; ray.put(1)", "AttributeError", "pass the value itself"),
        ("import ray; ray.nothing", "AttributeError", "only ray.serve, ray.exceptions, init"),
        ("import ray.serve._private.common", "ModuleNotFoundError", "begin with an underscore"),
        ("import ray.serve.nothing", "ModuleNotFoundError", "Manta has no module nothing"),
        ("import ray.serve.llm", "ImportError", "run the engine inside a deployment"),
        ("from ray.serve import llm", "ImportError", "run the engine inside a deployment"),
        ("from ray import serve; serve.llm", "AttributeError", "run the engine inside"),
        ("from ray.serve.request_router import X", "ImportError", "requests are routed by Manta"),
        ("from ray.serve.task_consumer import X", "ImportError", "task consumers are not there"),
        ("import ray.serve.generated.serve_pb2", "ImportError", "gRPC is not served yet"),
        ("from ray.serve import nothing", "ImportError", "cannot import name 'nothing'"),
    ],
)
def test_what_is_not_there_says_what_to_do_instead(statement, kind, told):
    assert error_of(statement)[0] == kind
    assert told in error_of(statement)[1]


def test_an_installed_ray_is_not_looked_at(tmp_path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/__init__.py").write_text("raise RuntimeError('the real one')\n")
    code = "import ray\nfrom ray import serve\nprint(serve.__name__, ray.__version__)"
    assert lines_of(code, [tmp_path]) == ["manta.serve 2.60.0"]


def test_a_ray_that_is_imported_already_is_an_error(tmp_path):
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/__init__.py").write_text("")
    code = "import ray, manta.as_ray_serve\nmanta.as_ray_serve.install()"
    run = program(["-c", code], [tmp_path])
    assert run.returncode == 1
    assert f"Ray itself is imported already, from {tmp_path}/ray/__init__.py" in run.stderr


def test_without_the_mode_ray_is_not_there():
    run = program(["-c", "import manta.serve, manta.as_ray_serve, ray"])
    assert run.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'ray'"


def test_installing_twice_is_harmless():
    code = """
import sys
count = len(sys.meta_path)
manta.as_ray_serve.install()
print(len(sys.meta_path) == count, manta.as_ray_serve.is_installed())
"""
    assert lines_of(code) == ["True True"]
