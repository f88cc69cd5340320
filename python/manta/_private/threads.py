# SPDX-License-Identifier: Apache-2.0
"""Threads for ``def`` handlers.

A pool of the standard library keeps the interpreter from ending while a handler blocks; these
threads are daemons, start when needed, end when idle, and carry the caller's context variables.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_IDLE_S = 5.0
_Job = tuple[contextvars.Context, Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future]


class ThreadPool:
    """At most ``limit`` calls side by side; more wait their turn.

    A thread counts as idle until the moment it takes a job, and both happen under one lock: so
    there are never fewer idle threads than jobs that rely on them.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = max(1, limit)
        self._name = name
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._threads = 0
        self._idle = 0

    def set_limit(self, limit: int) -> None:
        """From now on; what runs beyond a lower limit runs on."""
        with self._changed:
            self._limit = max(1, limit)
            more = max(0, min(len(self._jobs) - self._idle, self._limit - self._threads))
            self._threads += more
        for _ in range(more):
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call the function in a thread.  Cancelling the wait does not stop the function."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        job = (contextvars.copy_context(), function, loop, future)
        with self._changed:
            self._jobs.append(job)
            start = len(self._jobs) > self._idle and self._threads < self._limit
            self._threads += start
            self._changed.notify()
        if start:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        return await future

    def _serve(self) -> None:
        job = self._take()
        while job is not None:
            _do(*job)
            del job  # What the caller gave shall not live as long as an idle thread.
            job = self._take()

    def _take(self) -> _Job | None:
        """The next job; None when there was none for so long that the thread may end."""
        with self._changed:
            if self._threads > self._limit:
                self._threads -= 1
                return None
            self._idle += 1
            while not self._jobs:
                if not self._changed.wait(_IDLE_S) and not self._jobs:
                    self._idle -= 1
                    self._threads -= 1
                    return None
            self._idle -= 1
            return self._jobs.popleft()


def _do(
    variables: contextvars.Context,
    function: Callable[[], Any],
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
) -> None:
    try:
        result, error = variables.run(function), None
    except BaseException as raised:
        result, error = None, _speakable(raised)
    try:
        loop.call_soon_threadsafe(_tell, future, result, error)
    except RuntimeError:
        pass  # The loop is closed; the one who waited is gone with it.


def _speakable(error: BaseException) -> BaseException:
    """A future cannot carry StopIteration."""
    if isinstance(error, StopIteration):
        return RuntimeError(f"the handler raised {error!r}")
    return error


def _tell(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
