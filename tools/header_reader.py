# SPDX-License-Identifier: Apache-2.0
"""The public headers as data: what each is for, and what it declares under which comment.

A header opens with its licence and a comment, the essay, whose first line is its title. After that
come groups: a comment on lines of its own, and the declarations below it up to an empty line or
the next comment; a declaration without a comment before it belongs to the group above. A comment
behind a declaration, on its line, is that declaration's. `/* ---- words ---- */` begins a section.

The layout is the one that clang-format makes. What cannot be followed is a HeaderError with
file and line, so that nothing is passed over in silence. Markdown and man pages are
generate_api_reference.py's affair.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from fact_tables import plain_comment

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_DIRECTIVE = re.compile(r"#(?:[^\n]*\\\n)*[^\n]*")
_DEFINE = re.compile(r"#define\s+(\w+)(\([^)]*\))?\s*(.*)", re.DOTALL)
_SECTION = re.compile(r"/\* -{2,} (.*?)(?: -+)? \*/$", re.DOTALL)
_WRAPPERS = re.compile(r'extern "C" \{|\}(?!;)')
_ATTRIBUTE = re.compile(r"\s*__attribute__\(\([^;]*\)\)(?=;|$)")
# An initialiser list ends where clang-format puts the body: on a line of its own.
_BODY = re.compile(r"\n[ ]*\{\n")


class HeaderError(Exception):
    """A header that cannot be read; the text begins with file and line."""


@dataclass
class Item:
    kind: str  # function, struct, enum, type, macro
    name: str
    text: str  # as it is shown
    line: int
    comment: str = ""  # the one behind it


@dataclass
class Group:
    section: str
    comment: str
    items: list = field(default_factory=list)

    @property
    def names(self):
        return [item.name for item in self.items]


@dataclass
class Header:
    name: str  # manta/value.h
    title: str
    essay: str
    groups: list = field(default_factory=list)

    @property
    def short(self):
        return Path(self.name).name

    @property
    def items(self):
        return [item for group in self.groups for item in group.items]


def one_line(text):
    return " ".join(text.split())


def wrapped_signature(text, width=96):
    """A signature on one line, or broken at commas below its opening parenthesis."""
    if len(text) <= width or "(" not in text:
        return text
    # Of a function type the second parenthesis begins the parameters.
    indent = text.index(")(") + 2 if ")(" in text else text.index("(") + 1
    lines, rest = [], text
    while len(rest) > width:
        cut = rest.rfind(", ", indent, width)
        if cut < 0:
            break
        lines.append(rest[: cut + 1])
        rest = " " * indent + rest[cut + 2 :]
    return "\n".join([*lines, rest])


class Source:
    """A file's text and a place in it."""

    def __init__(self, path):
        self.path = Path(path)
        self.text = self.path.read_text(encoding="utf-8")
        self.at = 0

    def error(self, what, at=None):
        return HeaderError(f"{self.path}:{self.line(at)}: {what}")

    def line(self, at=None):
        return self.text.count("\n", 0, self.at if at is None else at) + 1

    def take(self, pattern):
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def skip_space(self):
        """Whether an empty line was passed."""
        start = self.at
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text.count("\n", start, self.at) > 1

    def at_line_start(self):
        begin = self.text.rfind("\n", 0, self.at) + 1
        return not self.text[begin : self.at].strip()

    def read_to(self, ends):
        """The text up to the first of `ends` outside of parentheses, braces and comments."""
        start, depth = self.at, 0
        while self.at < len(self.text):
            comment = self.take(_COMMENT)
            if comment:
                continue
            character = self.text[self.at]
            if depth == 0 and character in ends:
                return self.text[start : self.at]
            depth += (character in "({[") - (character in ")}]")
            self.at += 1
        raise self.error("a declaration does not end", start)

    def head(self, name):
        """The header's title and essay; the place is behind them."""
        licence = self.take(_COMMENT)
        if not licence or "SPDX-License-Identifier" not in licence.group():
            raise self.error("the first line is not the licence line")
        self.skip_space()
        opening = self.take(_COMMENT)
        words = plain_comment(opening.group()) if opening else ""
        first, _, essay = words.partition("\n\n")
        title = re.match(rf"<{re.escape(name)}>:\s+(.*)", one_line(first))
        if not title:
            raise self.error(f"the opening comment does not begin with <{name}>:")
        return Header(name, title.group(1), essay)


