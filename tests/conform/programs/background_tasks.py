# SPDX-License-Identifier: Apache-2.0
"""Work that outlives its request, settings that change, health, and what a replica knows of itself."""

import asyncio
import logging
import time

import ray
from client import PORT, get, post
from fastapi import BackgroundTasks, FastAPI
from ray import serve

api = FastAPI()
logger = logging.getLogger("ray.serve")


@serve.deployment(user_config={"greeting": "hello", "limit": 2}, health_check_period_s=1)
@serve.ingress(api)
class Service:
    def __init__(self):
        self.done = []
        self.config = None
        self.configured = 0
        self.ticks = 0
        self.checks = 0
        self.ticker = asyncio.get_running_loop().create_task(self.tick())

    async def tick(self):
        while True:
            await asyncio.sleep(0.02)
            self.ticks += 1

    def reconfigure(self, config):
        self.config = config
        self.configured += 1

    def check_health(self):
        self.checks += 1

    def write(self, text):
        self.done.append(text)

    async def write_later(self, text):
        await asyncio.sleep(0.05)
        self.done.append(text)

    @api.post("/mail/{name}")
    async def mail(self, name: str, tasks: BackgroundTasks):
        tasks.add_task(self.write, f"def {name}")
        tasks.add_task(self.write_later, f"async {name}")
        logger.info("mail for %s", name)
        return {"accepted": name, "before": list(self.done)}

    @api.get("/done")
    async def all_done(self):
        return self.done

    @api.get("/facts")
    async def facts(self):
        context = serve.get_replica_context()
        return {
            "app": context.app_name,
            "deployment": context.deployment,
            "same object": context.servable_object is self,
            "tag": isinstance(context.replica_tag, str) and len(context.replica_tag) > 0,
            "rank": context.rank.rank,
            "world": context.world_size,
            "ticks": self.ticks > 0,
            "greeting": self.config["greeting"],
            "configured": self.configured >= 1,
        }

    @api.get("/checks")
    async def all_checks(self):
        return self.checks


def until(condition):
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    serve.run(Service.bind(), name="post", route_prefix="/post")
    print(post("/post/mail/anna").json())
    print(until(lambda: len(get("/post/done").json()) == 2), get("/post/done").json())
    print(get("/post/facts").json())
    print(until(lambda: get("/post/checks").json() >= 2))
    changed = Service.options(user_config={"greeting": "moin", "limit": 5})
    serve.run(changed.bind(), name="post", route_prefix="/post")
    print(until(lambda: get("/post/facts").json()["greeting"] == "moin"))
    print(get("/post/facts", {"x-request-id": "mine"}).headers["x-request-id"])
    print(len(get("/post/facts").headers["x-request-id"]) > 10)
    serve.shutdown()
