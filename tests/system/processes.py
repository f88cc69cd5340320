# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of a process: memory, processor time, descriptors (proc(5))."""

import os
import pathlib


def memory_bytes(pid, kind="VmRSS"):
    """Resident bytes now (VmRSS), or their highest mark (VmHWM)."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no {kind}")


def share_bytes(pid):
    """Its proportional share of resident memory (PSS)."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} has no Pss")


def cpu_s(pid):
    """Processor time that it has used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state(pid):
    """R, S, T ...; "" when it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def descriptor_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
