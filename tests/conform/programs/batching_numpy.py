# SPDX-License-Identifier: Apache-2.0
"""A linear model over numpy arrays, called in batches; what goes wrong in a batch."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import ray
from client import PORT, post
from ray import serve
from ray.serve.exceptions import RayServeException
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=64)
class Linear:
    def __init__(self, weights):
        self.weights = np.asarray(weights)
        self.sizes = []

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.2)
    async def predict(self, rows: list[np.ndarray]) -> list[float]:
        self.sizes.append(len(rows))
        return (np.stack(rows) @ self.weights).tolist()

    async def __call__(self, request: Request):
        row = np.array(await request.json(), dtype=np.float64)
        return {"y": await self.predict(row)}

    async def array(self, row: np.ndarray) -> np.ndarray:
        return np.array([await self.predict(row)]) * 2

    async def seen(self):
        return max(self.sizes), sum(self.sizes)


@serve.deployment(max_ongoing_requests=64)
class Trouble:
    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.1)
    async def short(self, items):
        return items[:-1]

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.1)
    async def picky(self, items):
        if "bad" in items:
            raise KeyError("bad")
        return [len(item) for item in items]

    @serve.batch(max_batch_size=3, batch_wait_timeout_s=0.1)
    async def two(self, left, right):
        return [a + b for a, b in zip(left, right)]

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.1)
    async def words(self, texts):
        for i in range(2):
            yield [text[i] for text in texts]

    async def run(self, method, items):
        calls = [getattr(self, method)(*item) for item in items]
        results = await asyncio.gather(*calls, return_exceptions=True)
        return [r if not isinstance(r, Exception) else type(r).__name__ for r in results]

    async def stream(self, texts):
        async def all_of(text):
            return [piece async for piece in self.words(text)]

        return await asyncio.gather(*map(all_of, texts))

    async def resize(self):
        self.picky.set_max_batch_size(2)
        self.picky.set_batch_wait_timeout_s(0.05)
        return self.picky._get_max_batch_size(), self.picky._get_batch_wait_timeout_s()


if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    handle = serve.run(Linear.bind([1.0, 10.0]), name="linear", route_prefix="/linear")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: post("/linear", [i, i]).json()["y"], range(16)))
    print(answers)
    print([float(r.result()[0]) for r in [handle.array.remote(np.ones(2) * i) for i in range(9)]])
    largest, total = handle.seen.remote().result()
    print(1 < largest <= 8, total)

    trouble = serve.run(Trouble.bind(), name="trouble", route_prefix="/trouble")
    print(trouble.run.remote("short", [("a",), ("b",), ("c",)]).result())
    print(trouble.run.remote("picky", [("abc",), ("de",)]).result())
    print(trouble.run.remote("picky", [("abc",), ("bad",)]).result())
    print(trouble.run.remote("two", [(1, 2), (3, 4), (5, 6), (7, 8)]).result())
    print(trouble.stream.remote(["ab", "cd", "ef"]).result())
    print(trouble.resize.remote().result())
    try:
        trouble.short.remote("alone").result()
    except RayServeException as error:
        print("doesn't preserve batch size" in str(error))
    for options in ({"max_batch_size": 0}, {"batch_wait_timeout_s": -1}, {"max_batch_size": "x"}):
        try:
            serve.batch(**options)(lambda items: items)
        except (TypeError, ValueError) as error:
            print(type(error).__name__)
    serve.shutdown()
