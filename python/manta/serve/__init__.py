# SPDX-License-Identifier: Apache-2.0
"""Ray Serve's programming model: ``from manta import serve`` instead of ``from ray import serve``.

Importing this loads neither pydantic nor Starlette: the config classes are fetched when somebody
names them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from manta._private import absent
from manta.serve.api import (
    Application,
    Deployment,
    RunTarget,
    _run,
    _run_many,
    delete,
    deployment,
    get_app_handle,
    get_deployment_actor,
    get_deployment_actor_context,
    get_deployment_handle,
    get_multiplexed_model_id,
    get_replica_context,
    ingress,
    multiplexed,
    run,
    run_many,
    shutdown,
    shutdown_async,
    start,
    status,
)
from manta.serve.batching import batch
from manta.serve.utils import get_trace_context

if TYPE_CHECKING:
    from manta.serve.config import ControllerOptions, HTTPOptions
    from manta.serve.schema import TracingConfig

__all__ = [
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

_LATER = {
    "ControllerOptions": "manta.serve.config",
    "HTTPOptions": "manta.serve.config",
    "TracingConfig": "manta.serve.schema",
}
_MODULES = frozenset({"autoscaling_policy", "config", "grpc_util", "schema"})


def __getattr__(name: str) -> Any:
    if name in _LATER:
        value = getattr(importlib.import_module(_LATER[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in absent.SERVE_MODULES:
        raise AttributeError(absent.of_serve(name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__) | _MODULES)
