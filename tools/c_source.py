# SPDX-License-Identifier: Apache-2.0
"""Just enough of C to judge how a file is written: its words, its includes, its functions.

No preprocessor and no types. What cannot be followed (braces that do not close) is a
SourceError, so that a file is never passed over in silence.
"""

import re
from dataclasses import dataclass

_PIECES = re.compile(
    r"""(?P<block>/\*.*?\*/) | (?P<line>//[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*") | (?P<character>'(?:[^'\\\n]|\\.)+')""",
    re.VERBOSE | re.DOTALL,
)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)')
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TYPE_NAME = re.compile(r"\b(?:struct|union|enum)\s+([A-Za-z_][A-Za-z0-9_]*)")


class SourceError(Exception):
    """A file that cannot be followed; the text begins with its line."""


@dataclass(frozen=True)
class Include:
    name: str
    angle: bool
    line: int


@dataclass(frozen=True)
class Function:
    name: str
    line: int
    length: int  # lines, from the one with its name to its closing brace


def _blank(text, keep=0):
    """As many lines, without what stands in them; `keep` characters stay at both ends."""
    inner = text[keep : len(text) - keep] if keep else text
    return text[:keep] + re.sub(r"[^\n]", " ", inner) + (text[-keep:] if keep else "")


def without_comments(source):
    return _PIECES.sub(
        lambda match: (
            _blank(match.group()) if match.lastgroup in ("block", "line") else match.group()
        ),
        source,
    )


def code_of(source):
    """Neither comments nor what stands in strings."""

    def replace(match):
        return _blank(match.group(), 1 if match.lastgroup in ("string", "character") else 0)

    return _PIECES.sub(replace, source)


def line_comments(source):
    """Line numbers of comments of the // kind."""
    return [
        source.count("\n", 0, match.start()) + 1
        for match in _PIECES.finditer(source)
        if match.lastgroup == "line"
    ]


def includes(source):
    found = []
    for number, line in enumerate(without_comments(source).split("\n"), 1):
        match = _INCLUDE.match(line)
        if match:
            found.append(
                Include(match.group(1) or match.group(2), match.group(2) is not None, number)
            )
    return found


def identifiers(source):
    """(name, line) of every word of the code; what an #include names is no word of ours."""
    for number, line in enumerate(code_of(source).split("\n"), 1):
        if not _INCLUDE.match(line):
            for match in _IDENTIFIER.finditer(line):
                yield match.group(), number


def type_names(source):
    for number, line in enumerate(code_of(source).split("\n"), 1):
        for match in _TYPE_NAME.finditer(line):
            yield match.group(1), number


def _without_directives(code):
    lines, continued = [], False
    for line in code.split("\n"):
        directive = continued or line.lstrip().startswith("#")
        continued = directive and line.rstrip().endswith("\\")
        lines.append("" if directive else line)
    return "\n".join(lines)


def functions(source):
    """Every function with a body.  Both sides of an #if count as code, and have to balance."""
    code = _without_directives(code_of(source))
    found, start, depth, opened = [], 0, 0, None
    for match in re.finditer(r"[{};]", code):
        mark, at = match.group(), match.start()
        line = code.count("\n", 0, at) + 1
        head = code[start:at]
        if depth == 0 and mark == "{" and re.fullmatch(r'\s*extern\s*" *"\s*', head):
            start = match.end()  # extern "C": its closing brace is met at depth 0
            continue
        if mark == "{":
            if depth == 0:
                opened = _function_name(code, start, at)
            depth += 1
        elif mark == "}":
            if depth == 0 and 'extern "' not in source:
                raise SourceError(f"{line}: a brace closes that was not opened")
            depth = max(depth - 1, 0)
            if depth == 0 and opened:
                found.append(Function(opened[0], opened[1], line - opened[1] + 1))
                opened = None
        if depth == 0:
            start = match.end()
    if depth:
        raise SourceError(f"{code.count(chr(10)) + 1}: a brace is not closed")
    return found


def _function_name(code, start, at):
    """(name, line) when what stands in front of the brace is a function's head, else None."""
    head = code[start:at].rstrip()
    if not head.endswith(")") or "=" in head:
        return None
    match = re.search(r"([A-Za-z_][A-Za-z0-9_]*)\s*\(", head)
    if not match:
        return None
    return match.group(1), code.count("\n", 0, start + match.start(1)) + 1
