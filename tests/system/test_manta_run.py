# SPDX-License-Identifier: Apache-2.0
"""`manta run module:application` from its first moment to its last, with modules that the tests write."""

import os
import signal
import subprocess
import time

import pytest
from conftest import PATIENCE_S, Running, wait_until

APP = """
import os, sys
from pydantic import BaseModel
from manta import serve

LOADED_BY = os.getpid()
with open(os.path.join(os.path.dirname(__file__), "imports"), "a") as file:
    file.write(f"{os.getpid()}\\n")

class Sizes(BaseModel):
    small: int
    large: float = 2.5
    names: str = "none"

@serve.deployment
class Told:
    def __init__(self, told):
        self.told = told

    async def __call__(self, request):
        return {"told": self.told, "loaded_by": LOADED_BY, "pid": os.getpid(), "parent": os.getppid()}

app = Told.bind("MARK")

def typed(sizes: Sizes):
    return Told.bind([type(sizes).__name__, sizes.small, sizes.large, sizes.names])

def plain(args):
    return Told.bind(args)

def wrong():
    return 3

def raises(args):
    raise KeyError("the builder's own")

number = 7
"""


@pytest.fixture
def folder(python_world):
    made = python_world.directory / "app"
    made.mkdir()
    write(made)
    return made


def write(folder, mark="one", name="told", text=APP):
    # Other bytes at another time: the import system goes by seconds and sizes.
    (folder / f"{name}.py").write_text(text.replace("MARK", mark))


@pytest.fixture
def start(python_world, folder):
    """start(target, arguments, options): a `manta run` in the background, ended with the test."""
    runs = []

    def run(target="told:app", arguments=(), options=()):
        runs.append(Running(python_world, target, list(arguments), ["--app-dir", str(folder), *options]))
        return runs[-1]

    yield run
    for running in runs:
        if running.process.poll() is None:
            running.process.kill()
            running.wait()


def refused(world, folder, *words):
    done = world.command("run", "--port", "0", "--app-dir", str(folder), *words)
    assert done.returncode == 1, done.stderr
    assert not world.instances(), "no half-started instance"
    assert not world.processes()
    return done.stderr


def test_the_application_is_imported_once(start, folder, python_world):
    running = start()
    running.await_running()
    said = running.get("/").json()
    assert said["told"] == "one"
    assert (folder / "imports").read_text().split() == [str(running.process.pid)]
    assert said["loaded_by"] == running.process.pid != said["pid"]
    assert said["parent"] != running.process.pid  # the node's
    assert running.end() == 0
    assert not running.leftovers()


def test_a_second_application_of_another_environment_is_imported_where_it_runs(start, folder):
    write(folder, name="env", text=APP.replace("@serve.deployment\n", "@serve.deployment(ray_actor_options={'num_cpus': 3})\n"))
    running = start("env:app")
    running.await_running()
    said = running.get("/").json()
    assert said["loaded_by"] not in (running.process.pid, said["pid"])
    assert running.end() == 0
    assert not running.leftovers()


def test_replicas_of_the_copied_command_are_replaced_after_it_was_killed(start, folder, python_world):
    """The zygote that the command forked dies: the node makes another one from what it was told."""
    running = start()
    running.await_running()
    before = running.get("/").json()
    zygotes = [pid for pid in python_world.processes() if parent_of(pid) == before["parent"] and is_python(pid)]
    for pid in zygotes:
        os.kill(pid, signal.SIGKILL)

    def look():
        try:
            said = running.get("/").json()
        except (OSError, ValueError):
            return None
        return said if said["pid"] != before["pid"] else None

    after = wait_until(look, "another replica answers")
    assert after["loaded_by"] != running.process.pid
    assert running.end() == 0
    assert not running.leftovers()


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def is_python(pid):
    try:
        return "python" in os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False


@pytest.mark.parametrize(
    ("target", "arguments", "told"),
    [
        ("told:typed", ["small=3"], ["Sizes", 3, 2.5, "none"]),
        ("told:typed", ["small=4", "large=1", "names=a=b"], ["Sizes", 4, 1.0, "a=b"]),
        ("told:plain", ["k=v", "empty="], {"k": "v", "empty": ""}),
    ],
)
def test_arguments_have_the_types_of_the_builders_annotation(start, target, arguments, told):
    running = start(target, arguments)
    running.await_running()
    assert running.get("/").json()["told"] == told
    assert running.end() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent:app"], "there is no module 'absent' in "),
        (["told:absent"], "has no 'absent'; its applications and builders: app"),
        (["told:number"], "Expected a built Serve application or an application builder function but got: <class 'int'>"),
        (["told:Told"], "Expected a built Serve application or an application builder function"),
        (["told:wrong"], "Application builder functions should take exactly one parameter"),
        (["told:typed", "small=x"], "small\n"),
        (["told:typed"], "Field required"),
        (["told:app", "k=v"], "Arguments can only be passed to an application builder function"),
        (["--app-dir", "/no/such/directory", "told:app"], "--app-dir: there is no directory '/no/such/directory'"),
        (["--route-prefix", "a", "told:app"], "Invalid route_prefix 'a', must start with a forward slash"),
    ],
)  # fmt: skip
def test_what_is_no_application_is_told_in_words_without_a_trace(python_world, folder, words, said):
    stderr = refused(python_world, folder, *words)
    assert said in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("import json\n\ndef f():\n    return 1 / 0\n\nf()\n", ["broken.py", "line 4", "ZeroDivisionError: division by zero"]),
        ("def f(:\n", ["broken.py", "line 1", "SyntaxError"]),
        ("import absent_library\n", ["broken.py", "line 1", "No module named 'absent_library'"]),
        ("import json\njson.absent\n", ["broken.py", "line 2", "AttributeError"]),
        ("raise SystemExit(3)\n", ["broken.py", "SystemExit: 3"]),
        ("from told import raises as app\n", ["told.py", "KeyError: \"the builder's own\""]),
    ],
)  # fmt: skip
def test_a_module_that_fails_shows_its_own_trace(python_world, folder, text, shown):
    (folder / "broken.py").write_text(text)
    stderr = refused(python_world, folder, "broken:app")
    for words in shown:
        assert words in stderr, stderr
    assert "manta/_private" not in stderr  # the trace is the user's, not ours


