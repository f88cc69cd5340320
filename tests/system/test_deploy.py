# SPDX-License-Identifier: Apache-2.0
"""`manta start`, `manta deploy FILE`, `manta delete`: a service in the foreground and what files make of it.

The file is Ray Serve's; applications of C and of Python stand in it side by side.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import textwrap
import threading

import pytest
from conftest import PATIENCE_S, World, wait_until
from plain_http import get

NAME = "shop"


class Foreground:
    """One `manta start`."""

    def __init__(self, world):
        self.world = world
        self.start()

    def start(self):
        self.said = self.world.directory / "start.log"
        with self.said.open("w") as out:
            self.process = subprocess.Popen(
                [self.world.build / "src/cli/manta", "start", "--name", NAME, "--port", "0", "--proxies", "1"],
                env=self.world.environment,
                stdin=subprocess.DEVNULL,
                stderr=out,
                start_new_session=True,
            )
        line = wait_until(lambda: self.process.poll() is not None or self.look("listens at"), "manta start listens")
        assert line is not True, self.said.read_text()
        self.port = int(line.rpartition(":")[2])

    def look(self, words):
        return next((line for line in self.said.read_text().splitlines() if words in line), None)

    def command(self, *arguments, **options):
        return self.world.command(*arguments, MANTA_INSTANCE=NAME, **options)

    def deploy(self, text, *options):
        """`manta deploy` of a file with this text."""
        (self.world.directory / "file.yaml").write_text(textwrap.dedent(text))
        return self.command("deploy", *options, str(self.world.directory / "file.yaml"))

    def applications(self):
        found = self.world.status(NAME)["applications"]
        return {name: app["status"] for name, app in found.items()}

    def replicas(self, app, deployment):
        found = self.world.status(NAME)["applications"][app]["deployments"][deployment]
        return sorted(replica["pid"] for replica in found["replicas"] if replica["state"] == "RUNNING")

    def get(self, path):
        answer = get(self.port, path)
        return answer.status, answer.body

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def foreground(world):
    service = Foreground(world)
    try:
        yield service
        if service.process.poll() is None:
            assert service.end() == 0
        wait_until(lambda: not world.processes(), "nothing is left")
    finally:
        world.clear()


@pytest.fixture
def service(manta_build):
    with foreground(World(manta_build)) as started:
        yield started


@pytest.fixture
def python_service(python_world):
    with foreground(python_world) as started:
        yield started


def c_file(build, more=""):
    return f"""
        applications:
        - name: noop
          route_prefix: /noop
          import_path: {build}/examples/libnoop.so:noop
        - name: mirror
          route_prefix: /mirror
          import_path: {build}/tests/objects/libmirror.so:mirror
          deployments:
          - name: mirror
            num_replicas: 2
            max_ongoing_requests: 3
        {more}"""


# ---- starting


@pytest.mark.quick
def test_a_service_runs_in_the_foreground_until_it_is_told_to_end(manta_build):
    with foreground(World(manta_build)) as service:
        assert service.applications() == {}
        again = service.command("start", "--name", NAME)
        assert (again.returncode, again.stderr) == (1, f"manta: instance '{NAME}' runs already\n")
        assert service.end(signal.SIGTERM) == 0
        assert service.look("ending; once more to end at once")


def test_what_was_deployed_is_there_when_it_is_started_again(service):
    assert service.deploy(c_file(service.world.build)).returncode == 0
    for pid in service.world.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    service.process.wait()
    wait_until(lambda: not service.world.processes(), "everything is dead")
    service.start()
    wait_until(lambda: service.applications() == {"noop": "RUNNING", "mirror": "RUNNING"}, "all runs again")
    # It is still known that a file brought them.
    assert service.deploy("applications: []").returncode == 0
    assert service.applications() == {}


def test_a_start_ends_when_somebody_else_shuts_the_service_down(service):
    assert service.command("shutdown", "--yes").returncode == 0
    assert service.process.wait(PATIENCE_S) == 0
    assert service.look(f"instance '{NAME}' has ended")


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--nonsense"], ["file.yaml"]])
def test_a_start_that_makes_no_sense_is_refused(manta_world, arguments):
    done = manta_world.command("start", *arguments)
    assert done.returncode == 2 and "See `manta start --help`." in done.stderr


# ---- deploying


@pytest.mark.quick
def test_a_file_runs_what_it_says_and_the_same_again_changes_nothing(service):
    done = service.deploy(c_file(service.world.build))
    assert done.returncode == 0, done.stderr
    assert f"application 'noop' is RUNNING at http://127.0.0.1:{service.port}/noop" in done.stderr
    assert service.get("/noop") == (200, b"Hello, world!")
    before = service.replicas("mirror", "mirror")
    assert len(before) == 2
    again = service.deploy(c_file(service.world.build))
    assert again.returncode == 0, again.stderr
    assert service.replicas("mirror", "mirror") == before


def test_only_what_differs_is_touched_and_what_is_missing_is_deleted(service):
    build = service.world.build
    assert service.deploy(c_file(build)).returncode == 0
    alone = service.command("run", "--non-blocking", "--name", "alone", "--route-prefix", "/alone",
                            f"{build}/examples/libnoop.so:noop")  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    noop, mirror = service.replicas("noop", "noop"), service.replicas("mirror", "mirror")
    done = service.deploy(c_file(build).replace("num_replicas: 2", "num_replicas: 3"))
    assert done.returncode == 0, done.stderr
    assert service.replicas("noop", "noop") == noop
    assert set(service.replicas("mirror", "mirror")) > set(mirror)
    done = service.deploy(f"""
        applications:
        - name: mirror
          route_prefix: /noop
          import_path: {build}/tests/objects/libmirror.so:mirror
        """)
    assert done.returncode == 0, done.stderr
    assert "application 'noop' is not in the file: it is deleted" in done.stderr
    assert service.applications() == {"mirror": "RUNNING", "alone": "RUNNING"}
    assert service.get("/noop")[0] == 200 and service.get("/mirror")[0] == 404


def test_one_that_fails_does_not_keep_the_others_from_running(service):
    build = service.world.build
    done = service.deploy(f"""
        applications:
        - {{name: good, route_prefix: /good, import_path: "{build}/examples/libnoop.so:noop"}}
        - {{name: gone, route_prefix: /gone, import_path: "{build}/examples/libnothing.so:noop"}}
        - {{name: none, route_prefix: /none, import_path: "{build}/examples/libnoop.so:nothing"}}
        - {{name: crash, route_prefix: /crash, import_path: "{build}/tests/objects/liblife.so:build_crashes"}}
        - name: over
          route_prefix: /over
          import_path: {build}/examples/libnoop.so:noop
          deployments: [{{name: nobody}}]
        - {{name: start, route_prefix: /start, import_path: "{build}/tests/objects/liblife.so:open_fails"}}
        - {{name: again, route_prefix: /again, import_path: "{build}/tests/objects/liblife.so:open_fails"}}
        """)
    assert done.returncode == 1
    assert "there is no shared object" in done.stderr
    assert "has no application 'nothing'" in done.stderr
    assert "its builder was ended by signal 6 (SIGABRT)" in done.stderr
    assert "Deployment 'nobody' does not exist. Available: ['noop']" in done.stderr
    for name in ("start", "again"):
        assert re.search(rf"application '{name}' is DEPLOY_FAILED: .*failed to start", done.stderr)
    assert service.get("/good") == (200, b"Hello, world!")
    found = service.applications()
    assert found.pop("good") == "RUNNING" and set(found.values()) == {"DEPLOY_FAILED"} and len(found) == 6
    # Each of them says why in the status, too.
    told = service.world.status(NAME)["applications"]
    assert "nobody" in told["over"]["message"] and told["over"]["source"] == "declarative"
    # What failed is tried again by the next deploy, and goes with a file that lacks it.
    done = service.deploy(f"""
        applications:
        - {{name: none, route_prefix: /none, import_path: "{build}/examples/libnoop.so:noop"}}
        """)
    assert done.returncode == 0, done.stderr
    assert service.applications() == {"none": "RUNNING"}


def test_a_wrong_file_changes_nothing_and_says_where(service):
    assert service.deploy(c_file(service.world.build)).returncode == 0
    before = service.replicas("mirror", "mirror"), service.applications()
    done = service.deploy("""
        applications:
        - import_path: a.b
          deployments:
          - name: x
            num_replica: 3
            max_ongoing_requests: many
        """)
    assert done.returncode == 2
    file = service.world.directory / "file.yaml"
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"{file}:6: applications[0].deployments[0]: the deployment has no key 'num_replica'; it has name,")
    assert lines[1] == (f"{file}:7: applications[0].deployments[0].max_ongoing_requests: 'many' is not a whole number from "
                        "1 to 1000000")  # fmt: skip
    assert lines[2] == "manta: the file is wrong: nothing was changed"
    assert (service.replicas("mirror", "mirror"), service.applications()) == before


def test_a_route_that_another_application_has_is_refused_whole(service):
    build = service.world.build
    alone = service.command("run", "--non-blocking", "--name", "alone", "--route-prefix", "/mirror",
                            f"{build}/examples/libnoop.so:noop")  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    done = service.deploy(c_file(build))
    assert done.returncode == 1
    assert 'Prefix /mirror is being used by application "alone". Failed to deploy application "mirror".' in done.stderr
    assert service.applications() == {"alone": "RUNNING"}


def test_a_deploy_need_not_wait_and_waits_no_longer_than_it_is_told(service):
    build = service.world.build
    file = f"applications: [{{import_path: '{build}/tests/objects/liblife.so:open_hangs'}}]"
    assert service.deploy(file, "--no-wait").returncode == 0
    assert service.applications() == {"default": "DEPLOYING"}
    done = service.deploy(file, "--timeout-s", "1")
    assert done.returncode == 1 and "not everything runs within --timeout-s" in done.stderr
    assert service.deploy("applications: []").returncode == 0
    assert service.applications() == {}


def test_without_a_service_it_is_said_what_to_do(manta_world):
    file = manta_world.directory / "file.yaml"
    file.write_text("applications: []")
    done = manta_world.command("deploy", str(file))
    assert done.returncode == 1
    assert "no instance 'default' is running" in done.stderr and "start one first: `manta start`" in done.stderr


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        ([], 2, "say which file"),
        (["a.yaml", "key=value"], 2, "application arguments cannot be specified for a file"),
        (["--timeout-s", "long", "a.yaml"], 2, "--timeout-s is 'long'"),
        (["/nowhere/a.yaml"], 1, "/nowhere/a.yaml: No such file or directory"),
        (["/"], 1, "/: Is a directory"),
    ],
)
def test_a_deploy_that_makes_no_sense_is_refused(manta_world, arguments, code, words):
    done = manta_world.command("deploy", *arguments)
    assert done.returncode == code and words in done.stderr, done.stderr


# ---- deleting


def test_applications_are_deleted_by_name(service):
    assert service.deploy(c_file(service.world.build)).returncode == 0
    done = service.command("delete", "noop", "nobody")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "manta: application 'noop' is deleted",
        "manta: there is no application 'nobody'",
    ]
    assert service.applications() == {"mirror": "RUNNING"}
    assert service.command("delete").returncode == 2


# ---- Python

MODULE = """
import os
from manta import serve

