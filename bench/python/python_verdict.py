# SPDX-License-Identifier: Apache-2.0
"""What the rows of ./dev bench python add up to: the aims, what was measured, and whether they are reached.

A ratio is taken inside a round, between cells that ran within seconds of each other; medians of the rounds
are reported.
"""

import statistics

import verdict

MANTA = "Manta"


class Rows:
    def __init__(self, rows):
        self.rows = rows

    def find(self, system, app, what, connections=None):
        return [row for row in self.rows if (row["system"], row["app"], row["what"]) == (system, app, what)
                and row.get("connections") == connections]

    def median(self, system, app, what, figure, connections=None):
        """Of what was not measured beside Ray Serve, which needs a processor for itself."""
        values = [row[figure] for row in self.find(system, app, what, connections) if row.get(figure) is not None and "phase" not in row]
        return statistics.median(values) if values else None

    def combined(self, mine, theirs, figure, connections, combine, what="http"):
        """The median over the rounds of a combination of two cells, each (system, application)."""
        sides = [{(row.get("phase"), row["round"]): row[figure] for row in self.find(*side, what, connections)} for side in (mine, theirs)]
        values = [combine(sides[0][key], sides[1][key]) for key in sides[0] if sides[1].get(key)]
        return statistics.median(values) if values else None


def http(app, figure, connections):
    return lambda rows: rows.median(MANTA, app, "http", figure, connections)


def times(app, other, figure, connections):
    """How many times the figure of another cell, (system, application), Manta's is."""
    return lambda rows: rows.combined((MANTA, app), other, figure, connections, lambda mine, theirs: mine / theirs)


def added(other, connections):
    return lambda rows: rows.combined(("Manta C", "c"), other, "p50_us", connections, lambda mine, theirs: mine - theirs)


def echo(figure):
    names = [(system, "websocket") for system in (MANTA, "uvicorn")]
    return lambda rows: rows.combined(*names, figure, None, lambda mine, theirs: mine / theirs, "websocket echo, c=64")


def graph(what, figure):
    return lambda rows: rows.median(MANTA, "graph", what, figure)


def batching_us(rows):
    batched, plain = (rows.median(MANTA, "graph", what, "cpu_us") for what in ("batched calls", "calls, 64 on their way"))
    return batched - plain if batched is not None and plain is not None else None


def start(app, figure="s"):
    return lambda rows: rows.median(MANTA, app, "start", figure)


def above_import(app):
    def take(rows):
        pairs = [row["s"] - row["import_s"] for row in rows.find(MANTA, app, "start") if "import_s" in row]
        return statistics.median(pairs) if pairs else None

    return take


def deploy(what, figure="s"):
    return lambda rows: rows.median(MANTA, "deploy", what, figure)


UVICORN_ASGI, UVICORN_FAST = ("uvicorn", "asgi"), ("uvicorn", "fast")

