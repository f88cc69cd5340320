# SPDX-License-Identifier: Apache-2.0
"""Bad input and bad luck of Python applications on replicas: names, batches, models, settings."""

import subprocess
import textwrap

import pytest
from conftest import PATIENCE_S

PRELUDE = """
import asyncio, threading, time
from manta import serve
from manta.serve.exceptions import RayServeException

serve.start(http_options={"port": 0})

def outcome(function):
    try:
        return function()
    except Exception as error:
        return error

def tell(error):
    print(type(error).__name__, str(error).splitlines()[-1] if str(error) else "")
"""


@pytest.fixture
def driver(python_world, interpreter):
    """driver(code): the lines that it prints."""

    def run(code):
        script = python_world.directory / "bad.py"
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
        return done.stdout.splitlines()

    return run


def test_odd_names_of_applications_and_deployments_work(driver):
    told = driver("""
        @serve.deployment
        class D:
            def __call__(self):
                context = serve.get_replica_context()
                return context.app_name, context.deployment

        for name in ("a b", "ü/ñ 数", "../../etc", "-x", "..", "/", "'\\"$(id);", "x" * 128):
            handle = serve.run(D.options(name=name).bind(), name=name, route_prefix=None)
            assert handle.remote().result() == (name, name), name
            assert serve.get_deployment_handle(name, name).remote().result() == (name, name)
            assert list(serve.status().applications[name].deployments) == [name]
            serve.delete(name)
        print("all", serve.status().applications)
        """)
    assert told == ["all {}"]


def test_names_that_cannot_be_are_refused_before_anything_runs(driver):
    told = driver("""
        deployment = serve.deployment(lambda: 1)
        for name in ("a\\nb", "x" * 129, "a\\0b"):
            tell(outcome(lambda: serve.run(deployment.options(name=name).bind(), route_prefix=None)))
        for name in ("a\\nb", "x" * 300, "a#b", ""):
            tell(outcome(lambda: serve.run(deployment.options(name="d").bind(), name=name, route_prefix=None)))
        tell(outcome(lambda: deployment.options(name="a#b")))
        print(serve.status().applications)
        """)
    assert [line.split()[0] for line in told[:3]] == ["ValueError"] * 3
    assert "1 to 128 bytes, no control characters and no '#'" in told[1]
    assert "control character" in told[3]
    assert "too long" in told[4] or "more than" in told[4]
    assert "'#'" in told[5]
    assert told[6].startswith("RayServeException Application name must a non-empty string")
    assert "must not contain the '#' character" in told[7]
    assert told[8] == "{}"


def test_a_user_config_that_cannot_travel_is_refused_where_it_is_written(driver):
    told = driver("""
        class D:
            def reconfigure(self, config):
                pass

        for config in ({"lock": threading.Lock()}, {"set": {1}}, object(), lambda: 1):
            error = outcome(lambda: serve.deployment(D, user_config=config))
            print(type(error).__name__, "user_config is not JSON-serializable" in str(error))
        """)
    assert told == ["ValidationError True"] * 4


def test_contradictory_options_are_refused_by_name(driver):
    told = driver("""
        class D:
            pass

        for options in (
            {"num_replicas": 2, "autoscaling_config": {"max_replicas": 3}},
            {"autoscaling_config": {"min_replicas": 3, "max_replicas": 2}},
            {"placement_group_strategy": "PACK"},
            {"max_replicas_per_node": 2, "placement_group_bundles": [{"CPU": 1}]},
            {"max_queued_requests": 0},
            {"num_replicas": "many"},
        ):
            error = outcome(lambda: serve.deployment(**options)(D))
            print(isinstance(error, (ValueError, TypeError)), any(name in str(error) for name in options))
        """)
    assert told == ["True True"] * 6


def test_a_batch_that_never_returns_holds_up_nobody_else_and_ends_with_its_application(driver):
    told = driver("""
        @serve.deployment(max_ongoing_requests=32, graceful_shutdown_timeout_s=0.2)
        class D:
            @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
            async def stuck(self, items):
                await asyncio.sleep(3600)

            @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
            async def fine(self, items):
                return items

            async def call(self, method, item):
                return await getattr(self, method)(item)

        handle = serve.run(D.bind(), route_prefix=None)
        waiting = [handle.call.remote("stuck", i) for i in range(6)]
        tell(outcome(lambda: waiting[0].result(timeout_s=0.2)))
        print([handle.call.remote("fine", i).result() for i in range(3)])
        waiting[5].cancel()
        tell(outcome(waiting[5].result))
        serve.delete("default")
        print(all(isinstance(outcome(w.result), Exception) for w in waiting[:5]))
        """)
    assert told[0].startswith("GetTimeoutError")
    assert told[1] == "[0, 1, 2]"
    assert told[2].startswith("RequestCancelledError")
    assert told[3] == "True"


