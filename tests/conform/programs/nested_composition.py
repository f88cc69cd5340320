# SPDX-License-Identifier: Apache-2.0
"""A question answered by many: deployments in constructors, lists and answers as arguments."""

import asyncio

import ray
from client import PORT, get, post
from ray import serve
from ray.serve.handle import DeploymentHandle, DeploymentResponse
from starlette.requests import Request


@serve.deployment
class Tokenizer:
    def __call__(self, text: str) -> list:
        return text.lower().split()


@serve.deployment(num_replicas=2)
class Counter:
    def __init__(self, tokenizer: DeploymentHandle):
        self.tokenizer = tokenizer

    async def __call__(self, text: str) -> int:
        return len(await self.tokenizer.remote(text))

    def total(self, *counts):
        return sum(counts)


@serve.deployment
class Scorer:
    def __init__(self, word, weight=1):
        self.word, self.weight = word, weight

    async def score(self, tokens):
        await asyncio.sleep(0.01)
        return self.word, tokens.count(self.word) * self.weight


@serve.deployment
def shout(word, times=1):
    return word.upper() + "!" * times


@serve.deployment
class Front:
    def __init__(self, tokenizer, counter, scorers, named):
        self.tokenizer = tokenizer
        self.counter = counter
        self.scorers = scorers
        self.shout = named["shout"]

    async def __call__(self, request: Request):
        text = (await request.json())["text"]
        tokens: DeploymentResponse = self.tokenizer.remote(text)
        scores = await asyncio.gather(*[s.score.remote(tokens) for s in self.scorers])
        best = max(scores, key=lambda pair: pair[1])
        return {
            "count": await self.counter.remote(text),
            "scores": dict(scores),
            "best": await self.shout.remote(best[0], times=best[1]),
        }

    async def together(self, texts):
        counts = [self.counter.remote(text) for text in texts]
        return await self.counter.total.remote(*counts)

    async def chain(self, word, depth):
        answer = self.shout.remote(word)
        for _ in range(depth):
            answer = self.shout.remote(answer)
        return await answer


tokenizer = Tokenizer.bind()
app = Front.bind(
    tokenizer,
    Counter.bind(tokenizer),
    [Scorer.bind("cat"), Scorer.options(name="Dog").bind("dog", weight=2)],
    {"shout": shout.bind()},
)

if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    handle = serve.run(app, name="words", route_prefix="/words")
    print(post("/words", {"text": "Dog cat dog CAT dog cat cat"}).json())
    print(handle.together.remote(["a b c", "d e", ""]).result())
    print(handle.chain.remote("a", 3).result(timeout_s=20))
    print([r.result() for r in [handle.chain.remote("b", n) for n in range(4)]])
    other = serve.get_deployment_handle("Dog", app_name="words")
    print(other.score.remote(["dog", "dog"]).result())
    by_options = handle.options(method_name="together")
    print(by_options.remote(["one", "two words"]).result())
    status = serve.status().applications["words"]
    print(status.status, sorted(status.deployments))
    print(status.deployments["Counter"].replica_states, status.deployments["Dog"].status)
    print(get("/words").status)
    serve.shutdown()
