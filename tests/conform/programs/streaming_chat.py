# SPDX-License-Identifier: Apache-2.0
"""A chat whose words come as they are found: server-sent events over a streaming handle."""

import asyncio
import json

import ray
from client import PORT, get, pieces
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from ray import serve

api = FastAPI()


@serve.deployment
class Writer:
    """Knows one story and tells it word by word."""

    def __init__(self):
        self.told = 0
        self.stopped = 0

    async def words(self, prompt, limit):
        story = f"once upon a {prompt} there was a {prompt} that talked".split()
        try:
            for word in story[:limit]:
                self.told += 1
                yield word
                await asyncio.sleep(0.001)
        finally:
            self.stopped += 1

    def letters(self, word):
        yield from word

    async def broken(self):
        yield 1
        yield 2
        raise ValueError("the ink is out")

    async def counts(self):
        return self.told, self.stopped


@serve.deployment
@serve.ingress(api)
class Chat:
    def __init__(self, writer):
        self.writer = writer.options(stream=True)

    @api.get("/chat")
    async def chat(self, prompt: str, limit: int = 100):
        async def events():
            async for word in self.writer.words.remote(prompt, limit):
                yield f"data: {json.dumps({'word': word})}\n\n"
            yield "event: done\ndata: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @api.get("/whole")
    async def whole(self, prompt: str):
        return " ".join([word async for word in self.writer.words.remote(prompt, 5)])


@serve.deployment
class Plain:
    """Streams without a framework."""

    async def lines(self, n):
        for i in range(n):
            yield f"line {i}\n\n"

    def __call__(self, request):
        n = int(request.query_params["n"])
        return StreamingResponse(self.lines(n), media_type="text/plain", status_code=206)


if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    serve.run(Chat.bind(Writer.bind()), name="chat", route_prefix="/")
    serve.run(Plain.bind(), name="plain", route_prefix="/plain")
    for block in pieces("/chat?prompt=fox"):
        print(*block)
    print(len(list(pieces("/chat?prompt=fox&limit=3"))))
    print(get("/chat?prompt=x").type, get("/chat").status)
    print(get("/whole?prompt=cat").json())
    answer = get("/plain?n=3")
    print(answer.status, answer.text.split())

    writer = serve.get_deployment_handle("Writer", "chat")
    print(list(writer.options(stream=True).letters.remote("abc")))
    stream = writer.options(stream=True).broken.remote()
    print(next(stream), next(stream))
    try:
        next(stream)
    except ValueError as error:
        print("ValueError", str(error.cause))
    for wrong in (
        lambda: writer.letters.remote("abc").result(),
        lambda: list(writer.options(stream=True).counts.remote()),
    ):
        try:
            wrong()
        except TypeError as error:
            print("TypeError", "stream" in str(error) or "generator" in str(error))
    told, stopped = writer.counts.remote().result()
    print(told, stopped)
    serve.shutdown()
