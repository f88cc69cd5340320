# SPDX-License-Identifier: Apache-2.0
"""A FastAPI front, a model that works in batches, and a stream.

    manta run --app-dir examples/python app:app
    curl 'http://127.0.0.1:8000/score?text=hello'     # {"text":"hello","score":532}
    curl 'http://127.0.0.1:8000/count?to=3'           # 0 1 2, a line each, as they come
"""

import asyncio

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from manta import serve

api = FastAPI()


@serve.deployment(max_ongoing_requests=64)
class Scorer:
    """Requests that come together are scored together."""

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def score(self, texts: list[str]) -> list[int]:
        return [sum(text.encode()) for text in texts]

    async def count(self, to: int):
        for number in range(to):
            yield number
            await asyncio.sleep(0.1)


@serve.deployment(max_ongoing_requests=64)
@serve.ingress(api)
class Front:
    def __init__(self, scorer):
        self.scorer = scorer

    @api.get("/score")
    async def score(self, text: str):
        return {"text": text, "score": await self.scorer.score.remote(text)}

    @api.get("/count")
    async def count(self, to: int = 10):
        async def lines():
            async for number in self.scorer.options(stream=True).count.remote(to):
                yield f"{number}\n"

        return StreamingResponse(lines(), media_type="text/plain")


app = Front.bind(Scorer.bind())
