# SPDX-License-Identifier: Apache-2.0
"""./dev bench python: what a request costs in a Python replica, and how long a call takes.

HTTP at 64 connections with wrk: requests per second, and the replica's own CPU per request.  A
FastAPI route beside the same application under uvicorn, when that is installed.  Calls through a
handle, one at a time, from the driver and from another replica.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import bench_apps as apps
from manta import serve
from manta._private import instance

TICKS = os.sysconf("SC_CLK_TCK")
HERE = pathlib.Path(__file__).resolve().parent


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pid_of(deployment):
    for app in instance.must_join().status()["applications"].values():
        for name, facts in app["deployments"].items():
            if name == deployment:
                return facts["replicas"][0]["pid"]
    raise LookupError(deployment)


def load(url, pid, seconds, connections=64):
    """Requests per second, and microseconds of the process's CPU per request."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    subprocess.run([*command[:3], "-d1s", url], capture_output=True, check=True)  # Warm up.
    before = cpu_s(pid)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = cpu_s(pid) - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    count = int(re.search(r"(\d+) requests in", said).group(1))
    return {"requests_per_s": round(count / seconds), "cpu_us": round(spent / count * 1e6, 1)}


def percentiles(took):
    took = sorted(took)
    return {
        "p50_us": round(took[len(took) // 2] * 1e6, 1),
        "p99_us": round(took[len(took) * 99 // 100] * 1e6, 1),
    }


def call_latency(handle, count):
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        handle.same.remote(1).result()
        took.append(time.perf_counter() - begun)
    return percentiles(took)


@contextlib.contextmanager
def uvicorn():
    """The FastAPI application under uvicorn: its port and process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    words = ["--port", str(port), "--log-level", "error", "--app-dir", str(HERE), "bench_apps:api"]
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", *words])
    try:
        url = f"http://127.0.0.1:{port}/hello"
        for _ in range(1000):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=1).close()
                break
            time.sleep(0.01)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def measure(seconds, calls):
    serve.start(http_options={"port": 0})
    base = f"http://127.0.0.1:{instance.must_join().http_port}"
    found = {}
    for deployment, path in ((apps.Async, ""), (apps.Def, ""), (apps.Asgi, "/"), (apps.Fast, "/hello")):
        name = deployment.name
        serve.run(deployment.bind(), name=name, route_prefix=f"/{name}")
        found[name] = load(f"{base}/{name}{path}", pid_of(name), seconds)
    try:
        import uvicorn as installed  # noqa: F401
    except ImportError:
        found["Fast under uvicorn"] = None
    else:
        with uvicorn() as (url, pid):
            found["Fast under uvicorn"] = load(url, pid, seconds)
    handle = serve.get_deployment_handle("Async", "Async")
    call_latency(handle, 200)
    found["call from the driver"] = call_latency(handle, calls)
    caller = serve.run(apps.Caller.bind(apps.Async.bind()), name="calls", route_prefix=None)
    caller.measure.remote(200).result()
    found["call from a replica"] = percentiles(caller.measure.remote(calls).result())
    serve.shutdown()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="of each HTTP cell (default 5)")
    parser.add_argument("--calls", type=int, default=3000, help="through a handle (default 3000)")
    parser.add_argument("--out", help="where the JSON goes")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing")
    found = measure(given.seconds, given.calls)
    for name, figures in found.items():
        text = ", ".join(f"{key} {value}" for key, value in (figures or {"not": "installed"}).items())
        print(f"{name:22} {text}")
    if given.out:
        pathlib.Path(given.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
