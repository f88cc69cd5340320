# SPDX-License-Identifier: Apache-2.0
"""An installed Manta, away from its tree: what the pages of the examples say about compiling against it is done to the letter."""

import os
import pathlib
import shlex
import shutil
import subprocess

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "examples"


@pytest.fixture(scope="module")
def installed(manta_build, tmp_path_factory):
    """Where `meson install` has put everything, and the environment to compile and run with it."""
    stage = tmp_path_factory.mktemp("stage")
    command = ["meson", "install", "-C", manta_build, "--no-rebuild", "--quiet", "--destdir", stage]
    subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
    [description] = stage.rglob("manta.pc")
    [program] = [path for path in stage.rglob("manta") if path.is_file()]
    environment = {
        **os.environ,
        "PKG_CONFIG_PATH": str(description.parent),
        "PKG_CONFIG_SYSROOT_DIR": str(stage),
        # A staged library is not where the loader looks for it.
        "LD_LIBRARY_PATH": str(description.parent.parent),
    }
    return program, environment


def commands_of(name):
    """The lines of an example's page that compile something."""
    lines = (EXAMPLES / name / "README.md").read_text().replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(("cc ", "c++ "))]


# Those in Python have pages of their own and nothing to compile.
EXAMPLE_NAMES = sorted(page.parent.name for page in EXAMPLES.glob("*/README.md") if page.parent.name != "python")


@pytest.fixture(scope="module")
def workshop(installed, tmp_path_factory):
    """A function: a copy of an example, compiled as its page says; returns the folder."""

    def compile_example(name):
        folder = tmp_path_factory.mktemp("workshop") / name
        shutil.copytree(EXAMPLES / name, folder)
        for command in commands_of(name):
            done = subprocess.run(["sh", "-c", command], cwd=folder, env=installed[1], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            assert done.stderr == "", f"{command}\n{done.stderr}"
        return folder

    return compile_example


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_every_example_compiles_as_its_page_says(workshop, name):
    if name in ("xgboost", "models", "pictures") and subprocess.run(["pkg-config", "--exists", "xgboost"], check=False).returncode != 0:
        pytest.skip("XGBoost is missing")
    commands = commands_of(name)
    assert commands, f"examples/{name}/README.md does not say how to compile it"
    folder = workshop(name)
    for command in commands:
        words = shlex.split(command)
        assert (folder / words[words.index("-o") + 1]).exists()


def test_what_was_compiled_is_served_by_what_was_installed(installed, workshop, manta_start):
    program, environment = installed
    folder = workshop("math")
    with manta_start(f"{folder}/libmath.so:math", environment={"LD_LIBRARY_PATH": environment["LD_LIBRARY_PATH"]},
                     program=program) as math:
        assert math.get("/?x=4").json() == {"result": 11}
        assert math.end() == 0
        assert math.leftovers() == []


def test_the_pages_name_no_program_that_is_not_there(manta_build):
    """The words that look like a path into the build directory, of all examples' pages."""
    for page in [*EXAMPLES.glob("*/README.md"), EXAMPLES.parent / "README.md"]:
        words = page.read_text().replace("`", " ").split()
        for word in words:
            if word.startswith("build/release/"):
                path = manta_build / word.removeprefix("build/release/").split(":")[0]
                assert path.exists(), f"{page} names {word}"
