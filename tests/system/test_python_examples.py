# SPDX-License-Identifier: Apache-2.0
"""The examples in Python: each is started as its page says, and asked over HTTP.

They run with an environment of their own, build/examples-environment (./dev test makes it), because their
models come with large packages; MANTA_EXAMPLES_PYTHON names another interpreter.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import subprocess

import browser
import pytest
from conftest import PATIENCE_S, ROOT, Answer, Running, World, running_service, wait_until
from websocket_client import Websocket

FOLDER = ROOT / "examples/python"
PAGES = sorted(FOLDER.glob("*/README.md"))
# Others than one `manta run` and one block of requests: they have a test of their own below.
RUN_OTHERWISE = {"chat", "mixed", "notebook"}


def find_python():
    named = os.environ.get("MANTA_EXAMPLES_PYTHON")
    return pathlib.Path(named) if named else ROOT / "build/examples-environment/bin/python"


@pytest.fixture(scope="module")
def interpreter(manta_build):
    """An interpreter that has what all examples need."""
    python = find_python()
    if not python.exists():
        pytest.skip(f"there is no {python}: ./dev test makes it, or set MANTA_EXAMPLES_PYTHON")
    if not list((manta_build / "python/manta").glob("_native*.so")):
        pytest.skip("this build has no Python extension (-Dpython=enabled)")
    return python


@pytest.fixture(scope="module")
def start_example(manta_build, interpreter):
    """start_example(words of `manta run`): a context with the Running example."""

    @contextlib.contextmanager
    def start(*words):
        world = World(manta_build)
        world.environment.update(PYTHONPATH=f"{manta_build}/python", PYTHONDONTWRITEBYTECODE="1", MANTA_PYTHON=str(interpreter))
        # `manta run --app-dir FOLDER module:app name=value`: the target is the first word with a colon.
        target = next(word for word in words if ":" in word)
        at = words.index(target)
        running = Running(world, target, words[at + 1 :], [absolute(word) for word in words[:at]])
        try:
            running.await_running()
            yield running
            assert running.end() == 0
            assert running.leftovers() == []
        finally:
            world.clear()
            running.process.wait()
            print(f"---- manta run {target}", *running.stderr[-100:], sep="\n")

    return start


def absolute(word):
    return str(ROOT / word) if (ROOT / word).is_dir() else word


@contextlib.contextmanager
def at_once(calls):
    """The answers of calls that are made at the same time, in their order."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        yield [future.result(PATIENCE_S) for future in futures]


# ---- pages


def blocks_of(page):
    """The fenced parts of a page, in their order."""
    return re.findall(r"^```\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def values_of(text):
    """The values of a text of JSON documents one after the other, or its lines."""
    decoder, values, text = json.JSONDecoder(), [], text.strip()
    try:
        while text:
            value, end = decoder.raw_decode(text)
            values.append(value)
            text = text[end:].lstrip()
    except ValueError:
        return text.split("\n")
    return values


def alike(shown, seen):
    """Equal, but for small differences of numbers, which are the affair of a processor or a package's version."""
    if isinstance(shown, dict) and isinstance(seen, dict):
        return shown.keys() == seen.keys() and all(alike(shown[key], seen[key]) for key in shown)
    if isinstance(shown, list) and isinstance(seen, list):
        return len(shown) == len(seen) and all(map(alike, shown, seen))
    if isinstance(shown, float):
        return shown == pytest.approx(seen, abs=0.1)
    if isinstance(shown, int):
        return shown == pytest.approx(seen, abs=5)
    return shown == seen


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name not in RUN_OTHERWISE], ids=lambda page: page.parent.name)
def test_what_a_page_shows_is_what_happens(start_example, interpreter, tmp_path, page):
    how, *others = blocks_of(page)
    [run] = re.findall(r"^manta run (.*)$", how, re.MULTILINE)
    [commands, shown] = others
    # What a command writes goes to a folder of its own; all else is looked for in the tree.
    script = commands.replace("picture.png", f"{tmp_path}/picture.png").replace("python ", f"{interpreter} ", 1)
    with start_example(*run.split()) as example:
        script = script.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{example.port}")
        script = script.replace("curl ", f"curl -sS --fail-with-body --max-time {PATIENCE_S} -w '\\n' ")
        done = subprocess.run(["sh", "-ec", script], cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE_S)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert alike(values_of(shown), values_of(done.stdout)), done.stdout


