# SPDX-License-Identifier: Apache-2.0
"""A room where everybody hears everybody: FastAPI websockets, and a deployment behind them."""

import ray
from client import PORT, get
from fastapi import FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
from ray import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

api = FastAPI()


@serve.deployment
class Translator:
    async def shout(self, text):
        return text.upper()

    async def letters(self, text):
        for letter in text:
            yield letter


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(api)
class Room:
    def __init__(self, translator):
        self.translator = translator
        self.members = {}
        self.left = []

    @api.websocket("/room/{name}")
    async def room(self, socket: WebSocket, name: str, quiet: bool = False):
        await socket.accept(headers=[(b"x-room", name.encode())])
        self.members[name] = socket
        try:
            while True:
                text = await self.translator.shout.remote(await socket.receive_text())
                for other, member in sorted(self.members.items()):
                    if not (quiet and other == name):
                        await member.send_text(f"{name}: {text}")
        except WebSocketDisconnect as gone:
            del self.members[name]
            self.left.append([name, gone.code])

    @api.websocket("/json")
    async def numbers(self, socket: WebSocket):
        await socket.accept()
        async for asked in socket.iter_json():
            await socket.send_json({"sum": sum(asked["numbers"]), "header": socket.headers.get("x-mine")})

    @api.websocket("/bytes")
    async def binary(self, socket: WebSocket):
        await socket.accept(subprotocol="upside-down" if "upside-down" in socket.scope["subprotocols"] else None)
        async for data in socket.iter_bytes():
            await socket.send_bytes(data[::-1])

    @api.websocket("/letters")
    async def letters(self, socket: WebSocket):
        await socket.accept()
        async for letter in self.translator.options(stream=True).letters.remote(await socket.receive_text()):
            await socket.send_text(letter)
        await socket.close(4001, "that was all")

    @api.websocket("/forbidden")
    async def forbidden(self, socket: WebSocket):
        raise WebSocketException(1008, "not for you")

    @api.websocket("/crash")
    async def crash(self, socket: WebSocket):
        await socket.accept()
        raise RuntimeError("never told to clients")

    @api.get("/left")
    async def all_left(self):
        return self.left


def url(path):
    return f"ws://127.0.0.1:{PORT}{path}"


def closed(socket):
    """Code and reason of the end."""
    try:
        while True:
            socket.recv(timeout=20)
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None, end.rcvd.reason if end.rcvd else None


if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    serve.run(Room.bind(Translator.bind()), name="room", route_prefix="/")
    with connect(url("/room/anna")) as anna, connect(url("/room/bert?quiet=true")) as bert:
        print(anna.response.headers["x-room"], anna.response.status_code)
        anna.send("hello")
        print(anna.recv(timeout=20), "|", bert.recv(timeout=20))
        bert.send("moin")
        print(anna.recv(timeout=20))
        bert.close(1000, "bye")
        anna.send("still there?")
        print(anna.recv(timeout=20))
    for _ in range(100):
        if len(get("/left").json()) == 2:
            break
    print(sorted(get("/left").json()))

    with connect(url("/json"), additional_headers={"x-mine": "m"}) as socket:
        socket.send('{"numbers": [1, 2, 3.5]}')
        print(socket.recv(timeout=20))
    with connect(url("/bytes"), subprotocols=["other", "upside-down"]) as socket:
        print(socket.subprotocol)
        for size in (0, 1, 200, 70_000, 300_000):
            data = bytes(i % 251 for i in range(size))
            socket.send(data)
            print(size, socket.recv(timeout=20) == data[::-1])
    with connect(url("/letters")) as socket:
        socket.send("abc")
        print([socket.recv(timeout=20) for _ in range(3)], closed(socket))
    for path in ("/forbidden", "/nowhere"):
        try:
            connect(url(path))
        except InvalidStatus as error:
            print(path, error.response.status_code)
    with connect(url("/crash")) as socket:
        print("/crash", closed(socket)[0] != 1000)  # Ray Serve drops the connection; 1011 is as good.
    print(get("/json").status)
    serve.shutdown()
