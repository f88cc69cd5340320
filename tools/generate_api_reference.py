#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference/api.md and docs/man from the public headers and the help of src/cli.

    generate_api_reference.py            writes pages that differ, removes those without a source
    generate_api_reference.py --check    writes nothing; exit status 1 when a page is out of date

A man page per group of functions with one comment (the others of a group are .so links to the
first), one per header, one per command. docs/man/meson.build, which installs them, is written too.
The headers are read by header_reader.py, the help texts by cli_help.py.
"""

import argparse
import re
import sys
from pathlib import Path

import cli_help
import header_reader
import man_page
from cli_help import HelpError
from header_reader import HeaderError

TOOL = "generate_api_reference.py"
MARK = f"<!-- Written by tools/{TOOL} from include/manta. Change that, then run ./dev docs. -->"
OVERVIEW = "manta/manta.h"
CPP_OVERVIEW = "manta/manta.hpp"
_CODE = re.compile(r"\b(MANTA_E[A-Z]+)\b")


def man_name(header):
    """manta/value.h is manta-value(3), manta/manta.h is manta(3)."""
    stem = Path(header.name).stem
    return "manta" if stem == "manta" else f"manta-{stem}"


def meanings(headers):
    """{MANTA_E code: what its comment says} from error.h."""
    for header in headers:
        for item in header.items:
            if item.name == "manta_error_code":
                found = re.findall(r"(MANTA_E\w+)\s*=[^/]*/\* (.*?) \*/", item.text)
                return {name: re.sub(r" \[\d+\]$", "", text) for name, text in found}
    raise HeaderError("no header declares manta_error_code")


def spoken(item):
    """A C type is named with its keyword."""
    return (
        f"{item.kind} {item.name}"
        if item.name.startswith("manta_") and item.kind in ("struct", "enum")
        else item.name
    )


def refuse_the_unsaid(headers):
    """Whatever is declared is explained."""
    for header in headers:
        for group in header.groups:
            for item in group.items:
                if not group.comment and not item.comment:
                    raise HeaderError(
                        f"include/{header.name}:{item.line}: {item.name} has no comment"
                    )


# ---- Markdown -------------------------------------------------------------------------------


class Markdown:
    """Text with links to what it names."""

    def __init__(self, headers):
        self.known = {item.name for header in headers for item in header.items}
        self.headers = {f"<{header.name}>": header.short for header in headers}
        self.codes = set(meanings(headers))
        self.names = re.compile(r"`[^`]*`|(?<![\w/.])(?:manta|MANTA)_\w+|<manta/[\w.]+>")

    def name(self, match):
        word = match.group().strip("`")
        if word in self.headers:
            return f"[`{word}`](#{self.headers[word]})"
        if word in self.codes:
            return f"[`{word}`](#manta_error_code)"
        return f"[`{word}`](#{word})" if word in self.known else f"`{word}`"

    def text(self, words):
        out, at = [], 0
        plain = lambda part: re.sub(r"([*<>\[\]])", r"\\\1", part)
        for match in self.names.finditer(words):
            out += [plain(words[at : match.start()]), self.name(match)]
            at = match.end()
        return "".join([*out, plain(words[at:])])

    def comment(self, comment, language):
        lines = []
        for part in header_reader.parts_of(comment):
            if part.kind == "code":
                lines += [f"```{language}", *part.lines, "```", ""]
            elif part.kind == "list":
                lines += [*[f"- {self.text(item)}" for item in part.lines], ""]
            else:
                lines += [self.text(part.lines[0]), ""]
        return lines

    def group(self, group, language):
        lines = ["".join(f'<a id="{name}"></a>' for name in group.names)]
        lines += [
            "#### " + ", ".join(f"`{name}`" for name in dict.fromkeys(map(spoken, group.items))),
            "",
        ]
        lines += [f"```{language}", *[item.text for item in group.items], "```", ""]
        lines += self.comment(group.comment, language)
        said = [
            f"- `{item.name}`: {self.text(item.comment)}" for item in group.items if item.comment
        ]
        return lines + ([*said, ""] if said else [])

    def header(self, header, language):
        lines = [f'<a id="{header.short}"></a>', "", f"## `<{header.name}>`", ""]
        lines += [self.text(header.title[0].upper() + header.title[1:]), ""]
        lines += self.comment(header.essay, language)
        section = ""
        for group in header.groups:
            if group.section != section:
                section = group.section
                lines += [f"### {section[0].upper()}{section[1:]}", ""]
            lines += self.group(group, language)
        return lines

    def contents(self, headers):
        lines = ["| header | what it is for | what it declares |", "| --- | --- | --- |"]
        for header in headers:
            declared = ", ".join(
                f"[`{name}`](#{name})" for name in dict.fromkeys(item.name for item in header.items)
            )
            lines.append(
                f"| [`<{header.name}>`](#{header.short}) | {self.text(header.title)} | {declared} |"
            )
        return [*lines, ""]


def api_page(headers, cpp_headers):
    c, cpp = Markdown(headers), Markdown(headers)
    # C++ names are words such as `value`: only those of C, and the headers, are linked.
    cpp.headers |= {f"<{header.name}>": header.short for header in cpp_headers}
    lines = ["# The C and C++ interface", "", MARK, ""]
    lines += [
        "What `include/manta` says, header by header. The same for C is in the man pages, from",
        "`man 3 manta` on.",
        "",
    ]
    lines += ["## C", "", *c.contents(headers), "## C++", "", *cpp.contents(cpp_headers)]
    for header in headers:
        lines += c.header(header, "c")
    for header in cpp_headers:
        lines += cpp.header(header, "cpp")
    text = "\n".join(lines).rstrip("\n") + "\n"
    return re.sub(r"\n{3,}", "\n\n", text)


# ---- man pages of the headers ---------------------------------------------------------------


def errors_named(group, known):
    """The codes that a group's comments name, with what they mean."""
    text = " ".join([group.comment, *[item.comment for item in group.items]])
    return [(code, known[code]) for code in dict.fromkeys(_CODE.findall(text)) if code in known]


