# SPDX-License-Identifier: Apache-2.0
"""check_tree on small trees: one that is right, and for every rule one that breaks it.

A rule that cannot fail is no rule; each test here writes a tree into a temporary directory,
breaks one thing and expects to be told of exactly that.
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(
    0, os.environ.get("MANTA_TOOLS", str(Path(__file__).resolve().parents[2] / "tools"))
)
import c_source  # noqa: E402
import check_tree  # noqa: E402
import tree_floors  # noqa: E402

SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
GOOD = {
    "dev": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n",
    "README.md": "nothing to say\n",
    "meson.build": "# SPDX-License-Identifier: Apache-2.0\n",
    "include/manta/manta.h": SPDX + "#include <stddef.h>\n#include <manta/error.h>\n",
    "src/base/bytes.h": SPDX + "#include <stdint.h>\nint bytes_count(void);\n",
    "src/base/bytes.c": SPDX
    + '#include "bytes.h"\nint bytes_count(void)\n{\n    return 1; /* https://example.org */\n}\n',
    "src/base/meson.build": "# SPDX-License-Identifier: Apache-2.0\n",
    "src/io/loop.h": SPDX + '#include <uv.h>\n#include "bytes.h"\n',
    "src/role/proxy/proxy.h": SPDX + '#include <unistd.h>\n#include "loop.h"\n',
    "src/role/node/node.h": SPDX,
    "src/cli/deploy.c": SPDX + "#include <manta/manta.h>\n#include <unistd.h>\n",
    "src/core/router/router.h": SPDX + '#include "bytes.h"\n',
    "src/proto/wire/wire.h": SPDX + '#include "bytes.h"\n',
    "src/proto/value/value.c": SPDX + "#include <msgpack.h>\n#include <msgpack/pack.h>\n",
}


class Trees(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)

    def write(self, files):
        for name, contents in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(contents, encoding="utf-8")

    def problems(self, **changes):
        """What check_tree says of the good tree with these files changed (__ is /, _dot_ is .)."""
        self.write(GOOD)
        self.write(
            {
                name.replace("__", "/").replace("_dot_", "."): contents
                for name, contents in changes.items()
            }
        )
        return check_tree.check_tree(self.root)

    def expect(self, words, **changes):
        problems = self.problems(**changes)
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])


class Rules(Trees):
    def test_a_good_tree_passes(self):
        self.assertEqual(self.problems(), [])

    def test_an_empty_tree_does_not_pass(self):
        self.assertEqual(len(check_tree.check_tree(self.root)), 1)

    def test_a_source_without_licence_line(self):
        self.expect(["src/base/rng.c:1", "SPDX"], src__base__rng_dot_c="int x;\n")

    def test_a_script_without_licence_line(self):
        self.expect(["run:2", "SPDX"], run="#!/bin/sh\necho hello\n")

    def test_base_includes_io(self):
        self.expect(
            ["src/base/rng.c:3", "src/base may not include loop.h of src/io"],
            src__base__rng_dot_c=SPDX + '\n#include "loop.h"\n',
        )

    def test_a_mind_includes_the_wire(self):
        self.expect(
            ["src/core/router may not include wire.h"],
            src__core__router__a_dot_c=SPDX + '#include "wire.h"\n',
        )

    def test_a_role_includes_another_role(self):
        self.expect(
            ["src/role/node may not include proxy.h"],
            src__role__node__a_dot_c=SPDX + '#include "proxy.h"\n',
        )

    def test_a_mind_includes_a_system_header(self):
        self.expect(
            ["src/core/router may include C headers only, not <unistd.h>"],
            src__core__router__a_dot_c=SPDX + "#include <unistd.h>\n",
        )

    def test_the_wire_includes_the_library_of_the_values(self):
        self.expect(["not <msgpack.h>"], src__proto__wire__a_dot_c=SPDX + "#include <msgpack.h>\n")

    def test_base_takes_the_lock_of_another_file(self):
        self.expect(
            ["src/base/map.c:2", "<pthread.h>"],
            src__base__map_dot_c=SPDX + "#include <pthread.h>\n",
        )

    def test_an_exception_that_is_not_needed_any_more(self):
        self.expect(["exception", "src/base/buffer.c"], src__base__buffer_dot_c=SPDX)

    def test_the_command_line_includes_the_inside(self):
        self.expect(
            ["src/cli may not include loop.h"], src__cli__a_dot_c=SPDX + '#include "loop.h"\n'
        )

    def test_a_low_floor_includes_the_public_headers(self):
        self.expect(
            ["lies below the public headers"], src__io__a_dot_c=SPDX + "#include <manta/manta.h>\n"
        )

    def test_a_public_header_includes_the_inside(self):
        self.expect(
            ["include/manta/value.h:2", "bytes.h"],
            include__manta__value_dot_h=SPDX + '#include "bytes.h"\n',
        )

    def test_a_header_that_is_nowhere(self):
        self.expect(
            ["no header of src is called nothing.h"],
            src__io__a_dot_c=SPDX + '#include "nothing.h"\n',
        )

    def test_an_include_in_a_comment_is_none(self):
        self.assertEqual(
            self.problems(src__base__rng_dot_c=SPDX + '/*\n#include "loop.h"\n*/\n'), []
        )

    def test_a_folder_without_floor(self):
        self.expect(["src/misty/fog.c", "no floor"], src__misty__fog_dot_c=SPDX)

    def test_two_files_of_one_name(self):
        self.expect(["src/io/bytes.h:1", "taken by src/base/bytes.h"], src__io__bytes_dot_h=SPDX)

    def test_a_long_file(self):
        self.expect(["src/io/a.c", "601 lines"], src__io__a_dot_c=SPDX + "int x;\n" * 600)

    def test_a_long_function(self):
        body = "    f();\n" * 68
        self.assertEqual(
            self.problems(src__io__a_dot_c=SPDX + "static int f(int x)\n{\n" + body + "}\n"),
            ["src/io/a.c:2: f has 71 lines; the limit is 70"],
        )

    def test_a_function_of_just_the_limit(self):
        body = "    f();\n" * 67
        self.assertEqual(
            self.problems(src__io__a_dot_c=SPDX + "static int f(int x)\n{\n" + body + "}\n"), []
        )

    def test_braces_that_do_not_close(self):
        self.expect(["src/io/a.c:", "brace"], src__io__a_dot_c=SPDX + "int f(void)\n{\n")

    def test_a_banned_file_name(self):
        self.expect(["src/io/socket_util.c:1", "'util'"], src__io__socket_util_dot_c=SPDX)

    def test_a_banned_word_in_an_identifier(self):
        self.expect(
            ["src/io/a.c:3", "connection_manager", "'manager'"],
            src__io__a_dot_c=SPDX + "int x;\nstruct connection_manager *y; /* a manager */\n",
        )

    def test_a_banned_type_name_while_a_member_may_be_called_so(self):
        self.expect(
            ["frame_data"], src__io__a_dot_c=SPDX + "struct frame_data { char data[4]; };\n"
        )

    def test_names_that_others_gave(self):
        self.assertEqual(
            self.problems(
                src__io__a_dot_c=SPDX + "int x = uv_backend_fd(loop); /* the helper */\n"
            ),
            [],
        )

    def test_a_line_comment(self):
        self.expect(["src/io/a.c:2", "//"], src__io__a_dot_c=SPDX + "int x; // one\n")

    def test_an_address_in_a_string_is_no_comment(self):
        self.assertEqual(
            self.problems(
                src__io__a_dot_c=SPDX + 'const char *x = "http://a\\"//b"; char c = \'"\';\n'
            ),
            [],
        )

    def test_a_note_to_oneself(self):
        self.expect(["src/io/a.c:2", "note"], src__io__a_dot_c=SPDX + "int x; /* TODO */\n")

    def test_few_assertions(self):
        self.expect(
            ["src/core/: 0 assertions in 400"], src__core__router__a_dot_c=SPDX + "int x;\n" * 400
        )

    def test_enough_assertions(self):
        lines = "int x;\n" * 392 + "void f(void)\n{\n" + "    ensure(x);\n" * 9 + "}\n"
        self.assertEqual(self.problems(src__core__router__a_dot_c=SPDX + lines), [])

    def test_the_exit_status_tells(self):
        self.write(GOOD)
        command = [sys.executable, check_tree.__file__, "--root", str(self.root)]
        self.assertEqual(subprocess.run(command, capture_output=True, check=False).returncode, 0)
        self.write({"src/io/a.c": "int x;\n"})
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(
            (run.returncode, run.stdout), (1, "src/io/a.c:1: no SPDX-License-Identifier line\n")
        )

    def test_git_is_asked_where_there_is_one(self):
        self.write(GOOD)
        self.write(
            {".gitignore": "scratch/\n", "scratch/a.c": "// anything\n", "src/io/new.c": "int x;\n"}
        )
        subprocess.run(["git", "-C", str(self.root), "init", "-q"], check=True)
        problems = check_tree.check_tree(self.root)
        self.assertEqual(problems, ["src/io/new.c:1: no SPDX-License-Identifier line"])


class Functions(unittest.TestCase):
    def test_what_is_a_function_and_what_is_not(self):
        source = """
