# SPDX-License-Identifier: Apache-2.0
"""Many small models in few replicas: loaded on demand, the least used one goes."""

import asyncio

import ray
from client import PORT, get
from ray import serve
from starlette.requests import Request


class Model:
    def __init__(self, name, journal):
        self.name, self.journal = name, journal
        journal.append(f"+{name}")

    def answer(self, x):
        return f"{self.name}({x})"

    def __del__(self):
        if f"-{self.name}" not in self.journal:  # Ray Serve calls this more than once.
            self.journal.append(f"-{self.name}")


@serve.deployment(max_ongoing_requests=20)
class Models:
    def __init__(self):
        self.journal = []

    @serve.multiplexed(max_num_models_per_replica=2)
    async def load(self, model_id: str):
        await asyncio.sleep(0.01)
        if model_id.startswith("no"):
            raise FileNotFoundError(model_id)
        return Model(model_id, self.journal)

    async def __call__(self, request: Request):
        model = await self.load(serve.get_multiplexed_model_id())
        return model.answer(request.query_params.get("x", "-"))

    async def call(self, x):
        model_id = serve.get_multiplexed_model_id()
        return (await self.load(model_id)).answer(x) if model_id else "no model asked for"

    async def told(self):
        return self.journal


@serve.deployment
class Front:
    def __init__(self, models):
        self.models = models

    async def __call__(self, request):
        names = request.query_params["models"].split(",")
        calls = [self.models.options(multiplexed_model_id=n).call.remote(n) for n in names]
        return [await call for call in calls]

    async def id_here(self):
        return serve.get_multiplexed_model_id()

    async def id_there(self):
        return await self.models.call.remote("inherited?")


if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    handle = serve.run(Models.bind(), name="models", route_prefix="/models")
    for name in ("a", "b", "a", "c", "a"):
        print(get("/models?x=1", {"serve_multiplexed_model_id": name}).text, end=" ")
    print()
    journal = handle.told.remote().result()
    print(journal)
    print(handle.options(multiplexed_model_id="c").call.remote(2).result())
    print(handle.call.remote(3).result())
    failed = get("/models", {"serve_multiplexed_model_id": "nothing"})
    print(failed.status)
    try:
        handle.options(multiplexed_model_id="none").call.remote(1).result()
    except FileNotFoundError as error:
        print("FileNotFoundError", error.cause)

    front = serve.run(Front.bind(Models.bind()), name="front", route_prefix="/front")
    print(get("/front?models=x,y,x").json())
    with_id = front.options(multiplexed_model_id="m")
    print(with_id.id_here.remote().result(), "|", with_id.id_there.remote().result())
    for wrong in (
        lambda: serve.multiplexed(max_num_models_per_replica=0),
        lambda: serve.multiplexed(max_num_models_per_replica="2"),
        lambda: serve.multiplexed(lambda self, model_id: model_id),
    ):
        try:
            wrong()
        except (TypeError, ValueError) as error:
            print(type(error).__name__)
    serve.shutdown()
