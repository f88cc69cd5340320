#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""./dev bench lifecycle: what applications' users notice of rollouts, kills and hangs.

An open-loop load of 500 requests a second (of 5,000 for C too, of 100 for Ray Serve) meets each scenario (scenarios.py), and every
request is accounted for: answered, lost and how, how late, and the longest time without any answer.  Then
how long deploys take (deploy_times.py), and what many deployments cost the controller (crowd_bench.c).
Beside Ray Serve, with --ray, for the scenarios that make sense there.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import machine  # noqa: E402
import process_tree  # noqa: E402
import verdict  # noqa: E402
from account import Load, account  # noqa: E402
from houses import MantaC, MantaPython, Ray, wait_until  # noqa: E402
from scenarios import SCENARIOS, judge  # noqa: E402

RESULTS = HERE.parent / "results"
BEFORE_S, AFTER_S = 0.5, 1.2
WORK_US = {500: 2000, 5000: 0}
RAY_RATE = 100  # on two processors Ray Serve does not keep up with 500


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="only scenarios whose name contains this")
    parser.add_argument("--systems", metavar="LIST", help="of c,python,ray (default: c,python, and ray when --ray is given)")
    parser.add_argument("--rates", default="500,5000", metavar="LIST", help="for C; Python has 500 (default 500,5000)")
    parser.add_argument("--ray", type=pathlib.Path, metavar="PYTHON", help="an interpreter that has Ray Serve")
    parser.add_argument("--quick", action="store_true", help="C at 500 a second only")
    parser.add_argument("--build", default="build/release", metavar="DIR", help="default build/release")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="JSON to write (default bench/results/<time>-lifecycle.json)")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when something does not hold")
    arguments = parser.parse_args()
    arguments.rates = [int(rate) for rate in arguments.rates.split(",")]
    arguments.systems = (arguments.systems or ("c,python,ray" if arguments.ray else "c,python")).split(",")
    if arguments.quick:
        arguments.rates, arguments.systems = [500], ["c"]
    if "ray" in arguments.systems and not arguments.ray:
        parser.error("ray needs --ray PYTHON, or ./dev bench lifecycle --with-ray")
    unknown = set(arguments.systems) - {"c", "python", "ray"}
    if unknown:
        parser.error(f"no system is called {', '.join(sorted(unknown))}")
    return arguments


def foreign_meter(house):
    """A function that says how much of the processors others have used since now, in per cent."""

    def read():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.monotonic(), process_tree.busy_seconds(), house.tree.cpu_seconds(), children.ru_utime + children.ru_stime

    began, busy, own, children = read()

    def tell():
        ended, busy_then, own_then, children_then = read()
        others = busy_then - busy - process_tree.spent_between(own, own_then) - (children_then - children)
        return round(max(0, others) / (ended - began) / os.cpu_count() * 100)

    return tell


def run_one(house, scenario, rate, program):
    base = {"word": "old", "num_replicas": scenario.replicas, "work_us": WORK_US.get(rate, 2000), "max_ongoing_requests": 32}
    house.deploy(**base)
    house.await_replicas(scenario.replicas)
    wait_until(lambda: house.word() == "old", "the old version serves")
    busy = foreign_meter(house)
    with Load(program, house.port, rate, house.directory / "requests.txt") as load:
        time.sleep(BEFORE_S)
        moment = scenario.act(house, base)
        time.sleep(AFTER_S)
        requests = load.end()
    # A dead node's account holds what all its children have used.
    foreign = None if "node" in scenario.name else busy()
    figures = account(requests, moment) | {"foreign_percent": foreign}
    wrong = judge(scenario, figures)
    return {"system": house.name, "scenario": scenario.name, "rate": rate, "wrong": wrong} | figures


def run_house(kind, rates, arguments, program):
    cells = []
    with kind(arguments.build) as house:
        for scenario in SCENARIOS:
            if arguments.only not in scenario.name or (kind is Ray and not scenario.ray):
                continue
            for rate in rates:
                cell = run_one(house, scenario, rate, program)
                cells.append(cell)
                print(f"{cell['system']:13} {cell['scenario']:21} {rate:5}/s  sent {cell['sent']:6}  lost {cell['lost']:4} "
                      f"{cell['outcomes'] or ''}  gap {cell['gap_ms']:.0f} ms  worst {cell['worst_ms']:.0f} ms  "
                      f"took {cell['took_ms']} ms  {'; '.join(cell['wrong']) or 'holds'}", file=sys.stderr)
    return cells


# figure, words, target in ms
TARGETS = [
    ("python_unchanged_ms", "unchanged serve.run of 8 FastAPI replicas", 20),
    ("python_rollout_ms", "rollout of 8 FastAPI replicas, nothing in flight", 1000),
    ("python_shutdown_ms", "serve.shutdown of 8 FastAPI replicas, nothing in flight", 300),
    ("c_unchanged_ms", "unchanged `manta run --non-blocking` of 8 C replicas, the whole command", 20),
    ("c_rollout_ms", "rollout of 8 C replicas, the whole command", 1000),
    ("c_shutdown_ms", "`manta shutdown` of 8 C replicas, the whole command", 300),
    ("crowd_decided_ms", "1,000 deployments, 4,000 replicas: from a redeploy's frame to the first order for it", 5),
    ("crowd_recovery_ms", "the same: from a new controller's start to its first snapshot", 2000),
    ("crowd_rest_percent", "the same: the controller at rest, per cent of a core", 5),
]
REPLICAS = 8


