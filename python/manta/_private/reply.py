# SPDX-License-Identifier: Apache-2.0
"""The answer to a request that is under way.

A reply is made by the handle, filled by the transport, and read by the caller.  The transport may
fill it from any thread; the caller may wait in a thread or in any event loop.  The first outcome
counts, later ones are dropped, so that a cancellation and an answer may cross.

Filling side: ``set_result``, ``set_error``, and for streams ``push`` before the end.
Reading side: ``wait`` / ``wait_async``, and for streams ``next`` / ``next_async``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from _thread import allocate_lock as _new_lock
from collections import deque
from collections.abc import Callable
from typing import Any

from manta.exceptions import GetTimeoutError

_MOST_ITEMS = 256  # of a stream, not read yet


class Reply:
    """One answer, or one error."""

    __slots__ = (
        "_callbacks", "_done", "_error", "_lock", "_on_cancel", "_value", "block", "wants_cancel"
    )  # fmt: skip

    def __init__(self) -> None:
        self._lock = _new_lock()
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._on_cancel: Callable[[], None] | None = None
        self.wants_cancel = False
        # How a transport waits in the calling thread (at most so many seconds) until it has filled
        # the reply, faster than by another thread; None when it cannot.
        self.block: Callable[[float | None], None] | None = None

    # Filling.

    def set_result(self, value: Any = None) -> bool:
        """The end of the request; for a stream the value says nothing."""
        return self._finish(value, None)

    def set_error(self, error: BaseException) -> bool:
        """The end of the request; a stream's items that came before are still read."""
        return self._finish(None, error)

    def on_cancel(self, cancel: Callable[[], None]) -> None:
        """How to reach the request when the caller gives up; called at once if it has."""
        with self._lock:
            self._on_cancel = cancel
            overdue = self.wants_cancel and not self._done
        if overdue:
            cancel()

    def _finish(self, value: Any, error: BaseException | None) -> bool:
        with self._lock:
            if self._done:
                return False
            self._done, self._value, self._error = True, value, error
            callbacks, self._callbacks, self._on_cancel = self._callbacks, [], None
        for callback in callbacks:
            callback()
        return True

    # Reading.

    @property
    def done(self) -> bool:
        return self._done

    @property
    def error(self) -> BaseException | None:
        return self._error

    def cancel(self) -> None:
        """Ask for an early end; what comes of it is told by the outcome."""
        with self._lock:
            if self._done or self.wants_cancel:
                return
            self.wants_cancel = True
            cancel = self._on_cancel
        if cancel is not None:
            cancel()

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Called once, from the thread that fills, or at once if the end is known."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return
        callback()

    def outcome(self) -> Any:
        """The value, or the error raised.  Only when done."""
        if self._error is not None:
            raise self._error
        return self._value

    def wait(self, timeout_s: float | None) -> Any:
        """Block the thread."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        block, self.block = self.block, None
        if block is not None and not self._done:
            block(timeout_s)
            self.block = block
        if not self._done:
            ended = threading.Event()
            self.add_done_callback(ended.set)
            if not ended.wait(None if end is None else max(0.0, end - time.monotonic())):
                raise GetTimeoutError("Timed out waiting for result.")
        return self.outcome()

    async def wait_async(self) -> Any:
        """Suspend the task; when the task is cancelled, the request is cancelled with it."""
        if not self._done:
            wake = Wake()
            self.add_done_callback(wake)
            try:
                await wake.future
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self.outcome()


class Wake:
    """Wakes one task of one loop from whichever thread."""

    __slots__ = ("_loop", "future")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = asyncio.Future(loop=self._loop)

    def __call__(self) -> None:
        if asyncio._get_running_loop() is self._loop:
            if not self.future.done():
                self.future.set_result(None)
            return
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            pass  # The loop was closed: nobody waits there any more.

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class StreamReply(Reply):
    """Items in order, then the end or an error."""

    __slots__ = ("_items", "_waiting", "full", "resume")

    def __init__(self) -> None:
        super().__init__()
        self._items: deque[Any] = deque()
        self._waiting: Callable[[], None] | None = None
        # A transport that can wait sets `resume`: from _MOST_ITEMS on `full` tells it to push no
        # more, and `resume` is called when half of them were read.
        self.resume: Callable[[], None] | None = None
        self.full = False

    def push(self, item: Any) -> bool:
        """One more item; False when nobody wants it any more."""
        with self._lock:
            if self._done:
                return False
            self._items.append(item)
            self.full = self.resume is not None and len(self._items) >= _MOST_ITEMS
            if self.full and len(self._items) <= _MOST_ITEMS // 2:
                self.full = False  # They were read while this was decided.
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()
        return not self.wants_cancel

    def _take(self) -> tuple[bool, Any]:
        try:
            item = self._items.popleft()
        except IndexError:
            return False, None
        if self.full and len(self._items) <= _MOST_ITEMS // 2:
            self.full = False
            if self.resume is not None:
                self.resume()
        return True, item

    def _arm(self, wake: Callable[[], None]) -> bool:
        """Have ``wake`` called at the next change; False when there is one already."""
        with self._lock:
            if self._items or self._done:
                return False
            self._waiting = wake
            self._callbacks.append(wake)
            return True

    def _disarm(self, wake: Callable[[], None]) -> None:
        with self._lock:
            if wake in self._callbacks:
                self._callbacks.remove(wake)

    def next(self) -> Any:
        """The next item in this thread; StopIteration at the end."""
        while True:
            found, item = self._take()
            if found:
                return item
            changed = threading.Event()
            if self._arm(changed.set):
                changed.wait()
                self._disarm(changed.set)
            elif self._done and not self._items:
                self.outcome()
                raise StopIteration

    async def next_async(self) -> Any:
        """The next item in this task; StopAsyncIteration at the end."""
        while True:
            found, item = self._take()
            if found:
                return item
            wake = Wake()
            if self._arm(wake):
                await self._wait_for(wake)
            elif self._done and not self._items:
                self.outcome()
                raise StopAsyncIteration

    async def _wait_for(self, wake: Wake) -> None:
        try:
            await wake.future
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._disarm(wake)