# ---- C --------------------------------------------------------------------------------------


def classify(source, text, line):
    """The item that a C declaration is; None for a type that is only named."""
    plain = one_line(_COMMENT.sub(" ", text))
    if re.fullmatch(r"(struct|enum) \w+", plain):
        return None
    match = re.match(r"(struct|enum) (\w+) \{", plain)
    if match:
        return Item(match.group(1), match.group(2), text.strip() + ";", line)
    match = re.match(r"typedef .*?\((\w+)\)\(", plain)
    if match:
        return Item("type", match.group(1), wrapped_signature(plain + ";"), line)
    match = re.match(r"MANTA_EXPORT (.*?\b(manta_\w+)\s*\(.*)", plain)
    if match:
        shown = _ATTRIBUTE.sub("", match.group(1)) + ";"
        return Item("function", match.group(2), wrapped_signature(shown), line)
    raise source.error(f"cannot tell what is declared by {plain[:60]!r}")


def read_macro(directive, line):
    name, parameters, body = _DEFINE.match(directive).groups()
    shown = f"{name}{parameters or ''}"
    if body and "\n" not in body and not parameters:
        shown = f"#define {shown} {one_line(_COMMENT.sub(' ', body))}"
    return Item("macro", name, shown, line)


class Groups:
    """Gathers items below their comments."""

    def __init__(self):
        self.found = []
        self.section = ""
        self.comment = None
        self.open = None

    def close(self):
        self.open = None

    def comment_on_lines(self, text):
        self.close()
        section = _SECTION.match(text)
        if section:
            self.section = section.group(1)
            self.comment = None
        else:
            self.comment = plain_comment(text)

    def add(self, item):
        if self.comment is not None or not self.open:
            self.open = Group(self.section, self.comment or "")
            self.found.append(self.open)
        self.comment = None
        self.open.items.append(item)

    @property
    def wants_macro(self):
        return self.comment is not None or self.open is not None


def read_c_header(path, name):
    source = Source(path)
    header = source.head(name)
    groups = Groups()
    while True:
        if source.skip_space():
            groups.close()
        if source.at == len(source.text):
            break
        behind = not source.at_line_start()
        line = source.line()
        comment = source.take(_COMMENT)
        if comment and behind and groups.open:
            groups.open.items[-1].comment = one_line(plain_comment(comment.group()))
        elif comment:
            groups.comment_on_lines(comment.group())
        elif source.text[source.at] == "#":
            directive = source.take(_DIRECTIVE).group()
            if directive.startswith("#define") and groups.wants_macro:
                groups.add(read_macro(directive, line))
            elif directive.startswith("#if"):
                groups.comment = None  # it spoke about the condition
        elif source.take(_WRAPPERS):
            continue
        else:
            item = classify(source, source.read_to(";"), line)
            source.at += 1
            if item:
                groups.add(item)
    header.groups = groups.found
    return header


# ---- C++ ------------------------------------------------------------------------------------


def members_shown(source, body):
    """A class's public members, bodies and initialisers left out, comments kept."""
    inner, shown, public = Source.__new__(Source), [], body.startswith("struct")
    inner.path, inner.text, inner.at = source.path, body, body.index("{") + 1
    while True:
        apart = inner.skip_space()
        if inner.text[inner.at] == "}":
            return shown
        access = inner.take(re.compile(r"(public|private|protected):"))
        if access:
            public = access.group(1) == "public"
            continue
        comment = inner.take(_COMMENT)
        if comment:
            text = re.sub(r"(?m)^ {4}", "", comment.group())
        else:
            text = declaration_shown(inner)
        if public:
            shown += [""] if apart and shown else []
            shown += text.split("\n")


def declaration_shown(source):
    """One declaration up to its semicolon or without its body; the place is behind both."""
    start = source.at
    nested = re.match(r"(template <[^\n]*> )?(class|struct) \w+[^;{(]*(?=\{)", source.text[start:])
    body = _BODY.search(source.text, start)
    semicolon = source.text.find(";", start)
    if nested:
        source.read_to(";")
        source.at += 1
        return one_line(nested.group()) + ";"
    if body and (body.start() < semicolon or semicolon < 0):
        text = source.text[start : body.start()]
        source.at = body.end() - 2
        source.at += 1
        source.read_to("}")
        source.at += 1
        # Without the initialisers of members.
        text = re.sub(r"\s+: [\w:]+[({].*$", "", text, flags=re.DOTALL)
        return wrapped_signature(one_line(text)) + ";"
    text = source.read_to(";")
    source.at += 1
    return wrapped_signature(one_line(text)) + ";"


