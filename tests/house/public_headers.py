#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header compiles alone, as C and as C++ of every dialect that is promised, without a warning; and so
does C++ code that uses them.

usage: public_headers.py C-COMPILER C++-COMPILER
"""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
INCLUDE = ROOT / "include"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wundef", "-Wshadow", "-Werror"]
C_DIALECTS = ("c11", "c17")
CXX_DIALECTS = ("c++17", "c++20")
# Templates and macros are only judged where they are used.
CXX_USERS = ("tests/unit/cpp/probe.cpp",)
USER_WARNINGS = ["-Wconversion", "-Wsign-conversion", "-Wold-style-cast"]


def compile_source(compiler, language, standard, source, more=()):
    """What the compiler said; empty when it was content."""
    command = [
        compiler,
        "-x",
        language,
        f"-std={standard}",
        *WARNINGS,
        *more,
        f"-I{INCLUDE}",
        "-fsyntax-only",
        "-",
    ]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    return done.stderr if done.returncode != 0 or done.stderr else ""


def compile_alone(compiler, language, standard, header):
    source = f"#include <{header.relative_to(INCLUDE)}>\nint nothing;\n"
    return compile_source(compiler, language, standard, source)


def compile_users(compiler):
    faults = 0
    for user in CXX_USERS:
        for standard in CXX_DIALECTS:
            source = (ROOT / user).read_text(encoding="utf-8")
            said = compile_source(compiler, "c++", standard, source, USER_WARNINGS)
            if said:
                faults += 1
                print(f"{user} does not compile without a warning as {standard}:\n{said}")
    return faults


def dialects(header, c_compiler, cxx_compiler):
    """(compiler, language, standard) of each way in which the header is used."""
    if header.suffix == ".h":
        for standard in C_DIALECTS:
            yield c_compiler, "c", standard
    for standard in CXX_DIALECTS:
        yield cxx_compiler, "c++", standard


def main():
    c_compiler, cxx_compiler = sys.argv[1:3]
    faults = compile_users(cxx_compiler)
    headers = sorted([*(INCLUDE / "manta").rglob("*.h"), *(INCLUDE / "manta").rglob("*.hpp")])
    for header in headers:
        for compiler, language, standard in dialects(header, c_compiler, cxx_compiler):
            said = compile_alone(compiler, language, standard, header)
            if said:
                faults += 1
                print(
                    f"{header.relative_to(INCLUDE)} does not compile alone as {standard}:\n{said}"
                )
    if not headers:
        print(f"there is no header in {INCLUDE / 'manta'}")
    return 1 if faults or not headers else 0


if __name__ == "__main__":
    sys.exit(main())
