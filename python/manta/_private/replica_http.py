# SPDX-License-Identifier: Apache-2.0
"""One HTTP request inside a replica, in ASGI's words."""

from __future__ import annotations

import asyncio
import inspect
import os
from typing import Any, Optional

from starlette.requests import Request as StarletteRequest

from manta._private import native_errors
from manta._private.constants import ROOT_PATH_VARIABLE
from manta._private.http_result import Answer

native = native_errors.native
_ROOT_PATH = os.environ.get(ROOT_PATH_VARIABLE, "")
_GONE = {"type": "http.disconnect"}


class Exchange:
    """Scope, receive and send of one request, and the short way for whole answers."""

    __slots__ = (
        "_body_ended", "_gone", "_loop", "_scope", "_streams_body", "request"
    )  # fmt: skip

    def __init__(self, request: Any, loop: asyncio.AbstractEventLoop, streams_body: bool) -> None:
        self.request = request
        self._loop = loop
        self._streams_body = streams_body
        self._body_ended = False
        self._gone: Optional[asyncio.Future[None]] = None
        self._scope: Optional[dict[str, Any]] = None

    @property
    def scope(self) -> dict[str, Any]:
        scope = self._scope
        if scope is None:
            scope = self._scope = self.request.scope()
            if _ROOT_PATH:
                scope["root_path"] = _ROOT_PATH + scope["root_path"]
        return scope

    def starlette_request(self) -> Any:
        return StarletteRequest(self.scope, self.receive)

    # What comes.

    async def receive(self) -> dict[str, Any]:
        """The body, in pieces as they come or whole; then, when it happens, the client's leaving."""
        if not self._body_ended:
            return await self._receive_body()
        if not self.request.open or self.request.cancelled:
            return _GONE
        await self._wait_for_end()
        return _GONE

    async def _receive_body(self) -> dict[str, Any]:
        request = self.request
        if not self._streams_body:
            self._body_ended = True
            return {"type": "http.request", "body": request.body(), "more_body": False}
        while True:
            try:
                piece = request.read()
            except native.Error:
                self._body_ended = True
                return _GONE
            if piece is not None:
                self._body_ended = not piece
                return {"type": "http.request", "body": piece, "more_body": bool(piece)}
            await self._wait_for("on_body")

    async def _wait_for(self, event: str) -> None:
        future = self._loop.create_future()
        setattr(self.request, event, lambda: future.done() or future.set_result(None))
        try:
            await future
        finally:
            setattr(self.request, event, None)

    async def _wait_for_end(self) -> None:
        """Until the answer is whole; a client that leaves before cancels the task that waits."""
        if self._gone is None:
            self._gone = self._loop.create_future()
        await asyncio.shield(self._gone)

    # What goes.

    def sender(self) -> Any:
        """ASGI's ``send``: it answers, or writes a part, without a coroutine as long as there is room."""
        return native.Sender(self.request, self)

    async def write_rest(self, body: bytes, more: bool) -> None:
        """What the sender does where a part has to wait for room."""
        await self.write(body)
        if not more and self.request.open:
            self.request.finish()
            self.ended()

    def ended(self) -> None:
        """The answer is whole: who waits for the client's leaving waits no longer."""
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    async def write(self, part: bytes) -> None:
        """A part of a streamed answer, once the client has taken enough; OSError when it left."""
        try:
            while not self.request.write(part):
                await self._wait_for("on_room")
        except native.Error as error:
            raise _left(error) from None

    async def stream(self, items: Any) -> None:
        """What a generator yields, as it comes."""
        request = self.request
        request.begin(200, "text/plain; charset=utf-8", ())
        try:
            if inspect.isasyncgen(items):
                async for item in items:
                    if not request.write(item if isinstance(item, bytes) else str(item).encode()):
                        await self._write_later(item)
            else:
                for item in items:
                    if not request.write(item if isinstance(item, bytes) else str(item).encode()):
                        await self._write_later(item)
        except native.Error as error:
            raise _left(error) from None
        request.finish()

    async def _write_later(self, item: Any) -> None:
        await self._wait_for("on_room")
        await self.write(item if isinstance(item, bytes) else str(item).encode())

    def answer(self, answer: Answer) -> None:
        """The whole answer at once."""
        self.request.reply_http(answer.status, answer.content_type, answer.headers, answer.body)

    def check_answered(self) -> None:
        """An application that returned has answered, or has failed."""
        if self.request.open:
            if not self.request.begun:
                raise RuntimeError("The ASGI application returned without an answer.")
            self.request.finish()
        self.ended()


def _left(error: Any) -> BaseException:
    """What an application is told when it writes to nobody, as ASGI has it."""
    return OSError("The client has left.") if error.args[0] == native.ECANCELLED else error