# (words, unit, how it is taken, relation, aim)
AIMS = [
    ("C handler, c=64: CPU a request", "us", lambda rows: rows.median("Manta C", "c", "http", "cpu_us", 64), "<=", 12),
    ("`async def`, c=64: CPU a request", "us", http("async", "cpu_us", 64), "<=", 13),
    ("ASGI application, c=64: CPU a request", "us", http("asgi", "cpu_us", 64), "<=", 16),
    ("FastAPI route, c=64: CPU a request", "us", http("fast", "cpu_us", 64), "<=", 90),
    ("C handler, c=1: p50 added to a raw server", "us", added(("raw", "raw"), 1), "<=", 14),
    ("`async def` of the C handler, c=64: requests/s", "times", times("async", ("Manta C", "c"), "rps", 64), ">=", 0.85),
    ("`async def` of uvicorn's bare ASGI, c=1: requests/s", "times", times("async", UVICORN_ASGI, "rps", 1), ">=", 1.3),
    ("`async def` of uvicorn's bare ASGI, c=64: requests/s", "times", times("async", UVICORN_ASGI, "rps", 64), ">=", 3.5),
    ("the same ASGI application, of uvicorn, c=1: requests/s", "times", times("asgi", UVICORN_ASGI, "rps", 1), ">=", 1.2),
    ("the same ASGI application, of uvicorn, c=64: requests/s", "times", times("asgi", UVICORN_ASGI, "rps", 64), ">=", 3.0),
    ("the same ASGI application, of uvicorn, c=256: requests/s", "times", times("asgi", UVICORN_ASGI, "rps", 256), ">=", 4.0),
    ("the same FastAPI application, of uvicorn, c=1: requests/s", "times", times("fast", UVICORN_FAST, "rps", 1), ">=", 1.1),
    ("the same FastAPI application, of uvicorn, c=64: requests/s", "times", times("fast", UVICORN_FAST, "rps", 64), ">=", 1.4),
    ("`async def` of Ray Serve's, c=64: requests/s", "times", times("async", ("Ray Serve", "async"), "rps", 64), ">=", 20),
    ("`async def` of Ray Serve's fastest mode, c=64: requests/s", "times", times("async", ("Ray Serve, fast", "async"), "rps", 64), ">=", 10),
    ("FastAPI of Ray Serve's fastest mode, c=64: requests/s", "times", times("fast", ("Ray Serve, fast", "fast"), "rps", 64), ">=", 2),
    ("streamed chunks, c=1", "1/s", http("stream", "chunks_per_s", 1), ">=", 600_000),
    ("streamed chunks, c=16", "1/s", http("stream", "chunks_per_s", 16), ">=", 600_000),
    ("first byte of a stream, p50", "us", lambda rows: rows.median(MANTA, "stream", "first byte", "p50_us"), "<=", 500),
    ("websocket echo of uvicorn's, c=64: messages/s", "times", echo("per_s"), ">=", 2),
    ("call, one after another, p50, one core", "us", graph("call", "p50_us"), "<=", 60),
    ("call, one after another, p99, one core", "us", graph("call", "p99_us"), "<=", 200),
    ("call, one after another, p50, across cores", "us", graph("call across cores", "p50_us"), "<=", 80),
    ("fan-out of 16: calls", "1/s", graph("fan-out of 16", "per_s"), ">=", 60_000),
    ("fan-out of 100: calls", "1/s", graph("fan-out of 100", "per_s"), ">=", 60_000),
    ("streamed items through a handle", "1/s", graph("streamed items", "per_s"), ">=", 300_000),
    ("calls through `@serve.batch(max_batch_size=64)`", "1/s", graph("batched calls", "per_s"), ">=", 50_000),
    ("batched call: CPU above a plain one, 64 on their way", "us", batching_us, "<=", 30),
    ("1 MB numpy array there and back, p50", "us", graph("1 MB array", "p50_us"), "<=", 400),
    ("100 MB numpy array there and back, p50", "us", graph("100 MB array", "p50_us"), "<=", 40_000),
    ("a model that is loaded: finding it", "us", graph("model that is loaded", "us"), "<=", 1),
    ("call in local testing mode, p50", "us", lambda rows: rows.median(MANTA, "local", "call in local mode", "p50_us"), "<=", 40),
    ("`serve.run` of three deployments", "s", deploy("three deployments"), "<=", 0.15),
    ("`serve.run` of the same again", "s", deploy("the same again"), "<=", 0.02),
    ("one more FastAPI replica", "s", deploy("one more replica"), "<=", 0.015),
    ("one more FastAPI replica: memory of its own", "MB", deploy("one more replica", "private_mb"), "<=", 4),
    ("start to first 200, C", "s", start("C"), "<=", 0.05),
    ("start to first 200, `async def`", "s", start("async def"), "<=", 0.25),
    ("start to first 200, FastAPI", "s", start("FastAPI"), "<=", 0.6),
    ("start to first 200, `async def`, above the bare import", "s", above_import("async def"), "<=", 0.15),
    ("start to first 200, FastAPI, above the bare import", "s", above_import("FastAPI"), "<=", 0.15),
    ("one `async def` replica: processes", "", start("async def", "processes"), "<=", 5),
    ("one `async def` replica: memory (PSS) in all", "MiB", start("async def", "pss_mib"), "<=", 60),
    ("one `async def` replica: memory (PSS) of the native part", "MiB", start("async def", "native_mib"), "<=", 15),
    ("one `async def` replica: idle CPU", "%", start("async def", "idle_percent"), "<=", 0.1),
]