def one_sentence(text):
    """For the line NAME: what a comment says first, without what stands in parentheses."""
    plain = re.sub(r"\s*\([^()]*\)", "", header_reader.one_line(text))
    first = re.split(r"[.:;](?:\s|$)", plain, maxsplit=1)[0]
    return first[0].lower() + first[1:] if first[1:2].islower() or first[1:2] == " " else first


def group_page(header, group, known):
    names = list(dict.fromkeys(group.names))
    said = [(item.name, item.comment) for item in group.items if item.comment]
    # Two spaces between declarations of more than a line.
    synopsis = [f"#include <{header.name}>", ""]
    for item in group.items:
        synopsis += item.text.split("\n")
    about = one_sentence(group.comment or group.items[0].comment)
    others = [
        name
        for other in header.groups
        for name in other.names[:1]
        if other.section == group.section
    ]
    place = others.index(names[0])
    near = [name for name in others[max(0, place - 3) : place + 4] if name != names[0]]
    return man_page.page(
        names[0],
        3,
        TOOL,
        [
            ("NAME", man_page.name_line(names, about)),
            ("SYNOPSIS", man_page.code(synopsis)),
            ("DESCRIPTION", man_page.paragraphs(group.comment) + man_page.rows(said)),
            ("ERRORS", man_page.rows(errors_named(group, known))),
            (
                "SEE ALSO",
                man_page.seen_also([(man_name(header), 3), *[(name, 3) for name in near]]),
            ),
        ],
    )


def header_page(header, headers):
    """A header's essay and what it declares; the overview also names the other headers."""
    declared = [
        (
            ", ".join(dict.fromkeys(group.names)),
            one_sentence(group.comment or group.items[0].comment),
        )
        for group in header.groups
    ]
    if header.name == OVERVIEW:
        declared = [
            (f"<{other.name}>", f"{other.title} See {man_name(other)}(3).")
            for other in headers
            if other is not header
        ]
    others = [(man_name(other), 3) for other in headers if other is not header]
    return man_page.page(
        man_name(header),
        3,
        TOOL,
        [
            ("NAME", man_page.name_line([man_name(header)], header.title)),
            (
                "SYNOPSIS",
                man_page.code([f"#include <{header.name}>"])
                + [".PP", man_page.prose("`cc ... $(pkg-config --cflags --libs manta)`")],
            ),
            ("DESCRIPTION", man_page.paragraphs(header.essay)),
            ("HEADERS" if header.name == OVERVIEW else "DECLARATIONS", man_page.rows(declared)),
            (
                "SEE ALSO",
                man_page.seen_also(
                    [
                        ("manta", 1),
                        *others,
                        *([("manta-cpp", 3)] if header.name == OVERVIEW else []),
                    ]
                ),
            ),
        ],
    )


def cpp_page(cpp_headers):
    overview = next(header for header in cpp_headers if header.name == CPP_OVERVIEW)
    parts = [(f"<{header.name}>", header.title) for header in cpp_headers if header is not overview]
    example = next(header for header in cpp_headers if header.name == "manta/deployment.hpp")
    return man_page.page(
        "manta-cpp",
        3,
        TOOL,
        [
            ("NAME", man_page.name_line(["manta-cpp"], overview.title)),
            ("SYNOPSIS", man_page.code([f"#include <{overview.name}>"])),
            ("DESCRIPTION", man_page.paragraphs(overview.essay)),
            ("HEADERS", man_page.rows(parts)),
            ("A CLASS AS A DEPLOYMENT", man_page.paragraphs(example.essay)),
            ("SEE ALSO", man_page.seen_also([("manta", 3), ("manta-deployment", 3)])),
        ],
    )


def header_pages(headers, cpp_headers):
    pages, known = {}, meanings(headers)
    for header in headers:
        pages[f"{man_name(header)}.3"] = header_page(header, headers)
        for group in header.groups:
            first, *others = dict.fromkeys(group.names)
            pages[f"{first}.3"] = group_page(header, group, known)
            for name in others:
                pages[f"{name}.3"] = f".so man3/{first}.3\n"
    pages["manta-cpp.3"] = cpp_page(cpp_headers)
    return pages


