# SPDX-License-Identifier: Apache-2.0
"""The package's types: the stub of the extension is true, and a program that uses the package can be checked."""

import ast
import re
import subprocess

import pytest
from conftest import PATIENCE_S, ROOT

MYPY_PATIENCE_S = 4 * PATIENCE_S
STUB = ROOT / "python/manta/_native.pyi"
# A row of a table of methods that takes nothing or one object; others say in the code what they take.
METHOD = re.compile(r'\{"(\w+)", [^{}]*?(METH_NOARGS|METH_O)\b')
PROGRAM = ROOT / "tests/system/typed_program.py"
# What is wrong with each: words of mypy's.
WRONG = {
    "serve.run(3)": "arg-type",
    "app.nothing": "attr-defined",
    "scaled.options(nothing=1)": "call-arg",
    "serve.start(http_options=1)": "arg-type",
    "serve.run(app).remote(1).nothing()": "union-attr",
    "serve.delete(1)": "arg-type",
}


@pytest.fixture(scope="module")
def mypy(manta_build, interpreter, tmp_path_factory):
    """mypy(module, *words): runs it with the package of this build; (exit status, what it said)."""
    cache = tmp_path_factory.mktemp("mypy")
    if subprocess.run([interpreter, "-c", "import mypy"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this interpreter has no mypy (tests/python/requirements.txt)")

    def run(module, *words):
        done = subprocess.run(
            [interpreter, "-m", module, *words],
            cwd=cache,
            env={"PATH": "/usr/bin:/bin", "MYPYPATH": f"{manta_build}/python", "PYTHONPATH": f"{manta_build}/python"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MYPY_PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_stub_of_the_extension_says_what_is_there(mypy):
    status, said = mypy("mypy.stubtest", "manta._native")
    assert status == 0, f"python/manta/_native.pyi and python/_native differ:\n{said}"


def parameters_in_stub():
    """{name: the numbers of parameters of the functions with that name, without self and cls}."""
    found = {}
    for node in ast.walk(ast.parse(STUB.read_text())):
        if isinstance(node, ast.FunctionDef):
            given = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            found.setdefault(node.name, set()).add(len(given) - (given[:1] in (["self"], ["cls"])))
    return found


def test_the_stub_gives_methods_the_parameters_that_they_take():
    stub, seen = parameters_in_stub(), 0
    for source in (ROOT / "python/_native").glob("*.c"):
        for name, kind in METHOD.findall(source.read_text()):
            if name in stub:
                seen += 1
                assert {"METH_NOARGS": 0, "METH_O": 1}[kind] in stub[name], f"{source.name}: {name} is {kind}"
    assert seen > 30


def test_a_program_with_types_is_checked(mypy, tmp_path):
    checked = ["--strict", "--follow-imports=silent"]
    status, said = mypy("mypy", *checked, str(PROGRAM))
    assert status == 0, said
    wrong = tmp_path / "wrong_program.py"
    text = PROGRAM.read_text().partition("def main")[0]
    first = text.count("\n") + 1
    wrong.write_text(text + "\n".join(WRONG) + "\n")
    status, said = mypy("mypy", *checked, str(wrong))
    assert status == 1, said
    for number, (code, words) in enumerate(WRONG.items()):
        lines = [line for line in said.splitlines() if f"wrong_program.py:{first + number}: error:" in line]
        assert any(words in line for line in lines), f"{code}: {said}"


def test_the_checked_program_runs(python_world, interpreter):
    done = subprocess.run(
        [interpreter, PROGRAM], env=python_world.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
