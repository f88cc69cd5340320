# SPDX-License-Identifier: Apache-2.0
"""How long deploys take: run by lifecycle.py in a process of its own, prints one line of JSON.

    deploy_times.py REPLICAS

In a private instance of this program: an application of so many FastAPI replicas is run, run again unchanged,
rolled to a new version, and shut down.  Nothing is in flight, so that draining takes no time.
"""

import json
import statistics
import sys
import time

import crew_python
from houses import get
from manta import serve
from manta._private import instance

UNCHANGED_TIMES = 10


def milliseconds(function, *arguments, **keywords):
    begun = time.perf_counter()
    function(*arguments, **keywords)
    return round((time.perf_counter() - begun) * 1e3, 1)


def processes():
    app = instance.must_join().status()["applications"]["crew"]
    return sorted(row["pid"] for deployment in app["deployments"].values() for row in deployment["replicas"])


def run(word, replicas):
    serve.run(crew_python.build({"word": word, "num_replicas": str(replicas)}), name="crew", route_prefix="/")


def main():
    replicas = int(sys.argv[1])
    figures = {"replicas": replicas}
    serve.start(http_options={"port": 0})
    port = instance.must_join().http_port
    figures["first_ms"] = milliseconds(run, "a", replicas)
    before = processes()
    spent = time.process_time()
    times = [milliseconds(run, "a", replicas) for _ in range(UNCHANGED_TIMES)]
    figures["unchanged_cpu_ms"] = round((time.process_time() - spent) * 1e3 / UNCHANGED_TIMES, 1)
    figures["unchanged_ms"] = round(statistics.median(times), 1)
    figures["unchanged_worst_ms"] = max(times)
    figures["restarted"] = len(set(processes()) - set(before))
    figures["rollout_ms"] = milliseconds(run, "b", replicas)
    answer = get(port)
    if answer is None or answer[0] != 200 or not answer[1].startswith("b "):
        raise RuntimeError(f"after the rollout the answer is {answer}")
    if set(processes()) & set(before):
        raise RuntimeError("the rollout has kept a replica of the old version")
    figures["shutdown_ms"] = milliseconds(serve.shutdown)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
