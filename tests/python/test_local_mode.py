# SPDX-License-Identifier: Apache-2.0
"""Local testing mode where it does more than Ray Serve's: life, models, batches, cancelling."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
from manta import serve
from manta._private import local_apps
from manta.exceptions import ActorDiedError
from manta.serve.exceptions import DeploymentUnavailableError, RayServeException

PACKAGE = Path(__file__).resolve().parents[2] / "python"


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    local_apps.stop_all()


def run(app, **options):
    return serve.run(app, _local_testing_mode=True, **options)


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@serve.deployment
class Echo:
    def __call__(self, value=None):
        return value


def test_handles_are_found_by_name():
    run(Echo.bind(), name="a")
    assert serve.get_app_handle("a").remote(1).result() == 1
    assert serve.get_deployment_handle("Echo", "a").remote(2).result() == 2
    with pytest.raises(KeyError, match=r"Deployment\(name='None', app='a'\) does not exist"):
        serve.get_deployment_handle("None", "a")
    with pytest.raises(RayServeException, match="Please specify an application name"):
        serve.get_deployment_handle("Echo")


def test_status_tells_of_it():
    pytest.importorskip("pydantic")
    run(Echo.bind(), name="a")
    told = serve.status().applications["a"]
    assert told.status == "RUNNING"
    assert told.deployments["Echo"].status == "HEALTHY"


def test_delete_ends_it():
    handle = run(Echo.bind(), name="a")
    serve.delete("a")
    with pytest.raises(DeploymentUnavailableError):
        handle.remote(1).result()
    with pytest.raises(RayServeException):
        serve.get_app_handle("a")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_delete_runs_destructors_once(kind):
    ends = []

    class Sync:
        def __call__(self):
            return "here"

        def __del__(self):
            ends.append("end")

    class Async(Echo.func_or_class):
        async def __del__(self):
            ends.append("end")

    handle = run(serve.deployment(Sync if kind == "sync" else Async).bind(), name="a")
    handle.remote().result()
    serve.delete("a")
    del handle
    gc.collect()
    assert ends == ["end"]


def test_callers_end_before_callees():
    ends = []

    class Ends:
        def __init__(self, name, inner=None):
            self.name = name

        def __del__(self):
            ends.append(self.name)

    made = serve.deployment(Ends)
    top = made.options(name="top").bind("top", made.options(name="inner").bind("inner"))
    run(top, name="a")
    serve.shutdown()
    assert ends == ["top", "inner"]


def test_a_failed_start_leaves_nothing():
    before = threading.active_count()

    @serve.deployment
    class Broken:
        def __init__(self, inner):
            raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        run(Broken.bind(Echo.bind()), name="a")
    assert local_apps.find("a") is None
    wait_for(lambda: threading.active_count() <= before)


def test_dropped_applications_are_collected():
    class Big:
        pass

    seen = []

    @serve.deployment
    class Holder:
        def __init__(self):
            self.big = Big()
            seen.append(weakref.ref(self.big))

        async def __call__(self):
            return "here"

    def use():
        assert run(Holder.bind(), name="a").remote().result() == "here"

    use()
    local_apps._apps.clear()
    wait_for(lambda: gc.collect() is None or seen[0]() is None)


def test_a_replica_knows_itself():
    @serve.deployment(name="Known", max_ongoing_requests=7)
    class Known:
        def __init__(self):
            self.built = serve.get_replica_context().deployment

        async def ask(self):
            told = serve.get_replica_context()
            return [self.built, told.app_name, told.servable_object is self, told.rank.rank]

        def ask_in_a_thread(self):
            return serve.get_replica_context().deployment

    handle = run(Known.bind(), name="a")
    assert handle.ask.remote().result() == ["Known", "a", True, 0]
    assert handle.ask_in_a_thread.remote().result() == "Known"
    with pytest.raises(RayServeException):
        serve.get_replica_context()


def test_the_model_id_arrives_and_is_not_inherited():
    @serve.deployment
    class Inner:
        def __call__(self):
            return serve.get_multiplexed_model_id()

    @serve.deployment
    class Outer:
        def __init__(self, inner):
            self.inner = inner

        async def __call__(self):
            named = self.inner.options(multiplexed_model_id="other")
            own = serve.get_multiplexed_model_id()
            return own, await self.inner.remote(), await named.remote()

    handle = run(Outer.bind(Inner.bind()))
    assert handle.options(multiplexed_model_id="m").remote().result() == ("m", "", "other")


def test_models_and_batches_work():
    @serve.deployment(max_ongoing_requests=100)
    class Model:
        @serve.multiplexed(max_num_models_per_replica=1)
        async def load(self, model_id):
            return model_id.upper()

        @serve.batch(max_batch_size=4, batch_wait_timeout_s=5)
        async def batched(self, items):
            return [(item, len(items)) for item in items]

        async def __call__(self, item):
            return await self.load(serve.get_multiplexed_model_id()), await self.batched(item)

    handle = run(Model.bind()).options(multiplexed_model_id="m")
    responses = [handle.remote(item) for item in range(4)]
    assert [r.result(timeout_s=20) for r in responses] == [("M", (i, 4)) for i in range(4)]


def test_two_objects_of_one_class_do_not_share_batches():
    @serve.deployment(max_ongoing_requests=100)
    class Named:
        def __init__(self, name):
            self.name = name

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.05)
        async def __call__(self, items):
            return [(self.name, item) for item in items]

    first = run(Named.options(name="n1").bind("first"), name="a")
    second = run(Named.options(name="n2").bind("second"), name="b")
    responses = [first.remote(1), second.remote(2)]
    assert [r.result(timeout_s=10) for r in responses] == [("first", 1), ("second", 2)]


def test_cancellation_reaches_the_whole_tree():
    seen = []

    @serve.deployment
    class Sleeper:
        async def __call__(self):
            seen.append("asleep")
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    @serve.deployment
    class Waiting:
        def __init__(self, inner):
            self.inner = inner

        async def __call__(self):
            return await self.inner.remote()

    handle = run(Waiting.options(name="top").bind(Waiting.bind(Sleeper.bind())), name="b")
    response = handle.remote()
    wait_for(lambda: seen == ["asleep"])
    response.cancel()
    wait_for(lambda: seen == ["asleep", "cancelled"])


def test_calls_that_are_not_awaited_are_cancelled_too():
    seen = []

    @serve.deployment
    class Sleeper:
        async def __call__(self):
            seen.append("asleep")
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    @serve.deployment
    class Starter:
        def __init__(self, inner):
            self.inner = inner

        async def __call__(self):
            self.response = self.inner.remote()
            await asyncio.sleep(30)

    response = run(Starter.bind(Sleeper.bind())).remote()
    wait_for(lambda: seen == ["asleep"])
    response.cancel()
    wait_for(lambda: seen == ["asleep", "cancelled"])


def test_a_cancelled_wait_cancels_the_request():
    seen = []

    @serve.deployment
    class Sleeper:
        async def __call__(self):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    handle = run(Sleeper.bind())

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(handle.remote(), 0.05)

    asyncio.run(main())
    wait_for(lambda: seen == ["cancelled"])


def test_a_stream_that_nobody_reads_ends():
    ended = []

    @serve.deployment
    class Endless:
        async def later(self):
            try:
                while True:
                    yield 1
                    await asyncio.sleep(0)
            except asyncio.CancelledError:
                ended.append("async")
                raise

        def now(self):
            try:
                while True:
                    yield 1
                    time.sleep(0.001)
            finally:
                ended.append("sync")

    handle = run(Endless.bind()).options(stream=True)
    for stream in (handle.later.remote(), handle.now.remote()):
        assert next(stream) == 1
        stream.cancel()
    wait_for(lambda: sorted(ended) == ["async", "sync"])


def test_request_ids_are_inherited():
    @serve.deployment
    class Inner:
        def __call__(self):
            from manta.serve.context import _get_serve_request_context

            return _get_serve_request_context().request_id

    @serve.deployment
    class Outer:
        def __init__(self, inner):
            self.inner = inner

        async def __call__(self):
            return await self.inner.remote()

    response = run(Outer.bind(Inner.bind())).remote()
    assert response.result() == response.request_id


def test_constructors_may_ask_for_handles():
    @serve.deployment
    class Asks:
        def __init__(self, inner):
            self.inner = serve.get_deployment_handle("Echo")

        async def __call__(self, x):
            return await self.inner.remote(x)

    assert run(Asks.bind(Echo.bind()), name="a").remote(3).result() == 3


def test_handles_may_be_arguments():
    @serve.deployment
    class Calls:
        async def __call__(self, handle, x):
            return await handle.remote(x)

    echo = run(Echo.bind(), name="a")
    assert run(Calls.bind(), name="b").remote(echo, 4).result() == 4


def test_an_upstream_error_is_the_downstreams():
    @serve.deployment
    class Fails:
        def __call__(self):
            raise LookupError("up")

    fails, echo = run(Fails.bind(), name="a"), run(Echo.bind(), name="b")
    with pytest.raises(LookupError, match="up"):
        echo.remote(fails.remote()).result()


def test_a_waiting_call_can_be_cancelled():
    @serve.deployment
    class Sleeper:
        async def __call__(self):
            await asyncio.sleep(30)

    sleeper, echo = run(Sleeper.bind(), name="a"), run(Echo.bind(), name="b")
    waiting = echo.remote(sleeper.remote())
    waiting.cancel()
    with pytest.raises(serve.handle.RequestCancelledError):
        waiting.result(timeout_s=5)


def test_the_environment_variable_forces_it():
    code = """
