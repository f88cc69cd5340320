# SPDX-License-Identifier: Apache-2.0
"""The measures of ./dev bench python.  Each returns rows: {"system", "app", "what", figures...}.

HTTP cells are bench/load.py's: requests per second, percentiles, errors, and the CPU of all processes of the
system per request.  What happens inside the graph, the replica that makes the calls measures itself.
"""

import contextlib
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
import urllib.parse

import load
import process_tree
import python_systems

HERE = pathlib.Path(__file__).resolve().parent
CHUNKS = 1000  # of one streamed answer
SETTLE_S = 1.0  # between the first answer and the look at memory


def interleave(targets, connections, rounds, seconds, cpus, narrate):
    """HTTP cells: a round visits every target for every number of connections, in an order that turns."""
    rows = []
    for turn in range(rounds):
        order = targets[turn % len(targets) :] + targets[: turn % len(targets)]
        for count in connections:
            for target in order:
                if target.app in connections[count]:
                    rows.append(http_cell(target, count, seconds, cpus) | {"round": turn})
        narrate(f"HTTP: round {turn + 1} of {rounds}")
    return rows


def http_cell(target, connections, seconds, cpus):
    row = load.measure(target, connections, seconds, cpus) | {"app": target.app, "what": "http"}
    if target.app == "stream":
        row["chunks_per_s"] = row["rps"] * CHUNKS
    return row


def warm_up(targets, cpus):
    for target in targets:
        load.run_wrk(target.url, 16, 1, cpus)


def first_byte_us(target, times=40):
    """From the request to the first byte of a streamed body."""
    parts = urllib.parse.urlsplit(target.url)
    took = []
    for _ in range(times):
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        with contextlib.closing(connection):
            connection.connect()
            begun = time.perf_counter()
            connection.request("GET", f"{parts.path}?{parts.query}")
            answer = connection.getresponse()
            answer.read(1)
            took.append(time.perf_counter() - begun)
            answer.read()
    return {"system": target.name, "app": target.app, "what": "first byte", "p50_us": statistics.median(took) * 1e6}


# (what, the measure's name, its numbers for Manta, its numbers for what is slower)
GRAPH = [
    ("call", "serial", {"count": 3000}, {"count": 300}),
    ("fan-out of 16", "fan_out", {"width": 16, "times": 500}, {"width": 16, "times": 15}),
    ("fan-out of 100", "fan_out", {"width": 100, "times": 100}, {"width": 100, "times": 4}),
    ("streamed items", "items", {"count": 200_000}, {"count": 3000}),
    ("calls, 64 on their way", "many", {"count": 32_000}, {"count": 640}),
    ("batched calls", "batches", {"count": 32_000}, {"count": 640}),
    ("1 MB array", "arrays", {"size": 1_000_000, "times": 100}, {"size": 1_000_000, "times": 30}),
    ("100 MB array", "arrays", {"size": 100_000_000, "times": 8}, {"size": 100_000_000, "times": 4}),
    ("model that is loaded", "models", {"times": 50_000}, {"times": 5000}),
]


