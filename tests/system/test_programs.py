# SPDX-License-Identifier: Apache-2.0
"""Programs such as users write, against ray.serve: they print with Manta what they print with Ray.

What Ray Serve printed is written in tests/conform/programs/expected; where MANTA_RAY_PYTHON names an
interpreter that has it, it is asked again.
"""

import difflib
import os
import sys

import pytest
from conftest import ROOT, wait_until

sys.path.insert(0, str(ROOT / "tests/conform/programs"))
import record_programs as programs  # noqa: E402


def check(told, name):
    expected = (programs.HERE / "expected" / f"{name}.txt").read_text().splitlines()
    difference = "\n".join(difflib.unified_diff(expected, told, "ray serve", "told", lineterm=""))
    assert not difference, f"{name} printed something else\n{difference}"


@pytest.mark.parametrize("name", programs.programs())
def test_a_program_prints_what_it_prints_with_ray_serve(python_world, interpreter, name):
    done = programs.run([interpreter, "-m", "manta.as_ray_serve"], name, python_world.environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-5000:]}"
    check(done.stdout.splitlines(), name)
    wait_until(lambda: not python_world.processes(), "all processes of the program end")


@pytest.mark.skipif("MANTA_RAY_PYTHON" not in os.environ, reason="MANTA_RAY_PYTHON names no interpreter with Ray Serve")
@pytest.mark.parametrize("name", programs.programs())
def test_ray_serve_still_prints_what_is_written(name):
    done = programs.run_with_ray(name)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-5000:]}"
    check(programs.own_lines(done.stdout), name)


def test_there_are_ten_programs_and_each_has_its_words():
    written = {file.stem for file in (programs.HERE / "expected").glob("*.txt")}
    assert set(programs.programs()) == written
    assert len(written) >= 10