def read_cpp_class(source, line):
    """A class or struct with its public members; None when it is only named."""
    start = source.at
    head = re.match(
        r"(template <[^\n]*> )?(class|struct) (?:MANTA_EXPORT )?(\w+)[^{;]*", source.text[start:]
    )
    text = source.read_to(";")
    source.at += 1
    if "{" not in text:
        return None
    kind, name = head.group(2), head.group(3)
    body = text[text.index(kind) :] + ";"
    title = one_line(head.group()).replace("MANTA_EXPORT ", "")
    lines = ["    " + line if line else "" for line in members_shown(source, body)]
    return Item("struct", name, "\n".join([title + " {", *lines, "};"]), line)


def skip_namespace(source):
    """Passes over `namespace detail { ... }`."""
    source.take(re.compile(r"namespace detail\s*\{"))
    source.read_to("}")
    source.at += 1


def read_cpp_header(path, name):
    source = Source(path)
    header = source.head(name)
    groups = Groups()
    while True:
        if source.skip_space():
            groups.close()
        if source.at == len(source.text):
            break
        line = source.line()
        comment = source.take(_COMMENT)
        rest = source.text[source.at :]
        if comment:
            if "namespace" not in comment.group():
                groups.comment_on_lines(comment.group())
        elif rest.startswith("#"):
            directive = source.take(_DIRECTIVE).group()
            if directive.startswith("#define") and groups.comment is not None:
                groups.add(read_macro(directive, line))
        elif rest.startswith("namespace detail"):
            skip_namespace(source)
            groups.comment = None
        elif source.take(re.compile(r"namespace manta\s*\{|\}(?!;)")):
            groups.close()
        elif re.match(r"(template <[^\n]*> )?(class|struct) \w+", rest):
            item = read_cpp_class(source, line)
            if item:
                groups.add(item)
        else:
            # What is defined behind its class was declared in it.
            is_inside = re.match(r"[^(;]*\w::\w+\(", rest)
            text = declaration_shown(source)
            match = re.search(r"\b(\w+)\(", text)
            if not match:
                raise source.error(f"cannot tell what is declared by {text[:60]!r}")
            if not is_inside and groups.comment is not None:
                groups.add(Item("function", match.group(1), text, line))
    header.groups = groups.found
    return header


def read_headers(include, ending):
    """The headers below include/manta with that ending, manta.h or manta.hpp first."""
    paths = sorted(
        (include / "manta").glob(f"*{ending}"), key=lambda path: (path.stem != "manta", path.name)
    )
    reader = read_c_header if ending == ".h" else read_cpp_header
    return [reader(path, f"manta/{path.name}") for path in paths]


# ---- comments -------------------------------------------------------------------------------


@dataclass
class Part:
    kind: str  # text, code, list
    lines: list  # of a text: one; of a list: its items


def parts_of(comment):
    """A comment's paragraphs, lists and indented code."""
    parts = []
    for block in re.split(r"\n\s*\n", comment):
        for line in block.split("\n"):
            words = line.strip()
            last = parts[-1] if parts else None
            if line.startswith("    "):
                if not last or last.kind != "code":
                    last = Part("code", [])
                    parts.append(last)
                last.lines.append(line[4:])
            elif words.startswith("- "):
                if not last or last.kind != "list":
                    last = Part("list", [])
                    parts.append(last)
                last.lines.append(words[2:])
            elif last and last.kind == "list" and line.startswith("  "):
                last.lines[-1] += " " + words
            elif last and last.kind == "text":
                last.lines[0] += " " + words
            else:
                parts.append(Part("text", [words]))
        parts.append(Part("end", []))
    merged = []
    for part in parts:
        # A code block may have empty lines in it.
        if (
            part.kind == "code"
            and len(merged) > 1
            and merged[-1].kind == "end"
            and merged[-2].kind == "code"
        ):
            merged.pop()
            merged[-1].lines += ["", *part.lines]
        elif part.kind != "end" or (merged and merged[-1].kind != "end"):
            merged.append(part)
    return [part for part in merged if part.kind != "end"]