def graph_cells(system, quick, narrate):
    """Everything inside the graph.  A measure that fails is a row with its error, not the end of the run."""
    rows = []
    for what, name, numbers, fewer in GRAPH:
        chosen = fewer if quick or system.name != "Manta" else numbers
        if name != "arrays":
            # Warm: the paths are taken once before they are measured.
            with contextlib.suppress(OSError):
                system.graph(name, **{key: max(number // 20, 1) if key in ("count", "times") else number for key, number in chosen.items()})
        before = system.tree.cpu_seconds()
        try:
            found = system.graph(name, **chosen)
        except (OSError, ValueError) as error:
            found = {"failed": str(error)}
        if "calls" in found:
            spent = process_tree.spent_between(before, system.tree.cpu_seconds())
            found["cpu_us"] = spent / found["calls"] * 1e6
        rows.append({"system": system.name, "app": "graph", "what": what} | found)
    narrate(f"{system.name}: inside the graph")
    return rows


def deploy_cells(system):
    """Three deployments at once, the same application again, one more replica: seconds, and the new one's own memory."""
    rows = [{"system": system.name, "app": "deploy", "what": what, **system.task(task)}
            for what, task in (("three deployments", "three"), ("the same again", "again"))]
    before = set(system.tree.pids())
    found = system.task("one_more")
    added = [pid for pid in system.tree.pids() if pid not in before]
    sizes = [private_bytes(pid) for pid in added]
    rows.append({"system": system.name, "app": "deploy", "what": "one more replica", **found,
                 "private_mb": max(sizes, default=0) / 1e6})
    return rows


def private_bytes(pid):
    lines = process_tree.read_bytes(f"/proc/{pid}/smaps_rollup").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith((b"Private_Clean:", b"Private_Dirty:")))


# ---- starts and rest


class Started(python_systems.PythonSystem):
    """`manta run` of one application, from the command to its first 200."""

    name = "Manta"
    environment = "manta"
    serve = "manta.serve"

    def start(self, target, *options):
        words = [self.build / "src/cli/manta", "run", "--port", self.port, *options, target]
        self.spawn_python(*words)
        self.wait_until_it_answers()


def python_of(kind):
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as directory:
        return kind("build/release", directory, os.sched_getaffinity(0)).python


def import_seconds(module, environment):
    """What the interpreter alone needs to start and to import the application."""
    python = python_of(Started)
    begun = time.perf_counter()
    subprocess.run([python, "-c", f"import {module}"], env=environment, cwd=HERE, check=True)
    return time.perf_counter() - begun


def start_cells(build, times, cpus, narrate):
    """Starts of a C, a plain and a FastAPI application, interleaved with what an import alone takes."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{pathlib.Path(build).resolve()}/python:{HERE}"}
    noop = pathlib.Path(build).resolve() / "examples/libnoop.so"
    cases = {
        "C": (f"{noop}:noop", [], None),
        "async def": ("start_async:app", ["--app-dir", HERE], "start_async"),
        "FastAPI": ("start_fast:app", ["--app-dir", HERE], "start_fast"),
    }
    rows = []
    for turn in range(times):
        for name, (target, options, module) in cases.items():
            row = {"system": "Manta", "app": name, "what": "start", "round": turn}
            if module:
                row["import_s"] = import_seconds(module, environment)
            with tempfile.TemporaryDirectory(prefix="manta-bench-") as directory:
                system = Started(build, directory, cpus)
                begun = time.perf_counter()
                try:
                    system.start(target, *options)
                    row["s"] = time.perf_counter() - begun
                    if turn == times - 1:
                        row |= rest_of(system)
                finally:
                    system.end()
            rows.append(row)
    narrate("starts")
    return rows


def rest_of(system, idle_s=3.0):
    """Processes, memory and idle CPU of what has just started."""
    time.sleep(SETTLE_S)
    sizes = system.tree.pss_bytes()
    # The command and its node, controller and proxy are native; replicas (and what forks them) hold an interpreter.
    native = [size for pid, size in sizes.items() if not holds_python(pid)]
    before = system.tree.run_seconds()
    time.sleep(idle_s)
    spent = process_tree.spent_between(before, system.tree.run_seconds())
    return {"processes": len(sizes), "pss_mib": sum(sizes.values()) / 2**20, "native_mib": sum(native) / 2**20,
            "idle_percent": spent / idle_s * 100}


def holds_python(pid):
    return b"python" in os.path.basename(os.fsencode(read_link(f"/proc/{pid}/exe")))


def read_link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


LOCAL = """
import json, time
import bench_graph
handle = bench_graph.serve.run(bench_graph.Callee.bind(), _local_testing_mode=True)
took = []
for number in range(2200):
    begun = time.perf_counter()
    handle.same.remote(number).result()
    took.append(time.perf_counter() - begun)
print(json.dumps(bench_graph.percentiles(took[200:])))
"""


def local_call(build):
    """A call in local testing mode, where everything is in one process."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{pathlib.Path(build).resolve()}/python:{HERE}"}
    done = subprocess.run([python_of(Started), "-c", LOCAL], env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        return {"system": "Manta", "app": "local", "what": "call in local mode", "failed": done.stderr.strip().splitlines()[-1]}
    return {"system": "Manta", "app": "local", "what": "call in local mode", **json.loads(done.stdout)}

