# SPDX-License-Identifier: Apache-2.0
"""The driver of a system under test: runs all applications and then does what it is told, a line each.

    serve_all.py PORT        BENCH_SERVE says with what (bench_apps.py)

Says "ready" when everything is served.  Then each line on standard input is a task; the answer is one line
of JSON.  The end of the input ends it.
"""

import importlib
import json
import sys
import time

import bench_apps
import bench_graph

serve = bench_apps.serve


def start(port):
    if serve.__name__.startswith("ray"):
        ray = importlib.import_module("ray")
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    for name, app in {**bench_apps.APPS, "graph": bench_graph.app}.items():
        serve.run(app, name=name, route_prefix=f"/{name}")


def timed(function, *args, **options):
    begun = time.perf_counter()
    function(*args, **options)
    return {"s": time.perf_counter() - begun}


def three():
    """A graph of three deployments on what runs already, until it answers; then it is deleted."""
    third = bench_graph.Callee.options(name="Third").bind()
    second = bench_graph.Caller.options(name="Second").bind(third)
    found = timed(serve.run, bench_graph.Caller.options(name="First").bind(second), name="three", route_prefix="/three")
    serve.delete("three")
    return found


def one_more():
    """One more replica of the FastAPI application."""
    return timed(serve.run, bench_apps.Fast.options(num_replicas=2).bind(), name="fast", route_prefix="/fast")


def again():
    """The same application once more."""
    return timed(serve.run, bench_apps.APPS["async"], name="async", route_prefix="/async")


TASKS = {"three": three, "one_more": one_more, "again": again}


def main():
    start(int(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(TASKS[line.strip()]()), flush=True)
    serve.shutdown()


if __name__ == "__main__":
    main()
