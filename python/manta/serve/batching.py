# SPDX-License-Identifier: Apache-2.0
"""``@serve.batch``: callers pass one item each, the function gets them as a list."""

from __future__ import annotations

import asyncio
import inspect
import io
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, List, Optional

from manta._private import methods
from manta._private.batch_queue import BatchQueue, Direct, Settings, Single

__all__ = ["batch"]


@dataclass
class _RuntimeSummaryStatistics:
    """When the batches that run now began, on the loop's clock."""

    start_times: list[float]

    @property
    def min_start_time(self) -> Optional[float]:
        return min(self.start_times) if self.start_times else None

    @property
    def mean_start_time(self) -> Optional[float]:
        return sum(self.start_times) / len(self.start_times) if self.start_times else None

    @property
    def max_start_time(self) -> Optional[float]:
        return max(self.start_times) if self.start_times else None

    @property
    def num_requests(self) -> int:
        return len(self.start_times)


class _Queues:
    """The queues of one decorated function: one for each object whose method it is, and loop."""

    def __init__(self, function: Callable[..., Any], settings: Settings) -> None:
        self._function = function
        self._settings = settings
        self._of_loops: weakref.WeakKeyDictionary[Any, BatchQueue] = weakref.WeakKeyDictionary()
        self._latest: Optional[weakref.ref[BatchQueue]] = None

    def __reduce__(self) -> tuple[Any, ...]:
        """A class that is sent by value arrives without anybody's queues."""
        return (type(self), (self._function, self._settings))

    def of(self, owner: Any) -> BatchQueue:
        loop = asyncio.get_running_loop()
        if owner is None or not hasattr(owner, "__dict__"):
            found = self._of_loops.get(loop)
        else:
            found = owner.__dict__.get(self._attribute())
        if found is None or found.loop is not loop:
            found = BatchQueue(self._function, self._settings)
            self._keep(owner, loop, found)
        self._latest = weakref.ref(found)
        return found

    def _keep(self, owner: Any, loop: Any, queue: BatchQueue) -> None:
        if owner is None or not hasattr(owner, "__dict__"):
            for old in [old for old in self._of_loops if old.is_closed()]:
                del self._of_loops[old]
            self._of_loops[loop] = queue
        else:
            owner.__dict__[self._attribute()] = queue

    def _attribute(self) -> str:
        return f"__manta_batches_of_{self._function.__name__}"

    def latest(self) -> Optional[BatchQueue]:
        """The queue that was used last; in a replica there is no other."""
        return self._latest() if self._latest is not None else None

    def set_max_batch_size(self, new_max_batch_size: int) -> None:
        self._settings.max_batch_size = new_max_batch_size
        queue = self.latest()
        if queue is not None:
            queue.warn_if_never_full()

    def set_batch_wait_timeout_s(self, new_batch_wait_timeout_s: float) -> None:
        self._settings.batch_wait_timeout_s = new_batch_wait_timeout_s

    def get_max_batch_size(self) -> int:
        return self._settings.max_batch_size

    def get_batch_wait_timeout_s(self) -> float:
        return self._settings.batch_wait_timeout_s

    def get_curr_iteration_start_times(self) -> _RuntimeSummaryStatistics:
        queue = self.latest()
        return _RuntimeSummaryStatistics(list(queue.start_times.values()) if queue else [])

    async def is_batching_task_alive(self) -> bool:
        queue = self.latest()
        return queue is not None and not queue.task.done()

    async def get_handling_task_stack(self) -> Optional[str]:
        queue = self.latest()
        if queue is None:
            return None
        text = io.StringIO()
        queue.task.print_stack(file=text)
        return text.getvalue()


