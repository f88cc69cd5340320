# SPDX-License-Identifier: Apache-2.0
"""./dev bench python: Python deployments beside uvicorn and Ray Serve, on one machine, with the same source.

Manta, a raw epoll server and uvicorn run at once and are visited in turn; each idles while it is not measured,
on one processor, with wrk on another.  Ray Serve, which does not idle, has a phase of its own for each of its modes
(its defaults; HAProxy with the throughput preset), in which Manta is measured beside it, both on all processors.
Then what happens inside the graph, deploys, starts, and memory.  The aims stand in python_verdict.py.

Neighbours: python_systems.py starts the systems, python_cells.py measures, python_verdict.py judges.
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "websocket")]

import machine  # noqa: E402  (bench/ is on the path only now)
import python_cells  # noqa: E402
import python_systems  # noqa: E402
import python_verdict  # noqa: E402
import websocket_bench  # noqa: E402

PHASES = ("http", "websocket", "graph", "start", "ray", "ray-fast")
RAY = {"ray": python_systems.RayDefault, "ray-fast": python_systems.RayFast}
# Number of connections -> the applications that are measured with so many.
HTTP = {
    1: ("raw", "c", "async", "asgi", "fast", "stream"),
    16: ("stream",),
    64: ("raw", "c", "async", "def", "asgi", "fast"),
    256: ("async", "asgi"),
}
BESIDE_RAY = {1: ("async", "fast"), 16: ("stream",), 64: ("async", "fast")}
QUICK = {1: ("async",), 16: ("stream",), 64: ("c", "async", "asgi", "fast")}
QUICK_BESIDE_RAY = {16: ("async",)}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="LIST", help=f"phases of {','.join(PHASES)} (default: all that can run)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of HTTP (default 3)")
    parser.add_argument("--seconds", type=int, default=2, help="measured seconds of an HTTP cell (default 2)")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs; its figures mean little")
    parser.add_argument("--build", default="build/release", metavar="DIR", help="default build/release")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="JSON to write (default bench/results/python-<time>.json)")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when an aim is missed")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    arguments.only = [name for name in arguments.only.split(",") if name] or list(PHASES)
    unknown = [name for name in arguments.only if name not in PHASES]
    if unknown:
        parser.error(f"no phase is called {', '.join(unknown)}")
    return arguments


def narrate(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def running(kinds, arguments, cpus):
    """The systems of these kinds that can run, started and answering."""
    with tempfile.TemporaryDirectory(prefix="mb-") as directory, contextlib.ExitStack() as stack:
        found = []
        for kind in kinds:
            system = kind(arguments.build, directory, cpus)
            missing = system.missing()
            if missing:
                narrate(f"without {kind.name}: there is no {', '.join(missing)}")
                continue
            stack.callback(system.end)
            begun = time.monotonic()
            system.start()
            system.start_s = time.monotonic() - begun
            narrate(f"{kind.name} answers after {system.start_s:.1f} s")
            found.append(system)
        yield found


def start_row(system):
    """From nothing to the first 200 of all its applications, and the processes and memory that they take then."""
    sizes = system.tree.pss_bytes()
    return {"system": system.name, "app": "all", "what": "start of all applications", "s": system.start_s,
            "processes": len(sizes), "pss_mib": sum(sizes.values()) / 2**20}


def targets_of(systems, connections):
    wanted = {app for apps in connections.values() for app in apps}
    return [target for system in systems for app, target in system.targets().items() if app in wanted]


def phase_http(arguments):
    mine, wrk_cpus = machine.choose_processors()
    kinds = (python_systems.RawServer, python_systems.MantaC, python_systems.MantaPython, python_systems.Uvicorn)
    connections = QUICK if arguments.quick else HTTP
    with running(kinds, arguments, mine) as systems:
        targets = targets_of(systems, connections)
        python_cells.warm_up(targets, wrk_cpus)
        rows = python_cells.interleave(targets, connections, arguments.rounds, arguments.seconds, wrk_cpus, narrate)
        rows += [python_cells.first_byte_us(target) for target in targets if target.app == "stream"]
    return rows


def phase_websocket(arguments):
    """An echo beside uvicorn, by ./dev bench websocket's means."""
    options = argparse.Namespace(connections=64, seconds=arguments.seconds, rounds=arguments.rounds, size=64)
    with tempfile.TemporaryDirectory(prefix="mb-") as directory:
        rounds = websocket_bench.run(options, pathlib.Path(directory))
    return [{"system": name, "app": "websocket", "what": "websocket echo, c=64", "round": turn, "per_s": found["per_second"],
             **{figure: found[figure] for figure in ("cpu_us", "p50_us", "p99_us")}, "errors": {"echo": found["errors"]}}
            for turn, pair in enumerate(rounds) for name, found in pair.items()]


