# SPDX-License-Identifier: Apache-2.0
"""Every public function takes what Ray Serve 2.60's takes: the same names, order and defaults."""

import importlib
import json
from pathlib import Path

import pytest
import record_signatures
from manta import serve

pytest.importorskip("pydantic")

RAY = json.loads((Path(__file__).parent / "ray_signatures.json").read_text())

# What Manta takes or has in addition, and why.
MORE_PARAMETERS = {
    ("serve.handle", "DeploymentHandle", "options"): ["use_new_handle_api"],  # of Ray 2.40
}
# Made by the run time alone; their arguments are its own affair.
PRIVATE_CONSTRUCTORS = {
    "DeploymentBroadcastResponse",
    "DeploymentHandle",
    "DeploymentResponse",
    "DeploymentResponseGenerator",
}


def rows():
    for module, names in RAY.items():
        for name, told in names.items():
            yield module, name, told


def is_public(module, name):
    return module == "serve" or name in OWN[module]


def own_names():
    """The names that each of our modules says are public."""
    found = {}
    for path in record_signatures.MODULES:
        module = importlib.import_module(f"manta.{path}")
        found[path] = set(getattr(module, "__all__", ())) or set(vars(module))
    return found


OWN = own_names()
FUNCTIONS = [(m, n, t) for m, n, t in rows() if isinstance(t, list) and is_public(m, n)]
CLASSES = [(m, n, t) for m, n, t in rows() if isinstance(t, dict) and is_public(m, n)]


def manta_told(module):
    if module not in manta_told.known:
        manta_told.known[module] = record_signatures.of_module("manta", module)
    return manta_told.known[module]


manta_told.known = {}


def translated(parameters):
    """Ray's own paths in defaults are ours."""
    if parameters is None:
        return None
    return [
        [n, k, d if d is None else d.replace("ray.serve.", "manta.serve.")]
        for n, k, d in parameters
    ]


def without(parameters, names):
    return [p for p in parameters if p[0] not in names] if parameters else parameters


def test_the_same_names_are_exported():
    assert serve.__all__ == list(dict.fromkeys(serve.__all__))
    assert sorted(serve.__all__) == sorted(
        [
            "_run",
            "_run_many",
            "batch",
            "start",
            "ControllerOptions",
            "HTTPOptions",
            "TracingConfig",
            "get_replica_context",
            "get_deployment_actor",
            "get_deployment_actor_context",
            "get_trace_context",
            "shutdown",
            "shutdown_async",
            "ingress",
            "deployment",
            "run",
            "run_many",
            "RunTarget",
            "delete",
            "Application",
            "Deployment",
            "multiplexed",
            "get_multiplexed_model_id",
            "status",
            "get_app_handle",
            "get_deployment_handle",
        ]
    )
    assert all(hasattr(serve, name) for name in serve.__all__)


@pytest.mark.parametrize(("module", "name", "told"), FUNCTIONS, ids=lambda v: str(v)[:40])
def test_function(module, name, told):
    assert manta_told(module)[name] == translated(told)


@pytest.mark.parametrize(("module", "name", "told"), CLASSES, ids=lambda v: str(v)[:40])
def test_class(module, name, told):
    ours = manta_told(module)[name]
    assert ours.get("values") == told.get("values")
    assert ours.get("fields") == told.get("fields")
    if name not in PRIVATE_CONSTRUCTORS:
        assert ours.get("new") == translated(told.get("new"))
    for member, signature in told["members"].items():
        assert member in ours["members"], f"{name}.{member} is missing"
        if not isinstance(signature, list):
            continue
        more = MORE_PARAMETERS.get((module, name, member), [])
        assert without(ours["members"][member], more) == translated(signature), member


def test_enough_is_compared():
    assert len(FUNCTIONS) >= 20
    assert len(CLASSES) >= 45
