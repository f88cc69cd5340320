# SPDX-License-Identifier: Apache-2.0
"""What replicas of an instance cannot do yet is refused before anything is started.

Accepted and left undone would be worse: a program would run with something else than it asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manta._private import environment
from manta._private.constants import logger

if TYPE_CHECKING:
    from manta._private.graph import BuiltApplication
    from manta.serve.deployment import Deployment

_ROUTER = (
    "a custom request router. Requests go to the replica with the shorter queue of two, or to one "
    "that has the model; leave request_router_class away"
)
_ACTORS = (
    "deployment_actors. Make the actor a deployment of its own and call it through a handle"
)
_GANGS = "gang_scheduling_config. Start the members as deployments with a fixed num_replicas"
_TLS = (
    "TLS (http_options: {fields}). Put a proxy that terminates TLS in front, and let Manta listen "
    "on the loopback address"
)
_GRPC = "gRPC servicers (grpc_options.grpc_servicer_functions). Use HTTP, or handles"


def _refuse(who: str, what: str) -> NotImplementedError:
    return NotImplementedError(f"{who}: this version of Manta does not support {what}.")


def check_start(options: dict[str, Any]) -> None:
    """The options of ``serve.start``; ``NotImplementedError`` names the one that cannot be."""
    environment.check_refused()
    http = options.get("http_options") or {}
    fields = sorted(name for name, value in http.items() if name.startswith("ssl_") and value)
    if fields:
        raise _refuse("serve.start", _TLS.format(fields=", ".join(fields)))
    if (options.get("grpc_options") or {}).get("grpc_servicer_functions"):
        raise _refuse("serve.start", _GRPC)
    if (options.get("tracing_config") or {}).get("enabled"):
        raise _refuse("serve.start", "tracing (tracing_config.enabled)")


def check_application(app: BuiltApplication) -> None:
    """The options of its deployments; ``NotImplementedError`` names deployment and option."""
    for deployment in app.deployments:
        _check_deployment(f"Deployment '{deployment.name}'", deployment)


def _check_deployment(who: str, deployment: Deployment) -> None:
    chosen = deployment._deployment_config
    given = chosen.non_default()
    if "request_router_config" in given:
        if not chosen.request_router_config.is_default_request_router():
            raise _refuse(who, _ROUTER)
    if chosen.deployment_actors:
        raise _refuse(who, _ACTORS)
    if chosen.gang_scheduling_config:
        raise _refuse(who, _GANGS)
    pressure = chosen.backpressure_config if "backpressure_config" in given else None
    if pressure is not None and (pressure.status_code != 503 or pressure.retry_after_s is not None):
        logger.warning(
            f"{who}: backpressure_config is not acted upon yet; a full queue is answered with 503 "
            "and without Retry-After."
        )