from manta import serve
f = serve.deployment(type("D", (), {"__call__": lambda self: 7}))
assert serve.run(f.bind()).remote().result() == 7
"""
    env = {"PYTHONPATH": str(PACKAGE), "RAY_SERVE_FORCE_LOCAL_TESTING_MODE": "1", **PATHS}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


PATHS = {"PATH": os.environ.get("PATH", "")}


def test_the_interpreter_ends_though_a_handler_blocks():
    code = """
import time
from manta import serve

class Blocks:
    def __call__(self):
        time.sleep(600)

serve.run(serve.deployment(Blocks).bind(), _local_testing_mode=True).remote()
time.sleep(0.1)
"""
    env = {"PYTHONPATH": str(PACKAGE), **PATHS}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)


@pytest.mark.parametrize("method", ["now", "later"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_process_ends_only_the_request(method, error):
    @serve.deployment
    class Ends:
        def now(self):
            raise error(3)

        async def later(self):
            raise error(3)

        def works(self):
            return "works"

    handle = run(Ends.bind())
    with pytest.raises(RuntimeError, match=f"User code raised {error.__name__}"):
        getattr(handle, method).remote().result(timeout_s=10)
    assert handle.works.remote().result(timeout_s=10) == "works"


def test_a_constructor_that_ends_the_process_fails_the_start():
    @serve.deployment
    class Ends:
        def __init__(self):
            raise SystemExit(3)

    with pytest.raises(RuntimeError, match="User code raised SystemExit"):
        run(Ends.bind())


def test_a_loop_that_user_code_breaks_leaves_nobody_waiting():
    @serve.deployment
    class Breaks:
        async def wait(self):
            await asyncio.sleep(30)

        async def break_it(self):
            asyncio.get_running_loop().stop()

    handle = run(Breaks.bind())
    waiting = handle.wait.remote()
    handle.break_it.remote()
    with pytest.raises(ActorDiedError, match="has ended"):
        waiting.result(timeout_s=10)
    with pytest.raises(ActorDiedError, match="has ended"):
        handle.wait.remote().result(timeout_s=10)


def test_it_works_from_a_running_loop():
    async def main():
        handle = run(Echo.bind(), name="a")
        first = await handle.remote(1)
        serve.delete("a")
        return first

    assert asyncio.run(main()) == 1


def test_many_requests_side_by_side():
    @serve.deployment
    class Adds:
        async def __call__(self, x):
            await asyncio.sleep(0)
            return x + 1

    handle = run(Adds.bind())

    async def main():
        return await asyncio.gather(*(handle.remote(i) for i in range(500)))

    assert asyncio.run(main()) == list(range(1, 501))
