#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header compiles alone, as C11 and as C++17, without a warning.

usage: public_headers.py C-COMPILER C++-COMPILER
"""

import pathlib
import subprocess
import sys

INCLUDE = pathlib.Path(__file__).resolve().parent.parent.parent / "include"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Werror"]


def compile_alone(compiler, language, standard, header):
    """What the compiler said; empty when it was content."""
    source = f"#include <{header.relative_to(INCLUDE)}>\nint nothing;\n"
    command = [compiler, "-x", language, f"-std={standard}", *WARNINGS, f"-I{INCLUDE}", "-fsyntax-only", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    return done.stderr if done.returncode != 0 or done.stderr else ""


def main():
    c_compiler, cxx_compiler = sys.argv[1:3]
    faults = 0
    headers = sorted((INCLUDE / "manta").rglob("*.h"))
    for header in headers:
        for compiler, language, standard in ((c_compiler, "c", "c11"), (cxx_compiler, "c++", "c++17")):
            said = compile_alone(compiler, language, standard, header)
            if said:
                faults += 1
                print(f"{header.relative_to(INCLUDE)} does not compile alone as {standard}:\n{said}")
    if not headers:
        print(f"there is no header in {INCLUDE / 'manta'}")
    return 1 if faults or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
