# SPDX-License-Identifier: Apache-2.0
"""The application whose life is measured, in Python: FastAPI, as crew.c answers.

Where Ray's interpreter runs it (CREW_OF=ray), the same lines run on Ray Serve.
"""

import asyncio
import os
import time

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

if os.environ.get("CREW_OF") == "ray":
    from ray import serve
else:
    from manta import serve

api = FastAPI()


@serve.deployment(max_ongoing_requests=32)
@serve.ingress(api)
class Crew:
    """Each replica answers with its word and its process."""

    def __init__(self, word, work_us, open_ms, refuse):
        time.sleep(open_ms / 1000)
        if refuse:
            raise RuntimeError("this version refuses to begin")
        self.answer = f"{word} {os.getpid()}"
        self.work_s = work_us / 1e6

    @api.get("/")
    async def work(self):
        if self.work_s:
            await asyncio.sleep(self.work_s)
        return PlainTextResponse(self.answer)


def build(args):
    """`word=a num_replicas=2 work_us=1000 open_ms=0 refuse=0`, all as text."""
    options = {key: int(args[key]) for key in ("num_replicas", "max_ongoing_requests") if key in args}
    numbers = [int(args.get(key, "0")) for key in ("work_us", "open_ms", "refuse")]
    return Crew.options(**options).bind(args.get("word", "a"), *numbers)
