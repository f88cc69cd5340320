# SPDX-License-Identifier: Apache-2.0
"""Writes down what the programs of this folder print with Ray Serve.

    MANTA_RAY_PYTHON=/path/to/python python record_programs.py [NAME...]

The interpreter that the variable names has Ray Serve.  tests/system/test_programs.py compares what the
programs print with Manta with what is written in expected/; where the variable is set it runs Ray, too.
"""

import os
import pathlib
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOOLS = {"client", "record_programs"}
PATIENCE_S = 120


def programs():
    return sorted(file.stem for file in HERE.glob("*.py") if file.stem not in TOOLS)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(command, name, environment):
    """The program's end; the command is an interpreter with its options."""
    return subprocess.run(
        [*command, HERE / f"{name}.py"],
        env={**environment, "PORT": str(free_port()), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def run_with_ray(name):
    unwanted = ("MANTA_", "PYTHONPATH")
    environment = {key: text for key, text in os.environ.items() if not key.startswith(unwanted)}
    environment.update(RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0")
    return run([os.environ["MANTA_RAY_PYTHON"]], name, environment)


def own_lines(text):
    """The program's lines without those of Ray's processes, which are coloured."""
    return [line for line in text.splitlines() if not line.startswith(("\x1b[", "(raylet"))]


def main(names):
    for name in names or programs():
        done = run_with_ray(name)
        if done.returncode != 0:
            print(f"{name}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
            return 1
        told = own_lines(done.stdout)
        (HERE / "expected" / f"{name}.txt").write_text("".join(f"{line}\n" for line in told))
        print(f"{name}: {len(told)} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
