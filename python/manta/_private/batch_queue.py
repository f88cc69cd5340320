# SPDX-License-Identifier: Apache-2.0
"""The formation of batches, in plain asyncio.

Callers put single requests in; a task per queue takes them out in batches and calls the user's
function.  A batch is closed when it is full or when its first request has waited long enough, and
it is not even begun before the function may be called: while all ``max_concurrent_batches`` run,
requests gather, so that the next batch is as full as can be.  Requests for different models never
share a batch, and the one that did not fit (``batch_size_fn``) is the first of the next batch.

A caller is a coroutine of this process that waits for a future (``Single``), or a request of a replica
whose method is the batched function itself: that one is answered from here, and no task is made for it
(``Direct``).
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Optional, Union

from manta._private.constants import logger
from manta.serve import context, metrics
from manta.serve.exceptions import RayServeException

_END = object()
_TOO_LARGE = (
    "Size of item is greater than max_batch_size. Please increase the max_batch_size or check the "
    "implementation of the batch_size_fn."
)


@dataclass
class Settings:
    """What the decorator was told; shared by all queues of one function, changed by its setters."""

    max_batch_size: int
    batch_wait_timeout_s: float
    max_concurrent_batches: int
    batch_size_fn: Optional[Callable[[list[Any]], int]]


class Single:
    """One caller's request: its arguments, and where its answer goes."""

    __slots__ = ("args", "arrived_s", "future", "kwargs", "owner", "request")

    def __init__(self, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        self.owner = owner
        self.args = args
        self.kwargs = kwargs
        self.future: asyncio.Future[Any] = loop.create_future()
        self.request = context._get_serve_request_context()
        self.arrived_s = loop.time()

    @property
    def gone(self) -> bool:
        """Nobody waits any more."""
        return self.future.cancelled()

    @property
    def over(self) -> bool:
        """Answered, failed, or gone."""
        return self.future.done()

    def answer(self, value: Any) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        if self.future.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self.future.cancel()
        elif isinstance(error, StopIteration):
            self.future.set_exception(RuntimeError(f"the batched function raised {error!r}"))
        else:
            self.future.set_exception(error)


class Direct:
    """A replica's request for the batched function itself."""

    __slots__ = ("_fail", "_native", "args", "arrived_s", "kwargs", "owner", "request")

    def __init__(
        self,
        native: Any,
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        request: Any,
        arrived_s: float,
        fail: Callable[[Any, BaseException], None],
    ) -> None:
        self._native = native
        self._fail = fail
        self.owner = owner
        self.args = args
        self.kwargs = kwargs
        self.request = request
        self.arrived_s = arrived_s
        native.on_cancel = self._cancel

    @property
    def gone(self) -> bool:
        """Nobody waits any more."""
        return not self._native.open

    over = gone

    def answer(self, value: Any) -> None:
        if not self._native.open:
            return
        try:
            self._native.reply(value)
        except BaseException as error:
            self._fail(self._native, error)

    def fail(self, error: BaseException) -> None:
        if self._native.open:
            self._fail(self._native, error)

    def _cancel(self) -> None:
        self.fail(asyncio.CancelledError())


class Stream:
    """One caller's part of what a batched generator yields."""

    __slots__ = ("_items", "_wake", "ended")

    def __init__(self) -> None:
        self._items: deque[tuple[Any, Optional[BaseException]]] = deque()
        self._wake = asyncio.Event()
        self.ended = False

    def put(self, item: Any, error: Optional[BaseException] = None) -> None:
        if not self.ended:
            self.ended = item is _END
            self._items.append((item, error))
            self._wake.set()

    async def items(self) -> AsyncIterator[Any]:
        while True:
            while not self._items:
                self._wake.clear()
                await self._wake.wait()
            item, error = self._items.popleft()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item


Caller = Union[Single, Direct]


class BatchQueue:
    """The requests of one function (of one object, for a method) on one loop."""

    def __init__(self, function: Callable[..., Any], settings: Settings) -> None:
        self.loop = asyncio.get_running_loop()
        self.start_times: dict[asyncio.Task[Any], float] = {}
        self._function = function
        self._settings = settings
        self._items: deque[Caller] = deque()
        self._changed = asyncio.Event()
        self._free = asyncio.Semaphore(settings.max_concurrent_batches)
        self.warn_if_never_full()
        self._measures = _Measures(function.__name__)
        self.task = self.loop.create_task(self._run())

    def warn_if_never_full(self) -> None:
        """A replica that takes fewer requests than a batch holds never fills one."""
        limit = context.get_replica_context()._deployment_config.max_ongoing_requests
        size, side_by_side = self._settings.max_batch_size, self._settings.max_concurrent_batches
        if limit < size * side_by_side:
            logger.warning(
                f"`max_batch_size` ({size}) * `max_concurrent_batches` ({side_by_side}) is larger "
                f"than `max_ongoing_requests` ({limit}). This means the replica will never "
                "achieve the configured `max_batch_size` concurrently. Please update "
                "`max_ongoing_requests` to be >= `max_batch_size` * `max_concurrent_batches`."
            )

    def put(self, single: Caller) -> None:
        self._items.append(single)
        self._changed.set()

    async def _run(self) -> None:
        context._unset_request_context()
        while True:
            await self._wait_for_item()
            await self._free.acquire()
            batch = await self._collect()
            if not batch:
                self._free.release()
                continue
            task = self.loop.create_task(self._process(batch))
            self.start_times[task] = self.loop.time()
            task.add_done_callback(self._one_ended)

    def _one_ended(self, task: asyncio.Task[Any]) -> None:
        self._free.release()
        self.start_times.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            logger.error("A batch failed unexpectedly.", exc_info=task.exception())

    async def _wait_for_item(self) -> None:
        while not self._items:
            self._changed.clear()
            await self._changed.wait()

    async def _collect(self) -> list[Caller]:
        """The next batch; empty when nobody waits any more."""
        batch: list[Caller] = []
        start_s = self.loop.time()
        while True:
            closed = self._fill(batch)
            if not batch and not self._items:
                return batch
            deadline_s = batch[0].arrived_s + self._settings.batch_wait_timeout_s if batch else 0.0
            if closed or self.loop.time() >= deadline_s:
                self._measures.wait_ms.observe((self.loop.time() - start_s) * 1000 or 0.001)
                return batch
            await self._wait_until(deadline_s)

    async def _wait_until(self, deadline_s: float) -> None:
        self._changed.clear()
        timer = self.loop.call_at(deadline_s, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    def _fill(self, batch: list[Caller]) -> bool:
        """Take what is there and fits; whether the batch is closed."""
        limit = self._settings.max_batch_size
        while self._items:
            if self._settings.batch_size_fn is None and len(batch) >= limit:
                return True
            single = self._items.popleft()
            if single.gone:
                continue
            if batch and single.owner is not batch[0].owner:
                self._items.appendleft(single)
                return True
            if self._size_or_fail([*batch, single], single) > limit:
                if batch:
                    self._items.appendleft(single)
                    return True
                single.fail(RuntimeError(_TOO_LARGE))
                continue
            if not single.over:
                batch.append(single)
        return bool(batch) and self.size(batch) >= limit

    def _size_or_fail(self, batch: list[Caller], newest: Caller) -> int:
        try:
            return self.size(batch)
        except Exception as error:
            newest.fail(error)
            return 0

    def size(self, batch: list[Caller]) -> int:
        """How large a batch is, by count or in the user's own measure."""
        measure = self._settings.batch_size_fn
        if measure is None:
            return len(batch)
        return measure([single.args[0] for single in batch])

    async def _process(self, batch: list[Caller]) -> None:
        """Call the function, once for each model that is asked for."""
        by_model: dict[str, list[Caller]] = {}
        for single in batch:
            by_model.setdefault(single.request.multiplexed_model_id, []).append(single)
        if len(by_model) == 1:
            await self._call(batch)
        else:
            await asyncio.gather(*(self._call(part) for part in by_model.values()))

    async def _call(self, batch: list[Caller]) -> None:
        batch = [single for single in batch if not single.gone]
        if not batch:
            return
        start_s = self.loop.time()
        self._measures.count_batch(self.size(batch), self._settings.max_batch_size)
        try:
            args, kwargs = _columns(batch)
            context._set_batch_request_context([single.request for single in batch])
            owner = () if batch[0].owner is None else (batch[0].owner,)
            if inspect.isasyncgenfunction(self._function):
                await _share_out(self._function(*owner, *args, **kwargs), batch)
            else:
                results = await self._function(*owner, *args, **kwargs)
                _check_size(results, len(batch))
                for single, result in zip(batch, results, strict=True):
                    single.answer(result)
        except BaseException as error:
            for single in batch:
                single.fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._measures.run_ms.observe((self.loop.time() - start_s) * 1000 or 0.001)


class _Measures:
    """The metrics of one batched function."""

    def __init__(self, name: str) -> None:
        keys = ("function_name",)
        self._tags = {"function_name": name}

        def histogram(
            metric: str, boundaries: list[float] = metrics.LATENCY_MS
        ) -> metrics.Histogram:
            made = metrics.Histogram(metric, boundaries=boundaries, tag_keys=keys)
            made.set_default_tags(self._tags)
            return made

        self.wait_ms = histogram("serve_batch_wait_time_ms")
        self.run_ms = histogram("serve_batch_execution_time_ms")
        self._used = histogram(
            "serve_batch_utilization_percent", [5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 100]
        )
        self._size = histogram("serve_actual_batch_size", [2**i for i in range(11)])
        self._batches = metrics.Counter("serve_batches_processed", tag_keys=keys)

    def count_batch(self, size: int, limit: int) -> None:
        self._batches.inc(tags=self._tags)
        self._size.observe(size)
        self._used.observe(100.0 * size / limit)


def _columns(batch: list[Caller]) -> tuple[list[list[Any]], dict[str, list[Any]]]:
    """Each parameter of the function as the list of what the callers gave for it."""
    first = batch[0]
    for single in batch:
        alike = len(single.args) == len(first.args) and single.kwargs.keys() == first.kwargs.keys()
        assert alike, "All batch requests should have the same number of parameters."
    args = [[single.args[index] for single in batch] for index in range(len(first.args))]
    kwargs = {name: [single.kwargs[name] for single in batch] for name in first.kwargs}
    return args, kwargs


def _check_size(results: Any, expected: int) -> None:
    if len(results) != expected:
        raise RayServeException(
            f"Batched function doesn't preserve batch size. The input list has length {expected} "
            f"but the returned list has length {len(results)}."
        )


async def _share_out(generator: Any, batch: list[Caller]) -> None:
    """Each yielded list has one item for each caller, or a mark that the caller's stream ends."""
    streams = [Stream() for _ in batch]
    for single, stream in zip(batch, streams, strict=True):
        single.answer(stream)
    try:
        async for results in generator:
            _check_size(results, len(batch))
            for stream, result in zip(streams, results, strict=True):
                stream.put(_END if _ends_stream(result) else result)
    except Exception as error:
        for stream in streams:
            stream.put(None, error)
    for stream in streams:
        stream.put(_END)


def _ends_stream(result: Any) -> bool:
    return result is StopIteration or result is StopAsyncIteration