def test_every_example_has_a_page_and_a_list_of_what_it_needs():
    folders = {path.parent for path in FOLDER.glob("*/*.py")} | {path.parent for path in FOLDER.glob("*/*.ipynb")}
    assert folders == {page.parent for page in PAGES}
    assert all((folder / "requirements.txt").exists() for folder in folders)


# ---- filetypes


@pytest.fixture(scope="module")
def filetypes(start_example):
    with start_example("--app-dir", "examples/python/filetypes", "filetypes:app") as example:
        yield example


@pytest.mark.parametrize(
    "path, label",
    [
        ("README.md", "markdown"),
        ("src/base/mem.c", "c"),
        ("bench/run.py", "python"),
        ("tools/dev/say.sh", "shell"),
        ("examples/xgboost/digits.csv", "csv"),
        ("pyproject.toml", "toml"),
        ("build", "elf"),
    ],
)
def test_filetypes_knows_the_files_of_this_tree(filetypes, manta_build, path, label):
    body = (manta_build / "src/cli/manta" if path == "build" else ROOT / path).read_bytes()
    answer = filetypes.request("POST", "/", body)
    assert answer.status == 200 and answer.json()["label"] == label, answer


def test_filetypes_knows_what_is_small_empty_or_not_sent(filetypes):
    assert filetypes.request("POST", "/", b"").json()["label"] == "empty"
    assert filetypes.request("POST", "/", b"hi").json()["label"] == "txt"
    noise = random.Random(1).randbytes(5_000_000)
    assert filetypes.request("POST", "/", noise).json()["label"] == "unknown"
    answer = filetypes.get("/")
    assert answer.status == 405 and answer.headers["allow"] == "POST, PUT"


def test_filetypes_gives_each_of_many_at_once_its_own_answer(filetypes):
    bodies = {
        "c": b"#include <stdio.h>\nint main(void)\n{\n    return puts(\"hello\");\n}\n" * 4,
        "python": b"import sys\n\n\ndef main():\n    print(sys.argv)\n\n\nmain()\n" * 4,
        "html": b"<!DOCTYPE html><html><head><title>x</title></head><body><p>hello</p></body></html>\n" * 4,
        "empty": b"",
    }
    wanted = list(bodies) * 16
    with at_once([lambda label=label: filetypes.request("POST", "/", bodies[label]) for label in wanted]) as answers:
        assert [answer.json()["label"] for answer in answers] == wanted


# ---- ocr


@pytest.fixture(scope="module")
def ocr(start_example):
    with start_example("--app-dir", "examples/python/ocr", "ocr:app") as example:
        yield example


@pytest.fixture(scope="module")
def draw(interpreter, tmp_path_factory):
    """draw(lines): the bytes of a picture that shows them."""
    folder = tmp_path_factory.mktemp("pictures")

    def make(*lines):
        path = folder / f"{abs(hash(lines))}.png"
        subprocess.run([interpreter, FOLDER / "ocr/draw.py", path, *lines], check=True, timeout=PATIENCE_S)
        return path.read_bytes()

    return make


def test_ocr_reads_several_pictures_at_once_each_with_its_own_lines(ocr, draw):
    pictures = [["Harbour street 12", "Open 9 to 17"], ["Mind the step"]]
    bodies = [draw(*lines) for lines in pictures]
    with at_once([lambda body=body: ocr.request("POST", "/read", body) for body in bodies]) as answers:
        for lines, answer in zip(pictures, answers):
            assert [line["text"] for line in answer.json()["lines"]] == lines
            heights = [line["corners"][0][1] for line in answer.json()["lines"]]
            assert heights == sorted(heights)


def test_ocr_says_what_is_wrong_with_a_picture(ocr, draw):
    assert ocr.request("POST", "/read", b"no picture").status == 422
    assert ocr.request("POST", "/read", draw("Harbour street 12")[:300]).status == 422
    blank = ocr.request("POST", "/read", draw(" "))
    assert blank.status == 200 and blank.json() == {"lines": []}


# ---- iris


@pytest.fixture(scope="module")
def iris(start_example):
    with start_example("--app-dir", "examples/python/iris", "iris:app") as example:
        yield example


FLOWER = {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}


