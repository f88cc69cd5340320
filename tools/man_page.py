# SPDX-License-Identifier: Apache-2.0
"""The words of man(7): escaping, paragraphs, sections. What stands on which page is
generate_api_reference.py's affair."""

import re

import header_reader

# What the program's own names look like in a text.
_NAME = re.compile(r"`([^`]+)`|(?<![\w/<.\\])((?:manta|MANTA)_\w+|<manta/[\w.]+>)")


def escaped(text):
    return (
        text.replace("\\", "\\e")
        .replace("-", "\\-")
        .replace("'", "\\(aq")
        .replace("^", "\\(ha")
        .replace("~", "\\(ti")
    )


def prose(text):
    """Escaped, names in bold; a hyphen between letters stays one."""

    def plain(words):
        return re.sub(r"(?<=[a-z])\\-(?=[a-z])", "-", escaped(words)).replace("\\(aq", "'")

    out, at = [], 0
    for match in _NAME.finditer(text):
        out += [
            plain(text[at : match.start()]),
            "\\fB",
            escaped(match.group(1) or match.group(2)),
            "\\fP",
        ]
        at = match.end()
    return guarded("".join([*out, plain(text[at:])]))


def guarded(line):
    """A line that begins with a dot or an apostrophe would be a request."""
    return "\\&" + line if line[:1] in (".", "'") else line


def code(lines):
    return [".RS 4", ".EX", *[guarded(escaped(line)) for line in lines], ".EE", ".RE"]


def paragraphs(comment):
    lines = []
    for part in header_reader.parts_of(comment):
        if part.kind == "code":
            lines += [".PP", *code(part.lines)]
        elif part.kind == "list":
            for item in part.lines:
                lines += [".IP \\(bu 2", prose(item)]
        else:
            lines += [".PP", prose(part.lines[0])]
    return lines


def rows(pairs):
    """A list of terms and what is said about each."""
    lines = []
    for term, text in pairs:
        lines += [
            ".TP",
            f".B {guarded(escaped(term))}" if '"' not in term else prose(f"`{term}`"),
            prose(text) or "\\&",
        ]
    return lines


def name_line(names, about):
    """What whatis(1) reads: no fonts, no stop."""
    return [", ".join(map(escaped, names)) + " \\- " + escaped(about.rstrip("."))]


def seen_also(pages):
    """name(section), ... with commas between them."""
    pages = list(pages)
    return [
        f".BR {escaped(name)} ({section})" + ("," if index + 1 < len(pages) else "")
        for index, (name, section) in enumerate(pages)
    ]


def page(name, section, tool, sections):
    """sections: (heading, lines) in order; empty ones are left out."""
    title = escaped(name.upper())
    lines = [
        '.\\" SPDX-License-Identifier: Apache-2.0',
        f'.\\" Written by tools/{tool}. Change what it is made from, then run ./dev docs.',
        f'.TH {title} {section} "" Manta "Manta manual"',
        # Names are long and must not be broken; ragged lines take that better.
        ".nh",
        ".ad l",
    ]
    for heading, content in sections:
        if content:
            # The first paragraph of a section needs no .PP.
            lines += [f".SH {heading}", *(content[1:] if content[0] == ".PP" else content)]
    return "\n".join(lines) + "\n"
