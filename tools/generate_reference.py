#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference from the fact tables of src/base/tables.

    generate_reference.py            writes the pages that differ
    generate_reference.py --check    writes nothing; exit status 1 when a page is out of date

Pages for people are Markdown; errors.json and settings.schema.json are for programs. The tables
are read by fact_tables.py. Also compared, because C users see it first: the list of codes in
include/manta/error.h.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import fact_tables
from fact_tables import TableError

GRPC_NAMES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
    "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE "
    "UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()

TYPE_WORDS = {
    "u8": "1 byte",
    "u16": "2 bytes",
    "u32": "4 bytes",
    "u64": "8 bytes",
    "i32": "4 bytes, signed",
    "i64": "8 bytes, signed",
    "text": "u16 length, bytes",
    "blob": "u32 length, bytes",
}

UNITS = {
    "bytes": ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")),
    "ms": ((86400000, "d"), (3600000, "h"), (60000, "min"), (1000, "s")),
}


def cell(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def page(title, source, *parts):
    mark = (
        f"<!-- Written by tools/generate_reference.py from src/base/tables/{source}. "
        "Change that, then run ./dev docs. -->"
    )
    return "\n".join([f"# {title}", "", mark, "", "\n".join(parts)]).rstrip("\n") + "\n"


def amount(value, unit):
    """The number as it is set, and in a unit that one can read."""
    for size, word in UNITS.get(unit, ()):
        if value and value % size == 0:
            return f"{value} ({value // size} {word})"
    return str(value)


def errors_page(errors):
    rows = [
        (
            -error.number,
            f"`{error.public_name}`",
            error.text,
            error.http,
            f"{error.grpc} {GRPC_NAMES[error.grpc]}",
        )
        for error in errors
    ]
    return page(
        "Errors",
        "errors.def",
        "A function of the C API that fails returns one of these negative codes. Over HTTP and gRPC",
        "the same error is the status in its row. Codes keep their numbers; new ones are appended.",
        "",
        table(("code", "name", "meaning", "HTTP", "gRPC"), rows),
    )


def errors_json(errors):
    return (
        json.dumps(
            [
                {
                    "code": -error.number,
                    "name": error.public_name,
                    "text": error.text,
                    "http": error.http,
                    "grpc": error.grpc,
                    "grpc_name": GRPC_NAMES[error.grpc],
                }
                for error in errors
            ],
            indent=2,
        )
        + "\n"
    )


def settings_page(settings):
    parts = [
        "Every limit and knob. Values are whole numbers. An environment variable overrides a default",
        "in every process of an instance; a value outside its range is refused with a message.",
        "",
    ]
    for group in dict.fromkeys(setting.group for setting in settings):
        heading, _, more = group.partition(". ")
        parts += [f"## {heading.rstrip('.') or 'General'}", ""]
        if more:
            parts += [more.strip(), ""]
        parts.append(
            table(
                ("setting", "default", "range", "unit", "meaning"),
                [
                    (
                        f"`{row.name}`<br>`{row.variable}`",
                        amount(row.value, row.unit),
                        f"{amount(row.minimum, row.unit)} to {amount(row.maximum, row.unit)}",
                        row.unit,
                        row.sentence,
                    )
                    for row in settings
                    if row.group == group
                ],
            )
        )
    return page("Settings", "settings.def", *parts)


def settings_schema(settings):
    return (
        json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "Settings of Manta",
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    row.name: {
                        "type": "integer",
                        "default": row.value,
                        "minimum": row.minimum,
                        "maximum": row.maximum,
                        "description": f"{row.sentence} Unit: {row.unit}.",
                    }
                    for row in settings
                },
            },
            indent=2,
        )
        + "\n"
    )


def metrics_page(metrics):
    return page(
        "Metrics",
        "metrics.def",
        "Counters only grow; gauges are set. Each process has a value of each; readers add them up.",
        "",
        table(
            ("metric", "kind", "meaning"),
            [(f"`{row.name}`", row.kind.lower(), row.sentence) for row in metrics],
        ),
    )