def test_iris_tells_species_apart(iris):
    assert iris.post_json("/classify", FLOWER).json()["species"] == "virginica"
    assert iris.get("/model").json()["accuracy"] > 0.9


@pytest.mark.parametrize(
    "change, place, kind",
    [
        ({"petal_width": -1}, ["body", "petal_width"], "greater_than"),
        ({"petal_width": "wide"}, ["body", "petal_width"], "float_parsing"),
        ({"petal_width": None}, ["body", "petal_width"], "float_type"),
        ({"colour": "blue"}, ["body", "colour"], "extra_forbidden"),
    ],
)
def test_iris_names_the_field_that_is_wrong(iris, change, place, kind):
    answer = iris.post_json("/classify", FLOWER | change)
    assert answer.status == 422
    [detail] = answer.json()["detail"]
    assert (detail["loc"], detail["type"]) == (place, kind)


def test_iris_describes_itself(iris):
    described = iris.get("/openapi.json").json()
    assert set(described["paths"]) == {"/classify", "/model"}
    assert described["components"]["schemas"]["Flower"]["properties"]["petal_width"]["maximum"] == 30


@pytest.mark.parametrize("prefix", ["/", "/flowers"])
def test_the_page_of_iris_works_in_a_browser(start_example, tmp_path, prefix):
    with start_example("--route-prefix", prefix, "--app-dir", "examples/python/iris", "iris:app") as iris:
        with browser.opened(tmp_path) as chromium:
            page = chromium.page(f"http://127.0.0.1:{iris.port}{iris.prefix.rstrip('/')}/docs")
            page.wait_for("document.querySelectorAll('.opblock').length == 2")
            assert "Which of three species is this flower?" in page.text()
            # Opens the operation, takes its example as it is, and sends it.
            post = "document.querySelector('.opblock-post')"
            page.evaluate(f"{post}.querySelector('.opblock-summary-control').click()")
            for button in (".try-out__btn", ".execute"):
                page.wait_for(f"!!{post}.querySelector('{button}')")
                page.evaluate(f"{post}.querySelector('{button}').click()")
            answer = page.wait_for(f"{post}.querySelector('.live-responses-table .response .microlight')?.innerText")
            assert json.loads(answer)["species"] == "setosa"
            # Everything that it shows came from this server.
            foreign = [address for address in page.loaded if not address.startswith((f"http://127.0.0.1:{iris.port}/", "data:"))]
            assert foreign == [] and page.complaints == []


# ---- many_models


def test_many_models_loads_each_where_there_is_room_and_finds_it_again(start_example):
    questions = {
        "iris": [5.1, 3.5, 1.4, 0.2],
        "wine": [13.2, 1.78, 2.14, 11.2, 100, 2.65, 2.76, 0.26, 1.28, 4.38, 1.05, 3.4, 1050],
        "digits": [0] * 64,
    }
    with start_example("--app-dir", "examples/python/many_models", "many_models:app") as models:

        def ask(name, numbers=None):
            body = json.dumps(questions.get(name) if numbers is None else numbers)
            return models.request("POST", "/", body, {"serve_multiplexed_model_id": name})

        assert ask("iris").json()["answer"] == "setosa"
        assert ask("wine").json()["answer"] == "class_0"
        assert ask("digits").status == 200
        # Three models, room for four: wherever each was loaded, there it is found again.
        wait_until(lambda: len({ask(name).headers["x-replica"] for name in questions}) == 2, "both replicas hold models")
        before = {name: ask(name) for name in questions}
        for _ in range(5):
            for name in questions:
                answer = ask(name)
                assert answer.headers["x-replica"] == before[name].headers["x-replica"]
        loads = {answer.headers["x-replica"]: answer.json()["loads"] for answer in map(ask, questions)}
        assert loads == {answer.headers["x-replica"]: answer.json()["loads"] for answer in before.values()}

        assert ask("unknown").status == 404
        assert models.post_json("/", []).status == 400
        assert ask("iris", [1, 2, 3]).status == 422
        assert ask("iris", [1, 2, 3, "x"]).status == 422


# ---- tokens


@pytest.fixture(scope="module")
def tokens(start_example):
    with start_example("--app-dir", "examples/python/tokens", "tokens:app") as example:
        yield example


def events_of(text):
    events = text.split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]


