# SPDX-License-Identifier: Apache-2.0
"""What the cells add up to: medians, ratios with their targets, comparison with an earlier run, tables.

A ratio is taken inside each round, between cells that ran within seconds of each other, and the median of
the rounds is reported: a machine that gets slower during the run moves both sides.
"""

import statistics

FIGURES = ("rps", "p50_us", "p90_us", "p99_us", "cpu_us", "foreign_percent")
NOISE_LIMIT_PERCENT = 10

# (what, figure, how it is taken, against which system, connections, relation, target, stretch)
TARGETS = [
    ("requests/s, of raw", "rps", "ratio", "raw", 1, ">=", 0.70, 0.85),
    ("requests/s, of raw", "rps", "ratio", "raw", 16, ">=", 0.80, 0.95),
    ("requests/s, of raw", "rps", "ratio", "raw", 64, ">=", 0.80, 0.95),
    ("requests/s, of raw", "rps", "ratio", "raw", 256, ">=", 0.80, 0.95),
    ("CPU a request, of raw", "cpu_us", "ratio", "raw", 64, "<=", 1.5, 1.25),
    ("p50 added to raw, us", "p50_us", "difference", "raw", 1, "<=", 14, 6),
    ("requests/s, of nginx", "rps", "ratio", "nginx", 1, ">=", 1.1, 1.16),
    ("requests/s, of nginx", "rps", "ratio", "nginx", 16, ">=", 1.8, 2.25),
    ("requests/s, of nginx", "rps", "ratio", "nginx", 64, ">=", 2.0, 2.4),
    ("requests/s, of nginx", "rps", "ratio", "nginx", 256, ">=", 2.3, 3.0),
    ("requests/s, of HAProxy", "rps", "ratio", "haproxy", 64, ">=", 2.0, 2.5),
    ("CPU a request, us", "cpu_us", "value", None, 64, "<=", 12, 9),
]


def key_of(cell):
    return cell["system"], cell["connections"], cell["pinned"]


def error_count(cell):
    return sum(cell["errors"].values())


def medians(cells):
    """One row for every system, number of connections and placement, in order of appearance."""
    groups = {}
    for cell in cells:
        groups.setdefault(key_of(cell), []).append(cell)
    rows = []
    for (system, connections, pinned), group in groups.items():
        row = {"system": system, "connections": connections, "pinned": pinned, "rounds": len(group)}
        row |= {figure: statistics.median(cell[figure] for cell in group) for figure in FIGURES}
        row["requests"] = sum(cell["requests"] for cell in group)
        row["errors"] = {kind: sum(cell["errors"][kind] for cell in group) for kind in group[0]["errors"]}
        rows.append(row)
    return rows


def taken(cells, figure, how, system, other, connections):
    """The median over the rounds of a ratio, difference or value; None when a side was not measured."""
    by_round = {}
    for cell in cells:
        if cell["pinned"] and cell["connections"] == connections and cell["system"] in (system, other):
            by_round.setdefault(cell["round"], {})[cell["system"]] = cell[figure]
    combine = {"value": lambda mine, theirs: mine, "ratio": lambda mine, theirs: mine / theirs,
               "difference": lambda mine, theirs: mine - theirs}[how]
    values = [combine(sides[system], sides.get(other)) for sides in by_round.values()
              if system in sides and (other is None or sides.get(other))]
    return statistics.median(values) if values else None


def judge(cells, system="manta"):
    """Every target that could be measured, with its figure and whether it holds."""
    verdicts = []
    for what, figure, how, other, connections, relation, target, stretch in TARGETS:
        value = taken(cells, figure, how, system, other, connections)
        if value is not None:
            holds = value >= target if relation == ">=" else value <= target
            verdicts.append({"what": what, "connections": connections, "value": value, "relation": relation,
                             "target": target, "stretch": stretch, "holds": holds})
    mine = [cell for cell in cells if cell["system"] == system]
    if mine:
        errors = sum(error_count(cell) for cell in mine)
        verdicts.append({"what": "errors and time-outs", "connections": "all", "value": errors, "relation": "<=",
                         "target": 0, "stretch": 0, "holds": errors == 0})
    return verdicts


def describe_errors(errors):
    return ", ".join(f"{count} {kind}" for kind, count in errors.items() if count) or "0"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(str(field) for field in row) + " |" for row in rows]
    return "\n".join(lines)


def cells_table(rows):
    fields = []
    for row in sorted(rows, key=lambda row: (not row["pinned"], row["connections"])):
        placement = "system cpu A, wrk cpu B" if row["pinned"] else "free"
        noise = f"{row['foreign_percent']:.0f} %" + (" noisy" if row["foreign_percent"] > NOISE_LIMIT_PERCENT else "")
        fields.append((row["connections"], placement, row["system"], f"{row['rps']:,.0f}", row["p50_us"], row["p99_us"],
                       f"{row['cpu_us']:.1f}", describe_errors(row["errors"]), noise))
    return table(("c", "placement", "system", "requests/s", "p50 us", "p99 us", "CPU us/request", "errors",
                  "other CPU"), fields)


def verdicts_table(verdicts):
    fields = [(row["what"], row["connections"], f"{row['value']:.2f}", f"{row['relation']} {row['target']}",
               row["stretch"], "holds" if row["holds"] else "**misses**") for row in verdicts]
    return table(("Manta", "c", "measured", "target", "stretch", ""), fields)


def comparison_table(rows, earlier_rows):
    earlier = {key_of(row): row for row in earlier_rows}
    fields = []
    for row in rows:
        then = earlier.get(key_of(row))
        if then is None:
            continue
        ratios = [f"{row[figure] / then[figure]:.2f}" if then[figure] else "-"
                  for figure in ("rps", "p50_us", "p99_us", "cpu_us")]
        fields.append((row["connections"], "" if row["pinned"] else "free", row["system"], *ratios))
    return table(("c", "placement", "system", "requests/s now/then", "p50", "p99", "CPU"), fields)
