# SPDX-License-Identifier: Apache-2.0
"""The systems of ./dev bench python: how each is started, and where its applications answer.

Each runs with an interpreter of its own (build/bench-manta, -uvicorn, -ray).  Those that serve deployments are
driven by serve_all.py, the same file for all; uvicorn serves the bare ASGI and the FastAPI application alone.
The basis is bench/systems.py.
"""

import json
import os
import pathlib
import select
import subprocess
import time
import urllib.error
import urllib.request

import systems
from process_tree import MARK

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
START_LIMIT_S = 120
TASK_LIMIT_S = 120


class Target:
    """One application of a system, as bench/load.py measures it."""

    def __init__(self, system, app, url):
        self.system, self.app, self.url = system, app, url
        self.name, self.tree = system.name, system.tree


class PythonSystem(systems.System):
    """A system with an interpreter of its own and several applications."""

    environment = ""  # the name of its folder below build/
    serve = ""  # the package that serves, for bench_apps.py
    settings = {}  # environment variables of this mode

    def __init__(self, build, directory, cpus):
        super().__init__(build, directory, cpus)
        self.python = ROOT / f"build/bench-{self.environment}/bin/python"

    def needs(self):
        return [self.python]

    def spawn_python(self, *words, cwd=HERE):
        """A process of this system with pipes to talk to it; what it complains about goes to output.log."""
        variables = {key: text for key, text in os.environ.items() if not key.startswith(("MANTA_", "RAY_", "PYTHON"))}
        variables |= {
            MARK: self.tree.mark.decode().split("=", 1)[1],
            "XDG_RUNTIME_DIR": str(self.directory),
            "XDG_STATE_HOME": str(self.directory),
            "BENCH_SERVE": self.serve,
            "MANTA_PYTHON": str(self.python),
            "PYTHONPATH": f"{self.build / 'python'}:{HERE}" if self.serve.startswith("manta") else str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.settings,
        }
        with open(self.directory / "output.log", "ab") as log:
            process = subprocess.Popen(
                [str(word) for word in words],
                cwd=cwd,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, self.cpus),
            )
        self.tree.roots.append(process.pid)
        return process

    def targets(self):
        """{application: Target}"""
        raise NotImplementedError

    def wait_until_all_answer(self):
        for target in self.targets().values():
            wait_for_200(target.url, self.failure)

    def failure(self, what):
        log = (self.directory / "output.log").read_text(errors="replace")
        return RuntimeError(f"{self.name}: {what}\n{log[-4000:]}")


class Served(PythonSystem):
    """Deployments, by serve_all.py."""

    def start(self):
        self.process = self.spawn_python(self.python, HERE / "serve_all.py", self.port)
        self.read_line(START_LIMIT_S)
        self.wait_until_all_answer()

    def targets(self):
        base = f"http://127.0.0.1:{self.port}"
        paths = {"async": "/async", "def": "/def", "asgi": "/asgi/", "fast": "/fast/hello", "stream": "/fast/stream?chunks=1000"}
        return {app: Target(self, app, base + path) for app, path in paths.items()}

    def read_line(self, limit_s):
        """The driver's next line; Ray says one or another thing of its own between."""
        limit = time.monotonic() + limit_s
        while time.monotonic() < limit:
            ready, _, _ = select.select([self.process.stdout], [], [], 0.5)
            line = self.process.stdout.readline() if ready else None
            if line == "":
                raise self.failure("its driver ended")
            if line and (line == "ready\n" or line.startswith("{")):
                return line
        raise self.failure(f"its driver said nothing for {limit_s} s")

    def task(self, name):
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return json.loads(self.read_line(TASK_LIMIT_S))

    def graph(self, what, **numbers):
        """One measure inside the graph (bench_graph.py)."""
        query = "&".join(f"{name}={number}" for name, number in numbers.items())
        url = f"http://127.0.0.1:{self.port}/graph?what={what}&{query}"
        with urllib.request.urlopen(url, timeout=TASK_LIMIT_S) as answer:
            return json.load(answer)

    def end(self):
        """The driver shuts down when its input ends; what is left after that is killed."""
        if getattr(self, "process", None):
            self.process.stdin.close()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                pass
            self.process.stdout.close()
        super().end()


class MantaPython(Served):
    name = "Manta"
    environment = "manta"
    serve = "manta.serve"

    def replica_pids(self):
        return [pid for pid in self.tree.pids() if "replica" in self.tree.command(pid)]


class RayDefault(Served):
    name = "Ray Serve"
    environment = "ray"
    serve = "ray.serve"
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_ENABLE_HA_PROXY": "0"}


class RayFast(RayDefault):
    name = "Ray Serve, fast"
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


class Uvicorn(PythonSystem):
    """uvicorn with uvloop and httptools and without its access log: one process for each application."""

    name = "uvicorn"
    environment = "uvicorn"

    def start(self):
        self.ports = {}
        for app in ("bare", "api"):
            self.ports[app] = systems.free_port()
            words = ["--port", self.ports[app], "--log-level", "error", "--no-access-log", f"bench_asgi:{app}"]
            self.spawn_python(self.python, "-m", "uvicorn", *words)
        self.wait_until_all_answer()

    def targets(self):
        bare, api = (f"http://127.0.0.1:{self.ports[app]}" for app in ("bare", "api"))
        paths = {"asgi": bare + "/", "fast": api + "/hello", "stream": api + "/stream?chunks=1000"}
        return {app: Target(self, app, url) for app, url in paths.items()}


class RawServer(systems.Raw):
    """The least that a server can do, for what is compared with it."""

    def targets(self):
        return {"raw": Target(self, "raw", self.url)}

    def start(self):
        super().start()
        self.wait_until_it_answers()


class MantaC(systems.Manta):
    """Manta with a C deployment that does nothing."""

    name = "Manta C"

    def targets(self):
        return {"c": Target(self, "c", self.url)}

    def start(self):
        super().start()
        self.wait_until_it_answers()


def wait_for_200(url, failure, limit_s=START_LIMIT_S):
    limit, last = time.monotonic() + limit_s, None
    while time.monotonic() < limit:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                answer.read()
                return
        except (OSError, urllib.error.URLError) as error:
            last = error
            time.sleep(0.005)
    raise failure(f"{url} gave no 200 within {limit_s} s: {last}")


