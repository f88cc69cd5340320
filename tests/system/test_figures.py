# SPDX-License-Identifier: Apache-2.0
"""Figures that are printed, not judged: what an instance at rest costs.  They show with pytest -s, or -rP."""

import time

from processes import cpu_s, share_bytes

MEASURED_S = 5


def test_what_an_instance_at_rest_costs(manta_run):
    with manta_run("tests/objects/libmirror.so:mirror", "num_replicas=2", options=["--proxies", "1"]) as run:
        for _ in range(100):
            assert run.get("/").status == 200
        processes = run.processes()
        used = {pid: cpu_s(pid) for pid in processes}
        time.sleep(MEASURED_S)  # the measurement itself
        print("\nat rest, one proxy and two replicas:")
        for pid, name in sorted(processes.items()):
            print(f"    {name:18} {share_bytes(pid) / 1e6:6.2f} MB   {1000 * (cpu_s(pid) - used[pid]) / MEASURED_S:5.1f} ms/s")
        whole = sum(map(share_bytes, processes)) / 1e6
        print(f"    {'together':18} {whole:6.2f} MB   {1000 * sum(cpu_s(pid) - used[pid] for pid in processes) / MEASURED_S:5.1f} ms/s")
        assert sorted(processes) == sorted(run.processes())
