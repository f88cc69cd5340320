#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the Meson tests of one build directory and says in one line what came of it.

Meson counts executables; a Criterion executable holds many tests and reports them in its last line, so
the counts are taken from there when the line is present.  What failed is shown with the end of its
output and the command that runs it again.  Building is not done here (tools/dev/configure.sh).
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

SYNTHESIS = re.compile(r"Synthesis: Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
SHOWN_LINES = 60
GOOD_RESULTS = {"OK", "EXPECTEDFAIL"}
SKIPPED = "SKIP"
TIMEOUT_FACTOR = {"release": "1", "sanitize": "4", "thread": "10"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", help="the build directory's name below build/")
    parser.add_argument("--jobs", default="2", help="tests that run at once")
    parser.add_argument("--suite", action="append", default=[], help="only tests of this suite")
    parser.add_argument("--no-suite", action="append", default=[], help="no tests of this suite")
    parser.add_argument("--only", default="", help="only tests whose name or suite contains this")
    parser.add_argument("--verbose", action="store_true", help="names every test")
    parser.add_argument("--print-targets", action="store_true", help="only the files that these tests need")
    parser.add_argument("--counts", help="file to which 'passed failed' is appended")
    return parser.parse_args()


def introspect(build, what):
    done = subprocess.run(["meson", "introspect", what, str(build)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def choose_tests(build, arguments):
    """The tests to run, as Meson describes them, in its order."""
    chosen = []
    for test in introspect(build, "--tests"):
        # Meson writes a suite as "project:suite".
        suites = {suite.split(":")[-1] for suite in test["suite"]}
        if arguments.suite and not suites & set(arguments.suite):
            continue
        if suites & set(arguments.no_suite):
            continue
        if arguments.only and not any(arguments.only in word for word in {test["name"]} | suites):
            continue
        chosen.append(test)
    return chosen


def targets_of(build, tests):
    """The files, relative to the build directory, that ninja must make for these tests."""
    files = {target["id"]: target["filename"] for target in introspect(build, "--targets")}
    needed = [file for test in tests for depend in test["depends"] for file in files.get(depend, [])]
    root = str(build.resolve()) + "/"
    return sorted({file.removeprefix(root) for file in needed})


def run_tests(build, stage, jobs, names):
    """Runs them and returns Meson's record of each."""
    log = build / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", str(build), "--no-rebuild", "--num-processes", jobs, "--quiet",
               "--timeout-multiplier", TIMEOUT_FACTOR.get(stage, "1"), *names]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if not log.exists():
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    with log.open(encoding="utf-8", errors="replace") as lines:
        return [json.loads(line) for line in lines]


def output_of(record):
    return COLOUR.sub("", (record.get("stdout") or "") + (record.get("stderr") or ""))


def count(record):
    """(passed, failed, skipped) of one executable."""
    match = SYNTHESIS.search(output_of(record))
    if record["result"] == SKIPPED:
        return 0, 0, 1
    if match is None:
        good = record["result"] in GOOD_RESULTS
        return int(good), int(not good), 0
    # A crash is among the failing ones.
    passed, failed = int(match[2]), int(match[3])
    if failed == 0 and record["result"] not in GOOD_RESULTS:
        failed = 1
    return passed, failed, 0


def show_failure(stage, record):
    name = record["name"].split(" / ")[-1].split(":")[-1].strip()
    lines = output_of(record).splitlines()
    print(f"--- {stage}: {name}: {record['result']} (status {record['returncode']})")
    if len(lines) > SHOWN_LINES:
        print(f"    ... {len(lines) - SHOWN_LINES} lines before these are in build/{stage}/meson-logs/testlog.txt")
    for line in lines[-SHOWN_LINES:]:
        print(f"    {line}")
    print(f"--- again: meson test -C build/{stage} -v '{name}'")


def main():
    arguments = parse_arguments()
    build = pathlib.Path("build") / arguments.stage
    started = time.monotonic()
    tests = choose_tests(build, arguments)
    if arguments.print_targets:
        print(*targets_of(build, tests), sep="\n", end="\n" if tests else "")
        return 0
    names = [test["name"] for test in tests]
    records = run_tests(build, arguments.stage, arguments.jobs, names) if names else []
    passed = failed = skipped = 0
    for record in records:
        counts = count(record)
        passed, failed, skipped = passed + counts[0], failed + counts[1], skipped + counts[2]
        if record["result"] not in GOOD_RESULTS | {SKIPPED}:
            show_failure(arguments.stage, record)
        elif arguments.verbose:
            print(f"    {record['name']}: {record['result']}, {sum(counts)} tests, {record['duration']:.2f} s")
    if len(records) < len(names):
        print(f"--- {arguments.stage}: {len(names) - len(records)} of {len(names)} tests left no result")
        failed += len(names) - len(records)
    tail = f", {skipped} skipped" if skipped else ""
    print(f"{arguments.stage}: {passed} passed, {failed} failed{tail} "
          f"({len(names)} executables, {time.monotonic() - started:.1f} s)", flush=True)
    if arguments.counts:
        with open(arguments.counts, "a", encoding="ascii") as counts_file:
            counts_file.write(f"{passed} {failed}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
