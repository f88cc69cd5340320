# SPDX-License-Identifier: Apache-2.0
"""What is measured: the least that a handler can do, in the four ways that people write one."""

import time

from fastapi import FastAPI
from manta import serve

api = FastAPI()


@serve.deployment(max_ongoing_requests=1000)
class Async:
    async def __call__(self):
        return b"hello"

    async def same(self, value):
        return value


@serve.deployment(max_ongoing_requests=1000)
class Def:
    def __call__(self):
        return b"hello"


class Bare:
    """An ASGI application without a framework."""

    async def __call__(self, scope, receive, send):
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})


@serve.deployment(max_ongoing_requests=1000)
@serve.ingress(Bare())
class Asgi:
    pass


@api.get("/hello")
async def hello():
    return {"hello": "world"}


@serve.deployment(max_ongoing_requests=1000)
@serve.ingress(api)
class Fast:
    pass


@serve.deployment(max_ongoing_requests=1000)
class Caller:
    """Calls another deployment, one call after the other."""

    def __init__(self, callee):
        self.callee = callee

    async def measure(self, count):
        took = []
        for _ in range(count):
            begun = time.perf_counter()
            await self.callee.same.remote(1)
            took.append(time.perf_counter() - begun)
        return took