def test_tokens_come_as_events_and_the_same_for_the_same_seed(tokens):
    wanted = {"prompt": "The old", "max_tokens": 500, "seed": 3}
    answer = tokens.post_json("/generate", wanted)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *given, last = events_of(answer.text)
    assert last == "[DONE]" and len(given) == 500 and all(json.loads(event)["token"] for event in given)
    assert tokens.post_json("/generate", wanted).text == answer.text
    assert tokens.post_json("/generate", wanted | {"seed": 4}).text != answer.text


def test_the_first_token_comes_before_the_last_is_made_and_a_reader_that_leaves_ends_the_stream(tokens):
    before = tokens.get("/counts").json()
    with contextlib.closing(tokens.connect()) as connection:
        body = json.dumps({"max_tokens": 100_000, "pause_ms": 20})
        connection.request("POST", "/generate", body, {"content-type": "application/json"})
        assert connection.getresponse().readline().startswith(b"data: ")
        during = tokens.get("/counts").json()
        assert during["started"] == before["started"] + 1
        assert during["given"] - before["given"] < 100_000

    def at_rest():
        """True when a stream of five tokens found nobody else who took any."""
        then = tokens.get("/counts").json()["given"]
        tokens.post_json("/generate", {"max_tokens": 5, "pause_ms": 20})
        return tokens.get("/counts").json()["given"] == then + 5

    wait_until(at_rest, "the model stops making tokens for nobody")


# ---- mixed


@pytest.fixture
def mixed(manta_build, interpreter):
    """A service with the application in C and the one in Python."""
    with running_service(manta_build, environment={"PYTHONPATH": f"{manta_build}/python", "MANTA_PYTHON": str(interpreter)}) as service:
        service.deploy("edges", "/edges", "examples/libedges.so:edges")
        options = ["--non-blocking", "--name", "pictures", "--route-prefix", "/pictures", "--app-dir", str(FOLDER / "mixed")]
        done = service.command("run", *options, "mixed:build", "edges=edges")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: "/pictures" in service.routes(), "the proxy knows the application in Python")
        yield service


def test_mixed_calls_c_with_a_picture_and_gets_one_back(mixed, draw, interpreter, tmp_path):
    def ask(body):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", mixed.port, timeout=PATIENCE_S)) as connection:
            connection.request("POST", "/pictures/edges", body)
            return Answer(connection.getresponse())

    picture = draw("Harbour")
    answer = ask(picture)
    assert answer.status == 200 and answer.headers["content-type"] == "image/png", answer
    # The edges of letters are few, and there are none where the picture is white.
    assert 0.005 < float(answer.headers["x-edges"]) < 0.2
    for name, body in (("given.png", picture), ("edges.png", answer.body)):
        (tmp_path / name).write_bytes(body)
    check = (
        "import sys, numpy as np; from PIL import Image\n"
        "given, edges = (np.asarray(Image.open(name).convert('L')).astype(int) for name in sys.argv[1:])\n"
        "assert edges.shape == given.shape\n"
        "around = [given[1 + y : given.shape[0] - 1 + y, 1 + x : given.shape[1] - 1 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)]\n"
        "across = around[2] + 2 * around[5] + around[8] - around[0] - 2 * around[3] - around[6]\n"
        "down = around[6] + 2 * around[7] + around[8] - around[0] - 2 * around[1] - around[2]\n"
        "expected = np.minimum(np.hypot(across, down), 255).astype(int)\n"
        "assert abs(edges[1:-1, 1:-1] - expected).max() <= 1\n"
    )
    subprocess.run([interpreter, "-c", check, tmp_path / "given.png", tmp_path / "edges.png"], check=True, timeout=PATIENCE_S)

    assert ask(b"no picture").status == 422
    tiny = subprocess.run(
        [interpreter, "-c", "import sys; from PIL import Image; Image.new('L', (2, 2)).save(sys.stdout.buffer, 'png')"],
        check=True, capture_output=True, timeout=PATIENCE_S,
    ).stdout  # fmt: skip
    refused = ask(tiny)
    assert refused.status == 422 and "two dimensions of 3 and more" in refused.text


# ---- notebook


