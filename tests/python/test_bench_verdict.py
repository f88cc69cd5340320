# SPDX-License-Identifier: Apache-2.0
"""What `./dev bench python` makes of what it measured (bench/python/python_verdict.py): no server is started."""

import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path[:0] = [str(BENCH / "python"), str(BENCH)]

import python_verdict  # noqa: E402

NONE = {"connect": 0, "status": 0}


def cell(system, app, rps, round_, connections=64, cpu_us=10.0, errors=NONE, **more):
    figures = {"rps": rps, "cpu_us": cpu_us, "p50_us": 100, "p99_us": 200, "connections": connections}
    return {"system": system, "app": app, "what": "http", "round": round_, "errors": errors, **figures, **more}


def verdict_of(rows, words):
    [found] = [row for row in python_verdict.judge(rows) if row["what"] == words]
    return found


FASTAPI = "the same FastAPI application, of uvicorn, c=64: requests/s"


def test_a_ratio_is_taken_inside_a_round():
    # The machine slows down by half after each round; the ratio is 2, 2 and 1.2.
    rows = [cell("Manta", "fast", rps, turn) for turn, rps in enumerate((400, 200, 60))]
    rows += [cell("uvicorn", "fast", rps, turn) for turn, rps in enumerate((200, 100, 50))]
    found = verdict_of(rows, FASTAPI)
    assert found["measured"] == 2 and found["holds"]


def test_what_is_below_its_aim_misses_and_what_was_not_measured_is_not_judged():
    rows = [cell("Manta", "fast", 130, 0), cell("uvicorn", "fast", 100, 0)]
    assert not verdict_of(rows, FASTAPI)["holds"]
    assert "**misses**" in python_verdict.verdicts_table(python_verdict.judge(rows))
    assert FASTAPI not in [row["what"] for row in python_verdict.judge(rows[:1])]


def test_cells_that_ran_beside_ray_serve_are_compared_with_ray_serve_alone():
    words = "`async def` of Ray Serve's fastest mode, c=64: requests/s"
    rows = [cell("Manta", "async", 100_000, 0)]
    rows += [cell("Manta", "async", 40_000, 0, phase="Ray Serve, fast")]
    rows += [cell("Ray Serve, fast", "async", 2000, 0, phase="Ray Serve, fast")]
    assert verdict_of(rows, words)["measured"] == 20


def test_absolute_figures_are_those_of_the_quiet_phase():
    rows = [cell("Manta", "async", 1, 0, cpu_us=12.0), cell("Manta", "async", 1, 0, cpu_us=40.0, phase="Ray Serve")]
    assert verdict_of(rows, "`async def`, c=64: CPU a request")["measured"] == 12.0


def test_errors_of_manta_are_counted_and_those_of_others_are_theirs():
    rows = [cell("Manta", "async", 1, 0, errors={"connect": 1, "status": 2}), cell("Ray Serve", "async", 1, 0, errors={"status": 9})]
    rows += [{"system": "Manta", "app": "graph", "what": "call", "failed": "no answer"}]
    found = verdict_of(rows, "errors and time-outs")
    assert found["measured"] == 4 and not found["holds"]
    assert "failed: no answer" in python_verdict.others_table(rows)
