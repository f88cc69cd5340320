# SPDX-License-Identifier: Apache-2.0
"""Applications for test_python.py: what users write, in a module that replicas import."""

import asyncio
import contextvars
import os
import threading
import time

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from manta import serve
from manta.serve.context import _get_serve_request_context
from manta.serve.schema import ReplicaRank


@serve.deployment
def greet(request):
    return f"Hello, {request.query_params.get('name', 'world')}!"


@serve.deployment
def constant():
    return {"answer": 42}


@serve.deployment
class Ranked:
    """Says its rank, and is told of it."""

    def __init__(self):
        self.config, self.told = None, None

    async def reconfigure(self, config, rank):
        await asyncio.sleep(0)
        if config["n"] == "refuse":
            raise ValueError("not this one")
        self.config, self.told = config, rank.rank

    async def __call__(self):
        context = serve.get_replica_context()
        return {
            "pid": os.getpid(),
            "config": self.config,
            "told": self.told,
            "rank": context.rank.rank,
            "world_size": context.world_size,
            "is_rank": isinstance(context.rank, ReplicaRank) and context.rank.node_rank == 0,
        }


@serve.deployment(max_ongoing_requests=100)
class Worker:
    """One of each kind of method."""

    def __init__(self, base=0, *, name="worker"):
        self.base = base
        self.name = name
        self.cancelled = 0
        self.config = None

    def reconfigure(self, config):
        self.config = config

    async def __call__(self, x):
        return x + self.base

    def in_thread(self, x, *, extra=0):
        return x + extra, threading.current_thread() is threading.main_thread()

    async def settings(self):
        return self.config, self.name

    async def echo(self, value):
        return value

    async def fail(self, text):
        raise ValueError(text)

    def fail_in_thread(self):
        raise KeyError("k")

    async def count_up(self, n):
        for i in range(n):
            yield i
            await asyncio.sleep(0)

    def count_in_thread(self, n):
        yield from ((i, "x" * 10) for i in range(n))

    async def fail_after(self, n):
        for i in range(n):
            yield i
        raise RuntimeError("enough")

    async def sleep(self, seconds):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def cancellations(self):
        return self.cancelled

    async def identity(self):
        """Whether task and variables are the same before and after waiting."""
        variable = contextvars.ContextVar("v", default=0)
        before = asyncio.current_task()
        variable.set(7)
        for _ in range(3):
            await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            child = group.create_task(self.echo(1))
        after = asyncio.current_task()
        return before is after, variable.get(), child.result(), before in asyncio.all_tasks()

    async def timeout(self):
        try:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(30)
        except TimeoutError:
            return "timed out"

    async def request(self):
        now = _get_serve_request_context()
        return now.request_id, now.route, now.app_name, now.multiplexed_model_id

    def block(self, seconds):
        time.sleep(seconds)
        return os.getpid()

    def pid(self):
        return os.getpid()


@serve.deployment(num_replicas=3)
class Models:
    """Many models, each loaded where it was asked for first."""

    @serve.multiplexed(max_num_models_per_replica=3)
    async def load(self, model_id):
        return f"{model_id}@{serve.get_replica_context().replica_tag}"

    async def __call__(self):
        return await self.load(serve.get_multiplexed_model_id())


@serve.deployment(max_ongoing_requests=100)
class Front:
    """Calls another deployment."""

    def __init__(self, worker):
        self.worker = worker

    async def __call__(self, request):
        what = request.query_params.get("what", "sum")
        if what == "sum":
            return await self.worker.remote(1)
        if what == "request":
            return await self.worker.request.remote()
        if what == "sleep":
            return await self.worker.sleep.remote(60)
        if what == "fail":
            return await self.worker.fail.remote("downstream")
        if what == "stream":
            return [i async for i in self.worker.options(stream=True).count_up.remote(4)]
        raise AssertionError(what)


api = FastAPI()


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(api)
class Api:
    @api.get("/items/{item}")
    async def item(self, item: int, q: str = "none"):
        return {"item": item, "q": q}

    @api.get("/def")
    def in_thread(self):
        return {"main": threading.current_thread() is threading.main_thread()}

    @api.post("/body")
    async def body(self, request: Request):
        size = 0
        async for piece in request.stream():
            size += len(piece)
        return {"size": size}

    @api.get("/stream")
    async def stream(self, parts: int = 5, size: int = 10):
        async def make():
            for i in range(parts):
                yield bytes([48 + i % 10]) * size
                await asyncio.sleep(0)

        return StreamingResponse(make(), media_type="text/plain")

    @api.get("/teapot")
    async def teapot(self):
        raise HTTPException(418, "short and stout")

    @api.get("/boom")
    async def boom(self):
        raise RuntimeError("boom")

    @api.get("/cookies")
    async def cookies(self):
        from fastapi.responses import PlainTextResponse

        response = PlainTextResponse("two")
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response


worker = Worker.bind(10)
front = Front.bind(worker)
web = Api.bind()


def build(args):
    """An application builder: `manta run python_apps:build name=x`."""
    return greet.options(name=args.get("name", "greet")).bind()
