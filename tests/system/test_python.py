# SPDX-License-Identifier: Apache-2.0
"""Python applications from end to end: drivers that call serve.run, and `manta run module:application`.

Each test is a driver, a program of its own with the interpreter that MANTA_PYTHON names (else
build/python-environment's), run in a world of its own.  What it asserts, it asserts itself; a failed
one shows its trace.
"""

import os
import signal
import subprocess
import textwrap

import pytest
from conftest import PATIENCE_S, ROOT, Running, wait_until

PRELUDE = """
import asyncio, json, os, signal, sys, threading, time, urllib.error, urllib.request
import python_apps as apps
from manta import serve

serve.start(http_options={"port": 0})
from manta._private import instance
PORT = instance.must_join().http_port

def get(path, data=None, headers={}, timeout=30):
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers

def until(condition, what, patience_s=30):
    limit = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.01)
"""


@pytest.fixture
def drive(python_world, interpreter):
    """drive(code): runs a driver to its end; it must end well."""

    def run(code):
        script = python_world.directory / "driver.py"
        script.write_text(PRELUDE + textwrap.dedent(code))
        done = subprocess.run(
            [interpreter, script],
            env=python_world.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        wait_until(lambda: not python_world.processes(), "all processes of the driver end")
        return done

    return run


def test_a_function_answers_http_and_gets_the_request(drive):
    drive("""
        serve.run(apps.greet.bind())
        assert get("/?name=you")[:2] == (200, b"Hello, you!")
        assert get("/")[2]["content-type"] == "text/plain; charset=utf-8"
        """)


def test_a_function_without_parameters_is_called_without_the_request(drive):
    drive("""
        serve.run(apps.constant.bind())
        assert json.loads(get("/")[1]) == {"answer": 42}
        """)


def test_methods_of_a_class_are_called_through_a_handle(drive):
    drive("""
        handle = serve.run(apps.Worker.bind(5, name="n"), route_prefix=None)
        assert handle.remote(1).result() == 6
        assert handle.in_thread.remote(1, extra=2).result() == (3, False)
        assert handle.settings.remote().result() == (None, "n")
        """)


def test_many_threads_call_a_deployment_for_the_first_time(drive):
    drive("""
        out = []
        for round in range(5):
            names = [f"w{round}_{i}" for i in range(2)]
            for name in names:
                serve.run(apps.Worker.bind(5), name=name, route_prefix=None)
            barrier = threading.Barrier(40)

            def call(i):
                handle = serve.get_app_handle(names[i % 2])
                barrier.wait()
                out.append(handle.remote(i).result(timeout_s=30) - i)

            threads = [threading.Thread(target=call, args=(i,)) for i in range(40)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert out == [5] * 200, out
        """)


def test_any_value_travels_and_comes_back_the_same(drive):
    drive("""
        import collections, datetime
        handle = serve.run(apps.worker, route_prefix=None)
        deep = None
        for _ in range(200):
            deep = [deep]
        values = [None, True, -5, 2**80, 1.5, "ü\\ud800", b"\\0", [1, [2]], {"a": {1: 2}}, (1, 2), {3},
                  datetime.date(2020, 1, 1), collections.OrderedDict(a=1), b"x" * 3_000_000,
                  list(range(100_000)), deep, float("inf"), "x" * 70_000, -2**63, 2**63 - 1, 300]
        for value in values:
            back = handle.echo.remote(value).result()
            assert back == value and type(back) is type(value), repr(value)[:100]
        import numpy
        back = handle.echo.remote(numpy.arange(10)).result()
        assert (back == numpy.arange(10)).all()
        function = handle.echo.remote(lambda x: x + 1).result()
        assert function(1) == 2
        """)


def test_classes_of_the_driver_itself_are_sent_along(drive):
    drive("""
        class Point:
            def __init__(self, x):
                self.x = x

        @serve.deployment
        class Local:
            def __init__(self, point):
                self.point = point
            def __call__(self, request):
                return {"x": self.point.x}
            def move(self, point):
                return Point(self.point.x + point.x)

        handle = serve.run(Local.bind(Point(3)))
        assert json.loads(get("/")[1]) == {"x": 3}
        assert handle.move.remote(Point(4)).result().x == 7
        """)


def test_errors_arrive_as_what_they_were_with_their_trace(drive):
    drive("""
        from manta.exceptions import RayTaskError
        handle = serve.run(apps.worker, route_prefix=None)
        for call, kind in ((handle.fail.remote("told"), ValueError), (handle.fail_in_thread.remote(), KeyError)):
            try:
                call.result()
            except kind as error:
                assert isinstance(error, RayTaskError)
                assert "python_apps.py" in str(error)
            else:
                raise AssertionError("no error")
        try:
            handle.nothing.remote().result()
        except Exception as error:
            assert "nothing" in str(error) and "in_thread" in str(error)
        else:
            raise AssertionError("no error")
        """)


def test_an_error_of_a_plain_handler_is_a_500_without_its_trace(drive):
    done = drive("""
        serve.run(apps.front)
        status, body, _ = get("/?what=fail")
        assert (status, body) == (500, b"Internal Server Error"), (status, body)
        """)
    assert "ValueError: downstream" in done.stderr


def test_generators_stream_items_in_order_and_errors_after_them(drive):
    drive("""
        handle = serve.run(apps.worker, route_prefix=None).options(stream=True)
        assert list(handle.count_up.remote(1000)) == list(range(1000))
        assert list(handle.count_in_thread.remote(3)) == [(i, "x" * 10) for i in range(3)]
        assert list(handle.count_up.remote(0)) == []
        seen = []
        try:
            for item in handle.fail_after.remote(3):
                seen.append(item)
        except RuntimeError:
            pass
        else:
            raise AssertionError("no error")
        assert seen == [0, 1, 2]
        """)


def test_deployments_call_each_other_and_keep_the_request_id(drive):
    drive("""
        serve.run(apps.front, name="f", route_prefix="/f")
        assert get("/f")[1] == b"11"
        assert json.loads(get("/f?what=stream")[1]) == [0, 1, 2, 3]
        found = json.loads(get("/f?what=request", headers={"x-request-id": "r1"})[1])
        assert found == ["r1", "/f", "f", ""], found
        """)


def test_a_handler_keeps_one_task_and_its_variables(drive):
    drive("""
        handle = serve.run(apps.worker, route_prefix=None)
        if sys.version_info >= (3, 11):
            assert handle.identity.remote().result() == (True, 7, 1, True)
            assert handle.timeout.remote().result() == "timed out"
        """)


def test_cancelling_a_call_cancels_the_handler(drive):
    drive("""
        from manta.serve.exceptions import RequestCancelledError
        handle = serve.run(apps.worker, route_prefix=None)
        call = handle.sleep.remote(60)
        time.sleep(0.2)
        call.cancel()
        try:
            call.result()
        except RequestCancelledError:
            pass
        until(lambda: handle.cancellations.remote().result() == 1, "the handler is cancelled")
        """)


def test_a_client_that_leaves_cancels_the_whole_tree(drive):
    drive("""
        serve.run(apps.front)
        handle = serve.get_deployment_handle("Worker", "default")
        try:
            get("/?what=sleep", timeout=0.3)
        except (TimeoutError, OSError):
            pass
        until(lambda: handle.cancellations.remote().result() == 1, "the callee is cancelled")
        """)


def test_fastapi_routes_bodies_and_errors(drive):
    drive("""
        serve.run(apps.web, route_prefix="/api")
        assert json.loads(get("/api/items/3?q=x")[1]) == {"item": 3, "q": "x"}
        assert get("/api/items/x")[0] == 422
        assert get("/api/none")[0] == 404
        assert json.loads(get("/api/def")[1]) == {"main": False}
        assert get("/api/teapot")[:2] == (418, b'{"detail":"short and stout"}')
        assert get("/api/boom")[0] == 500
        assert json.loads(get("/api/body", data=b"x" * 3_000_000)[1]) == {"size": 3_000_000}
        assert json.loads(get("/api/body", data=b"")[1]) == {"size": 0}
        assert get("/api/cookies")[2].get_all("set-cookie") == ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"]
        assert b"/api/openapi.json" in get("/api/docs")[1]
        """)


def test_streamed_answers_come_whole_whatever_their_size(drive):
    drive("""
        serve.run(apps.web)
        assert get("/stream?parts=5&size=3")[1] == b"000111222333444"
        body = get("/stream?parts=200&size=100000")[1]
        assert len(body) == 20_000_000
        """)


def test_a_def_handler_that_blocks_does_not_block_the_replica(drive):
    drive("""
        handle = serve.run(apps.worker, route_prefix=None)
        slow = handle.block.remote(1.0)
        begun = time.monotonic()
        assert handle.remote(1).result() == 11
        assert time.monotonic() - begun < 0.9
        slow.result()
        """)


def test_requests_for_a_model_go_where_it_was_loaded(drive):
    drive("""
        handle = serve.run(apps.Models.bind())
        seen = {}
        for _ in range(5):
            for model in "abc":
                seen.setdefault(model, set()).add(handle.options(multiplexed_model_id=model).remote().result())
                answer = get("/", headers={"serve_multiplexed_model_id": model})[1].decode()
                seen[model].add(answer)
        assert {model: len(places) for model, places in seen.items()} == {"a": 1, "b": 1, "c": 1}, seen
        """)


def test_a_stream_is_made_as_fast_as_it_is_read(drive):
    drive("""
        @serve.deployment
        class Source:
            made = 0
            async def items(self, count):
                for self.made in range(count):
                    yield b"x" * 10_000
            async def so_far(self):
                return self.made
        handle = serve.run(Source.bind(), route_prefix=None)
        items = iter(handle.options(stream=True).items.remote(5000))
        next(items)
        before = -1
        while before != (now := handle.so_far.remote().result()):
            before = now
            time.sleep(0.2)
        assert before < 1000, before
        assert sum(1 for _ in items) == 4999
        """)


def test_a_replica_finds_other_applications_of_its_instance_by_their_names(drive):
    drive("""
        @serve.deployment
        class Finder:
            def __init__(self):
                self.worker = serve.get_deployment_handle("Worker", "other")
            async def __call__(self):
                return [await self.worker.remote(1), await serve.get_app_handle("other").remote(2)]
        serve.run(apps.Worker.bind(10), name="other", route_prefix=None)
        assert serve.run(Finder.bind(), name="finder").remote().result() == [11, 12]
        """)


def test_user_config_reaches_reconfigure_and_a_new_one_the_same_process(drive):
    drive("""
        handle = serve.run(apps.Worker.options(user_config={"a": 1}).bind(), route_prefix=None)
        assert handle.settings.remote().result() == ({"a": 1}, "worker")
        first = handle.pid.remote().result()
        handle = serve.run(apps.Worker.options(user_config={"a": 2}).bind(), route_prefix=None)
        assert handle.settings.remote().result() == ({"a": 2}, "worker")
        assert handle.pid.remote().result() == first
        """)


def test_a_user_config_that_reconfigure_refuses_goes_back_and_is_told_with_its_trace(drive):
    drive("""
        handle = serve.run(apps.Ranked.options(user_config={"n": 1}).bind(), route_prefix=None)
        try:
            serve.run(apps.Ranked.options(user_config={"n": "refuse"}).bind(), route_prefix=None)
        except RuntimeError as error:
            assert "ValueError: not this one" in str(error), error
        else:
            raise AssertionError("no error")
        until(lambda: handle.remote().result()["config"] == {"n": 1}, "the old configuration is back")
        deployment = serve.status().applications["default"].deployments["Ranked"]
        assert deployment.status == "DEPLOY_FAILED", deployment
        assert deployment.status_trigger == "REPLICA_STARTUP_FAILED", deployment
        assert "not this one" in deployment.message, deployment
        """)


def test_options_of_a_rollout_are_acted_upon(drive):
    drive("""
        @serve.deployment(max_constructor_retry_count=1)
        class Broken:
            def __init__(self):
                raise OSError("no weights")
        @serve.deployment(ray_actor_options={"runtime_env": {"env_vars": {"MANTA_START_TIMEOUT_MS": "300"}}},
                          max_constructor_retry_count=1)
        class Slow:
            def __init__(self):
                time.sleep(600)
        for thing, words in ((Broken, "failed to start 1 time in a row"), (Slow, "(start_timeout_s)")):
            try:
                serve.run(thing.bind(), name=thing.name, route_prefix=None)
            except RuntimeError as error:
                assert words in str(error), error
            else:
                raise AssertionError("no error")
            found = serve.status().applications[thing.name]
            assert found.status == "DEPLOY_FAILED", found
            assert found.deployments[thing.name].status_trigger == "REPLICA_STARTUP_FAILED", found
        one = apps.Worker.options(max_surge_percent=0, num_replicas=1)
        first = serve.run(one.bind(1), route_prefix=None).pid.remote().result()
        handle = serve.run(one.bind(2), route_prefix=None)  # The old one stops first, and calls wait.
        assert handle.pid.remote().result() != first
        """)


def test_statuses_have_the_triggers_of_ray_serve(drive):
    drive("""
        def told():
            found = serve.status().applications["default"]
            deployment = found.deployments["Worker"]
            return found.status.value, deployment.status.value, deployment.status_trigger.value
        serve.run(apps.Worker.bind(), route_prefix=None)
        assert told() == ("RUNNING", "HEALTHY", "CONFIG_UPDATE_COMPLETED")
        serve.run(apps.Worker.options(num_replicas=2).bind(), route_prefix=None)
        assert told() == ("RUNNING", "HEALTHY", "UPSCALE_COMPLETED")
        handle = serve.run(apps.Worker.options(num_replicas=1).bind(), route_prefix=None)
        assert told() == ("RUNNING", "HEALTHY", "DOWNSCALE_COMPLETED")
        os.kill(handle.pid.remote().result(), 9)
        until(lambda: told() == ("RUNNING", "HEALTHY", "UNSPECIFIED"), "it is replaced")
        handle = serve.run(apps.Worker.options(user_config={"a": 1}).bind(), route_prefix=None)
        assert told() == ("RUNNING", "HEALTHY", "CONFIG_UPDATE_COMPLETED")
        call = handle.sleep.remote(1.5)
        until(lambda: handle.pid.remote().result(), "the call before has begun")
        threading.Thread(target=serve.delete, args=("default",)).start()
        until(lambda: told() == ("DELETING", "UPDATING", "DELETING"), "it drains")
        call.result()
        until(lambda: not serve.status().applications, "it is gone")
        """)


def test_a_user_config_without_reconfigure_is_an_error(drive):
    drive("""
        @serve.deployment(user_config={"a": 1})
        class Deaf:
            def __call__(self):
                return 1
        try:
            serve.run(Deaf.bind(), route_prefix=None)
        except RuntimeError as error:
            assert "missing reconfigure method" in str(error), error
        else:
            raise AssertionError("no error")
        """)


def test_replicas_have_ranks_that_are_made_contiguous_after_a_scale_down(drive):
    drive("""
        def ranks(count):
            found = {}
            def look():
                if len(found) >= count:
                    found.clear()  # One of them has changed since, or ended.
                while len(found) < count:
                    said = handle.remote().result()
                    found[said["pid"]] = said
                have = sorted((s["rank"], s["told"], s["world_size"]) for s in found.values())
                return have == [(n, n, count) for n in range(count)]
            until(look, f"{count} ranks")
            return found
        app = apps.Ranked.options(user_config={"n": 1}, num_replicas=3)
        handle = serve.run(app.bind(), route_prefix=None)
        three = ranks(3)
        assert all(s["is_rank"] for s in three.values()), three
        serve.run(app.options(num_replicas=2).bind(), route_prefix=None)
        two = ranks(2)
        assert set(two) < set(three)
        victim = next(pid for pid, said in two.items() if said["rank"] == 0)
        os.kill(victim, 9)
        def without_victim():
            again = ranks(2)
            return victim not in again
        until(without_victim, "another replica has its rank")
        """)


def test_running_the_same_again_restarts_nothing(drive):
    drive("""
        first = serve.run(apps.worker, route_prefix=None).pid.remote().result()
        assert serve.run(apps.Worker.bind(10), route_prefix=None).pid.remote().result() == first
        assert serve.run(apps.Worker.bind(11), route_prefix=None).pid.remote().result() != first
        """)


def test_several_applications_run_as_one_target(drive):
    drive("""
        target = lambda name, app, prefix: serve.RunTarget(app, name=name, route_prefix=prefix)
        handles = serve.run_many([target("a", apps.Worker.bind(1), "/a"), target("b", apps.Worker.bind(2), "/b")])
        assert [h.remote(1).result() for h in handles] == [2, 3]
        found = serve.status().applications
        assert {name: app.status for name, app in found.items()} == {"a": "RUNNING", "b": "RUNNING"}
        try:  # refused whole, in Ray Serve's words
            serve.run_many([target("c", apps.worker, "/c"), target("d", apps.worker, "/a")])
            raise SystemExit("a route prefix was given away twice")
        except serve.exceptions.RayServeException as error:
            assert str(error) == (
                'Prefix /a is being used by application "a". Failed to deploy application "d".'), error
        assert set(serve.status().applications) == {"a", "b"}
        @serve.deployment
        class Broken:
            def __init__(self):
                raise OSError("no weights")
        try:  # the one that fails is named, the other one runs
            serve.run_many([target("e", apps.worker, "/e"), target("f", Broken.bind(), "/f")])
            raise SystemExit("a constructor that raises was deployed")
        except RuntimeError as error:
            assert str(error).startswith("Deploying application f failed: "), error
            assert "no weights" in str(error)
        assert serve.status().applications["e"].status == "RUNNING"
        """)


def test_a_redeploy_under_load_loses_nothing(drive):
    drive("""
        serve.run(apps.greet.options(num_replicas=2).bind())
        stop, failures, answers = threading.Event(), [], []
        def load():
            while not stop.is_set():
                status, body, _ = get("/")
                (answers if status == 200 else failures).append(body)
        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for n in range(3):
            @serve.deployment(name="greet", num_replicas=2)
            def other(request):
                return f"version {n}"
            serve.run(other.bind())
        until(lambda: answers[-1:] == [b"version 2"], "the last version answers")
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures, failures[:3]
        """)


def test_a_constructor_that_fails_is_told_with_its_trace(drive):
    drive("""
        @serve.deployment
        class Broken:
            def __init__(self):
                raise OSError("no weights")
        try:
            serve.run(Broken.bind())
        except RuntimeError as error:
            assert "no weights" in str(error), error
        else:
            raise AssertionError("no error")
        """)


def test_applications_are_listed_found_and_deleted(drive):
    drive("""
        serve.run(apps.greet.bind(), name="one", route_prefix="/one")
        serve.run(apps.front, name="two", route_prefix="/two")
        status = serve.status()
        assert set(status.applications) == {"one", "two"}
        assert status.applications["two"].status == "RUNNING"
        assert set(status.applications["two"].deployments) == {"Front", "Worker"}
        assert serve.get_app_handle("two").deployment_name == "Front"
        serve.delete("one")
        assert set(serve.status().applications) == {"two"}
        assert get("/one")[0] == 404 and get("/two")[0] == 200
        serve.delete("nothing")
        """)


def test_a_private_instance_ends_with_a_driver_that_is_killed(python_world, interpreter):
    script = python_world.directory / "driver.py"
    script.write_text(PRELUDE + "serve.run(apps.front)\nprint('up', flush=True)\ntime.sleep(600)\n")
    driver = subprocess.Popen(
        [interpreter, script],
        env=python_world.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert driver.stdout.readline() == "up\n"
    assert len(python_world.processes()) > 3
    driver.kill()
    driver.wait()
    wait_until(lambda: not python_world.processes(), "its processes end with it")
    assert python_world.instances() == []


def test_manta_run_runs_a_module(python_world):
    running = Running(python_world, "python_apps:build", ("name=hi",), ("--app-dir", str(ROOT / "tests/system")))
    try:
        running.await_running()
        assert running.get("/?name=cli").text == "Hello, cli!"
        assert running.end(signal.SIGINT) == 0
        assert running.leftovers() == []
    finally:
        running.process.kill()


def test_the_example_does_what_its_page_says(python_world):
    running = Running(python_world, "app:app", (), ("--app-dir", str(ROOT / "examples/python")))
    try:
        running.await_running()
        assert running.get("/score?text=hello").json() == {"text": "hello", "score": 532}
        assert running.get("/count?to=3").text == "0\n1\n2\n"
        assert running.end(signal.SIGINT) == 0
    finally:
        running.process.kill()


@pytest.mark.parametrize("target", ["python_apps:nothing", "no_such_module:app", "python_apps:Worker"])
def test_manta_run_says_what_is_wrong_with_a_target(python_world, target):
    done = python_world.command("run", "--port", "0", target)
    assert done.returncode == 1
    assert target.partition(":")[0] in done.stderr or "Application" in done.stderr or "application" in done.stderr


def test_the_conformance_suite_passes_over_replicas(python_world, interpreter):
    done = subprocess.run(
        [interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", ROOT / "tests/conform/python"],
        env={**python_world.environment, "MANTA_CONFORM": "manta-native", "MANTA_LOG_TO_STDERR": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-5000:]
