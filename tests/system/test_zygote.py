# SPDX-License-Identifier: Apache-2.0
"""Python replicas come from warm interpreters: what is shared, what is not, and who dies with whom.

Each test has a service of its own, into which `manta run` deploys modules that the test writes.  A
module tells which process imported it: of a forked replica that is its zygote.
"""

import contextlib
import http.client
import json
import os
import signal
import subprocess

import pytest
from conftest import PATIENCE_S, running_service, wait_until
from processes import state

APP = """
import os, random, sys, threading, time
from manta import serve

{above}
LOADED_BY = os.getpid()
MARK = "{mark}"
AT_IMPORT = dict(os.environ)

@serve.deployment{options}
class Who:
    async def __call__(self, request):
        name = request.query_params.get("variable", "OMP_NUM_THREADS")
        numpy = sys.modules.get("numpy")
        return {{
            "loaded_by": LOADED_BY,
            "pid": os.getpid(),
            "parent": os.getppid(),
            "group": os.getpgid(0),
            "mark": MARK,
            "random": random.random(),
            "numpy": numpy.random.random() if numpy else 0,
            "variable": AT_IMPORT.get(name),
            "directory": os.getcwd(),
            "threads": threading.active_count(),
        }}

app = Who.bind()

def build(args):
    return Who.options(num_replicas=int(args["n"])).bind()
"""


class Zygotes:
    """A service, and what may be asked of it here."""

    def __init__(self, service, interpreter):
        self.service = service
        self.interpreter = interpreter
        self.folder = service.world.directory / "app"
        self.folder.mkdir()

    def write(self, name="who", mark="one", options="", above=""):
        (self.folder / f"{name}.py").write_text(APP.format(mark=mark, options=options, above=above))

    def run(self, target="who:app", *arguments, name="default", fails=False, **environment):
        done = self.service.command(
            "run", "--non-blocking", "--app-dir", str(self.folder), "--name", name,
            "--route-prefix", f"/{name}", target, *arguments, **environment,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stderr
        return done

    def drive(self, code):
        """A program of its own that has joined the service."""
        subprocess.run(
            [self.interpreter, "-c", f"from manta import serve; {code}"],
            env={**self.service.world.environment, "MANTA_INSTANCE": self.service.NAME},
            check=True,
            timeout=PATIENCE_S,
        )

    def get(self, name="default", variable="OMP_NUM_THREADS"):
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=PATIENCE_S)
        ) as connection:
            connection.request("GET", f"/{name}?variable={variable}")
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)

    def all(self, count, name="default"):
        """What each of so many replicas says of itself."""
        found = {}

        def look():
            said = self.get(name)
            found[said["pid"]] = said
            return len(found) == count

        wait_until(look, f"{count} replicas answer")
        return list(found.values())

    def processes(self):
        """The zygotes that live."""
        return [pid for pid in self.service.processes() if b"manta._private.zygote_main" in cmdline(pid)]

    def log(self):
        return self.service.logs()["node.log"]


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


@pytest.fixture
def zygotes(manta_build, interpreter):
    @contextlib.contextmanager
    def start(**environment):
        python = {
            "PYTHONPATH": f"{manta_build}/python",
            "PYTHONDONTWRITEBYTECODE": "1",
            "MANTA_PYTHON": str(interpreter),
            **environment,
        }
        with running_service(manta_build, environment=python) as service:
            yield Zygotes(service, interpreter)

    return start


def test_replicas_are_forked_from_one_interpreter_and_are_children_of_the_node(zygotes):
    with zygotes() as world:
        world.write()
        world.run("who:build", "n=3")
        replicas = world.all(3)
        (zygote,) = world.processes()
        assert {said["loaded_by"] for said in replicas} == {zygote}
        assert {said["parent"] for said in replicas} == {world.service.process.pid}
        for said in replicas:
            assert said["group"] == said["pid"]  # each leads a session, and its descendants end with it
            assert b"--replica" in cmdline(said["pid"])  # found by a later node


def test_random_numbers_of_forks_differ(zygotes):
    with zygotes() as world:
        world.write(above="import numpy.random")
        world.run("who:build", "n=4")
        replicas = world.all(4)
        assert len({said["random"] for said in replicas}) == 4
        assert len({said["numpy"] for said in replicas}) == 4


def test_a_pool_of_the_linear_algebra_library_hinders_no_fork(zygotes):
    """OpenBLAS keeps threads, which end by themselves when their process forks."""
    above = """
import numpy
assert os.cpu_count() == 1 or len(os.listdir("/proc/self/task")) > 1 or "zygote" not in " ".join(sys.orig_argv)
numpy.ones((300, 300)) @ numpy.ones((300, 300))
"""
    with zygotes(OMP_NUM_THREADS="2") as world:
        world.write(above=above)
        world.run("who:build", "n=2")
        replicas = world.all(2)
        assert {said["loaded_by"] for said in replicas} == set(world.processes())


