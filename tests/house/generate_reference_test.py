# SPDX-License-Identifier: Apache-2.0
"""The fact tables' reader and the pages: what is written comes out, and what cannot be read is
told.

The good tables are those of the tree; each bad one is a small table with one thing wrong.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.environ.get("MANTA_TOOLS", str(ROOT / "tools")))
import fact_tables  # noqa: E402
import generate_reference  # noqa: E402

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/*\n * What it is.\n */\n"
SETTING = 'SETTING(a_limit, 5, 1, 10, "things", "Most things.")\n'


class Tables(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "x.def"

    def read(self, reader, text):
        self.path.write_text(text, encoding="utf-8")
        return reader(self.path)

    def refuse(self, reader, text, line, words):
        with self.assertRaises(fact_tables.TableError) as caught:
            self.read(reader, text)
        self.assertIn(words, str(caught.exception))
        self.assertTrue(
            str(caught.exception).startswith(f"{self.path}:{line}: "), str(caught.exception)
        )


class Settings(Tables):
    def test_rows_groups_and_strings(self):
        rows = self.read(
            fact_tables.read_settings,
            HEAD + "/* First. */\n" + SETTING + "/* Second.\n * More. */\n"
            'SETTING(b, -1, /* why */ -5,\n        0x10, "ms", "Two "\n        "\\"parts\\".") /* behind */\n',
        )
        self.assertEqual([row.name for row in rows], ["a_limit", "b"])
        self.assertEqual([row.group for row in rows], ["First.", "Second.\nMore."])
        self.assertEqual((rows[1].value, rows[1].minimum, rows[1].maximum), (-1, -5, 16))
        self.assertEqual(rows[1].sentence, 'Two "parts".')
        self.assertEqual(rows[0].variable, "MANTA_A_LIMIT")

    def test_what_is_not_read_is_never_skipped(self):
        refuse = lambda text, line, words: self.refuse(
            fact_tables.read_settings, HEAD + text, line, words
        )
        refuse("", 5, "no rows")
        refuse("SETING(a, 1)\n", 5, "expected a row of SETTING")
        refuse(SETTING + "nonsense\n", 6, "expected a row")
        refuse(SETTING.replace(")\n", ");\n"), 5, "behind a row")
        refuse(SETTING + SETTING, 6, "line 5 already")
        refuse('SETTING(a, 5, 1, 10, "things")\n', 5, "has 5 arguments, not 6")
        refuse('SETTING(a, 5, 1, "10", "things", "x.")\n', 5, "argument 4")
        refuse('SETTING(a, 1024 * 2, 1, 9999, "things", "x.")\n', 5, "cannot read")
        refuse('SETTING(a, 5ULL, 1, 10, "things", "x.")\n', 5, "cannot read")
        refuse('SETTING(a, (5), 1, 10, "things", "x.")\n', 5, "expected a number")
        refuse('SETTING(a, 11, 1, 10, "things", "x.")\n', 5, "not within its limits")
        refuse('SETTING(a, 5, 1, 9223372036854775808, "things", "x.")\n', 5, "64 bits")
        refuse('SETTING(A, 5, 1, 10, "things", "x.")\n', 5, "lower case")
        refuse('SETTING(a, 5, 1, 10, "things", "no stop")\n', 5, "stop")
        refuse('SETTING(a, 5, 1, 10, "things", "x.\\q")\n', 5, "escape")
        refuse('SETTING(a, 5, 1, 10, "things", "x.)\n', 5, "cannot read")
        refuse("SETTING(a, 5,\n", 6, "expected")
        refuse("/* open\n", 5, "cannot read")

    def test_the_licence_line_comes_first(self):
        self.refuse(fact_tables.read_settings, "/* x */\n/* y */\n" + SETTING, 1, "licence")


class OtherTables(Tables):
    def test_errors(self):
        good = HEAD + 'ERROR(1, NOT_FOUND, "none", 404, 5)\n'
        self.assertEqual(self.read(fact_tables.read_errors, good)[0].public_name, "MANTA_ENOTFOUND")
        self.refuse(
            fact_tables.read_errors, HEAD + 'ERROR(2, A, "x", 404, 5)\n', 5, "numbered 1, 2, 3"
        )
        self.refuse(fact_tables.read_errors, HEAD + 'ERROR(1, A, "x", 200, 5)\n', 5, "HTTP")
        self.refuse(fact_tables.read_errors, HEAD + 'ERROR(1, A, "x", 404, 17)\n', 5, "gRPC")

    def test_metrics(self):
        self.refuse(fact_tables.read_metrics, HEAD + 'METRIC(a_total, GAUGE, "x")\n', 5, "_total")
        self.refuse(fact_tables.read_metrics, HEAD + 'METRIC(a, COUNTER, "x")\n', 5, "_total")
        self.refuse(fact_tables.read_metrics, HEAD + 'METRIC(a, SUM, "x")\n', 5, "neither")

    def test_states(self):
        self.refuse(fact_tables.read_states, HEAD + "#ifdef REPLICA_STATE\n#endif\n", 7, "missing")
        self.refuse(fact_tables.read_states, HEAD + "#ifdef OTHER\n#endif\n", 5, "unknown group")
        self.refuse(
            fact_tables.read_states,
            HEAD + "#ifdef DEPLOYMENT_TRIGGER\nAPPLICATION_STATUS(X)\n#endif\n",
            6,
            "expected a row of DEPLOYMENT_TRIGGER",
        )

    def test_wire(self):
        flags = "enum wire_flag {\n    WIRE_END = 1, /* the last */\n};\n"
        frames = '#define WIRE_FRAMES(X) \\\n    X(1, ping, PING, 0, 1, "Ping.")\n\n'
        fields = '#define WIRE_PING(F) \\\n    F(u64, token, 1, "A | B.")\n'
        wire = self.read(fact_tables.read_wire, HEAD + frames + flags + fields)
        self.assertEqual(
            (wire.frames[0].fields[0].name, wire.flags[0].sentence), ("token", "the last")
        )
        self.assertIn("| u64 | `token` | 1 | A \\| B. |", generate_reference.wire_page(wire))
        refuse = lambda text, line, words: self.refuse(
            fact_tables.read_wire, HEAD + text, line, words
        )
        refuse(frames + flags, 11, "WIRE_PING is missing")
        refuse(frames + flags + fields + fields.replace("PING", "PONG"), 15, "without a frame")
        refuse(frames + flags + fields + fields, 13, "repetition")
        refuse(frames + flags + fields.replace("u64", "u128"), 12, "no type")
        refuse(frames.replace("(1,", "(2,") + flags + fields, 6, "numbered")
        refuse(frames.replace("PING", "PONG") + flags + fields, 6, "do not fit")
        refuse(frames + flags.replace("= 1", "= 3") + fields, 9, "bit of its own")
        refuse(frames + fields, 10, "no flags")
        refuse(frames + flags + fields + "int x;\n", 13, "expected #define")
        refuse(
            frames.replace('Ping.")', 'Ping.") \\\n    Y(2, pong, PONG, 0, 1, "Pong.")')
            + flags
            + fields,
            7,
            "expected a row of X",
        )


class Pages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        shutil.copytree(ROOT / "src" / "base" / "tables", self.root / "src" / "base" / "tables")
        shutil.copytree(ROOT / "include", self.root / "include")

    def run_tool(self, *options):
        command = [sys.executable, generate_reference.__file__, "--root", str(self.root), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_what_was_written_is_up_to_date_until_a_table_changes(self):
        self.assertEqual(self.run_tool("--check").returncode, 1, "there are no pages yet")
        self.assertEqual(self.run_tool().returncode, 0)
        self.assertEqual(self.run_tool("--check").returncode, 0)
        self.assertEqual(self.run_tool().stdout, "", "nothing is written twice")
        table = self.root / "src/base/tables/settings.def"
        table.write_text(table.read_text(encoding="utf-8") + SETTING, encoding="utf-8")
        run = self.run_tool("--check")
        self.assertEqual(run.returncode, 1)
        self.assertIn("docs/reference/settings.md", run.stderr)
        self.assertIn("docs/reference/settings.schema.json", run.stderr)
        self.assertNotIn("wire.md", run.stderr)
        self.assertEqual(self.run_tool().returncode, 0)
        self.assertIn(
            "a_limit", (self.root / "docs/reference/settings.md").read_text(encoding="utf-8")
        )

    def test_a_page_changed_by_hand_is_told(self):
        self.run_tool()
        page = self.root / "docs/reference/errors.md"
        page.write_text(page.read_text(encoding="utf-8") + "mine\n", encoding="utf-8")
        self.assertEqual(self.run_tool("--check").returncode, 1)

    def test_a_table_that_cannot_be_read_leaves_the_pages_alone(self):
        self.run_tool()
        table = self.root / "src/base/tables/metrics.def"
        table.write_text(table.read_text(encoding="utf-8") + "METRIC(oops\n", encoding="utf-8")
        before = (self.root / "docs/reference/metrics.md").read_text(encoding="utf-8")
        run = self.run_tool()
        self.assertEqual(run.returncode, 1)
        self.assertIn("metrics.def", run.stderr)
        self.assertEqual(
            (self.root / "docs/reference/metrics.md").read_text(encoding="utf-8"), before
        )

    def test_the_public_header_says_the_same_codes(self):
        header = self.root / "include/manta/error.h"
        text = header.read_text(encoding="utf-8")
        self.assertIn("MANTA_ETIMEOUT", text)
        header.write_text(text.replace("MANTA_ETIMEOUT", "MANTA_ETIMEDOUT"), encoding="utf-8")
        run = self.run_tool()
        self.assertEqual(run.returncode, 1)
        self.assertIn("MANTA_ETIMEOUT", run.stderr)
        self.assertIn("MANTA_ETIMEDOUT", run.stderr)

    def test_every_row_stands_on_its_page(self):
        pages = generate_reference.make_pages(self.root)
        tables = self.root / "src/base/tables"
        settings = fact_tables.read_settings(tables / "settings.def")
        schema = json.loads(pages["settings.schema.json"])["properties"]
        self.assertEqual(list(schema), [row.name for row in settings])
        for row in settings:
            self.assertIn(row.variable, pages["settings.md"])
            self.assertEqual(schema[row.name]["default"], row.value)
        for row in fact_tables.read_metrics(tables / "metrics.def"):
            self.assertIn(f"`{row.name}`", pages["metrics.md"])
        errors = fact_tables.read_errors(tables / "errors.def")
        self.assertEqual(
            [entry["name"] for entry in json.loads(pages["errors.json"])],
            [row.public_name for row in errors],
        )
        for frame in fact_tables.read_wire(tables / "wire.def").frames:
            self.assertIn(f"### {frame.number} {frame.name}\n", pages["wire.md"])

    def test_the_reader_reads_as_many_rows_as_the_text_has(self):
        tables = self.root / "src/base/tables"
        for name, macro, reader in (
            ("settings", "SETTING(", fact_tables.read_settings),
            ("metrics", "METRIC(", fact_tables.read_metrics),
            ("errors", "ERROR(", fact_tables.read_errors),
        ):
            text = (tables / f"{name}.def").read_text(encoding="utf-8")
            self.assertEqual(
                len(reader(tables / f"{name}.def")),
                sum(line.startswith(macro) for line in text.split("\n")),
            )


if __name__ == "__main__":
    unittest.main()
