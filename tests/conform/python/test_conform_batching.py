# SPDX-License-Identifier: Apache-2.0
"""``@serve.batch``: sizes, waiting, errors, streams, setters.  Called as replicas call it."""

import asyncio

import pytest
from subject import exceptions, serve, set_model_id


async def all_of(*calls):
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_batch_size": "2"}, TypeError, "max_batch_size must be integer >= 1, got 2"),
        ({"max_batch_size": 1.5}, TypeError, "max_batch_size must be integer >= 1, got 1.5"),
        ({"max_batch_size": 0}, ValueError, "max_batch_size must be an integer >= 1, got 0"),
        ({"max_batch_size": -1}, ValueError, "max_batch_size must be an integer >= 1, got -1"),
        ({"batch_wait_timeout_s": "1"}, TypeError, "batch_wait_timeout_s must be a float >= 0"),
        ({"batch_wait_timeout_s": -1}, ValueError, "batch_wait_timeout_s must be a float >= 0"),
        ({"max_concurrent_batches": 0}, TypeError, "max_concurrent_batches must be an integer"),
        ({"max_concurrent_batches": 1.0}, TypeError, "max_concurrent_batches must be an integer"),
        ({"batch_size_fn": 3}, TypeError, "batch_size_fn must be a callable or None"),
    ],
)
def test_refuses(options, error, message):
    with pytest.raises(error, match=message):
        serve.batch(**options)


def test_bare_form_wants_an_async_function():
    with pytest.raises(TypeError, match="must be 'async def'"):

        @serve.batch
        def sync(items):
            return items


def test_bare_form_wants_a_function():
    with pytest.raises(TypeError, match="can only be used to decorate functions or methods"):
        serve.batch(3)


def test_a_whole_number_may_be_a_float():
    serve.batch(max_batch_size=2.0)


def test_outside_a_replica_it_is_refused():
    @serve.batch
    async def echo(items):
        return items

    with pytest.raises(exceptions.RayServeException, match="only be called from within"):
        asyncio.run(echo(1))


def test_a_full_batch_goes_at_once(replica):
    sizes = []

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=1000)
    async def echo(items):
        sizes.append(len(items))
        return items

    async def main():
        return await asyncio.wait_for(all_of(*(echo(i) for i in range(3))), 10)

    assert asyncio.run(main()) == [0, 1, 2]
    assert sizes == [3]


def test_an_open_batch_goes_after_the_wait(replica):
    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.05)
    async def sized(items):
        return [len(items)] * len(items)

    async def main():
        return await asyncio.wait_for(all_of(sized(1), sized(2)), 10)

    assert asyncio.run(main()) == [2, 2]


def test_no_wait_takes_what_is_there(replica):
    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0)
    async def sized(items):
        return [len(items)] * len(items)

    async def main():
        return await asyncio.wait_for(all_of(*(sized(i) for i in range(4))), 10)

    assert asyncio.run(main()) == [4, 4, 4, 4]


def test_more_than_one_batch(replica):
    sizes = []

    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.01)
    async def echo(items):
        sizes.append(len(items))
        return items

    async def main():
        return await asyncio.wait_for(all_of(*(echo(i) for i in range(5))), 10)

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]
    assert sizes == [2, 2, 1]


def test_methods_get_their_object(replica):
    class Model:
        def __init__(self, plus):
            self.plus = plus

        @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.01)
        async def add(self, items):
            return [item + self.plus for item in items]

    async def main():
        model = Model(10)
        return await all_of(model.add(1), model.add(2))

    assert asyncio.run(main()) == [11, 12]


def test_several_parameters_become_several_lists(replica):
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.01)
    async def pair(left, right):
        assert isinstance(left, list) and isinstance(right, list)
        return list(zip(left, right, strict=True))

    async def main():
        positional = await all_of(pair(1, 2), pair(3, 4))
        by_name = await all_of(pair(1, right=2), pair(3, right=4))
        return positional, by_name

    assert asyncio.run(main()) == ([(1, 2), (3, 4)], [(1, 2), (3, 4)])


def test_wrong_arguments_are_the_callers_error(replica):
    @serve.batch
    async def echo(items):
        return items

    async def main():
        await echo(1, 2)

    with pytest.raises(TypeError):
        asyncio.run(main())


def test_an_error_is_every_callers(replica):
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.01)
    async def broken(items):
        raise LookupError("no")

    async def main():
        return await all_of(broken(1), broken(2))

    assert [type(error) for error in asyncio.run(main())] == [LookupError, LookupError]


def test_after_an_error_the_next_batch_works(replica):
    @serve.batch(max_batch_size=1)
    async def picky(items):
        if items == [0]:
            raise LookupError("no")
        return items

    async def main():
        return await all_of(picky(0)), await picky(1)

    (failed,), fine = asyncio.run(main())
    assert isinstance(failed, LookupError) and fine == 1


