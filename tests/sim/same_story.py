#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""D1 between processes: the same seed tells the same story, byte for byte.

    same_story.py WORLD SEED...

The world itself compares two lives of one process.  What those have in common is told apart here:
each seed is lived through in two processes that differ in whatever a story must not depend on:
addresses, environment, directory, and what fresh memory holds.
"""

import os
import subprocess
import sys
import tempfile


def tell_story(world, seed, directory, environment):
    """The story, its words on stderr and the exit status."""
    done = subprocess.run(
        [world, "--seed", seed],
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


def first_difference(one, other):
    """The number of the first line in which two stories differ, and both lines."""
    lines, others = one.split(b"\n"), other.split(b"\n")
    for number, (line, another) in enumerate(zip(lines, others), 1):
        if line != another:
            return number, line, another
    return min(len(lines), len(others)) + 1, b"", b""


def check_seed(world, seed, directory):
    """Null, or what is wrong."""
    one, words, status = tell_story(world, seed, "/", {"MALLOC_PERTURB_": "165", "TZ": "UTC"})
    if status != 0:
        return f"seed {seed} fails: {words.decode(errors='replace')}"
    environment = {"MALLOC_PERTURB_": "90", "TZ": "Asia/Tokyo", "LONG": "x" * 5000}
    other, _, _ = tell_story(world, seed, directory, environment)
    if one.count(b"\n") < 100 or b"calm: no more faults" not in one:
        return f"seed {seed} tells no story"
    if one != other:
        number, line, another = first_difference(one, other)
        return f"seed {seed}: D1: line {number} differs\n    {line!r}\n    {another!r}"
    return None


def main():
    """All seeds; the exit status is 1 when some story is not the same."""
    world, seeds = os.path.abspath(sys.argv[1]), sys.argv[2:]
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        for seed in seeds:
            wrong = check_seed(world, seed, directory)
            if wrong:
                print(wrong)
                failed += 1
    print(f"{len(seeds)} seeds, {failed} failed")
    return 1 if failed or not seeds else 0


if __name__ == "__main__":
    sys.exit(main())
