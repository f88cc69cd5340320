# SPDX-License-Identifier: Apache-2.0
"""Calls in local testing mode: values, errors, composition, streams, cancellation."""

import asyncio
import concurrent.futures
import pickle
import threading
import time

import pytest
from subject import exceptions, fails_to_run, handle, run, serve


@serve.deployment
class Calculator:
    def __init__(self, factor=2):
        self.factor = factor

    def __call__(self, x=1):
        return x * self.factor

    async def later(self, x, *, plus=0):
        await asyncio.sleep(0)
        return x * self.factor + plus

    def fail(self, text):
        raise KeyError(text)

    async def fail_later(self):
        raise ZeroDivisionError("by zero")

    def count(self, n):
        yield from range(n)

    async def count_later(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

    async def count_and_fail(self):
        yield 1
        raise RuntimeError("after one")

    async def nap(self, seconds=30):
        await asyncio.sleep(seconds)
        return "slept"

    def keep(self, value):
        value.append("changed")
        return value

    def thread(self):
        return threading.current_thread() is threading.main_thread()


@pytest.fixture(scope="module")
def calculator():
    return run(Calculator.bind(3), name="default")


def test_result(calculator):
    assert calculator.remote(4).result() == 12


def test_default_argument(calculator):
    assert calculator.remote().result() == 3


def test_method_by_attribute(calculator):
    assert calculator.later.remote(4, plus=1).result() == 13


def test_method_by_option(calculator):
    assert calculator.options(method_name="later").remote(2).result() == 6


def test_await(calculator):
    async def main():
        return await calculator.remote(5)

    assert asyncio.run(main()) == 15


def test_await_twice(calculator):
    async def main():
        response = calculator.remote(5)
        return await response, await response

    assert asyncio.run(main()) == (15, 15)


def test_gather(calculator):
    async def main():
        return await asyncio.gather(*(calculator.later.remote(i) for i in range(5)))

    assert asyncio.run(main()) == [0, 3, 6, 9, 12]


def test_result_twice(calculator):
    response = calculator.remote(1)
    assert (response.result(), response.result()) == (3, 3)


def test_user_code_does_not_run_in_the_main_thread(calculator):
    assert calculator.thread.remote().result() is False


@pytest.mark.parametrize(
    ("method", "args", "error", "message"),
    [
        ("fail", ("k",), KeyError, "k"),
        ("fail_later", (), ZeroDivisionError, "by zero"),
        ("later", (), TypeError, "missing 1 required positional argument"),
        ("none_such", (), exceptions.RayServeException, "Tried to call a method 'none_such'"),
    ],
)
def test_error(calculator, method, args, error, message):
    with pytest.raises(error, match=message):
        getattr(calculator, method).remote(*args).result()


def test_error_when_awaited(calculator):
    async def main():
        await calculator.fail_later.remote()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())


def test_unknown_method_tells_the_known_ones(calculator):
    with pytest.raises(exceptions.RayServeException, match="Available methods: .*'later'"):
        calculator.gone.remote().result()


def test_arguments_arrive_as_copies(calculator):
    given = []
    assert calculator.keep.remote(given).result() == ["changed"]
    assert given == []


def test_timeout(calculator):
    response = calculator.nap.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.05)
    response.cancel()


def test_zero_timeout_with_a_ready_result(calculator):
    response = calculator.remote(2)
    response.result()
    assert response.result(timeout_s=0) == 6


def test_result_in_an_event_loop_is_refused(calculator):
    async def main():
        calculator.remote(1).result()

    with pytest.raises(RuntimeError, match="Use `await response` instead"):
        asyncio.run(main())


def test_stream_of_a_sync_generator(calculator):
    assert list(calculator.options(stream=True).count.remote(4)) == [0, 1, 2, 3]


def test_stream_of_an_async_generator(calculator):
    assert list(calculator.options(stream=True).count_later.remote(4)) == [0, 1, 2, 3]


def test_empty_stream(calculator):
    assert list(calculator.options(stream=True).count.remote(0)) == []


@pytest.mark.parametrize("method", ["count", "count_later"])
def test_stream_in_an_event_loop(calculator, method):
    async def main():
        stream = getattr(calculator.options(stream=True), method).remote(3)
        return [item async for item in stream]

    assert asyncio.run(main()) == [0, 1, 2]


def test_error_in_a_stream_comes_after_the_items(calculator):
    stream = calculator.options(stream=True).count_and_fail.remote()
    assert next(stream) == 1
    with pytest.raises(RuntimeError, match="after one"):
        next(stream)


def test_generator_without_stream_is_refused(calculator):
    for method in ("count", "count_later"):
        with pytest.raises(TypeError, match="You must use `handle.options.stream=True.`"):
            getattr(calculator, method).remote(3).result()


