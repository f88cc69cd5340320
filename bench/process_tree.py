# SPDX-License-Identifier: Apache-2.0
"""The processes of one system under test: who they are, what they cost, how they end.

A system is found twice over: by walking from the processes that were started to their children, and by a mark in the
environment that every descendant inherits, so that one that moved to a session of its own or was adopted
by another process still counts.  Everything is read from /proc.
"""

import os
import pathlib
import signal
import time

MARK = "MANTA_BENCH_SYSTEM"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def read_bytes(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        # The process ended between listing and reading.
        return b""


def all_processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def stat_fields(pid):
    """Fields of /proc/<pid>/stat from the third on (state, ppid, ...); the name may contain anything."""
    text = read_bytes(f"/proc/{pid}/stat")
    return text[text.rfind(b")") + 2:].split()


class ProcessTree:
    def __init__(self, mark):
        self.roots = []  # processes that the bench started itself
        self.mark = f"{MARK}={mark}".encode()

    def pids(self):
        """All living processes of the system."""
        parents = {}
        found = set()
        for pid in all_processes():
            fields = stat_fields(pid)
            if not fields or fields[0] in (b"Z", b"X"):
                continue
            parents[pid] = int(fields[1])
            if self.mark in read_bytes(f"/proc/{pid}/environ").split(b"\0"):
                found.add(pid)
        found.update(root for root in self.roots if root in parents)
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in found} - found
            found |= children
            grown = bool(children)
        return sorted(found)

    def cpu_seconds(self):
        """User and system time by process, in ticks' precision; includes threads that have ended."""
        spent = {}
        for pid in self.pids():
            fields = stat_fields(pid)
            if fields:
                spent[pid] = (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
        return spent

    def run_seconds(self):
        """Time on a processor by process, in nanoseconds' precision; living threads only."""
        spent = {}
        for pid in self.pids():
            tasks = pathlib.Path(f"/proc/{pid}/task")
            try:
                names = os.listdir(tasks)
            except OSError:
                continue
            times = [read_bytes(tasks / name / "schedstat").split() for name in names]
            spent[pid] = sum(int(fields[0]) for fields in times if fields) / 1e9
        return spent

    def pss_bytes(self):
        """Proportional memory by process."""
        sizes = {}
        for pid in self.pids():
            for line in read_bytes(f"/proc/{pid}/smaps_rollup").splitlines():
                if line.startswith(b"Pss:"):
                    sizes[pid] = int(line.split()[1]) * 1024
        return sizes

    def command(self, pid):
        return read_bytes(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()

    def set_affinity(self, cpus):
        for pid in self.pids():
            for task in os.listdir(f"/proc/{pid}/task"):
                try:
                    os.sched_setaffinity(int(task), cpus)
                except ProcessLookupError:
                    pass

    def end(self, patience_s=5.0):
        """Asks the roots to end; whatever is left after a while is killed."""
        for root in self.roots:
            send_signal(root, signal.SIGTERM)
        limit = time.monotonic() + patience_s
        while self.pids() and time.monotonic() < limit:
            self.reap()
            time.sleep(0.02)
        for pid in self.pids():
            send_signal(pid, signal.SIGKILL)
        self.reap()

    def reap(self):
        for root in self.roots:
            try:
                os.waitpid(root, os.WNOHANG)
            except ChildProcessError:
                pass  # somebody reaped it before


def spent_between(before, after):
    """Seconds spent by all processes of a system between two readings by process."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def send_signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def busy_seconds():
    """Time that all processors of the machine have been busy with anything."""
    fields = [int(field) for field in read_bytes("/proc/stat").splitlines()[0].split()[1:]]
    idle = fields[3] + fields[4]
    # Guest time is contained in user time; steal is not ours.
    return (sum(fields[:7]) - idle) / TICKS_PER_SECOND
