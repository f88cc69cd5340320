#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the documents show is true: C examples compile, links lead somewhere, commands of ./dev exist.

usage: documents.py C-COMPILER
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
DEV_COMMAND = re.compile(r"\./dev ([a-z]+)\b")


def documents():
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def check_examples(document, text, compiler):
    faults = 0
    for language, code in BLOCK.findall(text):
        # A block without its #include is a fragment that stands for the rest.
        if language != "c" or "#include" not in code:
            continue
        command = [compiler, "-x", "c", "-std=gnu17", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}",
                   "-fsyntax-only", "-"]
        done = subprocess.run(command, input=code, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"{document.relative_to(ROOT)}: an example does not compile\n{done.stderr}")
            faults += 1
    return faults


def check_links(document, text):
    faults = 0
    for target in LINK.findall(BLOCK.sub("", text)):
        if not (document.parent / target).exists():
            print(f"{document.relative_to(ROOT)}: {target} does not exist")
            faults += 1
    return faults


def check_commands(document, text):
    faults = 0
    for command in sorted(set(DEV_COMMAND.findall(text))):
        if not (ROOT / "tools" / "dev" / f"{command}.sh").exists():
            print(f"{document.relative_to(ROOT)}: there is no ./dev {command}")
            faults += 1
    return faults


def main():
    faults = 0
    for document in documents():
        text = document.read_text()
        faults += check_examples(document, text, sys.argv[1])
        faults += check_links(document, text)
        faults += check_commands(document, text)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
