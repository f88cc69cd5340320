# SPDX-License-Identifier: Apache-2.0
"""On what a result was measured, and which processors to use for it; how a bench is interrupted."""

import os
import pathlib
import platform
import re
import signal
import subprocess
import sys


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    # wrk prints its version with its usage, nginx on stderr.
    return (done.stdout + done.stderr).strip().split("\n")[0]


def describe():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "processor": model[1] if model else platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
        "commit": first_line(["git", "describe", "--always", "--dirty"]),
        "nginx": first_line(["/usr/sbin/nginx", "-v"]),
        "haproxy": first_line(["/usr/sbin/haproxy", "-v"]),
        "wrk": first_line(["wrk", "-v"]),
    }


def choose_processors():
    """One processor for the system under test and one of another core for wrk, where there is another."""
    usable = sorted(os.sched_getaffinity(0))
    mine = usable[0]
    others = [cpu for cpu in usable[1:] if core_of(cpu) != core_of(mine)] or usable[1:]
    return {mine}, {others[0]} if others else {mine}


def core_of(cpu):
    topology = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        return tuple((topology / name).read_text().strip() for name in ("physical_package_id", "core_id"))
    except OSError:
        return (cpu,)


def end_on_signals():
    """An interrupted bench unwinds, which ends the systems that it started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
