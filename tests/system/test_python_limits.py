# SPDX-License-Identifier: Apache-2.0
"""What replicas cannot do yet is refused before anything runs; what the environment says, they do."""

import subprocess
import textwrap

import pytest
from conftest import PATIENCE_S

PRELUDE = """
import os, sys, urllib.request
from manta import serve

@serve.deployment
class D:
    def __call__(self, request):
        from manta.serve.context import _get_serve_request_context
        scope = request.scope
        return [scope["root_path"], scope["path"], _get_serve_request_context().session_id]

    def thread(self):
        import threading
        return threading.current_thread() is threading.main_thread()

    def environ(self, name):
        return os.environ.get(name)

    def frozen(self):
        import gc
        return gc.get_freeze_count() > 0

class Router:
    pass

def refused(function):
    try:
        function()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
    else:
        print("nothing was refused")
"""


@pytest.fixture
def driver(python_world, interpreter):
    """driver(code, **variables): the lines that it prints."""

    def run(code, **variables):
        script = python_world.directory / "limits.py"
        script.write_text(PRELUDE + textwrap.dedent(code))
        done = subprocess.run(
            [interpreter, script],
            env={**python_world.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout.splitlines()

    return run


def test_options_of_start_that_cannot_be_are_refused_and_nothing_is_started(driver, python_world):
    told = driver("""
        refused(lambda: serve.start(http_options={"ssl_keyfile": "k", "ssl_certfile": "c"}))
        refused(lambda: serve.start(grpc_options={"grpc_servicer_functions": ["m:add_X"]}))
        refused(lambda: serve.start(tracing_config={"enabled": True}))
        refused(lambda: serve.status().applications and None)
        """)
    assert told[0].startswith("NotImplementedError: serve.start: this version of Manta does not support TLS")
    assert "ssl_certfile, ssl_keyfile" in told[0]
    assert "gRPC servicers (grpc_options.grpc_servicer_functions)" in told[1]
    assert "tracing_config.enabled" in told[2]
    assert told[3] == "nothing was refused"
    assert python_world.instances() == []


def test_options_of_deployments_that_cannot_be_are_refused_by_name(driver):
    told = driver("""
        serve.start(http_options={"port": 0})
        refused(lambda: serve.run(D.options(request_router_config={"request_router_class": Router}).bind()))
        actor = {"name": "a", "actor_class": "m:A"}
        refused(lambda: serve.run(D.options(deployment_actors=[actor]).bind()))
        refused(lambda: serve.run(D.options(num_replicas=2, gang_scheduling_config={"gang_size": 2}).bind()))
        print(serve.status().applications)
        """)
    assert [line.partition("does not support ")[2].split(".")[0] for line in told[:3]] == [
        "a custom request router",
        "deployment_actors",
        "gang_scheduling_config",
    ]
    assert all(line.startswith("NotImplementedError: Deployment 'D': this version of Manta") for line in told[:3])
    assert told[3] == "{}"


def test_ways_of_handles_that_are_not_there_are_refused(driver):
    told = driver("""
        import asyncio
        serve.start(http_options={"port": 0})
        handle = serve.run(D.bind(), route_prefix=None)
        refused(lambda: handle.broadcast("thread"))
        async def choose():
            async with handle.choose_replica() as chosen:
                pass
        refused(lambda: asyncio.run(choose()))
        refused(lambda: handle.remote()._to_object_ref_sync())
        refused(lambda: serve.get_deployment_actor("a"))
        """)
    assert told[0].startswith("NotImplementedError: broadcast is not supported")
    assert told[1].startswith("NotImplementedError: choose_replica is not supported")
    assert told[2].startswith("RuntimeError: Converting DeploymentResponses to ObjectRefs is not supported")
    assert told[3].startswith("RayServeException")


def test_root_path_and_session_header_reach_the_replica(driver):
    told = driver(
        """
        serve.start(http_options={"port": 0, "root_path": "/base"})
        serve.run(D.bind(), route_prefix="/a")
        from manta._private import instance
        url = f"http://127.0.0.1:{instance.must_join().http_port}/a/b"
        ask = urllib.request.Request(url, headers={"X-Mine": "s1", "X-Session-Id": "other"})
        print(urllib.request.urlopen(ask).read().decode())
        """,
        RAY_SERVE_SESSION_ID_HEADER_KEY="X-Mine",
    )
    assert told == ['["/base/a","/a/b","s1"]']


@pytest.mark.parametrize(("name", "text"), [("RAY_SERVE_RUN_SYNC_IN_THREADPOOL", "0"), ("OTHER", "0")])
def test_def_methods_run_on_the_loop_where_the_environment_says_so(driver, name, text):
    told = driver(
        """
        serve.start(http_options={"port": 0})
        print(serve.run(D.bind(), route_prefix=None).thread.remote().result())
        """,
        **{name: text},
    )
    assert told == [str(name != "OTHER")]


def test_settings_of_an_instance_reach_its_processes(driver):
    told = driver(
        """
        serve.start(http_options={"port": 0})
        handle = serve.run(D.bind(), route_prefix=None)
        print(handle.environ.remote("MANTA_START_RETRY_LIMIT").result(), os.environ.get("MANTA_START_RETRY_LIMIT"))
        print(handle.frozen.remote().result())
        """,
        RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT="4",
        RAY_SERVE_FREEZE_GC_ON_STARTUP="0",
    )
    assert told == ["4 None", "False"]


def test_a_second_start_says_which_options_it_ignores(driver):
    told = driver("""
        import logging

        class Keep(logging.Handler):
            def emit(self, record):
                if record.levelno >= logging.WARNING:
                    print(record.getMessage())

        logging.getLogger("manta.serve").addHandler(Keep())
        serve.start(http_options={"port": 0, "root_path": "/a"})
        serve.start()
        serve.start(http_options={"port": 0, "root_path": "/a"})
        serve.start(http_options={"port": 0, "root_path": "/b", "request_timeout_s": 3})
        """)
    assert told == [
        "The instance runs already, with other http_options in the following fields: "
        "root_path, request_timeout_s. The new ones are ignored."
    ]
