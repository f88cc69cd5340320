#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Start and rest: time to the first answer, a replica's replacement, memory and CPU while nothing happens.

The same is measured for the raw server and for nginx, so that what the method itself costs (starting a
process from Python, trying the port twice a millisecond) can be read off.  Nothing is pinned.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import machine
import process_tree
import verdict
from systems import POLL_S, SYSTEMS, add_manta_option, ask

MIB = 1 << 20
SETTLE_S = 1.0  # between the first answer and the look at memory

# figure, words, unit, target for Manta with one C replica
TARGETS = [
    ("start_ms", "exec to first 200", "ms", 50),
    ("replica_ms", "C replica, exec to first answer", "ms", 2),
    ("replace_ms", "replica killed to next 200", "ms", 100),
    ("processes", "processes", "", 5),
    ("pss_mib", "memory (PSS)", "MiB", 15),
    ("idle_percent", "idle CPU", "%", 0.1),
]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="LIST", help=f"of {','.join(SYSTEMS)} (default: all that can run)")
    parser.add_argument("--times", type=int, default=10, help="starts of each system (default 10)")
    parser.add_argument("--idle", type=float, default=10, metavar="SECONDS", help="idle time observed (default 10)")
    parser.add_argument("--build", default="build/release", metavar="DIR", help="default build/release")
    add_manta_option(parser)
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="JSON to write")
    return parser.parse_args()


@contextlib.contextmanager
def running(kind, build, cpus):
    """A system that has just given its first 200, and the milliseconds that this took."""
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as directory:
        system = kind(build, directory, cpus)
        started = time.monotonic()
        try:
            system.start()
            system.wait_until_it_answers()
            yield system, (time.monotonic() - started) * 1e3
        finally:
            system.end()


def replica_of(system):
    """The process that runs the user's code: the one whose program or first argument is `replica`."""
    for pid in system.tree.pids():
        words = system.tree.command(pid).split()[:2]
        if any(os.path.basename(word) in ("replica", "manta-replica") for word in words):
            return pid
    return None


def replace_ms(system):
    """Kills the only replica; milliseconds until the next 200.  None when the system has no replica."""
    victim = replica_of(system)
    if victim is None:
        return None
    started = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    while ask(system.port) != 200:
        if time.monotonic() - started > 30:
            raise RuntimeError(f"{system.name}: no 200 for 30 s after its replica was killed")
        time.sleep(POLL_S)
    return (time.monotonic() - started) * 1e3


def replica_ms(build):
    """Medians over many starts of one C replica, by a program that plays node, controller and caller."""
    program = pathlib.Path(build, "bench/micro/replica_start_bench").resolve()
    library = pathlib.Path(build, "examples/libnoop.so").resolve()
    libexec = pathlib.Path(build, "libexec/manta").resolve()
    done = subprocess.run([program, libexec, library, "noop"], capture_output=True, text=True, check=True)
    return statistics.median(float(line) for line in done.stdout.split())


def measure(kind, arguments, cpus):
    starts, replacements = [], []
    for turn in range(arguments.times):
        with running(kind, arguments.build, cpus) as (system, milliseconds):
            starts.append(milliseconds)
            if turn == arguments.times - 1:
                rest = measure_rest(system, arguments.idle)
            replaced = replace_ms(system)
            if replaced is not None:
                replacements.append(replaced)
    figures = {"system": kind.name, "start_ms": statistics.median(starts), "start_worst_ms": max(starts)}
    if replacements:
        figures["replace_ms"] = statistics.median(replacements)
    if kind.name == "manta":
        figures["replica_ms"] = replica_ms(arguments.build)
    return figures | rest


def measure_rest(system, idle_s):
    time.sleep(SETTLE_S)
    sizes = system.tree.pss_bytes()
    before = system.tree.run_seconds()
    time.sleep(idle_s)
    after = system.tree.run_seconds()
    spent = process_tree.spent_between(before, after)
    return {
        "processes": len(sizes),
        "pss_mib": sum(sizes.values()) / MIB,
        "idle_percent": spent / idle_s * 100,
        "memory": [{"command": system.tree.command(pid), "pss_mib": size / MIB} for pid, size in sizes.items()],
    }


def report(figures):
    rows = []
    for key, words, unit, target in TARGETS:
        row = [f"{words}{', ' if unit else ''}{unit}"]
        for system in figures:
            value = system.get(key)
            row.append("-" if value is None else f"{value:.2f}".rstrip("0").rstrip("."))
        mine = next((system for system in figures if system["system"] == "manta"), {})
        known = mine.get(key) is not None
        rows.append([*row, f"<= {target}", ("holds" if mine[key] <= target else "**misses**") if known else ""])
    print(verdict.table(["", *(system["system"] for system in figures), "target", ""], rows))
    for system in figures:
        print(f"\n{system['system']}: slowest start {system['start_worst_ms']:.1f} ms")
        for process in system["memory"]:
            print(f"    {process['pss_mib']:6.1f} MiB  {process['command'][:90]}")


def main():
    arguments = parse_arguments()
    names = [name for name in arguments.only.split(",") if name]
    cpus = os.sched_getaffinity(0)
    machine.end_on_signals()
    figures = []
    for name in names or list(SYSTEMS):
        with tempfile.TemporaryDirectory(prefix="manta-bench-") as directory:
            missing = SYSTEMS[name](arguments.build, directory, cpus).missing()
        if missing:
            if names:
                sys.exit(f"{name} cannot run without {', '.join(missing)}")
            print(f"without {name}: there is no {', '.join(missing)}")
            continue
        figures.append(measure(SYSTEMS[name], arguments, cpus))
    if not figures:
        sys.exit("there is nothing to measure")
    report(figures)
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": machine.describe(), "systems": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
