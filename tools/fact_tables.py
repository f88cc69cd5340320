# SPDX-License-Identifier: Apache-2.0
"""The fact tables of src/base/tables, read without a C compiler.

A table is a file of X-macro rows: NAME(argument, argument, ...), where an argument is a whole
number, a word or a string. This module reads them into plain Python values and checks what C
cannot: numbers that repeat, defaults outside their limits, frames without fields. It reads
exactly what the tables use; whatever else stands in one is a TableError with file and line,
never a row that is skipped.

What the rows mean to a reader is generate_reference.py's affair.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

INT64_MAX = 2**63 - 1
WIRE_TYPES = ("u8", "u16", "u32", "u64", "i32", "i64", "text", "blob")

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\\\n)          # a continued line is one line
      | (?P<newline>\n)
      | (?P<comment>/\*.*?\*/)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<number>-?(?:0[xX][0-9a-fA-F]+|[0-9]+)(?![0-9A-Za-z_.]))
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[(),{}=;#])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


class TableError(Exception):
    """A table that cannot be read or contradicts itself; the text begins with file and line."""


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    line: int


@dataclass
class Row:
    name: str  # the macro
    arguments: list
    line: int
    comment: str = ""  # the one behind it, on its line
    group: str = ""  # the one on a line of its own, above it or above a row before it


def plain_comment(text):
    """A comment's words without its stars, paragraphs kept."""
    lines = [re.sub(r"^\s*\* ?", "", line).rstrip() for line in text[2:-2].split("\n")]
    return "\n".join(lines).strip("\n").strip(" ")


