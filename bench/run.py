#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP bench: Manta beside a raw epoll server, nginx and HAProxy, side by side on one machine.

All systems run at once and idle while they are not measured.  A round visits every system for every number
of connections, so that the cells that are compared ran within seconds of each other; the order of the
systems turns from round to round.  Requests a second say little where wrk is the slow part (one wrk
thread needs 8 to 10 us for a request), so CPU a request of the whole system is measured with them.

Neighbours: systems.py starts the systems, load.py measures one cell, process_tree.py counts their
processes, verdict.py makes tables of cells.
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
import time

import load
import machine
import verdict
from systems import SYSTEMS, add_manta_option, answer_size_of

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="LIST", help=f"of {','.join(SYSTEMS)} (default: all that can run)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="measured seconds of a cell (default 3)")
    parser.add_argument("--connections", default="1,16,64,256", metavar="LIST", help="default 1,16,64,256")
    parser.add_argument("--quick", action="store_true", help="one round of 1 s with 1 and 64 connections")
    parser.add_argument("--build", default="build/release", metavar="DIR", help="default build/release")
    parser.add_argument("--compare", metavar="FILE", help="JSON of an earlier run")
    add_manta_option(parser)
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="JSON to write (default bench/results/<time>.json)")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a target is missed")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.connections = 1, 1, "1,64"
    arguments.connections = [int(count) for count in arguments.connections.split(",")]
    arguments.only = [name for name in arguments.only.split(",") if name]
    unknown = [name for name in arguments.only if name not in SYSTEMS]
    if unknown:
        parser.error(f"no system is called {', '.join(unknown)}")
    return arguments


def start_systems(arguments, directory, cpus, stack):
    """Starts what was asked for; without a list, what can run.  Manta first: its answer's size is raw's."""
    names = arguments.only or list(SYSTEMS)
    running = []
    answer_size = None
    for name in sorted(names, key=lambda name: name != "manta"):
        system = SYSTEMS[name](arguments.build, directory, cpus)
        missing = system.missing()
        if missing and arguments.only:
            sys.exit(f"{name} cannot run without {', '.join(missing)}")
        if missing:
            print(f"without {name}: there is no {', '.join(missing)}")
            continue
        system.answer_size = answer_size or system.answer_size
        stack.callback(system.end)
        system.start()
        system.wait_until_it_answers()
        if name == "manta":
            answer_size = answer_size_of(system.port)
        running.append(system)
    if not running:
        sys.exit("there is nothing to measure")
    return sorted(running, key=lambda system: list(SYSTEMS).index(system.name))


def measure_pass(systems, arguments, connections, wrk_cpus, pinned):
    """All rounds of one placement."""
    cells = []
    for turn in range(arguments.rounds):
        order = systems[turn % len(systems):] + systems[:turn % len(systems)]
        for count in connections:
            for system in order:
                cell = load.measure(system, count, arguments.seconds, wrk_cpus)
                cell |= {"round": turn, "pinned": pinned}
                cells.append(cell)
        print(f"round {turn + 1} of {arguments.rounds}{'' if pinned else ', free placement'}", file=sys.stderr)
    return cells


def measure_all(systems, arguments, system_cpus, wrk_cpus):
    for system in systems:
        load.run_wrk(system.url, max(arguments.connections), 1, wrk_cpus)  # warm-up, not counted
    cells = measure_pass(systems, arguments, arguments.connections, wrk_cpus, True)
    if 1 in arguments.connections:
        everywhere = os.sched_getaffinity(0)
        for system in systems:
            system.tree.set_affinity(everywhere)
        cells += measure_pass(systems, arguments, [1], everywhere, False)
    return cells


def report(cells, arguments, described):
    rows = verdict.medians(cells)
    verdicts = verdict.judge(cells)
    parts = [f"{described['processor']}, {described['processors']} processors, Linux {described['kernel']}, commit "
             f"{described['commit']}; {arguments.rounds} rounds of {arguments.seconds} s, medians",
             verdict.cells_table(rows)]
    if verdicts:
        parts.append(verdict.verdicts_table(verdicts))
    if arguments.compare:
        earlier = json.loads(pathlib.Path(arguments.compare).read_text())
        parts.append(f"Against {arguments.compare} (commit {earlier['machine']['commit']}):")
        parts.append(verdict.comparison_table(rows, earlier["medians"]))
    text = "\n\n".join(parts) + "\n"
    out = arguments.out or RESULTS / (time.strftime("%Y%m%d-%H%M%S") + ".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": described, "rounds": arguments.rounds, "seconds": arguments.seconds, "medians": rows,
              "verdicts": verdicts, "cells": cells}
    out.write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(text)
    print(text)
    print(f"written to {os.path.relpath(out)}")
    return all(row["holds"] for row in verdicts)


def main():
    arguments = parse_arguments()
    machine.end_on_signals()
    described = machine.describe()
    system_cpus, wrk_cpus = machine.choose_processors()
    with tempfile.TemporaryDirectory(prefix="manta-bench-") as directory, contextlib.ExitStack() as stack:
        systems = start_systems(arguments, directory, system_cpus, stack)
        cells = measure_all(systems, arguments, system_cpus, wrk_cpus)
    holds = report(cells, arguments, described)
    return 0 if holds or not arguments.strict else 1


if __name__ == "__main__":
    sys.exit(main())
