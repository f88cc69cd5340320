#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that the tree is what its papers say.

    check_tree.py [--root DIR]                        licences, floors, names, sizes, words
    check_tree.py [--root DIR] --symbols ARCHIVE...   what the pure libraries ask the system for

Every breach is one line, "file:line: what", and the exit status is 1. The floors are
tree_floors.py's, the reading of C is c_source.py's. Layout is clang-format's affair, meaning is
the reviewer's.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import c_source
import tree_floors

FILE_LINES = 600  # of a source file in src
FUNCTION_LINES = 70  # the aim is 60
ASSERTIONS_PER_1000 = 20  # lines of code, comments and empty lines not counted
ASSERTED_FLOORS = ("src/base/", "src/proto/", "src/core/")
ASSERTED_LINES_LEAST = 300  # what is smaller than this is not judged by a ratio

# (rule, "file" or "file:function"): the reason.  One that is not needed any more is a breach too.
SIZE_EXCEPTIONS = {}

BANNED_WORDS = set(
    "manager managers helper helpers util utils misc context actor actors info backend "
    "worker workers".split()
)
BANNED_TYPE_WORDS = set("data".split())
# Names that others gave: prefixes of libraries, and words of the C library.
FOREIGN_PREFIXES = (
    "uv_",
    "UV_",
    "msgpack_",
    "nghttp2_",
    "wslay_",
    "json_",
    "SSL_",
    "sqlite3_",
    "Py",
    "_Py",
    "__",
    "CURL",
)
FOREIGN_NAMES = {
    "Dl_info",
    "LOG_INFO",
}  # the dynamic linker's struct; the usual word for a level of the log

SOURCE_ENDINGS = (".c", ".h", ".cpp", ".hpp", ".def", ".py", ".sh")
SOURCE_NAMES = ("meson.build", "meson_options.txt")
SKIPPED_FOLDERS = ("build", ".git", "__pycache__", ".cache")