class Reader:
    """One file's tokens, with words to ask for the next one."""

    def __init__(self, path):
        self.path = Path(path)
        self.tokens = []
        self.at = 0
        source = self.path.read_text(encoding="utf-8")
        position, line = 0, 1
        while position < len(source):
            match = _TOKEN.match(source, position)
            if not match:
                raise self.error(f"cannot read {source[position:position + 20]!r}", line)
            kind, text = match.lastgroup, match.group()
            if kind != "space":
                self.tokens.append(Token(kind, text, line))
            line += text.count("\n")
            position = match.end()
        self.tokens.append(Token("end", "", line))

    def error(self, what, line=None):
        line = self.tokens[min(self.at, len(self.tokens) - 1)].line if line is None else line
        return TableError(f"{self.path}:{line}: {what}")

    def peek(self):
        return self.tokens[self.at]

    def next(self):
        token = self.tokens[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def skip(self, *kinds):
        while self.peek().kind in kinds:
            self.at += 1

    def expect(self, kind, text=None):
        token = self.peek()
        if token.kind != kind or (text is not None and token.text != text):
            wanted = repr(text) if text is not None else f"a {kind}"
            raise self.error(f"expected {wanted}, found {token.text.strip() or token.kind!r}")
        return self.next()

    def head_comment(self):
        """The words that the file opens with, the licence line left out."""
        self.skip("newline")
        licence = self.expect("comment")
        if "SPDX-License-Identifier" not in licence.text:
            raise self.error("the first line is not the licence line", licence.line)
        self.skip("newline")
        return plain_comment(self.expect("comment").text)

    def argument(self):
        self.skip("newline", "comment")
        token = self.next()
        if token.kind == "number":
            return int(token.text, 0)
        if token.kind == "word":
            return token.text
        if token.kind != "string":
            raise self.error(
                f"expected a number, a word or a string, found {token.text!r}", token.line
            )
        text = self.string(token)
        self.skip("newline", "comment")
        while self.peek().kind == "string":  # neighbours are one string, as in C
            text += self.string(self.next())
            self.skip("newline", "comment")
        return text

    def string(self, token):
        def replace(match):
            if match.group(1) not in _ESCAPES:
                raise self.error(f"unknown escape {match.group()!r}", token.line)
            return _ESCAPES[match.group(1)]

        return re.sub(r"\\(.)", replace, token.text[1:-1])

    def row(self, names):
        """NAME(...) with a comment perhaps behind it."""
        name = self.expect("word")
        if name.text not in names:
            raise self.error(
                f"expected a row of {' or '.join(names)}, found {name.text!r}", name.line
            )
        self.expect("mark", "(")
        arguments = [self.argument()]
        self.skip("newline", "comment")
        while self.peek().text == ",":
            self.next()
            arguments.append(self.argument())
            self.skip("newline", "comment")
        self.expect("mark", ")")
        row = Row(name.text, arguments, name.line)
        if self.peek().kind == "comment":
            row.comment = plain_comment(self.next().text)
        return row

    def check(self, row, kinds):
        """The arguments of a row have these kinds: int, str for strings and words."""
        if len(row.arguments) != len(kinds):
            raise self.error(
                f"{row.name} has {len(row.arguments)} arguments, not {len(kinds)}", row.line
            )
        for place, (value, kind) in enumerate(zip(row.arguments, kinds), 1):
            if not isinstance(value, kind):
                raise self.error(
                    f"argument {place} of {row.name} is {value!r}, not {kind.__name__}", row.line
                )
        return row


def _plain_rows(path, name, kinds):
    """A file of rows of one macro; comments on lines of their own name groups."""
    reader = Reader(path)
    reader.head_comment()
    rows, group = [], ""
    while True:
        reader.skip("newline")
        if reader.peek().kind == "end":
            break
        if reader.peek().kind == "comment":
            group = plain_comment(reader.next().text)
            continue
        row = reader.check(reader.row([name]), kinds)
        row.group = group
        rows.append(row)
        if reader.peek().kind not in ("newline", "end"):
            raise reader.error(f"{reader.peek().text!r} behind a row")
    if not rows:
        raise reader.error("no rows")
    return reader, rows


def _no_repeats(reader, rows, place, what):
    seen = {}
    for row in rows:
        value = row.arguments[place]
        if value in seen:
            raise reader.error(f"{what} {value} stands in line {seen[value]} already", row.line)
        seen[value] = row.line


@dataclass(frozen=True)
class Error:
    number: int
    name: str
    text: str
    http: int
    grpc: int

    @property
    def public_name(self):
        return "MANTA_E" + self.name.replace("_", "")


def read_errors(path):
    reader, rows = _plain_rows(path, "ERROR", (int, str, str, int, int))
    _no_repeats(reader, rows, 1, "the name")
    for expected, row in enumerate(rows, 1):
        error = Error(*row.arguments)
        if error.number != expected:
            raise reader.error(
                f"number {error.number}: rows are numbered 1, 2, 3 ... and only appended", row.line
            )
        if not 400 <= error.http <= 599:
            raise reader.error(f"{error.http} is no HTTP status of an error", row.line)
        if not 1 <= error.grpc <= 16:
            raise reader.error(f"{error.grpc} is no gRPC status of an error", row.line)
    return [Error(*row.arguments) for row in rows]


@dataclass(frozen=True)
class Setting:
    name: str
    value: int
    minimum: int
    maximum: int
    unit: str
    sentence: str
    group: str = ""

    @property
    def variable(self):
        return "MANTA_" + self.name.upper()


def read_settings(path):
    reader, rows = _plain_rows(path, "SETTING", (str, int, int, int, str, str))
    _no_repeats(reader, rows, 0, "the setting")
    for row in rows:
        setting = Setting(*row.arguments)
        if not re.fullmatch(r"[a-z][a-z0-9_]*", setting.name):
            raise reader.error(f"{setting.name} is not in lower case", row.line)
        if not -INT64_MAX <= setting.minimum <= setting.value <= setting.maximum <= INT64_MAX:
            raise reader.error(
                f"{setting.name}: the default is not within its limits, or these not in 64 bits",
                row.line,
            )
        if not setting.sentence.endswith("."):
            raise reader.error(f"{setting.name}: a sentence ends with a stop", row.line)
    return [Setting(*row.arguments, group=row.group) for row in rows]


@dataclass(frozen=True)
class Metric:
    name: str
    kind: str
    sentence: str


def read_metrics(path):
    reader, rows = _plain_rows(path, "METRIC", (str, str, str))
    _no_repeats(reader, rows, 0, "the metric")
    for row in rows:
        metric = Metric(*row.arguments)
        if metric.kind not in ("COUNTER", "GAUGE"):
            raise reader.error(
                f"{metric.name}: {metric.kind} is neither COUNTER nor GAUGE", row.line
            )
        if (metric.kind == "COUNTER") != metric.name.endswith("_total"):
            raise reader.error(f"{metric.name}: counters, and only they, end in _total", row.line)
    return [Metric(*row.arguments) for row in rows]


@dataclass(frozen=True)
class State:
    name: str
    word: str  # what users see
    routable: bool = False
    comment: str = ""


_STATE_KINDS = {
    "REPLICA_STATE": (str, str, int),
    "DEPLOYMENT_STATUS": (str, str),
    "DEPLOYMENT_TRIGGER": (str,),
    "APPLICATION_STATUS": (str,),
}


def read_states(path):
    """{macro: [State]}: each group stands between #ifdef and #endif of its macro."""
    reader = Reader(path)
    reader.head_comment()
    groups = {}
    while True:
        reader.skip("newline")
        if reader.peek().kind == "end":
            break
        reader.expect("mark", "#")
        reader.expect("word", "ifdef")
        name = reader.expect("word")
        if name.text not in _STATE_KINDS:
            raise reader.error(f"unknown group {name.text}", name.line)
        if name.text in groups:
            raise reader.error(f"a second group {name.text}", name.line)
        reader.skip("comment", "newline")
        rows = []
        while reader.peek().text != "#":
            rows.append(reader.check(reader.row([name.text]), _STATE_KINDS[name.text]))
            reader.expect("newline")
            reader.skip("newline")
        reader.expect("mark", "#")
        reader.expect("word", "endif")
        _no_repeats(reader, rows, 0, "the state")
        groups[name.text] = [_state(row) for row in rows]
    missing = set(_STATE_KINDS) - set(groups)
    if missing:
        raise reader.error(f"missing: {', '.join(sorted(missing))}")
    return groups


def _state(row):
    word = row.arguments[1] if len(row.arguments) > 1 else row.arguments[0]
    routable = len(row.arguments) > 2 and row.arguments[2] == 1
    return State(row.arguments[0], word, routable, row.comment)


@dataclass(frozen=True)
class Field:
    type: str
    name: str
    since: int
    sentence: str


@dataclass
class Frame:
    number: int
    name: str
    upper_name: str
    has_body: bool
    since: int
    sentence: str
    fields: list = field(default_factory=list)


@dataclass(frozen=True)
class Flag:
    name: str
    value: int
    sentence: str


@dataclass
class Wire:
    head: str  # the words that the file opens with
    frames: list
    flags: list


def read_wire(path):
    reader = Reader(path)
    wire = Wire(reader.head_comment(), [], [])
    fields = {}
    while True:
        reader.skip("newline", "comment")
        token = reader.next()
        if token.kind == "end":
            break
        if token.text == "enum" and not wire.flags:
            wire.flags = _read_flags(reader)
        elif token.text == "#":
            _read_define(reader, wire, fields)
        else:
            raise reader.error(
                f"expected #define or the enum of flags, found {token.text!r}", token.line
            )
    if not wire.frames or not wire.flags:
        raise reader.error("no frames, or no flags")
    for frame in wire.frames:
        if frame.upper_name not in fields:
            raise reader.error(f"WIRE_{frame.upper_name} is missing: the fields of {frame.name}")
        frame.fields = fields.pop(frame.upper_name)
        if any(item.since < frame.since for item in frame.fields):
            raise reader.error(f"{frame.name} has a field older than itself")
    if fields:
        raise reader.error(f"fields without a frame: {', '.join(sorted(fields))}")
    return wire


def _read_define(reader, wire, fields):
    reader.expect("word", "define")
    name = reader.expect("word")
    reader.expect("mark", "(")
    macro = reader.expect("word").text
    reader.expect("mark", ")")
    rows = []
    while reader.peek().kind != "newline" and reader.peek().kind != "end":
        rows.append(reader.row([macro]))
    if name.text == "WIRE_FRAMES" and not wire.frames:
        wire.frames = [_frame(reader, expected, row) for expected, row in enumerate(rows, 1)]
        _no_repeats(reader, rows, 1, "the frame")
    elif name.text.startswith("WIRE_") and name.text[5:] not in fields:
        _no_repeats(reader, rows, 1, "the field")
        fields[name.text[5:]] = [_field(reader, row) for row in rows]
    else:
        raise reader.error(f"{name.text} is unknown or a repetition", name.line)


def _frame(reader, expected, row):
    frame = Frame(*reader.check(row, (int, str, str, int, int, str)).arguments)
    if frame.number != expected:
        raise reader.error(
            f"number {frame.number}: rows are numbered 1, 2, 3 ... and only appended", row.line
        )
    if frame.upper_name != frame.name.upper() or frame.has_body not in (0, 1) or frame.since < 1:
        raise reader.error(f"{frame.name}: name, body or version do not fit", row.line)
    return frame


def _field(reader, row):
    item = Field(*reader.check(row, (str, str, int, str)).arguments)
    if item.type not in WIRE_TYPES:
        raise reader.error(f"{item.name}: there is no type {item.type}", row.line)
    return item


def _read_flags(reader):
    """`enum name { FLAG = value, /* what it says */ ... };`, the word enum read already."""
    reader.expect("word")
    reader.expect("mark", "{")
    flags = []
    reader.skip("newline")
    while reader.peek().text != "}":
        name = reader.expect("word")
        reader.expect("mark", "=")
        value = int(reader.expect("number").text, 0)
        reader.expect("mark", ",")
        flags.append(Flag(name.text, value, plain_comment(reader.expect("comment").text)))
        if (
            value < 1
            or value > 255
            or value & (value - 1)
            or value in [flag.value for flag in flags[:-1]]
        ):
            raise reader.error(f"{name.text} is not a bit of its own in one byte", name.line)
        reader.skip("newline")
    reader.expect("mark", "}")
    reader.expect("mark", ";")
    return flags