def judge(all_rows):
    rows, verdicts = Rows(all_rows), []
    for words, unit, take, relation, aim in AIMS:
        value = take(rows)
        if value is not None:
            holds = value >= aim if relation == ">=" else value <= aim
            verdicts.append({"what": words, "unit": unit, "aim": f"{relation} {aim:,}", "measured": value, "holds": holds})
    mine = [row for row in all_rows if row["system"] in (MANTA, "Manta C")]
    errors = sum(verdict.error_count(row) for row in mine if "errors" in row)
    errors += sum("failed" in row for row in mine)
    verdicts.append({"what": "errors and time-outs", "unit": "", "aim": "<= 0", "measured": errors, "holds": errors == 0})
    return verdicts


def figure(value):
    """Three digits that mean something."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def verdicts_table(verdicts):
    fields = [(row["what"], row["unit"], row["aim"], figure(row["measured"]), "holds" if row["holds"] else "**misses**") for row in verdicts]
    return verdict.table(("measure", "unit", "aim", "measured", "verdict"), fields)


def http_table(all_rows):
    """Every HTTP cell: medians of its rounds."""
    groups = {}
    for row in all_rows:
        if row["what"] == "http":
            groups.setdefault((row["app"], row["connections"], row["system"], row.get("phase", "")), []).append(row)
    order = {app: number for number, app in enumerate(("raw", "c", "async", "def", "asgi", "fast", "stream", "websocket"))}
    fields = []
    for (app, connections, system, phase), group in sorted(groups.items(), key=lambda item: (order[item[0][0]], item[0][1], item[0][3])):
        middle = {name: statistics.median(row[name] for row in group) for name in ("rps", "p50_us", "p99_us", "cpu_us")}
        kinds = {kind: sum(row["errors"][kind] for row in group) for kind in group[0]["errors"]}
        fields.append((app, connections, system, phase, f"{middle['rps']:,.0f}", figure(middle["p50_us"]), figure(middle["p99_us"]),
                       f"{middle['cpu_us']:.1f}", verdict.describe_errors(kinds)))
    return verdict.table(("application", "c", "system", "beside", "requests/s", "p50 us", "p99 us", "CPU us/request", "errors"), fields)


def others_table(all_rows):
    """Everything else, a line for a measure and a column for a system."""
    systems, lines = [], {}
    for row in all_rows:
        if row["what"] == "http":
            continue
        if row["system"] not in systems:
            systems.append(row["system"])
        name = f"{row['what']} ({row['app']})" if row["what"] in ("start", "first byte") else row["what"]
        lines.setdefault(name, {}).setdefault(row["system"], []).append(row)
    fields = [(name, *(describe(cells.get(system)) for system in systems)) for name, cells in lines.items()]
    return verdict.table(("measure", *systems), fields)


FIGURES = {"per_s": "1/s", "cpu_us": "us CPU", "p50_us": "us", "p99_us": "us p99", "us": "us", "s": "s", "private_mb": "MB of its own", "import_s": "s import alone",
           "processes": "processes", "pss_mib": "MiB"}


def describe(group):
    if not group:
        return "-"
    failed = [row["failed"] for row in group if "failed" in row]
    if failed:
        return f"failed: {failed[0][:60]}"
    words = []
    for name, unit in FIGURES.items():
        values = [row[name] for row in group if name in row]
        if values:
            words.append(f"{figure(statistics.median(values))} {unit}")
    return ", ".join(words)
