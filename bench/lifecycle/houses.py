# SPDX-License-Identifier: Apache-2.0
"""The systems whose life is measured: each is a house in which applications run, and whose processes can be hurt.

    deploy(**arguments)        the application `crew`, as users do; returns when it runs, raises Failed when it does not
    deploy_beside, delete_beside
                               another one
    pids(role)                 replica (of the application `crew`), proxy, controller, node
"""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from process_tree import MARK, ProcessTree

HERE = pathlib.Path(__file__).resolve().parent
START_LIMIT_S = 60
POLL_S = 0.002


class Failed(Exception):
    """A deploy was refused or did not come to run, in the words of the system."""


def wait_until(condition, what, limit_s=START_LIMIT_S):
    limit = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > limit:
            raise RuntimeError(f"not within {limit_s} s: {what}")
        time.sleep(POLL_S)
    return found


def get(port, path="/"):
    """Status and text, or None when nobody answers."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class House:
    name = ""
    has_node = False

    def __init__(self, build):
        self.build = pathlib.Path(build).resolve()
        self._directory = tempfile.TemporaryDirectory(prefix="manta-life-", dir="/tmp")
        self.directory = pathlib.Path(self._directory.name)
        self.tree = ProcessTree(f"{self.name}-{os.getpid()}")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("MANTA_")}
        self.environment[MARK] = self.tree.mark.decode().split("=", 1)[1]

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.tree.end()
        self._directory.cleanup()

    def find(self, *names):
        """Processes of the house whose program or first argument has one of these names."""
        return sorted(
            pid
            for pid in self.tree.pids()
            if any(os.path.basename(word) in names for word in self.tree.command(pid).split()[:1])
        )

    def word(self):
        """Which version answers now."""
        answer = get(self.port)
        return answer[1].split()[0] if answer and answer[0] == 200 else None

    def await_replicas(self, count):
        wait_until(lambda: len(self.pids("replica")) == count, f"{count} replicas of {self.name}")


class Manta(House):
    """A service, as a service manager starts one; deploys by the command line."""

    has_node = True
    target = ""

    def start(self):
        self.environment |= {
            "XDG_RUNTIME_DIR": str(self.directory),
            "XDG_STATE_HOME": str(self.directory / "state"),
            "MANTA_INSTANCE": "life",
        }
        self.start_node()

    def start_node(self):
        command = [self.build / "libexec/manta/manta-node", "--name", "life", "--http-port", "0"]
        with open(self.directory / "output.log", "ab") as log:
            self.node = subprocess.Popen(
                [*command, "--log-directory", self.directory / "logs"], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self.tree.roots.append(self.node.pid)
        self.port = wait_until(self._told_port, "the service listens")

    def _told_port(self):
        try:
            told = json.loads((self.directory / "manta/life/instance.json").read_text())
        except (OSError, ValueError):
            return None
        return told["http_port"] if told["pid"] == self.node.pid else None

    def command(self, *words):
        return subprocess.run([self.build / "src/cli/manta", *words], env=self.environment, cwd=HERE,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)

    def deploy(self, **arguments):
        words = [f"{key}={value}" for key, value in arguments.items()]
        done = self.command("run", "--non-blocking", "--name", "crew", "--route-prefix", "/", self.target, *words)
        if done.returncode != 0:
            raise Failed(done.stderr.strip())

    def deploy_beside(self, app, route):
        """A command that stays, and deletes its application when it is interrupted."""
        words = [self.build / "src/cli/manta", "run", "--blocking", "--name", app, "--route-prefix", route, self.target]
        self.beside = subprocess.Popen(words, env=self.environment, cwd=HERE, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        wait_until(lambda: (get(self.port, route + "/") or (0,))[0] == 200, f"{app} is served")

    def delete_beside(self):
        self.beside.send_signal(signal.SIGINT)
        self.beside.wait(60)

    def status(self):
        return json.loads(self.command("status", "--json").stdout)

    def pids(self, role):
        if role == "replica":
            app = self.status()["applications"].get("crew", {"deployments": {}})
            rows = [row for deployment in app["deployments"].values() for row in deployment["replicas"]]
            return sorted(row["pid"] for row in rows if row["state"] == "RUNNING")
        return self.find(f"manta-{role}")

    def kill_node(self):
        os.kill(self.node.pid, signal.SIGKILL)
        self.node.wait()


class MantaC(Manta):
    name = "manta c"

    @property
    def target(self):
        return str(self.build / "bench/lifecycle/libcrew.so:crew")


class MantaPython(Manta):
    name = "manta python"
    target = "crew_python:build"

    def start(self):
        self.environment |= {"MANTA_PYTHON": sys.executable, "PYTHONPATH": f"{self.build}/python:{HERE}",
                             "PYTHONDONTWRITEBYTECODE": "1"}
        super().start()


class Ray(House):
    """Ray Serve in a process of its own (ray_house.py), which takes orders as lines of JSON."""

    name = "ray serve"
    python = None

    def start(self):
        self.environment |= {"CREW_OF": "ray", "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1",
                             "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(self.directory)}
        self.port = free_port()
        with open(self.directory / "output.log", "ab") as log:
            self.process = subprocess.Popen([str(self.python), str(HERE / "ray_house.py"), str(self.port)],
                                            env=self.environment, cwd=HERE, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        self.tree.roots.append(self.process.pid)
        self.take_answer()

    def take_answer(self):
        for line in self.process.stdout:
            if line.startswith("house: "):
                answer = json.loads(line[7:])
                if answer["failed"]:
                    raise Failed(answer["failed"])
                return answer
        raise RuntimeError(f"Ray Serve ended: {(self.directory / 'output.log').read_text()[-2000:]}")

    def order(self, what, **arguments):
        self.process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self.process.stdin.flush()
        return self.take_answer()

    def deploy(self, **arguments):
        self.order("deploy", app="crew", route="/", arguments={key: str(value) for key, value in arguments.items()})

    def deploy_beside(self, app, route):
        self.order("deploy", app=app, route=route, arguments={})
        wait_until(lambda: (get(self.port, route + "/") or (0,))[0] == 200, f"{app} is served")

    def delete_beside(self):
        self.order("delete", app="beside")

    TITLES = {"replica": "ray::ServeReplica:crew:", "proxy": "ray::ProxyActor", "controller": "ray::ServeController"}

    def pids(self, role):
        return sorted(pid for pid in self.tree.pids() if self.tree.command(pid).startswith(self.TITLES[role]))

    def end(self):
        if hasattr(self, "process"):
            self.process.stdin.close()  # it ends Ray, whose processes are not all its children
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        super().end()
