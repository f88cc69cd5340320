# SPDX-License-Identifier: Apache-2.0
"""The readers of headers and help texts, and the pages made from them: everything public has its
place, and what cannot be read is told.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.environ.get("MANTA_TOOLS", str(ROOT / "tools")))
import cli_help  # noqa: E402
import generate_api_reference  # noqa: E402
import header_reader  # noqa: E402
import man_page  # noqa: E402

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/*\n * <manta/x.h>: what it is for.\n */\n"
HEAD_CPP = HEAD.replace("x.h", "x.hpp") + "namespace manta\n{\n\n"


class Headers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def read(self, text):
        path = self.folder / "x.h"
        path.write_text(text, encoding="utf-8")
        return header_reader.read_c_header(path, "manta/x.h")

    def read_cpp(self, text):
        path = self.folder / "x.hpp"
        path.write_text(text, encoding="utf-8")
        return header_reader.read_cpp_header(path, "manta/x.hpp")

    def test_a_comment_speaks_for_what_is_below_it(self):
        header = self.read(
            HEAD + "/* ---- reading --- */\n\n/* First. */\n"
            "MANTA_EXPORT int manta_a(int a,\n        int b); /* behind */\n"
            "MANTA_EXPORT void manta_b(void) __attribute__((cold));\n"
            "/* Second. */\nstruct manta_c {\n    int d; /* a member */\n};\n#define MANTA_C 1 /* one */\n\n"
            "#define MANTA_UNSAID 1\nstruct manta_named;\n"
        )
        first, second = header.groups
        self.assertEqual(
            (header.title, first.section, first.comment), ("what it is for.", "reading", "First.")
        )
        self.assertEqual(first.names, ["manta_a", "manta_b"])
        self.assertEqual(first.items[0].text, "int manta_a(int a, int b);")
        self.assertEqual(first.items[0].comment, "behind")
        self.assertEqual(first.items[1].text, "void manta_b(void);")
        self.assertEqual([item.kind for item in second.items], ["struct", "macro"])
        self.assertIn("/* a member */", second.items[0].text)
        self.assertEqual(second.items[1].text, "#define MANTA_C 1")

    def test_conditions_and_wrappers_are_passed_over(self):
        header = self.read(
            HEAD + '#ifndef X\n#define X\n#ifdef __cplusplus\nextern "C" {\n#endif\n'
            "/* About the pragma. */\n#if defined(__GNUC__)\n#pragma GCC diagnostic push\n#endif\n"
            "/* One. */\nMANTA_EXPORT int manta_one(void);\n#ifdef __cplusplus\n}\n#endif\n#endif\n"
        )
        self.assertEqual([group.comment for group in header.groups], ["One."])

    def test_what_is_not_read_is_never_skipped(self):
        for text, words in (
            (HEAD + "int manta_a(void);\n", ":5: cannot tell"),
            (HEAD + "MANTA_EXPORT int manta_a(void)\n", ":5: a declaration does not end"),
            (HEAD.replace("x.h>", "y.h>"), "does not begin with <manta/x.h>:"),
            ("/* x */\n", "licence"),
        ):
            with self.assertRaises(header_reader.HeaderError) as caught:
                self.read(text)
            self.assertIn(words, str(caught.exception))

    def test_a_class_is_shown_without_bodies_and_secrets(self):
        header = self.read_cpp(
            HEAD_CPP + "namespace detail\n{\nstruct hidden {\n};\n} /* namespace detail */\n\n"
            "/* A thing. */\nclass thing : public base\n{\n  public:\n"
            "    explicit thing(int a = 0) noexcept : base{a}, a_(a)\n    {\n        if (a) {\n        }\n    }\n"
            "    /* Says\n     * it. */\n    template <class Type> Type get(const Type &given,\n"
            "                                       int b) const;\n"
            "    struct part {\n        int x;\n    };\n\n    struct part first() &&\n    {\n    }\n"
            "  private:\n    int a_;\n};\n\ninline thing::thing(const char *) : a_(1)\n{\n}\n\n"
            "/* A function. */\ninline int make(int a)\n{\n    return a;\n}\n\n} /* namespace manta */\n"
        )
        self.assertEqual([item.name for item in header.items], ["thing", "make"])
        self.assertEqual(
            header.items[0].text,
            "class thing : public base {\n    explicit thing(int a = 0) noexcept;\n    /* Says\n     * it. */\n"
            "    template <class Type> Type get(const Type &given, int b) const;\n    struct part;\n\n"
            "    struct part first() &&;\n};",
        )
        self.assertEqual(header.items[1].text, "inline int make(int a);")

    def test_comments_have_paragraphs_lists_and_code(self):
        parts = header_reader.parts_of("One\ntwo.\n\n    code {\n\n    }\n\n- a\n  b\n- c\nLast.")
        self.assertEqual(
            [(part.kind, part.lines) for part in parts],
            [
                ("text", ["One two."]),
                ("code", ["code {", "", "}"]),
                ("list", ["a b", "c"]),
                ("text", ["Last."]),
            ],
        )

    def test_long_signatures_break_below_their_parameters(self):
        text = header_reader.wrapped_signature(
            "int f(" + ", ".join(f"int parameter_{i}" for i in range(9)) + ");"
        )
        lines = text.split("\n")
        self.assertGreater(len(lines), 1)
        self.assertTrue(all(len(line) <= 96 for line in lines))
        self.assertTrue(all(line.startswith("      int") for line in lines[1:]))


class Help(unittest.TestCase):
    def test_a_help_text_has_usage_prose_options_and_sections(self):
        command = cli_help.parse_help(
            cli_help.Command("x", "does x"),
            "usage: manta x [--a N]\n       more\n\nWhat it\ndoes.\n\n  --a N    so\n           and so\n  --b\n\n"
            "example:\n  manta x\n    deeper\n",
        )
        self.assertEqual(command.usage, "manta x [--a N] more")
        self.assertEqual(command.prose, ["What it does."])
        self.assertEqual(command.options, [("--a N", "so and so"), ("--b", "")])
        self.assertEqual(command.sections, {"example": ["manta x", "  deeper"]})

    def test_another_shape_is_told(self):
        for text in ("Usage: x", "usage: x\n\n  --a\n sideways\n"):
            with self.assertRaises(cli_help.HelpError):
                cli_help.parse_help(cli_help.Command("x", ""), text)


class Roff(unittest.TestCase):
    def test_what_roff_would_take_for_its_own_is_escaped(self):
        self.assertEqual(man_page.prose("a \\n of --name"), "a \\en of \\-\\-name")
        self.assertEqual(man_page.prose(".so is text"), "\\&.so is text")
        self.assertEqual(
            man_page.prose("see `x` and manta_run."), "see \\fBx\\fP and \\fBmanta_run\\fP."
        )
        self.assertEqual(man_page.prose("zero-terminated"), "zero-terminated")
        self.assertEqual(man_page.code(["'x"])[2], "\\(aqx")


class Pages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        shutil.copytree(ROOT / "include", self.root / "include")
        shutil.copytree(ROOT / "src" / "cli", self.root / "src" / "cli")

    def run_tool(self, *options):
        command = [
            sys.executable,
            generate_api_reference.__file__,
            "--root",
            str(self.root),
            *options,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def change(self, name, old, new):
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        self.assertIn(old, text)
        path.write_text(text.replace(old, new), encoding="utf-8")

    def test_what_was_written_is_up_to_date_until_its_source_changes(self):
        self.assertEqual(self.run_tool("--check").returncode, 1, "there are no pages yet")
        self.assertEqual(self.run_tool().returncode, 0)
        self.assertEqual(self.run_tool("--check").returncode, 0)
        self.assertEqual(self.run_tool().stdout, "", "nothing is written twice")
        self.change("include/manta/value.h", "manta_value_json", "manta_value_as_json")
        self.change("src/cli/cli_run.c", "--log-to-stderr  ", "--log-to-screen  ")
        run = self.run_tool("--check")
        self.assertEqual(run.returncode, 1)
        for page in (
            "reference/api.md",
            "man/manta_value_json.3",
            "man/manta_value_as_json.3",
            "man/manta-run.1",
        ):
            self.assertIn(f"docs/{page} ", run.stderr)
        self.assertNotIn("manta-status.1", run.stderr)
        self.assertIn("docs/man/manta_value_json.3 removed", self.run_tool().stdout)
        self.assertFalse((self.root / "docs/man/manta_value_json.3").exists())
        self.assertIn(
            "log\\-to\\-screen", (self.root / "docs/man/manta-run.1").read_text(encoding="utf-8")
        )
        self.assertEqual(self.run_tool("--check").returncode, 0)

    def test_what_is_public_is_explained(self):
        self.change("include/manta/instance.h", "/* How an application runs. */\n", "\n")
        run = self.run_tool()
        self.assertEqual(run.returncode, 1)
        self.assertIn("include/manta/instance.h:", run.stderr)
        self.assertIn("manta_run_options has no comment", run.stderr)
        self.assertFalse((self.root / "docs").exists())

    def test_a_help_that_cannot_be_read_is_told(self):
        self.change("src/cli/cli_status.c", '"usage: ', '"Usage: ')
        run = self.run_tool()
        self.assertEqual(run.returncode, 1)
        self.assertIn("the help of 'status'", run.stderr)

    def test_every_symbol_has_its_place(self):
        pages = generate_api_reference.make_pages(ROOT)
        listed = (ROOT / "tests/house/exported_symbols.txt").read_text(encoding="utf-8").split("\n")
        inner = "".join(
            path.read_text(encoding="utf-8") for path in (ROOT / "include/manta/sys").glob("*.h")
        ).replace("*manta_", " manta_")
        symbols = [
            line for line in listed if line.startswith("manta_") and f" {line}(" not in inner
        ]
        self.assertGreater(len(symbols), 80)
        for symbol in symbols:
            self.assertIn(f'<a id="{symbol}"></a>', pages["reference/api.md"])
            page = pages[f"man/{symbol}.3"]
            link = re.fullmatch(r"\.so man3/(\w+\.3)\n", page)
            if link:
                page = pages[f"man/{link.group(1)}"]
            self.assertRegex(page, rf"(?m)\b{symbol}\(.*[,;]$")

    def test_every_option_has_its_place(self):
        pages = generate_api_reference.make_pages(ROOT)
        found = 0
        for path in sorted((ROOT / "src/cli").glob("cli_*.c")):
            text = path.read_text(encoding="utf-8")
            for name in re.findall(r'\.name = "(\w+)"', text):
                page = pages[f"man/manta-{name}.1"].replace("\\-", "-")
                self.assertIn(
                    f"manta-{name}(1)", pages["man/manta.1"].replace("\\-", "-").replace(" (", "(")
                )
                for option in re.findall(r'"\s*(--[a-z-]+)', text):
                    self.assertIn(option, page)
                    found += 1
        self.assertGreater(found, 10)

    def test_every_link_leads_somewhere(self):
        pages = generate_api_reference.make_pages(ROOT)
        markdown = pages["reference/api.md"]
        anchors = re.findall(r'<a id="([^"]+)"></a>', markdown)
        self.assertEqual(len(anchors), len(set(anchors)), "an anchor stands twice")
        self.assertEqual(set(re.findall(r"\]\(#([^)]+)\)", markdown)) - set(anchors), set())
        for name, text in pages.items():
            for other, section in re.findall(r"(?m)^\.BR (\S+) \((\d)\)", text):
                self.assertIn(f"man/{other}.{section}".replace("\\-", "-"), pages, name)

    def test_groff_has_nothing_to_say(self):
        if not shutil.which("groff"):
            self.skipTest("groff is not installed")
        self.assertEqual(self.run_tool().returncode, 0)
        folder = self.root / "docs" / "man"
        pages = [
            str(path)
            for path in sorted(folder.glob("*.[13]"))
            if not path.read_text(encoding="utf-8").startswith(".so ")
        ]
        run = subprocess.run(
            ["groff", "-ww", "-man", "-Tutf8", "-z", *pages],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual((run.returncode, run.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