@pytest.mark.parametrize("method", ["__call__", "later"])
def test_stream_of_a_plain_method_is_refused(calculator, method):
    streaming = calculator.options(stream=True, method_name=method)
    with pytest.raises(TypeError, match="did not return a generator"):
        next(streaming.remote(1))


def test_a_stream_cannot_be_awaited(calculator):
    async def main():
        await calculator.options(stream=True).count.remote(1)

    with pytest.raises(TypeError, match="cannot be awaited directly"):
        asyncio.run(main())


def test_a_stream_has_no_result(calculator):
    with pytest.raises(TypeError, match="doesn't support `.result"):
        calculator.options(stream=True).count.remote(1).result()


def test_next_in_an_event_loop_is_refused(calculator):
    async def main():
        next(calculator.options(stream=True).count.remote(1))

    with pytest.raises(RuntimeError, match="Use `async for`"):
        asyncio.run(main())


def test_cancelled_request_tells_so(calculator):
    response = calculator.nap.remote()
    time.sleep(0.05)
    assert response.cancelled() is False
    response.cancel()
    response.cancel()
    assert response.cancelled() is True
    with pytest.raises(exceptions.RequestCancelledError):
        response.result(timeout_s=5)


def test_cancelled_request_tells_so_when_awaited(calculator):
    async def main():
        response = calculator.nap.remote()
        response.cancel()
        await response

    with pytest.raises(exceptions.RequestCancelledError):
        asyncio.run(main())


def test_cancel_after_the_end_changes_nothing(calculator):
    response = calculator.remote(2)
    assert response.result() == 6
    response.cancel()
    assert response.result() == 6


@serve.deployment
class Sleeper:
    def __init__(self):
        self.seen = []

    async def nap(self):
        self.seen.append("started")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise

    def history(self):
        return self.seen


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_cancellation_reaches_user_code():
    sleeper = run(Sleeper.bind())
    response = sleeper.nap.remote()
    wait_for(lambda: sleeper.history.remote().result() == ["started"])
    response.cancel()
    wait_for(lambda: sleeper.history.remote().result() == ["started", "cancelled"])


def test_request_id_is_a_text(calculator):
    first, second = calculator.remote(1), calculator.remote(1)
    assert isinstance(first.request_id, str) and first.request_id
    assert first.request_id != second.request_id


def test_a_response_as_an_argument_is_its_value(calculator):
    assert calculator.remote(calculator.remote(2)).result() == 18
    assert calculator.later.remote(calculator.remote(1), plus=calculator.remote(2)).result() == 15


def test_a_nested_response_is_refused(calculator):
    with pytest.raises(exceptions.RayServeException, match="is not serializable"):
        calculator.keep.remote([calculator.remote(1)]).result()


def test_a_stream_as_an_argument_is_refused(calculator):
    stream = calculator.options(stream=True).count.remote(1)
    with pytest.raises(RuntimeError, match="cannot be passed to downstream handle calls"):
        calculator.remote(stream).result()


def test_object_references_are_refused(calculator):
    with pytest.raises(RuntimeError, match="to ObjectRefs is not supported"):
        calculator.remote(1)._to_object_ref_sync()


def test_object_references_of_values_are_refused(calculator):
    response = calculator.options(_by_reference=False).remote(1)
    assert response.by_reference is False
    with pytest.raises(RuntimeError, match="by-value DeploymentResponses to ObjectRefs"):
        response._to_object_ref_sync()


def test_handles_tell_who_they_are(calculator):
    assert calculator.deployment_name == "Calculator"
    assert calculator.app_name == "default"
    assert repr(calculator) == "DeploymentHandle(deployment='Calculator')"
    assert str(calculator.deployment_id) == "Deployment(name='Calculator', app='default')"


def test_options_are_kept_and_combined(calculator):
    changed = calculator.options(method_name="later").options(stream=True)
    assert changed.handle_options.method_name == "later"
    assert changed.handle_options.stream is True
    assert calculator.handle_options.stream is False


def test_init_comes_first_and_once():
    fresh = handle.DeploymentHandle("D", "a", **{})
    assert fresh.is_initialized is False
    assert fresh.running_replicas_populated() is False


def test_init_after_use_is_refused(calculator):
    calculator.remote(1).result()
    assert calculator.is_initialized
    with pytest.raises(RuntimeError, match="Handle has already been initialized"):
        calculator._init()


def test_handles_survive_pickling(calculator):
    again = pickle.loads(pickle.dumps(calculator.options(method_name="later")))
    assert again.deployment_name == "Calculator"
    assert again.handle_options.method_name == "later"


def test_responses_do_not(calculator):
    with pytest.raises(exceptions.RayServeException, match="is not serializable"):
        pickle.dumps(calculator.remote(1))


def test_broadcast_reaches_the_only_replica(calculator):
    assert calculator.broadcast("later", 2).results() == [6]


