# SPDX-License-Identifier: Apache-2.0
"""``@serve.multiplexed``: what it refuses, what it keeps, what it unloads."""

import asyncio

import pytest
from subject import serve, set_model_id


def test_bare_form_wants_an_async_function():
    with pytest.raises(TypeError, match="async functions or methods"):

        @serve.multiplexed
        def load(model_id):
            return model_id


def test_bare_form_wants_something_callable():
    with pytest.raises(TypeError, match="must be used with a function or method"):
        serve.multiplexed(3)


@pytest.mark.parametrize("count", [0, 3])
def test_bare_form_wants_one_argument(count):
    loaders = {}
    names = ", ".join(f"a{i}" for i in range(count))
    exec(f"async def load({names}): pass", loaders)
    with pytest.raises(TypeError, match="at least one 'model_id: str' argument"):
        serve.multiplexed(loaders["load"])


@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [
        ("1", TypeError, "must be an integer"),
        (1.0, TypeError, "must be an integer"),
        (0, ValueError, "must be positive"),
        (-2, ValueError, "must be positive"),
    ],
)
def test_limit_is_refused(limit, error, message):
    with pytest.raises(error, match=message):
        serve.multiplexed(max_num_models_per_replica=limit)


def test_no_limit_is_minus_one():
    serve.multiplexed(max_num_models_per_replica=-1)


def make_host(limit=2):
    class Host:
        def __init__(self):
            self.loads = []

        @serve.multiplexed(max_num_models_per_replica=limit)
        async def get_model(self, model_id):
            self.loads.append(model_id)
            if model_id == "broken":
                raise LookupError(model_id)
            return model_id.upper()

    return Host()


def ask(host, *model_ids):
    async def main():
        return [await host.get_model(model_id) for model_id in model_ids]

    return asyncio.run(main())


def test_outside_a_replica_it_is_refused():
    with pytest.raises(RuntimeError, match="can only be used within a deployment"):
        ask(make_host(), "a")


def test_a_loaded_model_is_kept(replica):
    host = make_host()
    assert ask(host, "a", "a", "b", "a") == ["A", "A", "B", "A"]
    assert host.loads == ["a", "b"]


def test_the_model_used_longest_ago_goes(replica):
    host = make_host(limit=2)
    ask(host, "a", "b", "a", "c", "a", "b")
    assert host.loads == ["a", "b", "c", "b"]


def test_without_limit_all_stay(replica):
    host = make_host(limit=-1)
    ask(host, *"abcdef", *"abcdef")
    assert host.loads == list("abcdef")


def test_a_failure_is_not_kept(replica):
    host = make_host()
    for _ in range(2):
        with pytest.raises(LookupError):
            ask(host, "broken")
    assert host.loads == ["broken", "broken"]


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((3,), TypeError, "The model ID must be a string"),
        (("",), ValueError, "The model ID cannot be empty"),
        (("a", "b"), TypeError, "more than one arguments"),
    ],
)
def test_model_ids_are_checked(replica, args, error, message):
    host = make_host()

    async def main():
        await host.get_model(*args)

    for _ in range(2):
        with pytest.raises(error, match=message):
            asyncio.run(main())
        ask(host, "a")  # Also when there is a model that could be found.


def test_objects_do_not_find_each_others_models(replica):
    first, second = make_host(), make_host()
    ask(first, "a", "a")
    ask(second, "a", "b", "a")
    assert (first.loads, second.loads) == (["a"], ["a", "b"])


def test_a_function_without_arguments_is_refused(replica):
    @serve.multiplexed
    async def load(model_id):
        return model_id

    async def main():
        await load()

    with pytest.raises(TypeError, match="no arguments are provided"):
        asyncio.run(main())


def test_functions_can_load_too(replica):
    loads = []

    @serve.multiplexed(max_num_models_per_replica=1)
    async def load(model_id):
        loads.append(model_id)
        return model_id

    async def main():
        return [await load(model_id) for model_id in "aab"]

    assert asyncio.run(main()) == ["a", "a", "b"]
    assert loads == ["a", "b"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_destructors_run_once(replica, kind):
    ends = []

    class Sync:
        def __del__(self):
            ends.append("end")

    class Async:
        async def __del__(self):
            ends.append("end")

    class Host:
        @serve.multiplexed(max_num_models_per_replica=1)
        async def get_model(self, model_id):
            return (
                Sync()
                if model_id == "a" and kind == "sync"
                else (Async() if model_id == "a" else model_id)
            )

    ask(Host(), "a", "b")
    assert ends[:1] == ["end"]


def test_concurrent_callers_load_once(replica):
    loads = []

    class Host:
        @serve.multiplexed
        async def get_model(self, model_id):
            loads.append(model_id)
            await asyncio.sleep(0.01)
            return model_id

    async def main():
        host = Host()
        return await asyncio.gather(*(host.get_model("a") for _ in range(5)))

    assert asyncio.run(main()) == ["a"] * 5
    assert loads == ["a"]


def test_there_is_no_model_id_by_default():
    assert serve.get_multiplexed_model_id() == ""


def test_the_model_id_is_the_requests():
    async def main():
        set_model_id("m1")
        return serve.get_multiplexed_model_id()

    assert asyncio.run(main()) == "m1"
