# SPDX-License-Identifier: Apache-2.0
"""Rooms to talk in, by websocket, with a page.

    manta run --app-dir examples/python/chat chat:app
    open http://127.0.0.1:8000/ in two windows

Each open websocket is one of the ingress's `max_ongoing_requests`.  Who is in a room is known to the replica that holds
their websockets, so that there is one; what was said is kept by a deployment of its own, which may be replaced while
people talk.
"""

import asyncio
import collections
import pathlib

from fastapi import FastAPI, Query, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse
from manta import serve

PAGE = (pathlib.Path(__file__).resolve().parent / "chat.html").read_text(encoding="utf-8")
LONGEST = 2000  # characters of a message

api = FastAPI(title="Chat")


@serve.deployment(max_ongoing_requests=100)
class History:
    """The last words of each room."""

    def __init__(self, kept: int = 50):
        self.rooms = collections.defaultdict(lambda: collections.deque(maxlen=kept))

    async def add(self, room: str, said: dict) -> None:
        self.rooms[room].append(said)

    async def of(self, room: str) -> list[dict]:
        return list(self.rooms[room])


@serve.deployment(max_ongoing_requests=1000)
@serve.ingress(api)
class Chat:
    def __init__(self, history):
        self.history = history
        self.rooms: dict[str, dict[WebSocket, str]] = collections.defaultdict(dict)

    @api.get("/", response_class=HTMLResponse)
    async def page(self) -> str:
        return PAGE

    @api.get("/rooms/{room}")
    async def members(self, room: str) -> list[str]:
        return sorted(self.rooms[room].values()) if room in self.rooms else []

    @api.websocket("/rooms/{room}")
    async def enter(self, websocket: WebSocket, room: str, name: str = Query(min_length=1, max_length=40)):
        await websocket.accept()
        for said in await self.history.of.remote(room):
            await websocket.send_json(said)
        self.rooms[room][websocket] = name
        try:
            await self.tell(room, {"who": None, "text": f"{name} came in"})
            async for text in websocket.iter_text():
                said = {"who": name, "text": text[:LONGEST]}
                await self.history.add.remote(room, said)
                await self.tell(room, said)
        except WebSocketDisconnect:
            pass
        finally:
            del self.rooms[room][websocket]
            if self.rooms[room]:
                await self.tell(room, {"who": None, "text": f"{name} left"})
            else:
                del self.rooms[room]

    async def tell(self, room: str, said: dict) -> None:
        """To all, side by side: one who reads slowly holds up nobody but himself."""
        said = {**said, "members": len(self.rooms[room])}
        await asyncio.gather(*(member.send_json(said) for member in list(self.rooms[room])))


app = Chat.bind(History.bind())
