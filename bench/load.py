# SPDX-License-Identifier: Apache-2.0
"""Load, and what it cost: one run of wrk against one system."""

import json
import os
import pathlib
import resource
import subprocess
import time

import process_tree

SCRIPT = pathlib.Path(__file__).resolve().parent / "report.lua"
PATIENCE_S = 30  # how much longer than asked wrk may take


def run_wrk(url, connections, seconds, cpus):
    """wrk's own figures of one run, as report.lua prints them."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(SCRIPT), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE_S,
                          preexec_fn=lambda: os.sched_setaffinity(0, cpus))
    for line in done.stdout.splitlines():
        if line.startswith("BENCH "):
            return json.loads(line.removeprefix("BENCH "))
    raise RuntimeError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")


def own_children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(system, connections, seconds, cpus):
    """One cell: wrk's figures, CPU of the whole system, and how busy the machine was with other things."""
    before, wrk_before, busy_before = system.tree.cpu_seconds(), own_children_seconds(), process_tree.busy_seconds()
    started = time.monotonic()
    counted = run_wrk(system.url, connections, seconds, cpus)
    elapsed = time.monotonic() - started
    spent = process_tree.spent_between(before, system.tree.cpu_seconds())
    wrk_spent = own_children_seconds() - wrk_before
    busy = process_tree.busy_seconds() - busy_before
    requests = max(counted["requests"], 1)
    return {
        "system": system.name,
        "connections": connections,
        "requests": counted["requests"],
        "rps": counted["requests"] / (counted["duration_us"] / 1e6),
        "p50_us": counted["p50_us"],
        "p90_us": counted["p90_us"],
        "p99_us": counted["p99_us"],
        "max_us": counted["max_us"],
        "cpu_us": spent * 1e6 / requests,
        "wrk_cpu_us": wrk_spent * 1e6 / requests,
        "errors": counted["errors"],
        "foreign_percent": max(0.0, (busy - spent - wrk_spent) / elapsed * 100),
    }