@serve.deployment(num_replicas=1, max_ongoing_requests=7)
class Shop:
    def __init__(self, what="nothing"):
        self.what, self.config = what, None
    def reconfigure(self, config):
        self.config = config
    def __call__(self):
        return {"what": self.what, "config": self.config, "colour": os.environ.get("COLOUR")}

def build(args):
    return Shop.bind(args["what"])

app = Shop.bind()
number = 5
"""


@pytest.fixture
def shop(python_service):
    folder = python_service.world.directory / "code"
    folder.mkdir()
    (folder / "shop.py").write_text(MODULE)
    (folder / "broken.py").write_text("def load():\n    import nowhere\n\nload()\n")
    return python_service


def deploy_python(service, text, *options):
    return service.deploy(text, "--app-dir", str(service.world.directory / "code"), *options)


def test_applications_of_python_stand_beside_those_of_c(shop):
    done = deploy_python(shop, f"""
        applications:
        - name: tea
          route_prefix: /tea
          import_path: shop:build
          args: {{what: tea}}
          runtime_env: {{env_vars: {{COLOUR: green}}}}
          deployments:
          - name: Shop
            num_replicas: 2
            user_config: {{leaves: 3}}
        - name: plain
          route_prefix: /plain
          import_path: shop.app
        - name: noop
          route_prefix: /noop
          import_path: {shop.world.build}/examples/libnoop.so:noop
        """)  # fmt: skip
    assert done.returncode == 0, done.stderr
    status, body = shop.get("/tea")
    assert status == 200
    assert json.loads(body) == {"what": "tea", "config": {"leaves": 3}, "colour": "green"}
    assert json.loads(shop.get("/plain")[1]) == {"what": "nothing", "config": None, "colour": None}
    assert shop.get("/noop")[0] == 200
    # The file stands above the code, and what it does not say stays.
    assert len(shop.replicas("tea", "Shop")) == 2 and len(shop.replicas("plain", "Shop")) == 1
    before = shop.replicas("tea", "Shop")
    text = (shop.world.directory / "file.yaml").read_text()
    assert deploy_python(shop, text).returncode == 0
    assert shop.replicas("tea", "Shop") == before
    # What need not restart them is told to them.
    assert deploy_python(shop, text.replace("leaves: 3", "leaves: 4")).returncode == 0
    assert json.loads(shop.get("/tea")[1])["config"] == {"leaves": 4}
    assert shop.replicas("tea", "Shop") == before


def test_what_a_file_deletes_finishes_what_it_had(shop):
    (shop.world.directory / "code/slow.py").write_text(textwrap.dedent("""
        import asyncio, pathlib
        from manta import serve

        @serve.deployment
        async def slow(request):
            pathlib.Path(request.query_params["mark"]).touch()
            await asyncio.sleep(1)
            return "done"

        app = slow.bind()
        """))
    assert deploy_python(shop, "applications: [{import_path: 'slow:app'}]").returncode == 0
    mark, answers = shop.world.directory / "mark", []
    held = threading.Thread(target=lambda: answers.append(shop.get(f"/?mark={mark}")))
    held.start()
    wait_until(mark.exists, "the request is held")
    assert shop.deploy("applications: []").returncode == 0
    held.join(PATIENCE_S)
    assert answers == [(200, b"done")]
    assert shop.applications() == {}


def test_what_a_module_does_wrong_is_told_with_its_trace(shop):
    done = deploy_python(shop, """
        applications:
        - {name: good, route_prefix: /good, import_path: "shop:app"}
        - {name: broken, route_prefix: /a, import_path: "broken:app"}
        - {name: args, route_prefix: /b, import_path: "shop:app", args: {a: 1}}
        - {name: number, route_prefix: /c, import_path: "shop:number"}
        - {name: absent, route_prefix: /d, import_path: "shop:nothing"}
        - {name: over, route_prefix: /e, import_path: "shop:app", deployments: [{name: Shoe}]}
        - {name: env, route_prefix: /f, import_path: "shop:app", runtime_env: {pip: [numpy]}}
        - {name: rule, route_prefix: /g, import_path: "shop:app", deployments: [{name: Shop, max_replicas_per_node: 1,
           placement_group_bundles: [{CPU: 1}]}]}
        """)  # fmt: skip
    assert done.returncode == 1
    told = {name: app["message"] for name, app in shop.world.status(NAME)["applications"].items()}
    assert told.pop("good") == ""
    assert 'broken.py", line 2, in load' in told["broken"] and "No module named 'nowhere'" in told["broken"]
    assert "Arguments can only be passed to an application builder function" in told["args"]
    assert "Expected a built Serve application" in told["number"]
    assert "has no attribute 'nothing'" in told["absent"]
    assert "Deployment 'Shoe' does not exist. Available: ['Shop']" in told["over"]
    assert "runtime_env.pip: this version of Manta does not support it" in told["env"]
    assert "max_replicas_per_node is not allowed" in told["rule"]
    for message in told.values():
        assert message.splitlines()[-1] in done.stderr
    assert shop.get("/good")[0] == 200


def test_a_module_that_never_ends_is_given_up(shop):
    (shop.world.directory / "code/endless.py").write_text("while True: pass\n")
    done = deploy_python(shop, "applications: [{import_path: 'endless:app'}]", "--build-timeout-s", "1")
    assert done.returncode == 1
    assert "it was not built within 1 s (--build-timeout-s)" in done.stderr
    wait_until(lambda: not [n for n in shop.world.processes().values() if "python" in n], "its process is gone")


def test_a_working_directory_of_this_machine_is_where_code_is_found(python_service):
    folder = python_service.world.directory / "elsewhere"
    folder.mkdir()
    (folder / "shop.py").write_text(MODULE)
    done = python_service.deploy(f"""
        applications:
        - import_path: shop:app
          runtime_env: {{working_dir: "local://{folder}"}}
        """)
    assert done.returncode == 0, done.stderr
    assert python_service.get("/")[0] == 200


def test_a_file_is_deployed_from_python(shop, interpreter):
    script = shop.world.directory / "driver.py"
    script.write_text(textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[1])
        from manta import serve
        from manta.serve.schema import ServeDeploySchema
        config = {"applications": [{"name": "tea", "route_prefix": "/tea", "import_path": "shop:build", "args": {"what": "tea"}}]}
        serve.api.deploy_apps(ServeDeploySchema(**config))
        assert serve.get_app_handle("tea").remote().result()["what"] == "tea"
        assert serve.status().applications["tea"].status == "RUNNING"
        config["applications"][0]["import_path"] = "nowhere:app"
        try:
            serve.api.deploy_apps(config)
            raise SystemExit("a module that is not there was deployed")
        except RuntimeError as error:
            assert "No module named 'nowhere'" in str(error), error
        assert serve.get_app_handle("tea").remote().result()["what"] == "tea"
        """))
    done = subprocess.run(
        [interpreter, script, shop.world.directory / "code"],
        env={**shop.world.environment, "MANTA_INSTANCE": NAME},
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