def phase_graph(arguments):
    mine, _ = machine.choose_processors()
    with running((python_systems.MantaPython,), arguments, mine) as systems:
        rows = []
        for system in systems:
            rows += python_cells.graph_cells(system, arguments.quick, narrate)
            system.tree.set_affinity(os.sched_getaffinity(0))
            found = system.graph("serial", count=300 if arguments.quick else 3000)
            rows.append({"system": system.name, "app": "graph", "what": "call across cores"} | found)
            rows += python_cells.deploy_cells(system)
    return rows + [python_cells.local_call(arguments.build)]


def phase_start(arguments):
    return python_cells.start_cells(arguments.build, 2 if arguments.quick else 5, os.sched_getaffinity(0), narrate)


def phase_ray(arguments, kind):
    """One mode of Ray Serve, with Manta beside it; both may use all processors, and wrk too."""
    cpus = os.sched_getaffinity(0)
    connections = QUICK_BESIDE_RAY if arguments.quick else BESIDE_RAY
    with running((kind, python_systems.MantaPython), arguments, cpus) as systems:
        if len(systems) < 2:
            return []
        started = [start_row(system) for system in systems]
        targets = targets_of(systems, connections)
        python_cells.warm_up(targets, cpus)
        rows = python_cells.interleave(targets, connections, max(arguments.rounds // 2, 1), arguments.seconds, cpus, narrate)
        rows = [row | {"phase": kind.name} for row in rows] + started
        rows += [python_cells.first_byte_us(target, 10) | {"system": target.name} for target in targets
                 if target.app == "stream" and target.system is systems[0]]
        rows += python_cells.graph_cells(systems[0], arguments.quick, narrate)
        # In its fastest mode every replaced replica is drained for half a minute: that would be most of the bench.
        if kind is python_systems.RayDefault and not arguments.quick:
            rows += python_cells.deploy_cells(systems[0])
    return rows


def measure(arguments):
    rows = []
    for phase in arguments.only:
        begun = time.monotonic()
        if phase in RAY:
            rows += phase_ray(arguments, RAY[phase])
        else:
            rows += {"http": phase_http, "websocket": phase_websocket, "graph": phase_graph, "start": phase_start}[phase](arguments)
        narrate(f"{phase}: {time.monotonic() - begun:.0f} s")
    return rows


def report(rows, arguments, described):
    verdicts = python_verdict.judge(rows)
    text = "\n\n".join([
        f"{described['processor']}, {described['processors']} processors, Linux {described['kernel']}, commit {described['commit']}, "
        f"load {described['load']:.1f} at the start; {arguments.rounds} rounds of {arguments.seconds} s, medians",
        python_verdict.verdicts_table(verdicts),
        python_verdict.http_table(rows),
        python_verdict.others_table(rows),
    ]) + "\n"
    out = arguments.out or HERE.parent / "results" / (time.strftime("python-%Y%m%d-%H%M%S") + ".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": described, "rounds": arguments.rounds, "seconds": arguments.seconds, "verdicts": verdicts, "rows": rows}
    out.write_text(json.dumps(result, indent=1) + "\n")
    out.with_suffix(".md").write_text(text)
    print(text)
    print(f"written to {os.path.relpath(out)}")
    return all(row["holds"] for row in verdicts)


def main():
    arguments = parse_arguments()
    machine.end_on_signals()
    described = machine.describe()
    holds = report(measure(arguments), arguments, described)
    return 0 if holds or not arguments.strict else 1


if __name__ == "__main__":
    sys.exit(main())