EXECUTE = """
import json, sys
import nbclient, nbformat
path, port = sys.argv[1:]
notebook = nbformat.read(path, as_version=4)
for cell in notebook.cells:
    cell.source = cell.source.replace("8000", port)
    cell.outputs = [] if cell.cell_type == "code" else None
nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
print(json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"]))
"""


def shown_by(outputs):
    """What a reader sees below a cell, but for the progress of a deploy, which is on standard error."""
    outputs = [output for output in outputs if output.get("name") != "stderr"]
    return [output.get("text") or output.get("data", {}).get("text/plain") or output for output in outputs]


def test_the_notebook_does_what_it_shows(manta_build, interpreter, free_port):
    path = FOLDER / "notebook/first_service.ipynb"
    cells = json.loads(path.read_text())["cells"]
    # The text of an output is stored as a list of its lines.
    shown = [["".join(text) for text in shown_by(cell["outputs"])] for cell in cells if cell["cell_type"] == "code"]
    world = World(manta_build)
    world.environment.update(PYTHONPATH=f"{manta_build}/python", PYTHONDONTWRITEBYTECODE="1")
    try:
        done = subprocess.run(
            [interpreter, "-c", EXECUTE, path, str(free_port)],
            env=world.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert [shown_by(outputs) for outputs in json.loads(done.stdout.splitlines()[-1])] == shown
        assert sum(map(len, shown)) >= 6
        wait_until(lambda: not world.processes(), "everything ends with the kernel")
    finally:
        world.clear()


# ---- the demo


def test_the_demo_in_python_ends_well(manta_build, interpreter):
    world = World(manta_build)
    try:
        done = subprocess.run(
            [FOLDER / "filetypes/demo", "--files", "60"],
            env={**world.environment, "MANTA_BUILD": str(manta_build), "MANTA_EXAMPLES_PYTHON": str(interpreter)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        assert "60 files over 16 connections" in done.stdout and "Markdown document" in done.stdout
        assert "the server has drained and ended" in done.stdout
        assert world.processes() == {} and world.instances() == []
    finally:
        world.clear()


# ---- a chat


def test_two_people_talk_in_a_browser_and_a_third_without(start_example, tmp_path):
    def enter(page, name):
        page.wait_for("document.querySelector('#enter button') !== null")
        page.evaluate(f"document.querySelector('#name').value = '{name}'; document.querySelector('#enter button').click()")
        page.wait_for(f"document.querySelector('#said').innerText.includes('{name} came in')")

    def say(page, text):
        page.evaluate(f"document.querySelector('#text').value = '{text}'; document.querySelector('#talk button').click()")

    def hears(page, text):
        page.wait_for(f"document.querySelector('#said').innerText.includes('{text}')")

    with start_example("--app-dir", "examples/python/chat", "chat:app") as chat, browser.opened(tmp_path) as chromium:
        ada, bob = (chromium.page(f"http://127.0.0.1:{chat.port}/") for _ in range(2))
        enter(ada, "Ada")
        enter(bob, "Bob")
        hears(ada, "Bob came in")
        say(ada, "h\u00e4llo <b>Bob</b>")
        hears(bob, "Ada: h\u00e4llo <b>Bob</b>")
        assert ada.text().count("2 here") == 1
        with Websocket(chat.port, "/rooms/lobby?name=Cleo") as cleo:
            assert json.loads(cleo.receive()) == {"who": "Ada", "text": "h\u00e4llo <b>Bob</b>"}  # what was said before
            cleo.send("x" * 5000)
            hears(bob, "Cleo: xxx")
        hears(ada, "Cleo left")
        assert chat.get("/rooms/lobby").json() == ["Ada", "Bob"]
        # A replica that dies takes nobody along: the page comes back, and what was said is still there.
        os.kill(replica_of(chat, "Chat"), 9)
        wait_until(lambda: answers(chat) == ["Ada", "Bob"], "both come back to the next replica")
        hears(ada, "Ada: h\u00e4llo")
        say(bob, "still here")
        hears(ada, "Bob: still here")
        assert [line for line in ada.complaints + bob.complaints if "WebSocket" not in line] == []


def answers(chat):
    answer = chat.get("/rooms/lobby")
    return answer.json() if answer.status == 200 else None


def replica_of(running, deployment):
    """The process of the deployment's only replica."""
    [replica] = running.status()["applications"]["default"]["deployments"][deployment]["replicas"]
    return replica["pid"]