def test_size_of_the_result_must_fit(replica):
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.01)
    async def short(items):
        return items[1:]

    async def main():
        return await all_of(short(1), short(2))

    for error in asyncio.run(main()):
        assert isinstance(error, exceptions.RayServeException)
        assert "The input list has length 2 but the returned list has length 1." in str(error)


def test_concurrent_batches_are_limited(replica):
    running, most = 0, 0

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0, max_concurrent_batches=2)
    async def busy(items):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return items

    async def main():
        return await asyncio.wait_for(all_of(*(busy(i) for i in range(6))), 20)

    assert asyncio.run(main()) == list(range(6))
    assert most == 2


def test_size_in_the_users_measure(replica):
    batches = []

    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.05, batch_size_fn=sum)
    async def weigh(items):
        batches.append(list(items))
        return items

    async def main():
        return await asyncio.wait_for(all_of(*(weigh(i) for i in (4, 5, 6, 3))), 10)

    assert asyncio.run(main()) == [4, 5, 6, 3]
    assert all(sum(batch) <= 10 for batch in batches)
    assert batches[0] == [4, 5]


def test_an_item_that_is_too_large_is_refused_alone(replica):
    @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.01, batch_size_fn=sum)
    async def weigh(items):
        return items

    async def main():
        return await asyncio.wait_for(all_of(weigh(11), weigh(3)), 10)

    refused, fine = asyncio.run(main())
    assert isinstance(refused, RuntimeError)
    assert "Size of item is greater than max_batch_size" in str(refused)
    assert fine == 3


def test_cancelled_items_are_dropped(replica):
    seen = []

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=0.1)
    async def echo(items):
        seen.extend(items)
        return items

    async def main():
        first = asyncio.create_task(echo(1))
        second = asyncio.create_task(echo(2))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert asyncio.run(main()) == 2
    assert seen == [2]


def test_streams_share_a_generator(replica):
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.05)
    async def count(limits):
        for i in range(max(limits)):
            yield [i if i < limit else StopIteration for limit in limits]

    async def drain(stream):
        return [item async for item in stream]

    async def main():
        return await asyncio.wait_for(all_of(drain(count(2)), drain(count(4))), 10)

    assert asyncio.run(main()) == [[0, 1], [0, 1, 2, 3]]


def test_the_other_mark_ends_a_stream_too(replica):
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.05)
    async def one(items):
        yield list(items)
        yield [StopAsyncIteration] * len(items)

    async def drain(stream):
        return [item async for item in stream]

    async def main():
        return await asyncio.wait_for(all_of(drain(one(7)), drain(one(8))), 10)

    assert asyncio.run(main()) == [[7], [8]]


def test_an_error_in_a_generator_is_every_streams(replica):
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0.05)
    async def broken(items):
        yield list(items)
        raise LookupError("no")

    async def drain(stream):
        found = []
        try:
            async for item in stream:
                found.append(item)
        except LookupError:
            found.append("error")
        return found

    async def main():
        return await asyncio.wait_for(all_of(drain(broken(1)), drain(broken(2))), 10)

    assert asyncio.run(main()) == [[1, "error"], [2, "error"]]


def test_setters_and_getters(replica):
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.5)
    async def sized(items):
        return [len(items)] * len(items)

    assert sized._get_max_batch_size() == 4
    assert sized._get_batch_wait_timeout_s() == 0.5
    sized.set_max_batch_size(2)
    sized.set_batch_wait_timeout_s(0.01)
    assert sized._get_max_batch_size() == 2
    assert sized._get_batch_wait_timeout_s() == 0.01

    async def main():
        found = await asyncio.wait_for(all_of(*(sized(i) for i in range(4))), 10)
        sized.set_max_batch_size(4)
        return found, await asyncio.wait_for(all_of(*(sized(i) for i in range(4))), 10)

    assert asyncio.run(main()) == ([2, 2, 2, 2], [4, 4, 4, 4])


def test_the_task_can_be_looked_at(replica):
    @serve.batch(max_batch_size=1)
    async def echo(items):
        return items

    async def main():
        await echo(1)
        return await echo._is_batching_task_alive(), await echo._get_handling_task_stack()

    alive, stack = asyncio.run(main())
    assert alive is True
    assert isinstance(stack, str) and stack


def test_models_are_not_mixed(replica):
    batches = []

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.05)
    async def collect(items):
        batches.append((serve.get_multiplexed_model_id(), sorted(items)))
        return items

    async def call(item, model):
        set_model_id(model)
        return await collect(item)

    async def main():
        calls = [call(1, "a"), call(2, "b"), call(3, "a"), call(4, "b")]
        return await asyncio.wait_for(all_of(*calls), 10)

    assert asyncio.run(main()) == [1, 2, 3, 4]
    assert sorted(batches) == [("a", [1, 3]), ("b", [2, 4])]


def test_the_wrapped_function_keeps_its_name():
    @serve.batch
    async def named(items):
        """Said."""
        return items

    assert (named.__name__, named.__doc__) == ("named", "Said.")
