# SPDX-License-Identifier: Apache-2.0
"""What importing costs: nothing is loaded before it is needed.  A fresh interpreter per story."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "python"
HEAVY = "pydantic", "starlette", "fastapi", "cloudpickle", "numpy"


def loaded_after(code):
    """The heavy packages that a fresh interpreter has loaded after some code."""
    tail = f"\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code + tail],
        env={"PYTHONPATH": str(PACKAGE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return eval(run.stdout.splitlines()[-1])


def test_plain_import_loads_not_even_serve():
    assert loaded_after("import manta; assert 'manta.serve' not in __import__('sys').modules") == []


def test_serve_loads_nothing_heavy():
    assert loaded_after("from manta import serve; serve.deployment") == []


def test_an_ordinary_application_loads_nothing_heavy():
    code = """
from manta import serve

@serve.deployment(num_replicas=2, max_ongoing_requests=10, user_config={"a": 1})
class Model:
    def reconfigure(self, config): pass
    def __call__(self, x): return x

@serve.deployment
class Front:
    def __init__(self, model): self.model = model
    async def __call__(self, x): return await self.model.remote(x)

assert serve.run(Front.bind(Model.bind()), _local_testing_mode=True).remote(3).result() == 3
"""
    assert loaded_after(code) == []


def test_config_classes_load_pydantic_and_nothing_else():
    pytest.importorskip("pydantic")
    assert loaded_after("from manta import serve; serve.HTTPOptions()") == ["pydantic"]


@pytest.mark.parametrize(
    "module",
    [
        "config",
        "schema",
        "handle",
        "exceptions",
        "context",
        "batching",
        "multiplex",
        "metrics",
        "grpc_util",
        "autoscaling_policy",
        "deployment",
        "gang",
        "utils",
        "api",
    ],
)
def test_every_module_can_be_imported_first(module):
    pytest.importorskip("pydantic")
    loaded_after(f"import manta.serve.{module}")


def test_the_decorator_is_not_hidden_by_the_module_of_its_name():
    first = "import manta.serve.deployment"
    loaded_after(f"{first}\nfrom manta import serve\nassert callable(serve.deployment)")


def test_names_that_do_not_exist_are_attribute_errors():
    import manta
    from manta import serve

    for package in (manta, serve):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            package.nothing  # noqa: B018


def test_without_the_native_run_time_run_says_so():
    code = """
from manta import serve
from manta.serve.exceptions import RayServeException
import importlib.util
if importlib.util.find_spec("manta._native") is None:
    try:
        serve.run(serve.deployment(type("D", (), {})).bind())
    except RayServeException as error:
        assert "_local_testing_mode" in str(error), error
    else:
        raise AssertionError("it ran")
    assert serve.status().applications == {}
    serve.shutdown()
    for ask in (lambda: serve.get_app_handle("x"), lambda: serve.delete("x")):
        try:
            ask()
        except RayServeException as error:
            assert "There is no Serve instance running" in str(error)
        else:
            raise AssertionError("there was one")
"""
    pytest.importorskip("pydantic")
    loaded_after(code)
