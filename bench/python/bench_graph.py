# SPDX-License-Identifier: Apache-2.0
"""What is measured inside the graph: calls from one replica to another, by the replica that makes them.

GET /graph?what=NAME&... runs one measure and answers with what it found, as JSON; the names are Caller's
methods.  The source is the same for Manta and for Ray Serve (bench_apps.py).
"""

import asyncio
import time

import numpy
from bench_apps import OPTIONS, serve

KEPT_BUSY = 64  # calls on their way at once, where many are


@serve.deployment(**OPTIONS)
class Callee:
    async def same(self, value):
        return value

    async def count(self, to: int):
        for number in range(to):
            yield number

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.005)
    async def batched(self, values: list):
        return values

    @serve.multiplexed(max_num_models_per_replica=3)
    async def get_model(self, name: str):
        return name

    async def find_models(self, times: int):
        await self.get_model("a")
        begun = time.perf_counter()
        for _ in range(times):
            await self.get_model("a")
        return (time.perf_counter() - begun) / times


def percentiles(took):
    took = sorted(took)
    return {"p50_us": took[len(took) // 2] * 1e6, "p99_us": took[len(took) * 99 // 100] * 1e6}


@serve.deployment(**OPTIONS)
class Caller:
    def __init__(self, callee):
        self.callee = callee

    async def __call__(self, request):
        asked = dict(request.query_params)
        return await getattr(self, asked.pop("what"))(**{name: int(text) for name, text in asked.items()})

    async def serial(self, count: int):
        """One call after the other."""
        took = []
        for _ in range(count):
            begun = time.perf_counter()
            await self.callee.same.remote(1)
            took.append(time.perf_counter() - begun)
        return percentiles(took)

    async def fan_out(self, width: int, times: int):
        """So many calls at once, and again when all have answered."""
        begun = time.perf_counter()
        for _ in range(times):
            await asyncio.gather(*(_awaited(self.callee.same.remote(number)) for number in range(width)))
        return {"per_s": width * times / (time.perf_counter() - begun), "calls": width * times}

    async def items(self, count: int):
        """A stream of small items."""
        begun, seen = time.perf_counter(), 0
        async for _ in self.callee.options(stream=True).count.remote(count):
            seen += 1
        if seen != count:
            raise RuntimeError(f"{seen} of {count} items came")
        return {"per_s": count / (time.perf_counter() - begun), "calls": count}

    async def batches(self, count: int):
        """Calls of a batched method, many on their way."""
        return await self._keep_busy(self.callee.batched, count)

    async def many(self, count: int):
        """The same calls of a plain method."""
        return await self._keep_busy(self.callee.same, count)

    async def _keep_busy(self, method, count):
        each = count // KEPT_BUSY

        async def one():
            for number in range(each):
                if await method.remote(number) != number:
                    raise RuntimeError("a call gave the wrong answer")

        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(KEPT_BUSY)))
        return {"per_s": each * KEPT_BUSY / (time.perf_counter() - begun), "calls": each * KEPT_BUSY}

    async def arrays(self, size: int, times: int):
        """A numpy array there and back."""
        array, took = numpy.ones(size // 8), []
        for _ in range(times):
            begun = time.perf_counter()
            back = await self.callee.same.remote(array)
            took.append(time.perf_counter() - begun)
            if back.shape != array.shape or back[-1] != 1:
                raise RuntimeError("another array came back")
        return percentiles(took)

    async def models(self, times: int):
        """What finding a model costs that is loaded already."""
        seconds = await self.callee.options(multiplexed_model_id="a").find_models.remote(times)
        return {"us": seconds * 1e6}


async def _awaited(response):
    return await response


app = Caller.bind(Callee.bind())
