# SPDX-License-Identifier: Apache-2.0
"""Programs that import ray.serve, in drivers and in replicas, without Ray: the mode travels."""

import signal
import subprocess
import textwrap

import pytest
from conftest import PATIENCE_S, Running, wait_until
from test_deploy import foreground

APP = """
import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

api = FastAPI()

@serve.deployment
class Inner:
    def __call__(self, x):
        import ray.serve.exceptions
        if x < 0:
            raise ValueError("negative")
        return x + 1

@serve.deployment
@serve.ingress(api)
class Front:
    def __init__(self, inner: DeploymentHandle):
        self.inner = inner

    @api.get("/{x}")
    async def get(self, x: int):
        return {"result": await self.inner.remote(x), "app": serve.get_replica_context().app_name}

    async def call(self, x):
        return await self.inner.remote(x)

app = Front.bind(Inner.bind())
"""


@pytest.fixture
def run_program(python_world, interpreter):
    """run_program(code): a driver under `python -m manta.as_ray_serve`; it must end well."""

    def run(code, *arguments):
        script = python_world.directory / "program.py"
        script.write_text(textwrap.dedent(code))
        done = subprocess.run(
            [interpreter, "-m", "manta.as_ray_serve", script, *arguments],
            env=python_world.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        wait_until(lambda: not python_world.processes(), "all processes of the program end")
        return done.stdout.splitlines()

    return run


def test_a_script_whose_classes_are_its_own_runs_on_replicas(run_program):
    told = run_program(
        APP
        + """
from ray.exceptions import RayTaskError

if __name__ == "__main__":
    ray.init()
    serve.start(http_options={"port": 0})
    handle = serve.run(app, name="own", route_prefix="/own")
    print(ray.get(handle.call.remote(41)))
    try:
        handle.call.remote(-1).result()
    except RayTaskError as error:
        print(isinstance(error, ValueError), type(error.cause).__name__)
    serve.shutdown()
    ray.shutdown()
""",
    )
    assert told == ["42", "True ValueError"]


def test_a_module_that_replicas_import_finds_ray_there(run_program, python_world):
    (python_world.directory / "service.py").write_text(APP)
    told = run_program("""
        import ray, service
        from ray import serve
        serve.start(http_options={"port": 0})
        print(serve.run(service.app).call.remote(1).result())
        """)
    assert told == ["2"]


def test_ray_shutdown_ends_a_private_instance_and_another_can_follow(run_program):
    told = run_program(
        APP
        + """
for round in range(2):
    ray.init(num_cpus=2)
    serve.start(http_options={"port": 0})
    print(serve.run(app, name=f"app{round}").call.remote(round).result(), ray.is_initialized())
    ray.shutdown()
    print(ray.is_initialized(), serve.status().applications)
""",
    )
    assert told == ["1 True", "False {}", "2 True", "False {}"]


def test_manta_run_serves_a_program_written_for_ray_serve(python_world):
    (python_world.directory / "service.py").write_text(APP)
    running = Running(
        python_world, "service:app", (), ("--as-ray-serve", "--app-dir", str(python_world.directory), "--name", "ours")
    )
    try:
        running.await_running()
        assert running.get("/1").json() == {"result": 2, "app": "ours"}
        assert running.end(signal.SIGINT) == 0
    finally:
        running.process.kill()


def test_without_the_mode_manta_run_says_that_ray_is_missing(python_world):
    (python_world.directory / "service.py").write_text(APP)
    done = python_world.command("run", "--port", "0", "--app-dir", str(python_world.directory), "service:app")
    assert done.returncode == 1
    assert "No module named 'ray'" in done.stderr


def test_a_shared_object_is_not_run_as_ray_serve(python_world):
    done = python_world.command("run", "--as-ray-serve", "./lib.so:app")
    assert done.returncode == 2
    assert "--as-ray-serve is for module:application, not for './lib.so:app'" in done.stderr


CONFIG = """
proxy_location: EveryNode
http_options:
  host: 127.0.0.1
  port: 8000
applications:
- name: ours
  route_prefix: /ours
  import_path: service:app
  deployments:
  - name: Inner
    num_replicas: 2
"""


def test_a_file_written_for_serve_deploy_is_deployed(python_world):
    (python_world.directory / "service.py").write_text(APP)
    folder = ("--app-dir", str(python_world.directory))
    with foreground(python_world) as service:
        done = service.deploy(CONFIG, "--as-ray-serve", *folder)
        assert done.returncode == 0, done.stderr
        assert service.get("/ours/41") == (200, b'{"result":42,"app":"ours"}')
        assert len(service.replicas("ours", "Inner")) == 2
        again = service.deploy(CONFIG, *folder)
        assert again.returncode == 1
        assert "No module named 'ray'" in again.stderr
        assert service.get("/ours/1")[0] == 200


def test_an_application_that_blocks_until_ctrl_c_ends_as_in_ray_serve(python_world, interpreter):
    script = python_world.directory / "program.py"
    script.write_text(
        APP + "\nserve.start(http_options={'port': 0})\nserve.run(app, blocking=True)\nprint('never')\n"
    )
    running = subprocess.Popen(
        [interpreter, "-m", "manta.as_ray_serve", script],
        env={**python_world.environment, "MANTA_LOG_TO_STDERR": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said = []
        while not said or "is ready at" not in said[-1]:
            said.append(running.stderr.readline())
            assert said[-1], "".join(said)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE_S)
    finally:
        running.kill()
    assert out == ""
    assert "Got KeyboardInterrupt, exiting..." in err
    assert err.rstrip().endswith("KeyboardInterrupt")
    wait_until(lambda: not python_world.processes(), "all processes of the program end")
