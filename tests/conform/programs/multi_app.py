# SPDX-License-Identifier: Apache-2.0
"""Several applications side by side: prefixes, handles across, updates, deletes, clashes."""

import time

import ray
from client import PORT, get
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus


@serve.deployment
class Store:
    def __init__(self, name, **facts):
        self.name, self.facts = name, facts

    def __call__(self, request):
        return {"store": self.name, "path": request.url.path, "root": request.scope["root_path"]}

    def fact(self, key, default=None):
        return self.facts.get(key, default)


@serve.deployment
class Reader:
    """Asks another application by name."""

    def __init__(self, app_name):
        self.store = serve.get_app_handle(app_name)

    async def __call__(self, request):
        key = request.query_params.get("key", "color")
        return await self.store.fact.remote(key, default="unknown")


def until(condition):
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    handles = serve.run_many(
        [
            serve.RunTarget(Store.bind("fruit", color="red"), name="fruit", route_prefix="/fruit"),
            serve.RunTarget(Store.bind("deep"), name="deep", route_prefix="/fruit/deep"),
            serve.RunTarget(Store.bind("hidden", color="black"), name="hidden", route_prefix=None),
        ]
    )
    print([h.fact.remote("color").result() for h in handles])
    serve.run(Reader.bind("fruit"), name="reader", route_prefix="/")
    print(get("/fruit/x?y=1").json())
    print(get("/fruit/deep/x").json())
    print(get("/fruitless").text, get("/anything?key=size").text)
    print(sorted(get("/-/routes").json().items()), get("/-/healthz").text)

    print({name: app.status.value for name, app in sorted(serve.status().applications.items())})
    print(serve.get_app_handle("hidden").fact.remote("color").result())
    print(serve.get_deployment_handle("Store", app_name="deep").deployment_name)

    serve.run(Store.bind("fruit", color="green"), name="fruit", route_prefix="/vegetable")
    print(get("/vegetable").json()["store"], until(lambda: get("/").text == "green"))
    print(until(lambda: get("/fruit").text == "green"))

    for wrong in (
        lambda: serve.run(Store.bind("x"), name="clash", route_prefix="/vegetable"),
        lambda: serve.run(Store.bind("x"), name=""),
        lambda: serve.get_app_handle("nobody"),
    ):
        try:
            wrong()
        except RayServeException as error:
            print("RayServeException")
    for wrong in (
        lambda: serve.run(Store.bind("x"), route_prefix="x"),
        lambda: serve.run(Store.bind("x"), route_prefix="/x/"),
        lambda: serve.run(Store.bind("x"), route_prefix="/{x}"),
        lambda: serve.run(Store),
        lambda: serve.get_deployment_handle("Nobody", "deep"),
    ):
        try:
            wrong()
        except (ValueError, TypeError, KeyError) as error:
            print(type(error).__name__)

    serve.delete("deep")
    serve.delete("never there")
    print(until(lambda: get("/fruit/deep/x").text == "green"))
    print("deep" in serve.status().applications)
    print(serve.status().applications["fruit"].status == ApplicationStatus.RUNNING)
    serve.shutdown()
    print(serve.status().applications)
