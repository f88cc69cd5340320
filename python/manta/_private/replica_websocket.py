# SPDX-License-Identifier: Apache-2.0
"""One websocket inside a replica, in ASGI's words.

Messages wait in Manta's window until the application receives them, so that one that is slow slows
its client down.  As in Ray Serve an application is cancelled when the client leaves before it is
accepted; from then on it is told by ``websocket.disconnect``, and what it sends after that is
dropped.
"""

from __future__ import annotations

import asyncio
from typing import Any, Optional

from manta._private import native_errors

native = native_errors.native

_CONNECTING, _ANSWERING, _ACCEPTED, _ENDED = range(4)
_NORMAL, _ABNORMAL = 1000, 1006


class Conversation:
    """Scope, receive and send of one websocket."""

    __slots__ = (
        "_close_code", "_headers", "_loop", "_receiver", "_senders", "_state", "_status", "request", "scope"
    )  # fmt: skip

    def __init__(self, request: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.request = request
        self.scope: dict[str, Any] = request.scope()
        self._loop = loop
        self._state = _CONNECTING
        self._receiver: Any = None
        self._senders: list[Any] = []
        self._status = 0
        self._headers: Any = ()
        self._close_code = _NORMAL

    def attend(self, task: asyncio.Task[None]) -> None:
        """Its task has begun; a client that leaves now cancels it."""
        if self._state < _ACCEPTED and not task.done():
            self.request.on_cancel = task.cancel

    # What comes.

    async def receive(self) -> dict[str, Any]:
        if self._state == _ACCEPTED:
            request = self.request
            while request.open:
                message: Optional[dict[str, Any]] = request.websocket_receive()
                if message is not None:
                    return message
                await self._next_receiver()
        elif self._state == _CONNECTING:
            self._state = _ANSWERING
            return {"type": "websocket.connect"}
        elif self._state == _ANSWERING:
            await native.News(self._loop)  # A client that leaves cancels the task.
        return {"type": "websocket.disconnect", "code": self._close_code, "reason": ""}

    def _next_receiver(self) -> Any:
        """What is told when more has come.  The task goes on inside the turn that brought it."""
        if self._receiver is not None and not self._receiver.done():
            raise RuntimeError("Another task is receiving from this websocket.")
        self._receiver = news = native.News(self._loop)
        self.request.on_body = news.tell
        return news

    async def _wait_for_room(self) -> None:
        news = native.News(self._loop)
        self._senders.append(news)
        try:
            await news
        finally:
            self._senders.remove(news)

    def _has_room(self) -> None:
        for news in self._senders.copy():
            news.tell()

    # What goes.

    async def send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            if self._state < _ACCEPTED:
                self._expect(kind, False)
            content = message.get("text")
            if content is None:
                content = message["bytes"]
            request = self.request
            while request.open and request.websocket_send(content) is False:
                await self._wait_for_room()
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._close(message.get("code", _NORMAL), message.get("reason") or "")
        elif kind == "websocket.http.response.start":
            self._expect(kind, self._state < _ACCEPTED and not self._status)
            self._status = message["status"]
            self._headers = message.get("headers") or ()
        elif kind == "websocket.http.response.body":
            await self._send_body(message)
        else:
            raise RuntimeError(f"A websocket does not take the ASGI message '{kind}'.")

    def _expect(self, kind: str, allowed: bool) -> None:
        if not allowed:
            states = ("before it is accepted", "before it is accepted", "once it is accepted", "after its end")
            raise RuntimeError(f"The ASGI message '{kind}' came {states[self._state]}.")

    def _accept(self, message: dict[str, Any]) -> None:
        self._expect("websocket.accept", self._state < _ACCEPTED and not self._status)
        self._state = _ACCEPTED
        self.request.on_cancel = None
        self.request.on_room = self._has_room
        self.request.websocket_accept(message.get("subprotocol"), message.get("headers") or ())

    def _close(self, code: int, reason: str) -> None:
        if self._state < _ACCEPTED:
            self._expect("websocket.close", not self._status)
            self._state = _ENDED
            self._close_code = _ABNORMAL
            self.request.reply_http(403, "text/plain; charset=utf-8", (), b"")
        elif self._state == _ACCEPTED:
            self._state = _ENDED
            self._close_code = code
            if self.request.open:
                self.request.websocket_close(code, reason)
            if self._receiver is not None:
                self._receiver.tell()
            self._has_room()

    async def _send_body(self, message: dict[str, Any]) -> None:
        """The application's own answer to a client that it does not accept."""
        kind, request = message["type"], self.request
        self._expect(kind, self._state < _ACCEPTED and bool(self._status))
        body, more = message.get("body", b""), message.get("more_body", False)
        if not request.begun and not more:
            request.reply_http(self._status, None, self._headers, body)
        else:
            if not request.begun:
                request.begin(self._status, None, self._headers)
            while not request.write(body):
                self.request.on_room = self._has_room
                await self._wait_for_room()
            if not more:
                request.finish()
        if not more:
            self._state = _ENDED
            self._close_code = _ABNORMAL

    # The end.

    def check_ended(self) -> None:
        """An application that returned has closed; else it is closed for it."""
        if not self.request.open:
            return
        if self._state < _ACCEPTED:
            raise RuntimeError("The ASGI application returned without an answer to the websocket.")
        self._close(_NORMAL, "")

    def fail(self, error: BaseException) -> None:
        """Before it is accepted that is an answer of status 500, afterwards a close with 1011."""
        request = self.request
        if not request.open:
            return
        if isinstance(error, asyncio.CancelledError) and request.cancelled:
            request.fail(native.ECANCELLED, "the client left")
        elif request.begun:
            request.fail(native.EUSER, f"{type(error).__name__}: {error}")
        else:
            request.reply_http(500, "text/plain; charset=utf-8", (), b"Internal Server Error")
        self._state = _ENDED
