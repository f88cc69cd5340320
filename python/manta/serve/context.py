# SPDX-License-Identifier: Apache-2.0
"""Where user code is: which replica runs it, for which request.

A replica process has one replica context, set once by its run time.  In local testing mode several
replicas share the process, so each one's event loop carries its own.  The request context travels
with the task (a context variable) and is inherited by the calls that the handler makes.
"""

from __future__ import annotations

import contextvars
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from manta._private.names import DeploymentID, ReplicaID
from manta.serve.exceptions import RayServeException
from manta.serve.gang import GangContext

if TYPE_CHECKING:
    from manta.serve.grpc_util import RayServegRPCContext
    from manta.serve.schema import ReplicaRank

__all__ = ["DeploymentActorContext", "ReplicaContext"]


@dataclass
class ReplicaContext:
    """What ``serve.get_replica_context()`` tells."""

    replica_id: ReplicaID
    servable_object: Callable[..., Any]
    _deployment_config: Any
    rank: ReplicaRank
    world_size: int
    _handle_registration_callback: Optional[Callable[[DeploymentID], None]] = None
    gang_context: Optional[GangContext] = None
    code_version: Optional[str] = None

    @property
    def app_name(self) -> str:
        return self.replica_id.deployment_id.app_name

    @property
    def deployment(self) -> str:
        return self.replica_id.deployment_id.name

    @property
    def replica_tag(self) -> str:
        return self.replica_id.unique_id


@dataclass
class DeploymentActorContext:
    """What ``serve.get_deployment_actor_context()`` tells."""

    deployment_id: DeploymentID
    actor_name: str
    code_version: Optional[str] = None

    @property
    def app_name(self) -> str:
        return self.deployment_id.app_name

    @property
    def deployment(self) -> str:
        return self.deployment_id.name


_replica_of_process: Optional[ReplicaContext] = None
_replica_of_task: contextvars.ContextVar[Optional[ReplicaContext]] = contextvars.ContextVar(
    "manta replica", default=None
)


def _get_internal_replica_context() -> Optional[ReplicaContext]:
    return _replica_of_task.get() or _replica_of_process


def _set_internal_replica_context(
    *,
    replica_id: ReplicaID,
    servable_object: Callable[..., Any],
    _deployment_config: Any,
    rank: ReplicaRank,
    world_size: int,
    handle_registration_callback: Optional[Callable[[DeploymentID], None]] = None,
    gang_context: Optional[GangContext] = None,
    code_version: Optional[str] = None,
) -> None:
    """Say once which replica this process is."""
    global _replica_of_process
    _replica_of_process = ReplicaContext(
        replica_id=replica_id,
        servable_object=servable_object,
        _deployment_config=_deployment_config,
        rank=rank,
        world_size=world_size,
        _handle_registration_callback=handle_registration_callback,
        gang_context=gang_context,
        code_version=code_version,
    )


def _get_internal_deployment_actor_context() -> Optional[DeploymentActorContext]:
    prefix = "MANTA_DEPLOYMENT_ACTOR_"
    app, deployment, name, version = (
        os.environ.get(prefix + part) for part in ("APP", "DEPLOYMENT", "NAME", "VERSION")
    )
    if app is None or deployment is None or name is None:
        return None
    return DeploymentActorContext(DeploymentID(deployment, app), name, version)


def get_replica_context() -> ReplicaContext:
    """The replica that runs this code.

    Raises ``RayServeException`` outside a replica.
    """
    found = _get_internal_replica_context()
    if found is None:
        raise RayServeException(
            "`serve.get_replica_context()` may only be called from within a Ray Serve deployment."
        )
    return found


def get_deployment_actor_context() -> DeploymentActorContext:
    """The deployment actor that runs this code."""
    found = _get_internal_deployment_actor_context()
    if found is None:
        raise RayServeException(
            "`serve.get_deployment_actor_context()` may only be called from within a Ray Serve "
            "deployment actor."
        )
    return found


@dataclass(frozen=True)
class _RequestContext:
    """The request for which this task runs."""

    route: str = ""
    request_id: str = ""
    _internal_request_id: str = ""
    app_name: str = ""
    multiplexed_model_id: str = ""
    session_id: str = ""
    grpc_context: Optional[RayServegRPCContext] = None
    is_http_request: bool = False
    cancel_on_parent_request_cancel: bool = False
    _client: str = ""
    _ray_trace_ctx: Optional[dict[str, Any]] = None


_NO_REQUEST = _RequestContext()
_serve_request_context: contextvars.ContextVar[Optional[_RequestContext]] = contextvars.ContextVar(
    "manta request", default=None
)
_serve_batch_request_context: contextvars.ContextVar[Optional[list[_RequestContext]]] = (
    contextvars.ContextVar("manta batch", default=None)
)


def _get_serve_request_context() -> _RequestContext:
    return _serve_request_context.get() or _NO_REQUEST


def _get_serve_batch_request_context() -> list[_RequestContext]:
    return _serve_batch_request_context.get() or []


def _set_request_context(
    route: str = "",
    request_id: str = "",
    _internal_request_id: str = "",
    app_name: str = "",
    multiplexed_model_id: str = "",
) -> None:
    """Change what is given, keep the rest."""
    now = _get_serve_request_context()
    _serve_request_context.set(
        _RequestContext(
            route=route or now.route,
            request_id=request_id or now.request_id,
            _internal_request_id=_internal_request_id or now._internal_request_id,
            app_name=app_name or now.app_name,
            multiplexed_model_id=multiplexed_model_id or now.multiplexed_model_id,
        )
    )


def _unset_request_context() -> None:
    _serve_request_context.set(_NO_REQUEST)


def _set_batch_request_context(requests: list[_RequestContext]) -> None:
    _serve_batch_request_context.set(requests)
