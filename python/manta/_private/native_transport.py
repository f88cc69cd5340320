# SPDX-License-Identifier: Apache-2.0
"""Calls through libmanta, from a driver or from inside a replica.

Which of the two it is makes no difference here: the *caller* is the extension's ``Instance`` in a
driver and its ``Taker`` in a replica.  What travels beside the arguments goes as fields of the call:
the route and the session, and that an exception may come back as a pickle.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any, Optional

from manta._private import native_errors
from manta._private.constants import SESSION_ID_HEADER
from manta._private.names import DeploymentID
from manta._private.reply import Reply, StreamReply
from manta._private.transport import Request, Transport

ACCEPTS_PICKLES = ("manta-errors", "pickle")
ROUTE, SESSION = "manta-route", "manta-session"
HTTP_SESSION = SESSION_ID_HEADER

# The native request on whose behalf this task runs; calls made by it are cancelled with it.
current: contextvars.ContextVar[Optional[Any]] = contextvars.ContextVar(
    "manta native request", default=None
)


class NativeTransport(Transport):
    """The way to every deployment of one instance."""

    def __init__(self, caller: Any) -> None:
        self._caller = caller
        self._lock = threading.Lock()
        self._streams = 0  # that have not come to their end
        self._after_streams: Optional[Callable[[], None]] = None

    def when_streams_end(self, function: Callable[[], None]) -> None:
        """Called once, at once if none is open: what a reader has not taken is still to be told."""
        with self._lock:
            if self._streams:
                self._after_streams = function
                return
        function()

    def _stream_ended(self) -> None:
        with self._lock:
            self._streams -= 1
            function = None if self._streams else self._after_streams
            self._after_streams = self._after_streams if self._streams else None
        if function is not None:
            function()

    def submit(self, request: Request, reply: Reply) -> None:
        parent = current.get()
        if parent is not None and not parent.open:
            parent = None
        told = _Told(reply, request.deployment)
        try:
            call = self._caller.call(
                request.deployment.app_name,
                request.deployment.name,
                request.method,
                request.model_id,
                request.request_id,
                request.args,
                request.kwargs,
                _fields(request),
                parent,
                request.stream,
                _time_left(request),
                told,
            )
        except BaseException as error:
            told.set_error(error)
            return
        reply.on_cancel(call.cancel)
        if isinstance(reply, StreamReply):
            reply.resume = call.resume
            with self._lock:
                self._streams += 1
            reply.add_done_callback(self._stream_ended)
        else:
            reply.block = call.wait

    def broadcast(self, request: Request) -> list[Reply]:
        raise NotImplementedError("broadcast is not supported by this version.")

    def has_replicas(self, deployment: DeploymentID) -> bool:
        from manta._private import instance

        return instance.must_join().has_deployment(deployment)


def _fields(request: Request) -> tuple[tuple[str, str], ...]:
    fields = [ACCEPTS_PICKLES]
    if request.route:
        fields.append((ROUTE, request.route))
    if request.session_id:
        fields.append((SESSION, request.session_id))
    return tuple(fields)


def _time_left(request: Request) -> float:
    if request.deadline_s is None:
        return -1.0
    import time

    return max(0.0, request.deadline_s - time.monotonic())


class _Told:
    """The reply as the extension fills it: errors become Python's own on the way."""

    __slots__ = ("_deployment", "_reply", "push", "set_result")

    def __init__(self, reply: Reply, deployment: DeploymentID) -> None:
        self._reply = reply
        self._deployment = deployment
        self.set_result = reply.set_result
        self.push = getattr(reply, "push", None)

    @property
    def full(self) -> bool:
        """Whether a stream's reader is behind; asked after each push."""
        return bool(getattr(self._reply, "full", False))

    def set_error(self, error: BaseException) -> bool:
        return self._reply.set_error(native_errors.of_call(error, self._deployment))