def test_what_a_module_prints_is_printed_once(zygotes):
    with zygotes() as world:
        printed = world.folder / "printed"
        world.write(above=f"sys.stdout = open({str(printed)!r}, 'a')\nprint('imported by', os.getpid())")
        world.run("who:build", "n=3")
        (zygote,) = world.processes()
        world.all(3)
        assert world.service.command("shutdown", "--yes").returncode == 0
        world.service.process.wait(PATIENCE_S)
        lines = printed.read_text().splitlines()
        assert len(lines) == len(set(lines)), lines
        assert f"imported by {zygote}" in lines


def test_a_dead_zygote_is_started_again_and_its_forks_live_on(zygotes):
    with zygotes() as world:
        world.write()
        world.run("who:build", "n=2")
        before = world.all(2)
        (first,) = world.processes()
        os.kill(first, signal.SIGKILL)
        (second,) = wait_until(lambda: [p for p in world.processes() if p != first], "another zygote")
        assert {said["pid"] for said in world.all(2)} == {said["pid"] for said in before}
        world.run("who:build", "n=3")  # one more, and nobody is replaced
        after = world.all(3)
        assert {said["pid"] for said in before} < {said["pid"] for said in after}
        assert {said["loaded_by"] for said in after} == {first, second}


def test_replicas_start_while_zygotes_are_killed_again_and_again(zygotes):
    with zygotes() as world:
        world.write()
        world.run("who:build", "n=1")
        for count in range(2, 8):
            for pid in world.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            world.run("who:build", f"n={count}")
        assert len(world.all(7)) == 7
        replicas = [pid for pid in world.service.processes() if b"--replica" in cmdline(pid)]
        assert len(replicas) == 7  # no forks that nobody knows


def test_a_changed_module_gets_a_zygote_of_its_own(zygotes):
    with zygotes(MANTA_ZYGOTE_IDLE_MS="200") as world:
        world.write(mark="one")
        world.run()
        first = world.get()
        world.write(mark="two")
        world.run()
        second = wait_until(lambda: (said := world.get())["mark"] == "two" and said, "the new code")
        assert first["mark"] == "one"
        assert second["loaded_by"] not in (first["loaded_by"], second["pid"])
        wait_until(lambda: first["loaded_by"] not in world.processes(), "the old zygote ends: nobody needs it")
        assert world.processes() == [second["loaded_by"]]


def test_two_environments_have_two_zygotes_with_their_variables_at_import(zygotes):
    with zygotes() as world:
        options = "(ray_actor_options={'num_cpus': %d, 'runtime_env': {'env_vars': {'FLAVOUR': '%s', 'BOTH': 'a-${FLAVOUR}'}}})"
        world.write("plain", options=options % (1, "plain"))
        world.write("sweet", options=options % (3, "sweet"))
        world.run("plain:app", name="plain")
        world.run("sweet:app", name="sweet")
        for name, threads in (("plain", "1"), ("sweet", "3")):
            assert world.get(name, "FLAVOUR")["variable"] == name
            assert world.get(name, "BOTH")["variable"] == f"a-{name}"
            assert world.get(name)["variable"] == threads
        assert world.get("plain")["loaded_by"] != world.get("sweet")["loaded_by"]
        assert sorted(world.processes()) == sorted({world.get(n)["loaded_by"] for n in ("plain", "sweet")})


def test_who_said_how_many_threads_is_heard(zygotes):
    with zygotes(OMP_NUM_THREADS="5") as world:
        world.write()
        world.run()
        assert world.get()["variable"] == "5"


def test_a_module_that_starts_a_thread_is_not_forked_and_the_log_says_why(zygotes):
    with zygotes() as world:
        world.write(above="threading.Thread(target=time.sleep, args=(1000,), daemon=True, name='sleeper').start()")
        world.run()
        said = world.get()
        assert said["loaded_by"] == said["pid"]
        assert said["threads"] > 1
        assert "cannot fork: 1 other threads run in it" in world.log()


def test_a_thread_that_starts_later_in_the_zygote_stops_its_forks(zygotes):
    """Nothing of ours does that; here a signal's handler of the application does."""
    with zygotes() as world:
        started = world.folder / "started"
        world.write(
            above=f"""
def start(*_):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    open("{started}", "w").close()

import signal
signal.signal(signal.SIGUSR1, start)
"""
        )
        world.run("who:build", "n=1")
        (zygote,) = world.processes()
        os.kill(zygote, signal.SIGUSR1)
        wait_until(started.exists, "the thread runs")
        world.run("who:build", "n=2")
        second = next(said for said in world.all(2) if said["loaded_by"] != zygote)
        assert second["loaded_by"] == second["pid"]
        assert "1 other threads run in it" in world.log()


