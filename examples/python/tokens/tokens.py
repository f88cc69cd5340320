# SPDX-License-Identifier: Apache-2.0
"""A stream of tokens, as language models give them: server-sent events, one for each token.

    manta run --app-dir examples/python/tokens tokens:app
    curl -N --json '{"prompt":"The old","max_tokens":20,"seed":7}' http://127.0.0.1:8000/generate

The model is small but real: it learns from a text which word follows which two, and writes new text.
"""

import asyncio
import collections
import json
import pathlib
import random

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from manta import serve
from pydantic import BaseModel, Field

TEXT = pathlib.Path(__file__).resolve().parent.parent.parent / "text_stream" / "harbour.txt"

api = FastAPI(title="Tokens")


class Prompt(BaseModel):
    prompt: str = Field("", max_length=10_000)
    max_tokens: int = Field(64, ge=1, le=100_000)
    seed: int = 0
    pause_ms: float = Field(0, ge=0, le=1000, description="as if the model were slow")


@serve.deployment(max_ongoing_requests=100)
class Model:
    """Yields word after word; knows nothing of HTTP."""

    def __init__(self, path: str = str(TEXT)):
        self.followers = collections.defaultdict(list)
        self.started = self.given = 0  # streams that were begun, and tokens that were asked for
        words = pathlib.Path(path).read_text(encoding="utf-8").split()
        for first, second, third in zip(words, words[1:], words[2:]):
            self.followers[second].append(third)
            self.followers[first, second].append(third)
        self.words = words

    async def generate(self, prompt: str, max_tokens: int, seed: int, pause_ms: float):
        chance = random.Random(seed)
        first, second = ["", "", *prompt.split()][-2:]
        self.started += 1
        for _ in range(max_tokens):
            known = self.followers.get((first, second)) or self.followers.get(second) or self.words
            first, second = second, chance.choice(known)
            self.given += 1
            yield second
            await asyncio.sleep(pause_ms / 1000)

    async def counts(self) -> dict:
        return {"started": self.started, "given": self.given}


@serve.deployment(max_ongoing_requests=100)
@serve.ingress(api)
class Tokens:
    def __init__(self, model):
        self.model = model

    @api.post("/generate")
    async def generate(self, wanted: Prompt):
        tokens = self.model.options(stream=True).generate.remote(**wanted.model_dump())

        async def events():
            async for token in tokens:
                yield f"data: {json.dumps({'token': token})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    @api.get("/counts")
    async def counts(self) -> dict:
        return await self.model.counts.remote()


app = Tokens.bind(Model.bind())
