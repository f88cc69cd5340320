# SPDX-License-Identifier: Apache-2.0
"""Where people write: notebooks, the prompt, threads, scripts that end."""

import os
import pty
import select
import signal
import subprocess
import textwrap
import threading

import pytest
from conftest import PATIENCE_S, wait_until

EXECUTE = """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(text) for text in json.load(sys.stdin)]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()
told = []
for cell in notebook.cells:
    out = {"stdout": "", "stderr": "", "value": None, "error": None}
    for output in cell.outputs:
        if output.output_type == "stream":
            out[output.name] += output.text
        elif output.output_type == "error":
            out["error"] = f"{output.ename}: {output.evalue}"
        else:
            out["value"] = output.data["text/plain"]
    told.append(out)
print()
print(json.dumps(told))
"""
START = """
from manta import serve
serve.start(http_options={"port": 0})
"""


@pytest.fixture
def notebook(python_world, interpreter):
    """notebook(*cells): what each printed, its value, its error; a real kernel runs them."""
    found = subprocess.run([interpreter, "-c", "import nbclient, ipykernel"], capture_output=True)
    if found.returncode != 0:
        pytest.skip(f"{interpreter} has no nbclient and ipykernel")
    python_world.environment["MANTA_LOG_TO_STDERR"] = ""
    # A kernel sends on what was written to its descriptors, but not inside of pytest.
    python_world.environment.pop("PYTEST_CURRENT_TEST", None)
    python_world.environment["HOME"] = str(python_world.directory)

    def run(*cells):
        import json

        done = subprocess.run(
            [interpreter, "-c", EXECUTE],
            env=python_world.environment,
            input=json.dumps([textwrap.dedent(cell) for cell in cells]),
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        wait_until(lambda: not python_world.processes(), "all processes of the notebook end")
        return json.loads(done.stdout.splitlines()[-1])  # What replicas print comes here, too.

    return run


def test_a_class_of_a_cell_is_served_called_and_replaced(notebook):
    first = """
        @serve.deployment
        class Model:
            def __call__(self, x):
                return x + 1

        handle = serve.run(Model.bind(), route_prefix="/model")
        """
    told = notebook(
        START,
        first,
        "await handle.remote(1)",
        "handle.remote(2).result()",
        "[await handle.remote(i) for i in range(3)]",
        first.replace("x + 1", "x * 100"),
        "handle.remote(2).result()",
        first.replace("x + 1", "x * 100"),
        "handle.remote(3).result(), serve.status().applications['default'].status.value",
        "serve.shutdown()",
        "serve.status().applications",
    )
    assert [cell["error"] for cell in told] == [None] * len(told)
    values = [cell["value"] for cell in told if cell["value"]]
    assert values == ["2", "3", "[1, 2, 3]", "200", "(300, 'RUNNING')", "{}"]


def test_what_replicas_print_and_log_arrives_in_the_cell(notebook):
    told = notebook(
        START,
        """
        import logging, sys, time

        def settle(seconds=0.5):  # The kernel reads what its children write in the background.
            time.sleep(seconds)

        @serve.deployment
        class Talker:
            def __init__(self):
                print("constructed")

            def __call__(self):
                print("printed")
                print("to stderr", file=sys.stderr)
                logging.getLogger("ray.serve").info("logged for ray")
                logging.getLogger("manta.serve").warning("logged for manta")
        """,
        "handle = serve.run(Talker.bind(), route_prefix='/talker'); settle()",
        "handle.remote().result(); settle()",
    )
    assert "constructed" in told[2]["stdout"], told
    assert "default/Talker: 1 of 1 replicas ready" in told[2]["stderr"]
    assert "Application 'default' is ready at http://127.0.0.1:" in told[2]["stderr"]
    assert "printed" in told[3]["stdout"]
    for words in ("to stderr", "-- logged for ray", "-- logged for manta"):
        assert words in told[3]["stderr"]


def test_errors_of_cells_are_readable_and_the_notebook_goes_on(notebook):
    told = notebook(
        START,
        """
        @serve.deployment
        class Bad:
            def __init__(self):
                raise ValueError("not today")
        serve.run(Bad.bind(), route_prefix=None)
        """,
        """
        @serve.deployment
        class Good:
            def __call__(self, x):
                return 1 / x
        handle = serve.run(Good.bind(), route_prefix=None)
        handle.remote(0).result()
        """,
        "handle.remote(2).result()",
    )
    assert "Deploying application default failed" in told[1]["error"]
    assert "ValueError: not today" in told[1]["error"]
    assert 'File "<notebook cell ' in told[1]["error"]
    assert told[2]["error"].startswith("RayTaskError(ZeroDivisionError)")
    assert told[3]["value"] == "0.5"


def test_fastapi_classes_of_a_cell_answer_http(notebook):
    told = notebook(
        START,
        """
        import urllib.request
        from fastapi import FastAPI
        from pydantic import BaseModel
        from manta._private import instance

        api = FastAPI()

        class Item(BaseModel):
            size: int

        @serve.deployment
        @serve.ingress(api)
        class Front:
            @api.post("/double")
            def double(self, item: Item) -> Item:
                return Item(size=2 * item.size)

        serve.run(Front.bind())
        """,
        """
        url = f"http://127.0.0.1:{instance.must_join().http_port}/double"
        ask = urllib.request.Request(url, data=b'{"size": 4}', headers={"content-type": "application/json"})
        urllib.request.urlopen(ask).read()
        """,
    )
    assert told[2]["value"] == "b'{\"size\":8}'", told


def test_local_testing_mode_works_in_a_notebook(notebook):
    told = notebook(
        """
        from manta import serve

        @serve.deployment
        class Model:
            async def __call__(self, x):
                print("inside")
                return x + 1

        handle = serve.run(Model.bind(), _local_testing_mode=True)
        """,
        "await handle.remote(1), handle.remote(2).result()",
        "import os; os.environ.get('MANTA_INSTANCE')",
    )
    assert told[1]["value"] == "(2, 3)"
    assert told[1]["stdout"] == "inside\ninside\n"


# ---- other drivers


@pytest.fixture
def script(python_world, interpreter):
    """script(code): its end; everything that it started is gone then."""

    def run(code, before=""):
        file = python_world.directory / "script.py"
        file.write_text(before + START + textwrap.dedent(code))
        done = subprocess.run(
            [interpreter, file],
            env={**python_world.environment, "MANTA_LOG_TO_STDERR": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        wait_until(lambda: not python_world.processes(), "all processes of the script end")
        return done

    return run


MODEL = """
@serve.deployment
class Model:
    def __call__(self, x):
        print("got", x)
        return x + 1
"""


def test_a_script_that_just_ends_leaves_nothing_behind(script):
    done = script(MODEL + "\nprint(serve.run(Model.bind(), route_prefix='/m').remote(1).result())")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "2", "got 1"]
    assert "Application 'default' is ready" in done.stderr


def test_a_trace_from_a_replica_names_the_scripts_file_and_line(script):
    done = script(
        """
@serve.deployment
class Bad:
    def __call__(self):
        raise ValueError("here")

try:
    serve.run(Bad.bind(), route_prefix=None).remote().result()
except ValueError as error:
    print(error)
"""
    )
    assert 'script.py", line 8, in __call__' in done.stdout
    assert 'raise ValueError("here")' in done.stdout


def test_an_error_of_the_script_ends_it_and_its_instance(script):
    done = script(MODEL + "\nserve.run(Model.bind(), route_prefix='/m')\nraise KeyError('mine')")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("KeyError: 'mine'")


def test_run_from_another_thread_and_inside_an_event_loop(script):
    done = script(
        MODEL
        + """
import asyncio, threading
out = []
thread = threading.Thread(target=lambda: out.append(serve.run(Model.bind(), name="t", route_prefix=None)))
thread.start()
thread.join()
print(out[0].remote(1).result())

async def main():
    handle = serve.run(Model.bind(), name="loop", route_prefix=None)
    print(await handle.remote(2))
    try:
        handle.remote(3).result()
    except RuntimeError as error:
        print(str(error)[:30])
    await serve.shutdown_async()

asyncio.run(main())
"""
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if not line.startswith("got")] == [
        "2",
        "3",
        "Sync methods should not be cal",
    ]


def test_logging_that_the_script_has_set_up_is_left_alone(script):
    mine = """
import logging
logging.basicConfig(format="MINE %(name)s %(message)s", level=logging.INFO)
"""
    done = script(MODEL + "\nserve.run(Model.bind(), route_prefix=None)", before=mine)
    assert "MINE manta.serve Application 'default' is ready." in done.stderr
    assert done.stderr.count("is ready") == 1


def test_quiet_replicas_where_the_environment_says_so(script, python_world):
    python_world.environment["RAY_SERVE_LOG_TO_STDERR"] = "0"
    done = script(
        """
@serve.deployment
class Model:
    def __call__(self):
        import logging
        logging.getLogger("ray.serve").warning("for the log only")

serve.run(Model.bind(), route_prefix=None).remote().result()
"""
    )
    assert done.returncode == 0
    assert done.stderr == ""


class Prompt:
    """An interactive interpreter at a terminal."""

    def __init__(self, command, environment):
        self._master, slave = pty.openpty()
        self._text = ""
        self.process = subprocess.Popen(
            command, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                if not select.select([self._master], [], [], PATIENCE_S)[0]:
                    return
                self._text += os.read(self._master, 4096).decode(errors="replace")
            except OSError:
                return

    def type(self, line):
        os.write(self._master, line.encode() + b"\n")

    def await_text(self, text):
        wait_until(lambda: text in self._text, f"the prompt says '{text}'; it said {self._text[-2000:]}")

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)  # What Ctrl-C makes of a terminal that it controls.

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_the_prompt_serves_a_class_and_survives_an_interrupted_call(python_world, interpreter):
    environment = {**python_world.environment, "MANTA_LOG_TO_STDERR": "", "TERM": "dumb"}
    prompt = Prompt([interpreter, "-i", "-q"], environment)
    try:
        prompt.type("import asyncio, time; from manta import serve; serve.start(http_options={'port': 0})")
        prompt.type("@serve.deployment")
        prompt.type("class Model:")
        prompt.type("    async def __call__(self, x):")
        prompt.type("        print('replica', 'got', x)")
        prompt.type("        await asyncio.sleep(x)")
        prompt.type("        return 'slept %s' % x")
        prompt.type("")
        prompt.type("handle = serve.run(Model.bind(), route_prefix='/m')")
        prompt.await_text("Application 'default' is ready at http://127.0.0.1:")
        prompt.type("handle.remote(0).result()")
        prompt.await_text("replica got 0")
        prompt.await_text("'slept 0'")
        prompt.type("handle.remote(3600).result()")
        prompt.await_text("replica got 3600")
        prompt.interrupt()
        prompt.await_text("KeyboardInterrupt")
        prompt.type("handle.remote(0.0).result()")
        prompt.await_text("'slept 0.0'")
        prompt.type("exit()")
        assert prompt.process.wait(PATIENCE_S) == 0
        wait_until(lambda: not python_world.processes(), "all processes of the prompt end")
    finally:
        prompt.end()