def test_a_module_that_the_zygote_cannot_import_fails_in_its_replica_as_ever(zygotes):
    with zygotes() as world:
        world.write(above="assert 'manta._private.zygote_main' not in sys.orig_argv")
        world.run()
        said = world.get()
        assert said["loaded_by"] == said["pid"]
        assert "cannot fork: module who cannot be imported: AssertionError" in world.log()


def test_a_module_that_kills_its_process_takes_no_zygote_into_a_loop(zygotes):
    with zygotes() as world:
        world.write(above="if 'manta._private.zygote_main' in sys.orig_argv: os._exit(7)")
        world.run()
        assert world.get()["loaded_by"] == world.get()["pid"]
        assert "cannot fork: exit code 7" in world.log()
        assert not world.processes()


def test_the_setting_switches_zygotes_off(zygotes):
    with zygotes(MANTA_ZYGOTE="0") as world:
        world.write()
        world.run("who:build", "n=2")
        assert all(said["loaded_by"] == said["pid"] for said in world.all(2))
        assert not world.processes()


def test_past_the_limit_of_zygotes_replicas_get_interpreters_of_their_own(zygotes):
    with zygotes(MANTA_ZYGOTE_LIMIT="1") as world:
        world.write("one")
        world.write("two")
        world.run("one:app", name="one")
        world.run("two:app", name="two")
        assert world.get("one")["loaded_by"] == world.processes()[0]
        assert world.get("two")["loaded_by"] == world.get("two")["pid"]


def test_a_zygote_that_stands_still_is_replaced(zygotes):
    with zygotes(MANTA_ZYGOTE_FORK_TIMEOUT_MS="300") as world:
        world.write()
        world.run("who:build", "n=1")
        (first,) = world.processes()
        os.kill(first, signal.SIGSTOP)
        world.run("who:build", "n=2")
        assert len(world.all(2)) == 2
        assert first not in world.processes()
        assert "does not answer: it is killed" in world.log()


def test_zygotes_end_with_a_killed_node_and_forks_serve_on_until_the_next_takes_them_back(zygotes):
    with zygotes() as world:
        world.write()
        world.run("who:build", "n=2")
        before = {said["pid"] for said in world.all(2)}
        world.service.kill_node()
        wait_until(lambda: not world.processes(), "the zygote ends with its node")
        assert {said["pid"] for said in world.all(2)} == before
        world.service.start_node()
        assert {said["pid"] for said in world.all(2)} == before
        world.run("who:build", "n=3")
        after = {said["pid"] for said in world.all(3)}
        assert before < after
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len({said["pid"] for said in world.all(3)} - before) == 3, "dead replicas are replaced")


def test_a_zygote_that_is_still_importing_ends_with_a_killed_node(zygotes):
    with zygotes() as world:
        world.write(above="if 'manta._private.zygote_main' in sys.orig_argv: time.sleep(1000)")
        command = subprocess.Popen(
            [world.service.world.build / "src/cli/manta", "run", "--non-blocking", "--app-dir", world.folder, "who:app"],
            env={**world.service.world.environment, "MANTA_INSTANCE": world.service.NAME},
            stderr=subprocess.DEVNULL,
        )
        try:
            (zygote,) = wait_until(world.processes, "a zygote imports")
            wait_until(lambda: state(zygote) == "S", "it sleeps in the module")
            world.service.kill_node()
            wait_until(lambda: not world.processes(), "the zygote ends")
        finally:
            command.kill()
            command.wait()


def test_a_replica_whose_zygote_still_imports_can_be_deleted(zygotes):
    with zygotes() as world:
        world.write(above="if 'manta._private.zygote_main' in sys.orig_argv: time.sleep(1000)")
        world.write("other")
        command = subprocess.Popen(
            [world.service.world.build / "src/cli/manta", "run", "--non-blocking", "--app-dir", world.folder, "who:app"],
            env={**world.service.world.environment, "MANTA_INSTANCE": world.service.NAME},
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(world.processes, "a zygote imports")
            world.run("other:app", name="other")  # others are not held up
            assert world.get("other")["mark"] == "one"
            world.drive("serve.delete('default')")
            assert command.wait(PATIENCE_S) != 0
        finally:
            command.kill()
            command.wait()


def test_the_instance_ends_with_all_its_zygotes(zygotes):
    with zygotes() as world:
        world.write("one")
        world.write("two")
        world.run("one:app", name="one")
        world.run("two:app", name="two")
        assert len(world.processes()) == 2
        assert world.service.command("shutdown", "--yes").returncode == 0
        world.service.process.wait(PATIENCE_S)
        assert not world.service.processes()