def states_page(groups):
    replica_rows = [
        (f"`{row.name}`", f"`{row.word}`", "yes" if row.routable else "no", row.comment)
        for row in groups["REPLICA_STATE"]
    ]
    parts = [
        "The words of life. Where Ray Serve has a word for something, it is the same word.",
        "",
        "## Replicas",
        "",
        table(("state", "shown as", "routable", "what is true"), replica_rows),
    ]
    for name, heading in (
        ("DEPLOYMENT_STATUS", "Status of a deployment"),
        ("DEPLOYMENT_TRIGGER", "What brought a deployment into its status"),
        ("APPLICATION_STATUS", "Status of an application"),
    ):
        parts += [
            f"## {heading}",
            "",
            *[
                f"- `{row.word}`" + (f": {row.comment}" if row.comment else "")
                for row in groups[name]
            ],
            "",
        ]
    return page("States", "states.def", *parts)


def layout(head):
    """The paragraphs of wire.def's head that describe the bytes, not those about the macros."""
    kept = []
    for paragraph in re.split(r"\n\s*\n", head)[1:]:
        if paragraph.startswith("WIRE_"):
            continue
        if paragraph.startswith("    "):
            paragraph = "```text\n" + re.sub(r"(?m)^    ", "", paragraph) + "\n```"
        kept += [paragraph, ""]
    return kept


def wire_page(wire):
    parts = [
        "The one binary protocol between the processes of an instance.",
        "",
        "## Frames and fields",
        "",
    ]
    parts += layout(wire.head)
    parts += [
        "## Types",
        "",
        table(
            ("type", "on the wire"),
            [(f"`{name}`", TYPE_WORDS[name]) for name in fact_tables.WIRE_TYPES],
        ),
    ]
    parts += [
        "## Flags",
        "",
        table(
            ("flag", "bit", "meaning"),
            [(f"`{flag.name}`", flag.value, flag.sentence) for flag in wire.flags],
        ),
    ]
    parts += [
        "## All frames",
        "",
        table(
            ("number", "frame", "body", "since", "meaning"),
            [
                (
                    frame.number,
                    f"[{frame.name}](#{frame.number}-{frame.name})",
                    "yes" if frame.has_body else "no",
                    frame.since,
                    frame.sentence,
                )
                for frame in wire.frames
            ],
        ),
    ]
    for frame in wire.frames:
        parts += [f"### {frame.number} {frame.name}", "", frame.sentence, ""]
        rows = [(item.type, f"`{item.name}`", item.since, item.sentence) for item in frame.fields]
        if frame.has_body:
            rows.append(("", "body", frame.since, "What is left of the frame."))
        parts.append(table(("type", "field", "since", "meaning"), rows) if rows else "No fields.\n")
    return page("Wire", "wire.def", *parts)


def compare_public_codes(errors, path):
    """include/manta/error.h repeats the codes for C users; it may not say anything else."""
    written = dict(re.findall(r"\b(MANTA_E[A-Z]+)\s*=\s*(-\d+)", path.read_text(encoding="utf-8")))
    wanted = {error.public_name: str(-error.number) for error in errors}
    wrong = [name for name in {**wanted, **written} if wanted.get(name) != written.get(name)]
    if wrong:
        raise TableError(f"{path}: not as in errors.def: {', '.join(wrong)}")


def make_pages(root):
    """{file name: contents} of docs/reference."""
    tables = root / "src" / "base" / "tables"
    errors = fact_tables.read_errors(tables / "errors.def")
    settings = fact_tables.read_settings(tables / "settings.def")
    compare_public_codes(errors, root / "include" / "manta" / "error.h")
    return {
        "errors.md": errors_page(errors),
        "errors.json": errors_json(errors),
        "settings.md": settings_page(settings),
        "settings.schema.json": settings_schema(settings),
        "metrics.md": metrics_page(fact_tables.read_metrics(tables / "metrics.def")),
        "states.md": states_page(fact_tables.read_states(tables / "states.def")),
        "wire.md": wire_page(fact_tables.read_wire(tables / "wire.def")),
    }


def stale_pages(pages, folder):
    return [
        name
        for name, contents in pages.items()
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != contents
    ]


def main(arguments):
    parser = argparse.ArgumentParser(description="Writes docs/reference from the fact tables.")
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
    folder = options.root / "docs" / "reference"
    try:
        pages = make_pages(options.root)
    except (TableError, OSError) as error:
        print(f"generate_reference: {error}", file=sys.stderr)
        return 1
    stale = stale_pages(pages, folder)
    if options.check:
        for name in stale:
            print(
                f"docs/reference/{name} is not what the tables say: run ./dev docs and commit it",
                file=sys.stderr,
            )
        return 1 if stale else 0
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (folder / name).write_text(pages[name], encoding="utf-8")
        print(f"docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