#define LOOP(x) \\
    while (x) {
struct a { int x; };
enum { A = (1) };
static const int T[] = {1, 2};
struct a make(int (*get)(int),
              int y)
{
    if (y) {
        return (struct a){get(y)};
    }
}
__attribute__((cold)) void other(void) { }
"""
        found = c_source.functions(source)
        self.assertEqual([(found[0].name, found[0].line, found[0].length)], [("make", 7, 7)])
        self.assertEqual(len(found), 2)

    def test_extern_c_is_looked_through(self):
        source = 'extern "C" {\nint f(void)\n{\n    return 1;\n}\n}\n'
        self.assertEqual([item.name for item in c_source.functions(source)], ["f"])


class Symbols(Trees):
    def archive(self, folder, code, name="thing"):
        """A static library of this C code, where the build would put it."""
        place = self.root / "build" / folder
        place.mkdir(parents=True, exist_ok=True)
        source, member, library = (
            self.root / f"{name}.c",
            place / f"{name}.c.o",
            place / f"lib{name}.a",
        )
        source.write_text(code, encoding="utf-8")
        compiler = os.environ.get("CC", "cc")
        subprocess.run(
            [
                compiler,
                "-O0",
                "-w",
                "-fno-builtin",
                "-fno-stack-protector",
                "-c",
                str(source),
                "-o",
                str(member),
            ],
            check=True,
        )
        subprocess.run(["ar", "rcs", str(library), str(member)], check=True)
        return str(library)

    def base(self, code="int mem_try(int x) { return x; }\n", name="mem"):
        return self.archive("src/base", code, name)

    def test_a_pure_library_passes(self):
        wire = self.archive(
            "src/proto/wire",
            "#include <string.h>\nint own(char *a);\n"
            "int f(char *a) { memset(a, 0, 3); return own(a) + mem_try(1); }\n"
            "int own(char *a) { return (int)strlen(a); }\n",
        )
        self.assertEqual(tree_floors.check_symbols([self.base(), wire]), [])

    def test_every_word_to_the_system_is_told(self):
        for word in (
            "read",
            "write",
            "malloc",
            "free",
            "clock_gettime",
            "time",
            "pthread_mutex_lock",
            "getenv",
            "printf",
            "rand",
            "uv_now",
            "msgpack_unpack_next",
            "router_submit",
            "socket",
            "abort",
            "exit",
        ):
            mind = self.archive(
                "src/core/router", f"int {word}(); int f(void) {{ return {word}(1); }}\n"
            )
            problems = tree_floors.check_symbols([self.base(), mind])
            self.assertEqual(len(problems), 1, word)
            self.assertIn(f"src/core/router/thing.c: wants {word}:", problems[0])

    def test_the_library_of_a_folder_is_its_own_only(self):
        value = self.archive("src/proto/value", "int f(void) { return msgpack_version(); }\n")
        self.assertEqual(tree_floors.check_symbols([self.base(), value]), [])
        value = self.archive("src/proto/value", "int f(void) { return malloc(1); }\n")
        self.assertIn("wants malloc", tree_floors.check_symbols([self.base(), value])[0])

    def test_base_has_one_door_to_the_heap(self):
        self.assertEqual(
            tree_floors.check_symbols([self.base("int f(void) { return calloc(1, 1); }\n")]), []
        )
        problems = tree_floors.check_symbols(
            [self.base("int f(void) { return calloc(1, 1); }\n", "map")]
        )
        self.assertIn("src/base/map.c: wants calloc", problems[0])

    def test_without_base_nothing_can_be_said(self):
        self.assertEqual(
            len(tree_floors.check_symbols([self.archive("src/proto/wire", "int x;\n")])), 1
        )

    def test_what_is_no_library_is_told(self):
        self.assertIn(
            "is no library", tree_floors.check_symbols([self.base(), "build/src/nowhere/libx.a"])[0]
        )
        broken = self.root / "build/src/proto/wire/libwire.a"
        broken.parent.mkdir(parents=True)
        broken.write_text("no archive")
        self.assertIn("nm failed", tree_floors.check_symbols([self.base(), str(broken)])[0])

    def test_a_library_that_was_forgotten_is_told(self):
        self.write(GOOD)
        self.write({"src/proto/value/meson.build": "", "src/proto/value/value.c": SPDX})
        base = self.base()
        self.assertEqual(
            check_tree.missing_archives(self.root, [base]),
            ["src/proto/value: its library was not given, so that nothing looks at its symbols"],
        )

    def test_the_exit_status_tells(self):
        mind = self.archive("src/core/router", "int f(void) { return rand(); }\n")
        command = [
            sys.executable,
            check_tree.__file__,
            "--root",
            str(self.root),
            "--symbols",
            self.base(),
            mind,
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertIn("wants rand", run.stdout)


if __name__ == "__main__":
    unittest.main()
