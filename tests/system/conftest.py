# SPDX-License-Identifier: Apache-2.0
"""What the system tests share: real processes of a real build, each run in a world of its own.

    def test_answers(manta_run):
        with manta_run("examples/libnoop.so:noop") as noop:
            assert noop.get("/").body == b"Hello, world!"
            assert noop.end() == 0
            assert noop.leftovers() == []

`manta_run(target, *arguments)` starts `manta run` on a free port and hands over a Running as soon as the
application is served.  A target that does not begin with "/" lies in the build directory.  Every run has a
runtime directory of its own, so that it neither joins nor disturbs an instance of the user's, and a mark in
its environment, by which its processes are found whoever their parent is by now.  Leaving the block ends
the run as Ctrl-C would; what is left after that is killed.  Log lines go to standard error, which is
collected (`stderr`) and shown when the test fails.

The build is the directory MANTA_BUILD, else build/release.
"""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MARK = "MANTA_TEST_MARK"
PATIENCE_S = 60  # for what must happen; only a broken build waits so long
POLL_S = 0.01


class Answer:
    """A whole HTTP answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


def wait_until(condition, what, patience_s=PATIENCE_S):
    """Returns the condition's first true value; fails with `what` when there is none in time."""
    limit = time.monotonic() + patience_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > limit:
            pytest.fail(f"not within {patience_s} s: {what}")
        time.sleep(POLL_S)


