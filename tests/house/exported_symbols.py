#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The symbols that libmanta exports are the ones in exported_symbols.txt, and those the public headers declare.

A symbol that appears or vanishes is a change of the ABI (docs/abi.md) and shall be seen in review: as a line
of the list.  Every symbol begins with manta_.

usage: exported_symbols.py LIBRARY [--update]
"""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
LIST = HERE / "exported_symbols.txt"
INCLUDE = HERE.parent.parent / "include" / "manta"
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
DECLARATION = re.compile(r"\bMANTA_EXPORT\s[^;{}()]*?\b(\w+)\s*\(")


def exported(library):
    done = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", library], check=True, capture_output=True,
                          text=True)
    return {line.split()[0] for line in done.stdout.splitlines()}


def declared():
    names = set()
    for header in INCLUDE.rglob("*.h"):
        text = DIRECTIVE.sub("", COMMENT.sub(" ", header.read_text()))
        names.update(DECLARATION.findall(text))
    return names


def listed():
    lines = LIST.read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def tell(names, what):
    for name in sorted(names):
        print(f"{name} {what}")
    return len(names)


def update(names):
    head = [line for line in LIST.read_text().splitlines() if line.startswith("#")]
    LIST.write_text("\n".join([*head, *sorted(names)]) + "\n")


def main():
    library = sys.argv[1]
    symbols = exported(library)
    if "--update" in sys.argv[2:]:
        update(symbols)
    faults = tell({name for name in symbols if not name.startswith("manta_")}, "is exported and has no manta_")
    faults += tell(symbols - listed(), "is exported and not in tests/house/exported_symbols.txt")
    faults += tell(listed() - symbols, "is in tests/house/exported_symbols.txt and not exported")
    faults += tell(declared() - symbols, "is declared in include/manta and not exported")
    faults += tell(symbols - declared(), "is exported and not declared in include/manta")
    if faults:
        print(f"{faults} differences; docs/abi.md says what a change of the list means")
        print(f"an intended change: tests/house/exported_symbols.py {library} --update")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