# ---- man pages of the commands --------------------------------------------------------------


def environment(overview):
    return man_page.rows(cli_help.rows_of("  " + line for line in overview.sections["environment"]))


def exit_status(overview):
    for prose in overview.prose:
        if prose.startswith("exit status:"):
            return man_page.rows(re.findall(r"(\d+) ([^,]+)", prose))
    raise HelpError("`manta --help` does not tell the exit status")


def synopsis(usage):
    return [
        man_page.prose(
            re.sub(r"(?<![\w-])(manta(?: [a-z]+)?|--?[\w-]+)(?![\w/.-])", r"`\1`", usage)
        )
    ]


def command_page(command, overview, commands):
    name = f"manta-{command.name}"
    others = [(f"manta-{other.name}", 1) for other in commands if other is not command]
    shown = [
        (heading.upper() + ("S" if heading == "example" else ""), man_page.code(lines))
        for heading, lines in command.sections.items()
    ]
    return man_page.page(
        name,
        1,
        TOOL,
        [
            ("NAME", man_page.name_line([name], command.summary)),
            ("SYNOPSIS", synopsis(command.usage)),
            (
                "DESCRIPTION",
                [line for text in command.prose for line in (".PP", man_page.prose(text))],
            ),
            (
                "OPTIONS",
                man_page.rows(
                    [*command.options, ("--help, -h", "prints the usage and these options")]
                ),
            ),
            ("ENVIRONMENT", environment(overview)),
            ("EXIT STATUS", exit_status(overview)),
            *shown,
            ("SEE ALSO", man_page.seen_also([("manta", 1), *others])),
        ],
    )


def overview_page(overview, commands):
    return man_page.page(
        "manta",
        1,
        TOOL,
        [
            ("NAME", man_page.name_line(["manta"], overview.summary.removeprefix("Manta "))),
            ("SYNOPSIS", synopsis(overview.usage)),
            (
                "DESCRIPTION",
                [
                    man_page.prose(
                        "Each command has a page of its own, and says the same by `--help`."
                    )
                ],
            ),
            ("COMMANDS", man_page.rows([(command.name, command.summary) for command in commands])),
            ("OPTIONS", man_page.rows(overview.options)),
            ("ENVIRONMENT", environment(overview)),
            ("EXIT STATUS", exit_status(overview)),
            (
                "SEE ALSO",
                man_page.seen_also(
                    [*[(f"manta-{command.name}", 1) for command in commands], ("manta", 3)]
                ),
            ),
        ],
    )


def command_pages(folder):
    commands, overview = cli_help.read_commands(folder), cli_help.read_overview(folder)
    pages = {
        f"manta-{command.name}.1": command_page(command, overview, commands) for command in commands
    }
    return {"manta.1": overview_page(overview, commands), **pages}


# ---- all of it ------------------------------------------------------------------------------


def man_build(names):
    lines = ["# SPDX-License-Identifier: Apache-2.0", f"# Written by tools/{TOOL}.", "install_man("]
    return "\n".join([*lines, *[f"  '{name}'," for name in sorted(names)]]).rstrip(",") + ")\n"


def make_pages(root):
    """{path below docs: contents}."""
    headers = header_reader.read_headers(root / "include", ".h")
    cpp_headers = header_reader.read_headers(root / "include", ".hpp")
    refuse_the_unsaid([*headers, *cpp_headers])
    man = {**header_pages(headers, cpp_headers), **command_pages(root / "src" / "cli")}
    return {
        "reference/api.md": api_page(headers, cpp_headers),
        **{f"man/{name}": text for name, text in man.items()},
        "man/meson.build": man_build(man),
    }


def stale_pages(pages, docs):
    """Pages that differ, and files of docs/man that nothing is behind."""
    differ = [
        name
        for name, text in pages.items()
        if not (docs / name).exists() or (docs / name).read_text(encoding="utf-8") != text
    ]
    found = [f"man/{path.name}" for path in sorted((docs / "man").glob("*"))]
    return differ, [name for name in found if name not in pages]


def main(arguments):
    parser = argparse.ArgumentParser(description="Writes docs/reference/api.md and docs/man.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when a page is not up to date"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(__file__).resolve().parent.parent,
        help="the tree to work on",
    )
    options = parser.parse_args(arguments)
    docs = options.root / "docs"
    try:
        pages = make_pages(options.root)
    except (HeaderError, HelpError, OSError) as error:
        print(f"generate_api_reference: {error}", file=sys.stderr)
        return 1
    differ, orphans = stale_pages(pages, docs)
    if options.check:
        for name in [*differ, *orphans]:
            print(
                f"docs/{name} is not what its source says: run ./dev docs and commit it",
                file=sys.stderr,
            )
        return 1 if differ or orphans else 0
    for name in differ:
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text(pages[name], encoding="utf-8")
        print(f"docs/{name}")
    for name in orphans:
        (docs / name).unlink()
        print(f"docs/{name} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
