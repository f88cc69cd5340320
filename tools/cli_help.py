# SPDX-License-Identifier: Apache-2.0
"""The help of the command line, read from src/cli: the commands of the table in manta.c, and what
each says about itself.

A help text is a line "usage: ...", and blocks between empty lines: prose, options (two spaces,
"--name VALUE", at least two spaces, what it does; deeper lines go on), or a word with a colon and
indented lines below it ("example:", "environment:"). A text of another shape is a HelpError.
"""

import re
from dataclasses import dataclass, field

import c_source

_STRING = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_TABLE = re.compile(r"\bCOMMANDS\[\]\s*=\s*\{([^}]*)\}")
_ROW = re.compile(r"  (\S.*?)(?:  +(.*))?$")


class HelpError(Exception):
    """A help text that cannot be read."""


@dataclass
class Command:
    name: str
    summary: str
    usage: str = ""
    prose: list = field(default_factory=list)  # paragraphs
    options: list = field(default_factory=list)  # (option, what it does)
    sections: dict = field(default_factory=dict)  # heading: lines, two spaces less


def string_of(code):
    """Neighbouring literals as one string."""
    return "".join(
        re.sub(r"\\(.)", lambda match: _ESCAPES[match.group(1)], piece)
        for piece in _STRING.findall(code)
    )


def rows_of(lines):
    """(first column, second column) of indented lines; deeper ones go on."""
    rows = []
    for line in lines:
        match = _ROW.match(line) if re.match(r"  \S", line) else None
        if match:
            rows.append((match.group(1), match.group(2) or ""))
        elif rows and line.startswith("   "):
            rows[-1] = (rows[-1][0], f"{rows[-1][1]} {line.strip()}".strip())
        else:
            raise HelpError(f"cannot read the line {line!r}")
    return rows


def parse_help(command, text):
    first, *blocks = re.split(r"\n\n+", text.strip("\n"))
    if not first.startswith("usage: "):
        raise HelpError(f"the help of {command.name!r} does not begin with 'usage: '")
    command.usage = " ".join(first[len("usage: ") :].split())
    for block in blocks:
        lines = block.split("\n")
        heading = re.match(r"(\w[\w ]*):$", lines[0])
        if heading:
            command.sections[heading.group(1)] = [line[2:] for line in lines[1:]]
        elif lines[0].startswith("  "):
            command.options += rows_of(lines)
        else:
            command.prose.append(" ".join(block.split()))
    return command


def member(code, name):
    """The string that a designated initialiser gives a member."""
    match = re.search(rf'\.{name}\s*=\s*((?:"(?:[^"\\\n]|\\.)*"\s*)+)', code)
    if not match:
        raise HelpError(f"there is no .{name}")
    return string_of(match.group(1))


def read_commands(folder):
    """The commands in the order of the table."""
    sources = {
        path: c_source.without_comments(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.c"))
    }
    commands = []
    table = _TABLE.search(sources.get(folder / "manta.c", ""))
    if not table:
        raise HelpError("src/cli/manta.c has no table COMMANDS")
    for symbol in re.findall(r"&(\w+)", table.group(1)):
        for code in sources.values():
            at = re.search(rf"\bconst struct command {symbol} = \{{", code)
            if at:
                code = code[at.end() :]
                found = Command(member(code, "name"), member(code, "summary"))
                commands.append(parse_help(found, member(code, "help")))
                break
        else:
            raise HelpError(f"no file of src/cli defines {symbol}")
    return commands


def read_overview(folder):
    """What `manta --help` says, as a command without a name; the commands are left out."""
    code = c_source.without_comments((folder / "manta.c").read_text(encoding="utf-8"))
    at = code.find("static void print_help(")
    if at < 0:
        raise HelpError("src/cli/manta.c has no print_help")
    body = code[at : code.index("\n}", at)]
    text = "".join(
        string_of(call) for call in re.findall(r"\bfputs\((.*?),\s*out\)", body, re.DOTALL)
    )
    title, _, rest = text.partition("\n\n")
    overview = parse_help(Command("", title.strip().rstrip(".")), rest)
    if "commands" not in overview.sections or "environment" not in overview.sections:
        raise HelpError("`manta --help` lists neither commands nor environment")
    return overview
