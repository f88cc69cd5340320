# SPDX-License-Identifier: Apache-2.0
"""Functions and classes without a framework: requests in, all kinds of results out."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import ray
from client import PORT, ask, get, post
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response


@serve.deployment
def hello(request: Request):
    return f"Hello {request.query_params.get('name', 'world')}!"


@serve.deployment
def constant():
    return [1, "two", None, {"three": 3.5}]


@serve.deployment(max_ongoing_requests=10)
class Kinds:
    def __call__(self, request: Request):
        kind = request.path_params.get("kind") or request.url.path.rpartition("/")[2]
        return {
            "str": "text ü",
            "bytes": b"\x00\x01",
            "none": None,
            "dict": {"b": [1, 2], "a": None, "ü": True},
            "number": 7,
            "float": 0.5,
            "tuple": (1, 2),
            "array": np.arange(6).reshape(2, 3),
            "scalar": np.float32(1.5),
            "response": Response(b"raw", 202, {"x-kind": "response"}, "application/x-raw"),
            "json": JSONResponse({"made": "by hand"}, 418),
            "redirect": RedirectResponse("/hello"),
            "object": object,
        }[kind]


@serve.deployment(max_ongoing_requests=10)
class Echo:
    async def __call__(self, request: Request):
        body = await request.body()
        return {
            "method": request.method,
            "path": request.url.path,
            "query": sorted(request.query_params.multi_items()),
            "header": request.headers.get("x-mine"),
            "length": len(body),
            "sum": sum(body) % 251,
            "cookies": request.cookies,
        }


@serve.deployment(max_ongoing_requests=10)
class Slow:
    """def methods run side by side and do not hold up others."""

    def __init__(self):
        self.met = threading.Barrier(3, timeout=20)

    def __call__(self, request):
        self.met.wait()
        return threading.current_thread() is threading.main_thread()

    async def quick(self):
        return "quick"


if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    serve.run(hello.bind(), name="hello", route_prefix="/hello")
    serve.run(constant.bind(), name="constant", route_prefix="/constant")
    serve.run(Kinds.bind(), name="kinds", route_prefix="/kinds")
    serve.run(Echo.bind(), name="echo", route_prefix="/echo")
    slow = serve.run(Slow.bind(), name="slow", route_prefix="/slow")

    print(get("/hello").text, get("/hello?name=J%C3%BCrg").text, get("/hello").type)
    print(get("/constant").json(), post("/constant", {"ignored": 1}).type)
    for kind in ("str", "bytes", "none", "dict", "number", "float", "tuple", "array", "scalar"):
        answer = get(f"/kinds/{kind}")
        print(kind, answer.status, answer.type, answer.body)
    for kind in ("response", "json", "redirect"):
        answer = get(f"/kinds/{kind}")
        print(kind, answer.status, answer.type, answer.body, answer.headers.get("x-kind"))
    print(get("/kinds/redirect").headers["location"])
    print(get("/kinds/missing").status, get("/kinds/missing").text)
    print(get("/kinds/object").status)

    print(get("/echo/a%20b?x=1&y=2&x=3", {"x-mine": "m", "cookie": "k=v"}).json())
    print(ask("PATCH", "/echo", bytes(range(256)) * 5000).json())
    print(ask("HEAD", "/hello").status, ask("HEAD", "/hello").body)
    print(ask("OPTIONS", "/echo").json()["method"])

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(get, "/slow") for _ in range(2)]
        time.sleep(0.1)
        print(slow.quick.remote().result(timeout_s=10))
        waiting.append(pool.submit(get, "/slow"))
        print([w.result().text for w in waiting])
    serve.shutdown()
