# SPDX-License-Identifier: Apache-2.0
"""The package's logger: one under two names, and where its lines go.  A fresh interpreter per story."""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "python"


def run(code, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(PACKAGE), "PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_rays_name_is_the_same_logger():
    code = """
import logging
from manta import serve
ours, rays = logging.getLogger("manta.serve"), logging.getLogger("ray.serve")
print(ours is rays, logging.getLogger("ray.serve.mine").parent is ours)
"""
    assert run(code).stdout == "True True\n"


def test_children_that_were_made_before_belong_to_it():
    code = """
import logging
child = logging.getLogger("ray.serve.mine")
from manta import serve
print(child.parent is logging.getLogger("manta.serve"))
"""
    assert run(code).stdout == "True\n"


def test_a_logger_that_somebody_else_uses_under_rays_name_is_left_alone():
    code = """
import logging
theirs = logging.getLogger("ray.serve")
from manta import serve
print(logging.getLogger("ray.serve") is theirs, logging.getLogger("manta.serve") is theirs)
"""
    assert run(code).stdout == "True False\n"


LOCAL = """
import logging
{before}
from manta import serve

@serve.deployment
def answer():
    logging.getLogger("ray.serve").info("from the replica")
    logging.getLogger("ray.serve").debug("too much")
    return 42

assert serve.run(answer.bind(), _local_testing_mode=True).remote().result() == 42
"""


def test_a_program_sees_what_its_deployments_log():
    told = run(LOCAL.format(before="")).stderr
    assert "INFO " in told
    assert " -- from the replica\n" in told
    assert "too much" not in told


def test_logging_that_is_set_up_is_not_touched():
    before = "logging.basicConfig(format='MINE %(message)s', level=logging.DEBUG)"
    told = run(LOCAL.format(before=before)).stderr.splitlines()
    assert "MINE from the replica" in told
    assert all(line.startswith("MINE ") for line in told)


def test_the_environment_keeps_it_quiet():
    assert run(LOCAL.format(before=""), MANTA_SERVE_LOG_TO_STDERR="0").stderr == ""


def test_lines_go_where_standard_error_is_now():
    code = """
import io, logging, sys
from manta._private import log
log.get()
log.show("here")
sys.stderr = io.StringIO()
logging.getLogger("manta.serve").warning("late")
print(sys.stderr.getvalue().rstrip().endswith("here -- late"))
"""
    assert run(code).stdout == "True\n"
