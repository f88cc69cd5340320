# SPDX-License-Identifier: Apache-2.0
"""Websockets under a FastAPI ingress: what a client hears, and what the application is told."""

import asyncio

import ray
from client import PORT, get
from fastapi import Depends, FastAPI, Query, WebSocket, WebSocketDisconnect, WebSocketException
from fastapi.responses import PlainTextResponse
from ray import serve
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

api = FastAPI()


@serve.deployment
class Upper:
    async def __call__(self, text):
        return text.upper()


async def who(name: str = Query("nobody")):
    return name


@serve.deployment(max_ongoing_requests=20)
@serve.ingress(api)
class Talker:
    def __init__(self, upper):
        self.upper = upper
        self.told = []

    @api.get("/told")
    async def tell(self):
        told, self.told = self.told, []
        return told

    @api.websocket("/echo")
    async def echo(self, ws: WebSocket):
        await ws.accept()
        while True:
            message = await ws.receive()
            if message["type"] == "websocket.disconnect":
                self.told.append(["disconnect", message["code"], message.get("reason") or ""])
                return
            if message.get("text") is not None:
                await ws.send_text(message["text"])
            else:
                await ws.send_bytes(message["bytes"])

    @api.websocket("/upper/{room}")
    async def shout(self, ws: WebSocket, room: int, name: str = Depends(who)):
        await ws.accept()
        await ws.send_json({"room": room, "name": name, "path": ws.url.path, "query": ws.url.query})
        async for text in ws.iter_text():
            await ws.send_text(await self.upper.remote(text))
        self.told.append("iteration ended")

    @api.websocket("/subprotocol")
    async def subprotocol(self, ws: WebSocket):
        await ws.accept(subprotocol="chat", headers=[(b"x-mine", b"1")])
        await ws.send_json([ws.scope["type"], ws.scope["scheme"], ws.scope["subprotocols"], ws.scope["root_path"], ws.scope["asgi"]])
        await ws.close()

    @api.websocket("/refused")
    async def refused(self, ws: WebSocket):
        await ws.close(4001, "no")

    @api.websocket("/denied")
    async def denied(self, ws: WebSocket):
        await ws.send_denial_response(PlainTextResponse("who are you?", 401, {"x-why": "unknown"}))

    @api.websocket("/policy")
    async def policy(self, ws: WebSocket):
        raise WebSocketException(1008, "not here")

    @api.websocket("/policy_later")
    async def policy_later(self, ws: WebSocket):
        await ws.accept()
        raise WebSocketException(1008, "not any more")

    @api.websocket("/broken")
    async def broken(self, ws: WebSocket):
        raise ValueError("before it was accepted")

    @api.websocket("/closes")
    async def closes(self, ws: WebSocket):
        await ws.accept()
        await ws.send_text("one")
        await ws.send_bytes(b"two")
        await ws.close(4002, "enough")
        try:
            await ws.send_text("three")
        except RuntimeError:
            self.told.append("a closed websocket sends nothing")

    @api.websocket("/late")
    async def late(self, ws: WebSocket):
        await ws.accept()
        await ws.send_text("go")
        try:
            await ws.receive_text()
        except WebSocketDisconnect as left:
            self.told.append(["left", left.code, left.reason])
            await asyncio.sleep(0)
            self.told.append("and went on")

    @api.websocket("/two_tasks")
    async def two_tasks(self, ws: WebSocket):
        """Reads and writes at the same time."""
        await ws.accept()
        queue = asyncio.Queue()

        async def read():
            async for text in ws.iter_text():
                await queue.put(text)
            await queue.put(None)

        async def write():
            while (text := await queue.get()) is not None:
                await ws.send_text(text[::-1])

        await asyncio.gather(read(), write())
        self.told.append("both ended")

    @api.websocket("/slow")
    async def slow(self, ws: WebSocket):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.told.append("cancelled before it was accepted")
            raise


BASE = f"ws://127.0.0.1:{PORT}/talk"


async def heard(ws):
    """Everything until the end."""
    got = []
    try:
        while True:
            got.append(await asyncio.wait_for(ws.recv(), 20))
    except ConnectionClosed:
        return [*got, ws.close_code, ws.close_reason]


async def told(count):
    """What the application has noted, once it has noted so much."""
    got = []
    for _ in range(400):
        got += (await asyncio.to_thread(get, "/talk/told")).json()
        if len(got) >= count:
            break
        await asyncio.sleep(0.05)
    return got


async def refusal(path):
    try:
        async with connect(BASE + path):
            return "accepted"
    except InvalidStatus as refused:
        answer = refused.response
        return answer.status_code, bytes(answer.body), answer.headers.get("x-why")


async def converse():
    async with connect(f"{BASE}/echo") as ws:
        for message in ("hällo", b"\0\xff", "", b"", "x" * 300_000):
            await ws.send(message)
            back = await ws.recv()
            print(type(back).__name__, len(back), back == message)
        await ws.send(["in ", "three ", "fragments"])
        print(await ws.recv())
        for i in range(200):
            await ws.send(str(i))
        print([await ws.recv() for _ in range(200)] == [str(i) for i in range(200)])
        pong = await ws.ping()
        await asyncio.wait_for(pong, 20)
        print("pong")
        await ws.close(4005, "why not")
        print(ws.close_code, await told(1))

    async with connect(f"{BASE}/upper/7?name=Ada&x=a%20b") as ws:
        print(await ws.recv())
        await ws.send("louder")
        print(await ws.recv())
    print(await told(1))

    async with connect(f"{BASE}/subprotocol", subprotocols=["news", "chat"]) as ws:
        print(ws.subprotocol, ws.response.headers["x-mine"], await heard(ws))

    for path in ("/refused", "/denied", "/policy", "/broken", "/nowhere", "/upper/seven"):
        print(path, await refusal(path))

    for path in ("/closes", "/policy_later"):
        async with connect(BASE + path) as ws:
            print(path, await heard(ws))
    print(await told(1))

    async with connect(f"{BASE}/late") as ws:
        print(await ws.recv())
        await ws.close(1001, "moving on")
    print(await told(2))

    async with connect(f"{BASE}/two_tasks") as ws:
        for text in ("abc", "def"):
            await ws.send(text)
        print(await ws.recv(), await ws.recv())
    print(await told(1))

    try:
        await asyncio.wait_for(connect(f"{BASE}/slow"), 1)
    except TimeoutError:
        print(await told(1))

    many = [await connect(f"{BASE}/echo") for _ in range(10)]
    for i, ws in enumerate(many):
        await ws.send(f"hello from {i}")
    print([await ws.recv() for ws in many])
    for ws in many:
        await ws.close()


def main():
    ray.init()
    serve.start(http_options={"port": PORT})
    serve.run(Talker.bind(Upper.bind()), name="talk", route_prefix="/talk")
    asyncio.run(converse())
    serve.shutdown()


if __name__ == "__main__":
    main()
