# SPDX-License-Identifier: Apache-2.0
"""docs/ray-serve-names.md and the other pages made from the package say what is so."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from manta._private import absent

pytest.importorskip("pydantic")

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from ray_serve_names import DIFFERENCES, MODULES_ELSEWHERE, REFUSED  # noqa: E402

RAY = json.loads((ROOT / "tests/python/ray_names.json").read_text())
NAMES = [(path, name) for path, names in RAY.items() if path.startswith("serve") for name in names]


def is_there(path, name):
    return hasattr(importlib.import_module(f"manta.{path}"), name)


@pytest.mark.parametrize(("path", "name"), NAMES)
def test_a_name_of_ray_serve_is_there_or_refused(path, name):
    module = path.partition(".")[2]
    if module in absent.SERVE_MODULES:
        with pytest.raises(ImportError, match="not part of this version"):
            importlib.import_module(f"manta.{path}")
        return
    kind, _ = DIFFERENCES.get(f"{path}.{name}", ("same", ""))
    # What is refused when it is called is there; what is not there must be said to be refused.
    assert is_there(path, name) or kind == REFUSED


@pytest.mark.parametrize("module", RAY["modules"])
def test_a_module_of_ray_serve_is_there_or_refused(module):
    if module in absent.SERVE_MODULES:
        with pytest.raises(ImportError, match=f"manta.serve.{module} is not part of this version"):
            importlib.import_module(f"manta.serve.{module}")
    elif module not in MODULES_ELSEWHERE:
        importlib.import_module(f"manta.serve.{module}")


def test_every_difference_is_about_a_name_of_ray_serve():
    known = {f"{path}.{name}" for path, name in NAMES}
    for what, names in (
        ("deployment option", RAY["deployment options"]),
        ("handle option", RAY["handle options"]),
        ("handle method", RAY["handle methods"]),
        ("HTTPOptions", RAY["HTTPOptions"]),
    ):
        known |= {f"{what}: {name}" for name in names}
    assert set(DIFFERENCES) <= known


def test_options_and_methods_are_all_taken():
    from manta import serve
    from manta.serve.handle import DeploymentHandle

    assert set(RAY["deployment options"]) <= set(inspect.signature(serve.deployment).parameters)
    assert set(RAY["handle options"]) <= set(inspect.signature(DeploymentHandle.options).parameters)
    assert set(RAY["handle methods"]) <= set(dir(DeploymentHandle))
    assert set(RAY["HTTPOptions"]) == set(serve.HTTPOptions.model_fields)


def test_every_public_name_of_the_package_has_words():
    from generate_python_reference import MODULES, own_words

    for path, _ in MODULES:
        module = importlib.import_module(path)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isroutine(thing):
                assert own_words(thing), f"{path}.{name} has no docstring"


def test_the_pages_are_what_the_package_says():
    run = subprocess.run(
        [sys.executable, ROOT / "tools/generate_python_reference.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{run.stdout}{run.stderr}\nrun ./dev docs"