# ---- the end


def moments():
    """When, after the start of the command, in seconds; a busy machine sees other moments than an idle one."""
    return [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_the_start_ends_everything(python_world, folder, number):
    outcomes = set()
    for moment in moments():
        running = Running(python_world, "told:app", [], ["--app-dir", str(folder)])
        time.sleep(moment)  # the moment itself is what is tested, not what has happened by then
        outcomes.add(running.end(number))
        assert not [line for line in running.stderr if "Traceback" in line], (moment, running.stderr)
        wait_until(lambda run=running: not run.leftovers(), f"nothing is left of an end after {moment} s")
    # Before there is anything to end: the signal itself, or 1; once it runs: 0.
    assert outcomes <= {0, 1, -number}


def test_ctrl_c_at_any_moment_of_a_program_that_serves_leaves_nothing(python_world, folder, interpreter):
    program = folder / "program.py"
    program.write_text("import told\nfrom manta import serve\nserve.start(http_options={'port': 0})\nserve.run(told.app, blocking=True)\n")
    for moment in moments():
        process = subprocess.Popen(
            [interpreter, program],
            env=python_world.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moment)  # as above
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) != 0, moment
        wait_until(
            lambda: not python_world.processes() and not python_world.instances(),
            f"nothing is left of a program that was interrupted after {moment} s",
        )


@pytest.mark.parametrize("where", ["while it imports", "while it constructs"])
def test_ctrl_c_ends_a_start_that_hangs(start, folder, where):
    hang = "\nimport time\nopen(os.path.join(os.path.dirname(__file__), 'hangs'), 'w').close()\ntime.sleep(1000)\n"
    if where == "while it imports":
        text = APP + hang
    else:
        text = APP.replace("        self.told = told\n", hang.strip("\n").replace("\n", "\n        ").join(["        ", "\n"]))
    write(folder, name="hanging", text=text)
    running = start("hanging:app")
    wait_until((folder / "hangs").exists, "it hangs")
    assert running.end() == 1
    assert running.said("interrupted before the application was running")
    assert not running.leftovers()


def test_a_killed_command_leaves_nothing(start, python_world):
    running = start()
    running.await_running()
    running.process.kill()
    running.wait()
    wait_until(lambda: not running.leftovers(), "everything ends with the command")


# ---- --reload


def test_reload_serves_the_changed_files_and_loses_no_request(start, folder):
    running = start(options=["--reload"])
    running.await_running()
    seen = [running.get("/").json()]
    for mark in ("second", "third one"):
        write(folder, mark)

        def changed(mark=mark):
            answer = running.get("/")
            assert answer.status == 200
            seen.append(answer.json())
            return seen[-1]["told"] == mark

        wait_until(changed, f"'{mark}' is served")
        running.await_line("is running as it stands now")
        running.stderr.clear()
    assert running.end() == 0
    assert not running.leftovers()


def test_reload_of_what_does_not_load_keeps_the_former_one(start, folder):
    running = start(options=["--reload"])
    running.await_running()
    (folder / "told.py").write_text("def f(:\n")
    running.await_line("it does not load; what ran before serves on")
    assert running.said("SyntaxError")
    assert running.get("/").json()["told"] == "one"
    write(folder, "mended")
    wait_until(lambda: running.get("/").json()["told"] == "mended", "the next change is served")
    assert running.end() == 0
    assert not running.leftovers()


def test_reload_sees_modules_that_the_application_imports(start, folder):
    (folder / "part.py").write_text("VALUE = 'a part'\n")
    write(folder, text="from part import VALUE\n" + APP.replace('"MARK"', "VALUE"))
    running = start(options=["--reload"])
    running.await_running()
    assert running.get("/").json()["told"] == "a part"
    (folder / "part.py").write_text("VALUE = 'another part'\n")
    wait_until(lambda: running.get("/").json()["told"] == "another part", "the changed part is served")
    assert running.end() == 0


def test_ctrl_c_while_an_application_is_loaded_again_ends_everything(start, folder):
    running = start(options=["--reload"])
    running.await_running()
    write(folder, text=APP + "\nimport time\nopen(os.path.join(os.path.dirname(__file__), 'hangs'), 'w').close()\ntime.sleep(1000)\n")
    wait_until((folder / "hangs").exists, "the import hangs")
    assert running.end() == 0
    assert not running.leftovers()


def test_reload_needs_to_stay(python_world, folder):
    done = python_world.command("run", "--reload", "--non-blocking", "--app-dir", str(folder), "told:app")
    assert done.returncode == 2
    assert "it does not go with --non-blocking" in done.stderr


def test_reload_is_for_python(python_world, manta_build):
    done = subprocess.run(
        [manta_build / "src/cli/manta", "run", "--reload", "./libx.so:app"],
        env=python_world.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert "--reload is for module:application" in done.stderr
