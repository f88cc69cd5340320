# SPDX-License-Identifier: Apache-2.0
"""What is measured over HTTP: the least that a handler can do, in the ways that people write one.

BENCH_SERVE names the package that serves it, manta.serve or ray.serve; the source is the same.
"""

import importlib
import os

import bench_asgi

serve = importlib.import_module(os.environ.get("BENCH_SERVE", "manta.serve"))

# No handler here needs a core of its own, and a small machine has fewer than there are replicas.
OPTIONS = {"max_ongoing_requests": 1000, "ray_actor_options": {"num_cpus": 0}}


@serve.deployment(**OPTIONS)
class Async:
    async def __call__(self):
        return b"hello"


@serve.deployment(**OPTIONS)
class Def:
    def __call__(self):
        return b"hello"


@serve.deployment(**OPTIONS)
@serve.ingress(bench_asgi.bare)
class Asgi:
    pass


@serve.deployment(**OPTIONS)
@serve.ingress(bench_asgi.api)
class Fast:
    pass


# Name and route -> the application.
APPS = {
    "async": Async.bind(),
    "def": Def.bind(),
    "asgi": Asgi.bind(),
    "fast": Fast.bind(),
}
