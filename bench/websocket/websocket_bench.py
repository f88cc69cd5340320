#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""./dev bench websocket: a websocket echo through Manta beside uvicorn with the same Starlette application.

Each connection sends a text and waits for its echo (bench/websocket/websocket_load.c).  Rounds are interleaved, a
ratio is made within each round, and the median of the ratios is the verdict; CPU per message is that of all
processes of the system, from /proc.  Neither side compresses: the client offers nothing.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "bench/python")]

import python_systems  # noqa: E402
import systems  # noqa: E402

TARGET_RATIO = 2.0


class MantaEcho(python_systems.Served):
    name, environment, serve = "Manta", "manta", "manta.serve"

    def start(self):
        self.process = self.spawn_python(self.python, HERE / "serve_echo.py", self.port, cwd=HERE)
        self.read_line(python_systems.START_LIMIT_S)


class UvicornEcho(python_systems.PythonSystem):
    name, environment = "uvicorn", "uvicorn"

    def start(self):
        words = ["--port", self.port, "--log-level", "error", "--no-access-log", "websocket_apps:app"]
        self.spawn_python(self.python, "-m", "uvicorn", *words, cwd=HERE)
        wait_for_answer(self)


def wait_for_answer(system, limit_s=python_systems.START_LIMIT_S):
    """Starlette answers 404 to what is no websocket."""
    limit = time.monotonic() + limit_s
    while time.monotonic() < limit:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{system.port}/", timeout=10).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.01)
    raise system.failure(f"it did not answer within {limit_s} s")


def measure(system, options):
    before = sum(system.tree.cpu_seconds().values())
    done = subprocess.run(
        [
            ROOT / "build/release/bench/websocket/websocket_load",
            str(system.port),
            "/",
            str(options.connections),
            str(options.seconds),
            str(options.size),
        ],
        capture_output=True,
        text=True,
        timeout=options.seconds + 60,
    )
    if done.returncode:
        raise system.failure(done.stderr)
    found = json.loads(done.stdout)
    # The load's half second of warming up costs the system too.
    share = found["seconds"] / (found["seconds"] + 0.5)
    found["per_second"] = found["messages"] / found["seconds"]
    spent = sum(system.tree.cpu_seconds().values()) - before
    found["cpu_us"] = spent * share / max(found["messages"], 1) * 1e6
    return found


def run(options, directory):
    cpus = os.sched_getaffinity(0)
    peers = []
    for kind in (MantaEcho, UvicornEcho):
        (directory / kind.name).mkdir()
        peers.append(kind(ROOT / "build/release", directory / kind.name, cpus))
    rounds = []
    try:
        for peer in peers:
            peer.start()
        for number in range(options.rounds):
            order = peers if number % 2 == 0 else peers[::-1]
            rounds.append({peer.name: measure(peer, options) for peer in order})
    finally:
        for peer in peers:
            peer.end()
    return rounds


def tell(rounds, options):
    def median(name, what):
        return statistics.median(found[name][what] for found in rounds)

    print(f"echo of {options.size} bytes, {options.connections} websockets, {options.rounds} rounds of {options.seconds} s")
    for name in ("Manta", "uvicorn"):
        errors = sum(found[name]["errors"] for found in rounds)
        print(
            f"  {name:8} {median(name, 'per_second'):9.0f} messages/s  {median(name, 'cpu_us'):6.1f} us of CPU each  "
            f"p50 {median(name, 'p50_us'):6.0f} us  p99 {median(name, 'p99_us'):6.0f} us  {errors} errors"
        )
    speed = statistics.median(found["Manta"]["per_second"] / found["uvicorn"]["per_second"] for found in rounds)
    cpu = statistics.median(found["Manta"]["cpu_us"] / found["uvicorn"]["cpu_us"] for found in rounds)
    verdict = "reached" if speed >= TARGET_RATIO else "missed"
    print(f"  ratio    {speed:9.2f} in messages/s ({verdict}: at least {TARGET_RATIO}), {cpu:.2f} in CPU per message")


def main():
    parser = argparse.ArgumentParser(prog="./dev bench websocket", description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=64, help="bytes of a message (default 64)")
    parser.add_argument("--quick", action="store_true", help="one short round; its figures mean little")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.rounds = 1, 1
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as directory:
        tell(run(options, pathlib.Path(directory)), options)


if __name__ == "__main__":
    main()