def test_broadcast_gives_errors_as_values_when_asked(calculator):
    found = calculator.broadcast("fail", "k").results(return_exceptions=True)
    assert [isinstance(error, KeyError) for error in found] == [True]
    with pytest.raises(KeyError):
        calculator.broadcast("fail", "k").results()


def test_broadcast_wants_time(calculator):
    with pytest.raises(ValueError, match="None or non-negative"):
        calculator.broadcast("later", 2).results(timeout_s=-1)


def test_broadcast_in_an_event_loop(calculator):
    async def main():
        return await calculator.broadcast("later", 2).results_async()

    assert asyncio.run(main()) == [6]


def test_choosing_replicas_is_not_for_local_testing(calculator):
    async def main():
        async with calculator.choose_replica(1):
            pass

    with pytest.raises(NotImplementedError, match="not supported in local testing mode"):
        asyncio.run(main())


@serve.deployment
class Adder:
    def __init__(self, inner, plus):
        self.inner = inner
        self.plus = plus

    async def __call__(self, x):
        return await self.inner.remote(x) + self.plus

    async def sum_up(self, n):
        total = 0
        async for item in self.inner.options(stream=True).count_later.remote(n):
            total += item
        return total

    async def relay(self, n):
        async for item in self.inner.options(stream=True).count.remote(n):
            yield item * 10

    async def through(self):
        return await self.inner.fail_later.remote()


@pytest.fixture(scope="module")
def adder():
    return run(Adder.bind(Calculator.bind(3), 5), name="composed")


def test_composition(adder):
    assert adder.remote(2).result() == 11


def test_streams_between_deployments(adder):
    assert adder.sum_up.remote(5).result() == 10
    assert list(adder.options(stream=True).relay.remote(3)) == [0, 10, 20]


def test_errors_between_deployments(adder):
    with pytest.raises(ZeroDivisionError):
        adder.through.remote().result()


def test_many_callers(adder):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: adder.remote(i).result(), range(40)))
    assert found == [3 * i + 5 for i in range(40)]


def test_function_deployment():
    @serve.deployment
    def double(x):
        return 2 * x

    called = run(double.bind())
    assert called.remote(4).result() == 8
    assert called.any_method.remote(4).result() == 8


def test_async_function_deployment():
    @serve.deployment
    async def double(x):
        return 2 * x

    assert run(double.bind()).remote(4).result() == 8


def test_generator_function_deployment():
    @serve.deployment
    def count(n):
        yield from range(n)

    assert list(run(count.bind()).options(stream=True).remote(3)) == [0, 1, 2]


def test_async_constructor():
    @serve.deployment
    class Late:
        async def __init__(self, value):
            await asyncio.sleep(0)
            self.value = value

        def __call__(self):
            return self.value

    assert run(Late.bind(7)).remote().result() == 7


def test_constructor_error_comes_out_of_run():
    @serve.deployment
    class Broken:
        def __init__(self):
            raise OSError("no disk")

    with fails_to_run(OSError, "no disk"):
        run(Broken.bind())


def test_constructor_error_of_a_callee_comes_out_of_run():
    @serve.deployment
    class Broken:
        def __init__(self):
            raise OSError("no disk")

    with fails_to_run(OSError, "no disk"):
        run(Adder.bind(Broken.bind(), 1))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_user_config_is_delivered(kind):
    class Base:
        def __call__(self):
            return self.told

    class Sync(Base):
        def reconfigure(self, user_config):
            self.told = user_config

    class Async(Base):
        async def reconfigure(self, user_config):
            self.told = user_config

    made = serve.deployment(Sync if kind == "sync" else Async, user_config={"a": 1})
    called = run(made.bind())
    wait_for(lambda: hasattr_told(called))
    assert called.remote().result() == {"a": 1}


def hasattr_told(called):
    try:
        called.remote().result()
    except AttributeError:
        return False
    return True


def test_sync_methods_run_side_by_side():
    @serve.deployment
    class Meeting:
        def __init__(self):
            self.barrier = None

        async def prepare(self):
            self.barrier = threading.Barrier(2)

        def meet(self):
            return self.barrier.wait(timeout=10)

    meeting = run(Meeting.bind())
    meeting.prepare.remote().result()
    both = [meeting.meet.remote(), meeting.meet.remote()]
    assert sorted(response.result(timeout_s=20) for response in both) == [0, 1]


def test_async_methods_interleave():
    @serve.deployment
    class Door:
        def __init__(self):
            self.opened = asyncio.Event()

        async def wait(self):
            await self.opened.wait()
            return "through"

        async def open(self):
            self.opened.set()

    door = run(Door.bind())
    waiting = door.wait.remote()
    door.open.remote().result(timeout_s=10)
    assert waiting.result(timeout_s=10) == "through"


def test_two_applications_of_one_name_both_answer():
    first = run(Calculator.bind(2))
    second = run(Calculator.bind(5))
    assert (first.remote(1).result(), second.remote(1).result()) == (2, 5)