class Tree:
    """The files of a checkout: what git knows or would add, or all of them without git."""

    def __init__(self, root):
        self.root = Path(root)
        self.files = sorted(self._from_git() or self._from_disk())
        self._texts = {}

    def _from_git(self):
        if not (self.root / ".git").exists():
            return []
        command = [
            "git",
            "-C",
            str(self.root),
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            return []
        return [
            name for name in set(run.stdout.split("\0")) if name and (self.root / name).is_file()
        ]

    def _from_disk(self):
        for path in self.root.rglob("*"):
            name = path.relative_to(self.root)
            if path.is_file() and not any(
                part.startswith(SKIPPED_FOLDERS) for part in name.parts[:-1]
            ):
                yield name.as_posix()

    def read(self, name):
        if name not in self._texts:
            self._texts[name] = (self.root / name).read_text(encoding="utf-8", errors="replace")
        return self._texts[name]

    def is_source(self, name):
        path = Path(name)
        if path.suffix in SOURCE_ENDINGS or path.name in SOURCE_NAMES:
            return True
        return not path.suffix and self.read_start(name).startswith("#!")

    def read_start(self, name):
        with open(self.root / name, "rb") as file:
            return file.read(200).decode("utf-8", errors="replace")

    def c_files(self, folder=""):
        return [
            name for name in self.files if name.startswith(folder) and name.endswith((".c", ".h"))
        ]


def check_licences(tree):
    problems = []
    for name in tree.files:
        if tree.is_source(name):
            lines = tree.read_start(name).split("\n")
            first = 1 if lines[0].startswith("#!") else 0
            if len(lines) <= first or "SPDX-License-Identifier: Apache-2.0" not in lines[first]:
                problems.append(f"{name}:{first + 1}: no SPDX-License-Identifier line")
    return problems


def check_unique_names(tree):
    seen, problems = {}, []
    for name in tree.files:
        short = Path(name).name
        if not name.startswith("src/") or short == "meson.build":
            continue
        if short in seen:
            problems.append(
                f"{name}:1: the name is taken by {seen[short]}; names are unique in src"
            )
        seen.setdefault(short, name)
    return problems


def check_sizes(tree):
    problems, needed = [], set()

    def too_long(rule, key, line, what):
        if (rule, key) in SIZE_EXCEPTIONS:
            needed.add((rule, key))
        else:
            problems.append(f"{key.split(':')[0]}:{line}: {what}")

    for name in tree.c_files("src/"):
        lines = tree.read(name).count("\n")
        if lines > FILE_LINES:
            too_long("file", name, lines, f"{lines} lines; a file has at most {FILE_LINES}")
        try:
            functions = c_source.functions(tree.read(name))
        except c_source.SourceError as error:
            problems.append(f"{name}:{error}")
            continue
        for function in functions:
            if function.length > FUNCTION_LINES:
                too_long(
                    "function",
                    f"{name}:{function.name}",
                    function.line,
                    f"{function.name} has {function.length} lines; the limit is {FUNCTION_LINES}",
                )
    for rule, key in set(SIZE_EXCEPTIONS) - needed:
        if key.split(":")[0] in tree.files:
            problems.append(
                f"tools/check_tree.py: the exception for the {rule} {key} is not needed any more"
            )
    return problems


def words_of(name):
    """The words of an identifier or a file name: snake_case, SCREAMING_CASE and camelCase."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return [word.lower() for word in re.split(r"[_\-.0-9]+", apart) if word]


def banned_in(name, banned):
    if name in FOREIGN_NAMES or name.startswith(FOREIGN_PREFIXES):
        return None
    return next((word for word in words_of(name) if word in banned), None)


def check_words(tree):
    problems = []
    for name in tree.files:
        if name.startswith(("src/", "include/", "tests/", "tools/", "bench/")) and tree.is_source(
            name
        ):
            word = banned_in(Path(name).name, BANNED_WORDS | BANNED_TYPE_WORDS)
            if word:
                problems.append(f"{name}:1: the file name says {word!r}, which says nothing")
    for name in tree.c_files("src/") + tree.c_files("include/"):
        source, told = tree.read(name), set()
        found = [
            (item, line, banned_in(item, BANNED_WORDS))
            for item, line in c_source.identifiers(source)
        ]
        found += [
            (item, line, banned_in(item, BANNED_TYPE_WORDS))
            for item, line in c_source.type_names(source)
        ]
        for item, line, word in found:
            if word and item not in told:
                told.add(item)
                problems.append(f"{name}:{line}: {item} says {word!r}, which says nothing")
    return problems


def check_comments(tree):
    problems = []
    for name in tree.files:
        if name.endswith((".c", ".h")):
            problems += [
                f"{name}:{line}: a // comment; what is kept is written /* so */"
                for line in c_source.line_comments(tree.read(name))
            ]
    for name in tree.c_files("src/") + tree.c_files("include/"):
        for number, line in enumerate(tree.read(name).split("\n"), 1):
            if re.search(r"\b(TODO|FIXME|XXX)\b", line):
                problems.append(f"{name}:{number}: a note to oneself; do it, or leave it")
    return problems


def check_assertions(tree):
    problems = []
    for floor in ASSERTED_FLOORS:
        files = [name for name in tree.c_files(floor) if name.endswith(".c")]
        codes = [c_source.code_of(tree.read(name)) for name in files]
        lines = sum(1 for code in codes for line in code.split("\n") if line.strip())
        count = sum(
            len(re.findall(r"\b(?:ensure|ensure_tag|_Static_assert|static_assert)\s*\(", code))
            for code in codes
        )
        if lines >= ASSERTED_LINES_LEAST and count * 1000 < lines * ASSERTIONS_PER_1000:
            problems.append(
                f"{floor}: {count} assertions in {lines} lines of code; "
                f"there are at least {ASSERTIONS_PER_1000} in 1000"
            )
    return problems


def check_tree(root):
    tree = Tree(root)
    if not tree.files:
        return [f"{root}: no files"]
    return (
        check_licences(tree)
        + tree_floors.check_includes(tree.files, tree.read)
        + tree_floors.stale_exceptions(tree.files, tree.read)
        + check_unique_names(tree)
        + check_sizes(tree)
        + check_words(tree)
        + check_comments(tree)
        + check_assertions(tree)
    )


def missing_archives(root, archives):
    """Pure folders with sources whose library was not given: nobody would look at them."""
    given = [str(archive).replace("\\", "/") for archive in archives]
    return [
        f"{folder}: its library was not given, so that nothing looks at its symbols"
        for folder in tree_floors.PURE
        if list((Path(root) / folder).glob("*.c"))
        and (Path(root) / folder / "meson.build").exists()
        and not any(f"{folder}/lib" in archive for archive in given)
    ]


def main(arguments):
    parser = argparse.ArgumentParser(description="Checks that the tree is what its papers say.")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(__file__).resolve().parent.parent,
        help="the tree to check",
    )
    parser.add_argument(
        "--symbols", nargs="+", metavar="ARCHIVE", help="check these static libraries instead"
    )
    options = parser.parse_args(arguments)
    if options.symbols:
        problems = missing_archives(options.root, options.symbols) + tree_floors.check_symbols(
            options.symbols
        )
    else:
        problems = check_tree(options.root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
