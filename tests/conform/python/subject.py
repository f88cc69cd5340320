# SPDX-License-Identifier: Apache-2.0
"""The implementation under test: Manta, or Ray Serve itself.

``MANTA_CONFORM=manta`` (the default) or ``MANTA_CONFORM=ray`` chooses.  The cases import the names
from here and from nowhere else, so that they are the same for both.  Applications run in local
testing mode: no instance is started.  With ``manta-native`` and ``ray-native`` they run in replicas:
of a private instance, which needs the extension, or of a Ray cluster on this machine.
"""

import contextlib
import importlib
import itertools
import os

import pytest

NAME = os.environ.get("MANTA_CONFORM", "manta")
if NAME not in ("manta", "manta-native", "ray", "ray-native"):
    raise RuntimeError(f"MANTA_CONFORM is {NAME!r}; it is manta, ray, manta-native or ray-native")
IS_RAY = NAME.startswith("ray")
IS_NATIVE = NAME.endswith("-native")


def load(path):
    """A module of the implementation, by the part of its name after ``serve``."""
    return importlib.import_module(f"{'ray' if IS_RAY else 'manta'}.{path}".rstrip("."))


serve = load("serve")
config = load("serve.config")
schema = load("serve.schema")
exceptions = load("serve.exceptions")
handle = load("serve.handle")
context = load("serve.context")
errors = load("exceptions")

if IS_RAY:
    _names = load("serve._private.common")
    _options = load("serve._private.config").DeploymentConfig
    _build = load("serve._private.build_app").build_app
    load("serve.multiplex")._get_global_client = None  # It would start a cluster.
else:
    _names = load("_private.names")
    _options = load("_private.options").DeploymentOptions
    _build = load("_private.graph").build_app


_numbers = itertools.count(1)
_running = []  # applications of the current test


def run(app, **options):
    """Run an application inside this process, or in an instance; under a name of its own."""
    if not IS_NATIVE:
        return serve.run(app, _local_testing_mode=True, **options)
    _start()
    options = {"route_prefix": None, "name": f"app{next(_numbers)}", **options}
    _running.append(options["name"])
    return serve.run(app, **options)


def _start():
    if IS_RAY and not load("").is_initialized():
        load("").init(num_cpus=200, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"port": int(os.environ.get("PORT", "0"))})


@contextlib.contextmanager
def own_applications():
    """What is run inside is deleted afterwards."""
    before = len(_running)
    yield
    while len(_running) > before:
        serve.delete(_running.pop(), _blocking=False)


@contextlib.contextmanager
def fails_to_run(kind, words):
    """Inside, an application fails to start: in this process by the error itself, else with its words."""
    if not IS_NATIVE:
        with pytest.raises(kind, match=words):
            yield
        return
    with pytest.raises(RuntimeError) as caught:
        yield
    assert "failed" in str(caught.value)
    if not IS_RAY:  # Which tells only that, and not why.
        assert words in str(caught.value)


def build(app, name="default"):
    """The deployments of an application."""
    return _build(app, name=name)


def enter_replica(max_ongoing_requests=100):
    """Make this process look like a replica, for what works in replicas only."""
    options = _options()
    if max_ongoing_requests is not None:
        options = (
            _options(max_ongoing_requests=max_ongoing_requests)
            if IS_RAY
            else options.changed({"max_ongoing_requests": max_ongoing_requests}, set())
        )
    context._set_internal_replica_context(
        replica_id=_names.ReplicaID("r1", _names.DeploymentID("D", "app")),
        servable_object=None,
        _deployment_config=options,
        rank=schema.ReplicaRank(rank=0, node_rank=0, local_rank=0),
        world_size=1,
    )


def leave_replica():
    """The process is a driver again."""
    if IS_RAY:
        context._INTERNAL_REPLICA_CONTEXT = None
    else:
        context._replica_of_process = None


def set_model_id(model_id):
    """As if the current request had been sent for a model."""
    context._serve_request_context.set(context._RequestContext(multiplexed_model_id=model_id))