def test_errors_of_a_batch_reach_its_callers_and_name_the_sizes(driver):
    told = driver("""
        @serve.deployment(max_ongoing_requests=32)
        class D:
            @serve.batch(max_batch_size=2, batch_wait_timeout_s=5)
            async def work(self, items):
                if "short" in items:
                    return items[:1]
                if "none" in items:
                    return None
                if "raise" in items:
                    raise OSError("no disk")
                return items

            async def call(self, *items):
                return await asyncio.gather(*map(self.work, items), return_exceptions=True)

        handle = serve.run(D.bind(), route_prefix=None)
        for words in (("short", "x"), ("none", "x"), ("raise", "x"), ("fine", "x")):
            print([str(r).splitlines()[-1] for r in handle.call.remote(*words).result()])
        """)
    assert "input list has length 2 but the returned list has length 1" in told[0]
    assert "OSError" not in told[1]
    assert told[2] == "['no disk', 'no disk']"
    assert told[3] == "['fine', 'x']"


def test_models_that_fail_or_go_while_they_are_used(driver):
    told = driver("""
        class Model:
            def __init__(self, name):
                self.name, self.gone = name, False

            def __del__(self):
                self.gone = True

        @serve.deployment(max_ongoing_requests=32)
        class D:
            def __init__(self):
                self.attempts = 0
                self.gate = asyncio.Event()

            @serve.multiplexed(max_num_models_per_replica=1)
            async def load(self, model_id: str):
                if model_id == "flaky":
                    self.attempts += 1
                    if self.attempts < 3:
                        raise ConnectionError("attempt %d" % self.attempts)
                return Model(model_id)

            async def slow(self):
                model = await self.load(serve.get_multiplexed_model_id())
                self.in_use = True
                await self.gate.wait()
                return model.name

            async def quick(self):
                return (await self.load(serve.get_multiplexed_model_id())).name

            async def open(self):
                self.gate.set()

            async def ready(self):
                return getattr(self, "in_use", False)

            async def bad_id(self):
                return await self.load(7)

        handle = serve.run(D.bind(), route_prefix=None)
        flaky = handle.options(multiplexed_model_id="flaky")
        for _ in range(3):
            result = outcome(flaky.quick.remote().result)
            print(result if isinstance(result, str) else f"{type(result.cause).__name__} {result.cause}")
        using = handle.options(multiplexed_model_id="a").slow.remote()
        while not handle.ready.remote().result():
            time.sleep(0.01)
        print(handle.options(multiplexed_model_id="b").quick.remote().result())
        handle.open.remote().result()
        print(using.result())
        print(type(outcome(handle.quick.remote().result).cause).__name__)
        print(type(outcome(handle.bad_id.remote().result).cause).__name__)
        """)
    assert told == [
        "ConnectionError attempt 1",
        "ConnectionError attempt 2",
        "flaky",
        "b",
        "a",
        "ValueError",
        "TypeError",
    ]


def test_whoever_waits_for_an_answer_hears_of_the_end_of_the_instance(driver):
    told = driver("""
        @serve.deployment(max_ongoing_requests=100, graceful_shutdown_timeout_s=0.2)
        class D:
            async def sleep(self):
                await asyncio.sleep(3600)

            async def pause(self):
                yield 1
                await asyncio.sleep(3600)

            async def many(self):
                for i in range(10**9):
                    yield i

        handle = serve.run(D.bind(), route_prefix=None)
        stream = handle.options(stream=True)
        first, begun = [], threading.Barrier(4)

        def read(items):
            items = iter(items)
            next(items)
            begun.wait()
            first.append(outcome(lambda: [None for _ in items]))

        def wait():
            call = handle.sleep.remote()
            begun.wait()
            first.append(outcome(call.result))

        threads = [threading.Thread(target=wait)]
        threads += [threading.Thread(target=read, args=(s,)) for s in (stream.pause.remote(), stream.many.remote())]
        for thread in threads:
            thread.start()
        begun.wait()
        serve.shutdown()
        for thread in threads:
            thread.join(20)
        print(len(first), all(isinstance(error, Exception) for error in first))
        """)
    assert told == ["3 True"]
