# SPDX-License-Identifier: Apache-2.0
"""Versions: equal for what did not change, unlike for what did.  Code is changed on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from manta import serve
from manta._private import version

PACKAGE = Path(__file__).resolve().parents[2] / "python"

APP = """
from manta import serve
import part

@serve.deployment(num_replicas=2)
class Model:
    def __init__(self, *args, **kwargs):
        pass

    def __call__(self):
        import lazily.inside
        return part.value()

app = Model.bind(1, {"a", "b", "c"}, key={"x": [1.5, None]})
"""
TELL = """
import json
from manta._private import graph, version
import app
for deployment in graph.build_app(app.app, name="a").deployments:
    told = version.of_deployment(deployment)
    print(json.dumps([told.code, told.options]))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "part.py").write_text("def value():\n    return 1\n")
    (tmp_path / "lazily").mkdir()
    (tmp_path / "lazily" / "__init__.py").write_text("")
    (tmp_path / "lazily" / "inside.py").write_text("x = 1\nfrom .deeper import y\n")
    (tmp_path / "lazily" / "deeper.py").write_text("y = 1\n")
    return tmp_path


def told(folder):
    """The version of the application as another process computes it."""
    run = subprocess.run(
        [sys.executable, "-c", TELL],
        cwd=folder,
        env={"PYTHONPATH": f"{PACKAGE}:{folder}", "PATH": os.environ.get("PATH", "")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    code, options = json.loads(run.stdout.splitlines()[-1])
    return version.Version(code, options)


def change(folder, file, old, new):
    path = folder / file
    path.write_text(path.read_text().replace(old, new))


def test_unchanged_is_equal_in_another_process(folder):
    assert told(folder) == told(folder)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("app.py", "part.value()", "part.value() + 1"),
        ("part.py", "return 1", "return 2"),
        ("lazily/inside.py", "x = 1", "x = 2"),
        ("lazily/deeper.py", "y = 1", "y = 2"),
        ("app.py", "bind(1", "bind(2"),
        ("app.py", "1.5", "1.6"),
        ("app.py", '"c"', '"d"'),
        ("app.py", "num_replicas=2", 'ray_actor_options={"num_cpus": 2}'),
    ],
)
def test_changed_code_is_another_version(folder, file, old, new):
    before = told(folder)
    change(folder, file, old, new)
    assert told(folder).code != before.code


def of(made, *args, **kwargs):
    return version.of_deployment(made.bind(*args, **kwargs)._bound_deployment)


class Plain:
    def __init__(self, *args):
        pass


MADE = serve.deployment(Plain)


def test_light_options_leave_the_code_part():
    before, after = of(MADE), of(MADE.options(num_replicas=3, user_config={"a": 1}))
    assert before.code == after.code
    assert before.options != after.options


@pytest.mark.parametrize(
    "options",
    [
        {"ray_actor_options": {"num_cpus": 2}},
        {"ray_actor_options": {"runtime_env": {"env_vars": {"A": "b"}}}},
        {"max_replicas_per_node": 1},
        {"placement_group_bundles": [{"CPU": 1}]},
        {"name": "other"},
    ],
)
def test_heavy_options_change_the_code_part(options):
    assert of(MADE).code != of(MADE.options(**options)).code


class Settings:
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (1, 1.0),
        ("a", b"a"),
        ([1, 2], (1, 2)),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        (Settings(1), Settings(2)),
        ({1, 2}, {1, 3}),
        (None, 0),
        (len, max),
    ],
)
def test_arguments_are_told_apart(left, right):
    assert of(MADE, left).code == of(MADE, left).code
    assert of(MADE, left).code != of(MADE, right).code


def test_arrays_are_compared_by_content():
    numpy = pytest.importorskip("numpy")
    assert of(MADE, numpy.arange(3)) == of(MADE, numpy.arange(3))
    assert of(MADE, numpy.arange(3)).code != of(MADE, numpy.arange(4)).code


def test_an_object_that_contains_itself_can_be_hashed():
    loop = [1]
    loop.append(loop)
    assert of(MADE, loop) == of(MADE, loop)


def test_closures_count_by_value():
    def make(value):
        @serve.deployment
        class Local:
            def __call__(self):
                return value

        return Local

    assert of(make(1)) == of(make(1))
    assert of(make(1)).code != of(make(2)).code


def test_what_cannot_be_taken_apart_is_never_unchanged():
    class Opaque:
        def __reduce_ex__(self, protocol):
            raise TypeError("no")

    hashed = []
    for _ in range(2):
        one = version._Hash()
        one.add(Opaque())
        hashed.append(one.text())
    assert hashed[0] != hashed[1]


def test_a_working_directory_counts(tmp_path):
    made = MADE.options(ray_actor_options={"runtime_env": {"working_dir": str(tmp_path)}})
    before = of(made).code
    assert of(made).code == before
    (tmp_path / "new.py").write_text("x = 1")
    assert of(made).code != before


def test_handles_are_values():
    from manta._private import graph

    app = MADE.options(name="top").bind(MADE.bind())
    tops = [graph.build_app(app, name="a").deployments[-1] for _ in range(2)]
    assert version.of_deployment(tops[0]) == version.of_deployment(tops[1])


def test_objects_that_pickle_by_a_registered_function_are_taken_apart_by_it():
    import re

    @serve.deployment
    class Holder:
        def __init__(self, pattern):
            self.pattern = pattern

    first, again, other = (
        version.of_deployment(Holder.bind(re.compile(text))._bound_deployment)
        for text in ("a+", "a+", "b+")
    )
    assert first == again
    assert first.code != other.code