def read_or_nothing(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""  # the process ended between listing and reading


class World:
    """Environment and runtime directory of one run, and the processes that carry its mark."""

    def __init__(self, build):
        self.build = build
        # Short, because the sockets' paths have at most 107 characters.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="manta-", dir="/tmp"))
        self.mark = uuid.uuid4().hex
        self.environment = {
            **{key: text for key, text in os.environ.items() if not key.startswith("MANTA_")},
            "XDG_RUNTIME_DIR": str(self.directory),
            "XDG_STATE_HOME": str(self.directory / "state"),
            MARK: self.mark,
        }

    def processes(self):
        """Living processes: {pid: name of the executable}."""
        mark, found = f"{MARK}={self.mark}".encode(), {}
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit() or mark not in read_or_nothing(entry / "environ").split(b"\0"):
                continue
            status = read_or_nothing(entry / "stat")
            state = status[status.rfind(b")") + 2 :][:1]
            words = read_or_nothing(entry / "cmdline").split(b"\0")
            if state not in (b"Z", b"X", b"") and words[0]:
                found[int(entry.name)] = pathlib.Path(words[0].decode()).name
        return found

    def instances(self):
        """Names of the instances that have a runtime directory here."""
        folder = self.directory / "manta"
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []

    def command(self, *arguments, patience_s=PATIENCE_S, **environment):
        """Runs `manta ARGUMENTS` to its end."""
        return subprocess.run(
            [self.build / "src/cli/manta", *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience_s,
        )

    def status(self, instance):
        """`manta status --json` of one of the instances, as a value."""
        done = self.command("status", "--json", MANTA_INSTANCE=instance)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def clear(self):
        """Kills what is left and removes the directory."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)


class Running:
    """One `manta run` and everything that it started."""

    def __init__(self, world, target, arguments, options, program=None):
        self.world = world
        self.stderr = []  # lines, without their ends
        # A module of Python's is no file.
        if not target.startswith("/") and "/" in target:
            target = f"{world.build}/{target}"
        self.process = subprocess.Popen(
            [program or world.build / "src/cli/manta", "run", "--port", "0", "--log-to-stderr", *options, target, *arguments],
            env=world.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Of its own, so that Ctrl-C at a terminal reaches only pytest.
            start_new_session=True,
        )
        self._collector = threading.Thread(target=self._collect, daemon=True)
        self._collector.start()

    def _collect(self):
        for line in self.process.stderr:
            self.stderr.append(line.rstrip("\n"))

    def said(self, text):
        """The first line of standard error that contains the text, or None."""
        return next((line for line in list(self.stderr) if text in line), None)

    def await_line(self, text, patience_s=PATIENCE_S):
        def look():
            line = self.said(text)
            if line is None and self.process.poll() is not None:
                self._collector.join(PATIENCE_S)
                line = self.said(text)
                if line is None:
                    pytest.fail(f"`manta run` ended with {self.process.returncode}; it never said '{text}'")
            return line

        return wait_until(look, f"a line with '{text}'", patience_s)

    def await_running(self):
        line = self.await_line(" is running")
        # manta: application 'default' is running at http://127.0.0.1:40123/prefix
        address = line.rpartition("http://")[2]
        self.host, _, rest = address.partition(":")
        port, _, prefix = rest.partition("/")
        self.port = int(port) if port.isdigit() else -1  # -1: not reachable over HTTP
        self.prefix = f"/{prefix}"

    # ---- requests

    def connect(self, timeout_s=PATIENCE_S):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)

    def request(self, method, path, body=None, headers=None, timeout_s=PATIENCE_S):
        connection = self.connect(timeout_s)
        try:
            connection.request(method, path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post_json(self, path, value, **options):
        return self.request("POST", path, json.dumps(value), {"content-type": "application/json"}, **options)

    # ---- processes

    def processes(self, name=None):
        """{pid: name} of the living, or the sorted pids of those with one name ("manta-replica")."""
        found = self.world.processes()
        return found if name is None else sorted(pid for pid, own in found.items() if own == name)

    def end(self, number=signal.SIGINT, patience_s=PATIENCE_S):
        """Ends it as Ctrl-C does; its exit status."""
        self.process.send_signal(number)
        return self.wait(patience_s)

    def wait(self, patience_s=PATIENCE_S):
        status = self.process.wait(patience_s)
        self._collector.join(patience_s)
        return status

    def status(self):
        """`manta status --json` of this run's private instance."""
        return self.world.status(self.world.instances()[0])

    def leftovers(self):
        """What a run that has ended left behind, in words; nothing, if all is well."""
        return [f"process {pid} {name}" for pid, name in self.world.processes().items()] + [
            f"runtime directory {name}" for name in self.world.instances()
        ]


class Service:
    """An instance that outlives its commands: manta-node as a service manager starts it."""

    NAME = "house"

    def __init__(self, world, options):
        self.world = world
        self.log = world.directory / "logs"
        self.options = options
        self.start_node()

    def start_node(self, *options, **streams):
        """Its first node, or the one that comes after a dead one; waits until it is ready."""
        self.process = self.spawn_node(*options, **streams)
        self.port = wait_until(self._find_port, "the service listens")

    def spawn_node(self, *options, **streams):
        return subprocess.Popen(
            [self.world.build / "libexec/manta/manta-node", "--name", self.NAME, "--http-port", "0", "--proxies", "1"]
            + ["--log-directory", self.log, *self.options, *options],
            env=self.world.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **streams,
        )

    def kill_node(self):
        """As the kernel does when memory is short: nothing is said and nothing tidied up."""
        self.process.kill()
        self.process.wait()

    def _find_port(self):
        if self.process.poll() is not None:
            pytest.fail(f"manta-node ended with {self.process.returncode}")
        try:
            told = json.loads((self.world.directory / "manta" / self.NAME / "instance.json").read_text())
        except (OSError, ValueError):
            return None  # not yet, or not whole yet
        return told["http_port"] if told["pid"] == self.process.pid else None  # else it is an earlier node's

    def command(self, *arguments, **options):
        return self.world.command(*arguments, MANTA_INSTANCE=self.NAME, **options)

    def deploy(self, name, route, target, *arguments):
        """Runs an application in it and waits until it is served."""
        target = f"{self.world.build}/{target}"
        done = self.command("run", "--non-blocking", "--name", name, "--route-prefix", route, target, *arguments)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: self.routes().get(route) == name, f"the proxy knows {route}")

    def routes(self):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            connection.request("GET", "/-/routes")
            answer = Answer(connection.getresponse())
        return answer.json() if answer.status == 200 else {}

    def status(self):
        return self.world.status(self.NAME)

    def processes(self, name=None):
        found = self.world.processes()
        return found if name is None else sorted(pid for pid, own in found.items() if own == name)

    def logs(self):
        """{file name: text} of what its processes have logged."""
        return {path.name: path.read_text(errors="replace") for path in sorted(self.log.glob("*.log"))}


@pytest.fixture(scope="session")
def manta_build():
    build = pathlib.Path(os.environ.get("MANTA_BUILD") or ROOT / "build/release").resolve()
    if not (build / "src/cli/manta").exists():
        pytest.fail(f"{build} is no build of Manta: run ./dev build, or set MANTA_BUILD")
    return build


@pytest.fixture
def manta_world(manta_build):
    """A world without a running instance, for commands: manta_world.command("status")."""
    world = World(manta_build)
    yield world
    world.clear()


@pytest.fixture(scope="session")
def manta_start(manta_build):
    """As manta_run, for fixtures of a wider scope: several tests ask one run."""

    @contextlib.contextmanager
    def start(target, *arguments, options=(), environment=None, program=None):
        world = World(manta_build)
        world.environment.update(environment or {})
        running = Running(world, target, arguments, options, program)
        try:
            running.await_running()
            yield running
            if running.process.poll() is None:
                running.end()
        finally:
            world.clear()
            running.process.wait()
            print(f"---- manta run {target}", *running.stderr[-200:], sep="\n")

    return start


@contextlib.contextmanager
def running_service(build, options=(), environment=None):
    world = World(build)
    world.environment.update(environment or {})
    try:
        yield Service(world, options)
    finally:
        world.clear()


@pytest.fixture
def manta_service(manta_build):
    """A function: `with manta_service(options=["--request-timeout-ms", "500"]) as service: service.deploy(...)`."""

    def start(options=(), environment=None):
        return running_service(manta_build, options, environment)

    return start


@pytest.fixture(scope="session")
def manta_house(manta_build):
    """One service for all tests that leave it as they found it:

    /         mirror.c         /replies   replies.c
    /puppet   puppet.c         /reader    the same with a streamed body
    """
    with running_service(manta_build) as house:
        house.deploy("mirror", "/", "tests/objects/libmirror.so:mirror")
        house.deploy("replies", "/replies", "tests/objects/libreplies.so:replies")
        house.deploy("puppet", "/puppet", "tests/objects/libpuppet.so:puppet")
        house.deploy("reader", "/reader", "tests/objects/libpuppet.so:puppet", "stream_body=1")
        yield house


@pytest.fixture
def manta_run(manta_start):
    """A function: `with manta_run("examples/libmath.so:math", "factor=3", options=["--name", "sums"]) as math:`."""
    return manta_start


@pytest.fixture
def free_port():
    """A port that nobody listens on; for servers that cannot be told to take any (manta_run can)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def pytest_configure(config):
    config.addinivalue_line("markers", "quick: one of the few that ./dev test --quick runs")
    config.addinivalue_line("markers", "slow: takes the time of a build or more")


# ---- Python


def find_python():
    named = os.environ.get("MANTA_PYTHON")
    return pathlib.Path(named) if named else ROOT / "build/python-environment/bin/python"


@pytest.fixture(scope="session")
def interpreter(manta_build):
    """An interpreter that has what applications need, and the extension built for it."""
    python = find_python()
    if not python.exists():
        pytest.skip(f"there is no {python}: ./dev test makes it, or set MANTA_PYTHON")
    if not list((manta_build / "python/manta").glob("_native*.so")):
        pytest.skip("this build has no Python extension (-Dpython=enabled)")
    return python


@pytest.fixture
def python_world(manta_build, interpreter):
    world = World(manta_build)
    world.environment["PYTHONPATH"] = f"{manta_build}/python:{ROOT}/tests/system"
    world.environment["PYTHONDONTWRITEBYTECODE"] = "1"
    world.environment["MANTA_PYTHON"] = str(interpreter)
    world.environment["MANTA_LOG_TO_STDERR"] = "1"
    yield world
    world.clear()
