# SPDX-License-Identifier: Apache-2.0
"""Applications for test_websockets_python.py, in a module that replicas import."""

import asyncio
import os

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from manta import serve

api = FastAPI()


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(api)
class Talker:
    def __init__(self, version=1):
        self.version = version
        self.told = []

    @api.get("/told")
    async def tell(self):
        return self.told

    @api.get("/memory")
    async def memory(self):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    @api.websocket("/echo")
    async def echo(self, ws: WebSocket):
        await ws.accept()
        while True:
            message = await ws.receive()
            if message["type"] == "websocket.disconnect":
                self.told.append([message["code"], message["reason"]])
                return
            await ws.send({**message, "type": "websocket.send"})

    @api.websocket("/fails")
    async def fails(self, ws: WebSocket):
        await ws.accept()
        raise ValueError("after it was accepted")

    @api.websocket("/returns")
    async def returns(self, ws: WebSocket):
        await ws.accept()

    @api.websocket("/dies")
    async def dies(self, ws: WebSocket):
        await ws.accept()
        await ws.receive_text()
        os._exit(3)

    @api.websocket("/deaf")
    async def deaf(self, ws: WebSocket):
        """Receives nothing until it is told to by a file's name."""
        await ws.accept()
        path = ws.query_params["until"]
        while not os.path.exists(path):
            await asyncio.sleep(0.02)
        got = 0
        while True:
            try:
                got += len(await ws.receive_bytes())
            except WebSocketDisconnect:
                self.told.append(got)
                return

    @api.websocket("/talks_on")
    async def talks_on(self, ws: WebSocket):
        """Sends after its client has left, and hears of that at the end."""
        await ws.accept()
        await ws.send_text("go")
        await asyncio.sleep(0.3)
        for _ in range(100):
            await ws.send_text("x" * 10_000)
        self.told.append("sent")
        try:
            await ws.receive_text()
        except WebSocketDisconnect as left:
            self.told.append(left.code)

    @api.websocket("/other_task")
    async def other_task(self, ws: WebSocket):
        """One task receives while another closes, and a third may not receive."""
        await ws.accept()

        async def receive():
            try:
                await ws.receive_text()
            except WebSocketDisconnect as left:
                return left.code

        receiving = asyncio.create_task(receive())
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(ws.receive_text(), 5)
        except RuntimeError as error:
            self.told.append(str(error))
        await ws.close(3002)
        self.told.append(await asyncio.wait_for(receiving, 5))

    @api.websocket("/impatient")
    async def impatient(self, ws: WebSocket):
        """Gives up waiting again and again; no message is lost by that."""
        await ws.accept()
        while True:
            try:
                text = await asyncio.wait_for(ws.receive_text(), 0.01)
            except asyncio.TimeoutError:
                await ws.send_text("nothing yet")
            except WebSocketDisconnect:
                return
            else:
                await ws.send_text(text)


@serve.deployment
class Plain:
    async def __call__(self, request):
        return "plain"


async def bare(scope, receive, send):
    """ASGI without a framework, which sees every message."""
    assert scope["type"] == "websocket", scope
    assert await receive() == {"type": "websocket.connect"}
    for wrong in ({"type": "websocket.send", "text": "early"}, {"type": "http.response.start", "status": 200}):
        try:
            await send(wrong)
        except RuntimeError:
            continue
        raise AssertionError(wrong)
    await send({"type": "websocket.accept"})
    try:
        await send({"type": "websocket.accept"})
    except RuntimeError:
        await send({"type": "websocket.send", "text": "once only"})
    message = await receive()
    await send({"type": "websocket.send", "text": repr(sorted(message))})
    await send({"type": "websocket.close", "code": 3001, "reason": "done"})
    message = await receive()
    assert (message["type"], message["code"]) == ("websocket.disconnect", 3001), message


class Bare:
    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            await bare(scope, receive, send)


@serve.deployment
@serve.ingress(Bare())
class Framework:
    pass