def timed_ms(function, *arguments, **keywords):
    begun = time.perf_counter()
    function(*arguments, **keywords)
    return round((time.perf_counter() - begun) * 1e3, 1)


def times_of_c(arguments):
    figures = {}
    with MantaC(arguments.build) as house:
        house.deploy(word="a", num_replicas=REPLICAS)
        before = house.pids("replica")
        times = [timed_ms(house.deploy, word="a", num_replicas=REPLICAS) for _ in range(9)]
        figures["c_unchanged_ms"] = statistics.median(times)
        figures["c_restarted"] = len(set(house.pids("replica")) - set(before))
        figures["c_rollout_ms"] = timed_ms(house.deploy, word="b", num_replicas=REPLICAS)
        figures["c_shutdown_ms"] = timed_ms(house.command, "shutdown", "--yes")
    return figures


def times_of_crowd(arguments):
    build = pathlib.Path(arguments.build).resolve()
    with tempfile.TemporaryDirectory(prefix="manta-life-", dir="/tmp") as directory:
        done = subprocess.run([build / "bench/lifecycle/crowd_bench", build / "libexec/manta/manta-controller", directory],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"crowd_bench ended with {done.returncode}\n{done.stderr[-2000:]}")
    return {f"crowd_{key}": value for key, value in json.loads(done.stdout).items()}


def times_of_python(arguments):
    build = pathlib.Path(arguments.build).resolve()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MANTA_")}
    environment |= {"PYTHONPATH": f"{build}/python:{HERE}:{HERE.parent}", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory(prefix="manta-life-", dir="/tmp") as directory:
        environment["XDG_RUNTIME_DIR"] = environment["XDG_STATE_HOME"] = directory
        done = subprocess.run([sys.executable, HERE / "deploy_times.py", str(REPLICAS)], env=environment, capture_output=True,
                              text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"deploy_times.py ended with {done.returncode}\n{done.stderr[-2000:]}")
    return {f"python_{key}": value for key, value in json.loads(done.stdout.splitlines()[-1]).items()}


def figures_table(figures):
    rows = [[words, f"{figures[key]:g}", f"<= {target}", "holds" if figures[key] <= target else "**misses**"]
            for key, words, target in TARGETS if key in figures]
    for key in ("c_restarted", "python_restarted"):
        if key in figures:
            rows.append([f"replicas that the unchanged run restarted ({key.split('_')[0]})", str(figures[key]), "<= 0",
                         "holds" if figures[key] == 0 else "**misses**"])
    return verdict.table(["", "measured", "target", ""], rows)


def table(cells):
    head = ["system", "scenario", "requests/s", "sent", "lost", "of them outside", "longest gap, ms", "p99, ms", "worst, ms", "it took, ms", "other CPU", ""]
    rows = [
        [cell["system"], cell["scenario"], f"{cell['rate']:,}", f"{cell['sent']:,}", f"{cell['lost']:,}", str(cell["lost_outside"]),
         f"{cell['gap_ms']:.0f}", f"{cell['p99_ms']:.1f}", f"{cell['worst_ms']:.0f}", str(cell["took_ms"]),
         "-" if cell["foreign_percent"] is None else f"{cell['foreign_percent']} %",
         f"**{'; '.join(cell['wrong'])}**" if cell["wrong"] else "holds"]
        for cell in cells
    ]
    return verdict.table(head, rows)


def main():
    arguments = parse_arguments()
    machine.end_on_signals()
    program = pathlib.Path(arguments.build, "bench/lifecycle/open_loop").resolve()
    kinds = {"c": (MantaC, arguments.rates), "python": (MantaPython, [500]), "ray": (Ray, [RAY_RATE])}
    Ray.python = arguments.ray
    cells = []
    for name in arguments.systems:
        cells += run_house(*kinds[name], arguments, program)
    figures = {}
    if not arguments.only:
        figures |= times_of_c(arguments) if "c" in arguments.systems else {}
        figures |= times_of_python(arguments) if "python" in arguments.systems else {}
        figures |= times_of_crowd(arguments) if "c" in arguments.systems and not arguments.quick else {}
    described = machine.describe()
    text = "\n\n".join([f"{described['processor']}, {described['processors']} processors, Linux {described['kernel']}, commit {described['commit']}",
                        table(cells), figures_table(figures)]) + "\n"
    out = arguments.out or RESULTS / (time.strftime("%Y%m%d-%H%M%S") + "-lifecycle.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": described, "cells": cells, "times": figures}, indent=1) + "\n")
    out.with_suffix(".md").write_text(text)
    print(text)
    print(f"written to {out} and {out.with_suffix('.md').name} beside it")
    missed = any(figures.get(key, 0) > target for key, _, target in TARGETS)
    return 1 if arguments.strict and (missed or any(cell["wrong"] for cell in cells)) else 0


if __name__ == "__main__":
    sys.exit(main())