def batch(
    _func: Optional[Callable] = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: Optional[Callable[[List], int]] = None,
) -> Callable:
    """Make an async function of a list one that callers call with single items.

    The function gets a list for each of its parameters and returns a list of the same length; an
    async generator yields such lists, and ends one caller's stream by StopIteration in its place.

    Args:
        _func: The function or method when the decorator is used without parentheses.
        max_batch_size: How many items a batch holds; ``set_max_batch_size`` changes it.
        batch_wait_timeout_s: How long the first item waits for others;
            ``set_batch_wait_timeout_s`` changes it.
        max_concurrent_batches: How many batches run side by side.
        batch_size_fn: How large a list of items is, where their number is not the measure.
    """
    if _func is not None:
        if not callable(_func):
            raise TypeError("@serve.batch can only be used to decorate functions or methods.")
        if not (inspect.iscoroutinefunction(_func) or inspect.isasyncgenfunction(_func)):
            raise TypeError("Functions decorated with @serve.batch must be 'async def'")
    _check_max_batch_size(max_batch_size)
    _check_wait(batch_wait_timeout_s)
    _check_concurrency(max_concurrent_batches)
    if batch_size_fn is not None and not callable(batch_size_fn):
        raise TypeError(f"batch_size_fn must be a callable or None, got {type(batch_size_fn)}")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        settings = Settings(
            max_batch_size, batch_wait_timeout_s, max_concurrent_batches, batch_size_fn
        )
        return _wrap(function, _Queues(function, settings))

    return decorate(_func) if callable(_func) else decorate


def _wrap(function: Callable[..., Any], queues: _Queues) -> Callable[..., Any]:
    def enqueue(args: tuple[Any, ...], kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        methods.bind(function, args, kwargs)
        owner = methods.self_of_call(args, function)
        single = Single(owner, args if owner is None else args[1:], kwargs)
        queues.of(owner).put(single)
        return single.future

    def put(owner: Any, single: Direct) -> None:
        """A request of the replica, for the function itself (manta._private.replica_requests)."""
        first = () if owner is None else (owner,)
        methods.bind(function, (*first, *single.args), single.kwargs)
        queues.of(owner).put(single)

    @wraps(function)
    async def call_one(*args: Any, **kwargs: Any) -> Any:
        return await enqueue(args, kwargs)

    @wraps(function)
    def stream_one(*args: Any, **kwargs: Any) -> Any:
        return _stream_of(enqueue(args, kwargs))

    wrapper: Any = stream_one if inspect.isasyncgenfunction(function) else call_one
    if wrapper is call_one:
        wrapper._manta_put = put
    wrapper.set_max_batch_size = queues.set_max_batch_size
    wrapper.set_batch_wait_timeout_s = queues.set_batch_wait_timeout_s
    wrapper._get_max_batch_size = queues.get_max_batch_size
    wrapper._get_batch_wait_timeout_s = queues.get_batch_wait_timeout_s
    wrapper._get_curr_iteration_start_times = queues.get_curr_iteration_start_times
    wrapper._is_batching_task_alive = queues.is_batching_task_alive
    wrapper._get_handling_task_stack = queues.get_handling_task_stack
    return wrapper


async def _stream_of(future: asyncio.Future[Any]) -> Any:
    stream = await future
    async for item in stream.items():
        yield item


def _check_max_batch_size(size: Any) -> None:
    if not isinstance(size, int) and not (isinstance(size, float) and size.is_integer()):
        raise TypeError(f"max_batch_size must be integer >= 1, got {size}")
    if size < 1:
        raise ValueError(f"max_batch_size must be an integer >= 1, got {size}")


def _check_wait(seconds: Any) -> None:
    if not isinstance(seconds, (float, int)):
        raise TypeError(f"batch_wait_timeout_s must be a float >= 0, got {seconds}")
    if seconds < 0:
        raise ValueError(f"batch_wait_timeout_s must be a float >= 0, got {seconds}")


def _check_concurrency(count: Any) -> None:
    if not isinstance(count, int) or count < 1:
        raise TypeError(f"max_concurrent_batches must be an integer >= 1, got {count}")
