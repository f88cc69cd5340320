# SPDX-License-Identifier: Apache-2.0
"""The ASGI applications that are measured, as uvicorn runs them and as an ingress holds them."""

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

CHUNK = b"x" * 15 + b"\n"

api = FastAPI()


@api.get("/hello")
async def hello():
    return {"hello": "world"}


@api.get("/stream")
async def stream(chunks: int = 1000):
    async def parts():
        for _ in range(chunks):
            yield CHUNK

    return StreamingResponse(parts(), media_type="text/plain")


class Bare:
    """An ASGI application without a framework."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})


bare = Bare()
