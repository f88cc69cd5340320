# SPDX-License-Identifier: Apache-2.0
"""What the system says about itself: statuses in Python, details in the REST answers.

The models name classes of the configuration (a deployment's details show its configuration), which
stand in ``manta.serve.schema``; ``complete`` ties the two together when that module is loaded.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

from manta._private.names import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
    RequestProtocol,
)

if TYPE_CHECKING:
    from manta.serve.config import ProxyLocation
    from manta.serve.schema import (
        DeploymentSchema,
        HTTPOptionsSchema,
        ServeApplicationSchema,
        gRPCOptionsSchema,
    )


@dataclass
class DeploymentStatusOverview:
    """One deployment, in ``serve.status()``."""

    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    replica_states: Dict[ReplicaState, int]
    message: str


@dataclass
class ApplicationStatusOverview:
    """One application, in ``serve.status()``."""

    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployments: Dict[str, DeploymentStatusOverview]


@dataclass(eq=True)
class ServeStatus:
    """The whole instance, as ``serve.status()`` tells it."""

    proxies: Dict[str, ProxyStatus] = field(default_factory=dict)
    applications: Dict[str, ApplicationStatusOverview] = field(default_factory=dict)
    target_capacity: Optional[float] = None


class ServeActorDetails(BaseModel):
    """Where a process of the system is."""

    model_config = ConfigDict(frozen=True)

    node_id: Optional[str] = None
    node_ip: Optional[str] = None
    node_instance_id: Optional[str] = None
    actor_id: Optional[str] = None
    actor_name: Optional[str] = None
    worker_id: Optional[str] = None
    log_file_path: Optional[str] = None


class ReplicaDetails(ServeActorDetails):
    """One replica: its process and its state."""

    replica_id: str
    state: ReplicaState
    pid: Optional[int] = None
    start_time_s: float


class ProxyDetails(ServeActorDetails):
    """One proxy: its process and its status."""

    status: ProxyStatus


class AutoscalingMetricsHealth(str, Enum):
    """Whether what decisions about the number of replicas go by is fresh."""

    HEALTHY = "healthy"
    DELAYED = "delayed"
    UNAVAILABLE = "unavailable"


class AutoscalingStatus(str, Enum):
    """Whether the number of replicas is changing."""

    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"
    STABLE = "STABLE"


class ScalingDecision(BaseModel):
    """One change of the number of replicas, and why."""

    timestamp_s: float
    reason: str
    prev_num_replicas: int = Field(ge=0)
    curr_num_replicas: int = Field(ge=0)
    policy: Optional[str] = None


class DeploymentAutoscalingDetail(BaseModel):
    """How the number of a deployment's replicas was decided."""

    scaling_status: AutoscalingStatus
    decisions: List[ScalingDecision] = Field(default_factory=list)
    metrics: Optional[Dict[str, Any]] = None
    metrics_health: AutoscalingMetricsHealth = AutoscalingMetricsHealth.HEALTHY
    errors: List[str] = Field(default_factory=list)


class DeploymentDetails(BaseModel):
    """One deployment: its status, its options and its replicas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    status: DeploymentStatus
    status_trigger: DeploymentStatusTrigger
    message: str
    deployment_config: DeploymentSchema
    target_num_replicas: NonNegativeInt
    required_resources: Dict
    replicas: List[ReplicaDetails]
    recent_dead_replicas: List[ReplicaDetails] = Field(default_factory=list)
    autoscaling_detail: Optional[DeploymentAutoscalingDetail] = None


class APIType(str, Enum):
    """How an application came to be."""

    UNKNOWN = "unknown"
    IMPERATIVE = "imperative"
    DECLARATIVE = "declarative"

    @classmethod
    def get_valid_user_values(cls) -> List[str]:
        return [cls.IMPERATIVE.value, cls.DECLARATIVE.value]


class DeploymentNode(BaseModel):
    """A deployment in the graph of who calls whom."""

    name: str
    app_name: str
    outbound_deployments: List[dict] = Field(default_factory=list)
    is_ingress: bool = False


class DeploymentTopology(BaseModel):
    """Which deployments of an application call which."""

    app_name: str
    nodes: Dict[str, DeploymentNode]
    ingress_deployment: Optional[str] = None


def check_route_prefix(value: Optional[str]) -> Optional[str]:
    """The rules for a prefix, in the words of the schema."""
    if value is None:
        return value
    told = f'Got "{value}" for route_prefix. Route prefix'
    if not value.startswith("/"):
        raise ValueError(f'{told} must start with "/".')
    if len(value) > 1 and value.endswith("/"):
        raise ValueError(f'{told} cannot end with "/" unless the entire prefix is just "/".')
    if "{" in value or "}" in value:
        raise ValueError(f'{told} cannot contain wildcards, so it cannot contain "{{" or "}}".')
    return value


class ApplicationDetails(BaseModel):
    """One application: its status, where it came from, and its deployments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    route_prefix: Optional[str]
    docs_path: Optional[str]
    status: ApplicationStatus
    message: str
    last_deployed_time_s: float
    deployed_app_config: Optional[ServeApplicationSchema] = None
    source: APIType
    deployments: Dict[str, DeploymentDetails]
    external_scaler_enabled: bool
    deployment_topology: Optional[DeploymentTopology] = None

    @field_validator("route_prefix")
    @classmethod
    def _prefix_is_right(cls, value: Optional[str]) -> Optional[str]:
        return check_route_prefix(value)


class Target(BaseModel):
    """An address that an outer load balancer may use."""

    model_config = ConfigDict(frozen=True)

    ip: str
    port: int
    instance_id: str
    name: str


class TargetGroup(BaseModel):
    """Where requests of a route can be sent."""

    model_config = ConfigDict(frozen=True)

    targets: List[Target]
    route_prefix: str
    protocol: RequestProtocol
    app_name: str = ""
    ingress_request_router_targets: List[Target] = Field(default_factory=list)
    ingress_deployment_name: str = ""


class DurationStats(BaseModel):
    """How long something took, over its last times, in seconds."""

    mean: float = 0.0
    std: float = 0.0
    min: float = 0.0
    max: float = 0.0

    @classmethod
    def from_values(cls, values: List[float]) -> DurationStats:
        if not values:
            return cls()
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        return cls(mean=mean, std=spread, min=min(values), max=max(values))


class ControllerHealthMetrics(BaseModel):
    """How the controller does: its loop, its reports, its memory."""

    timestamp: float = 0.0
    controller_start_time: float = 0.0
    uptime_s: float = 0.0
    last_control_loop_time: float = 0.0
    num_control_loops: int = 0
    loop_duration_s: Optional[DurationStats] = None
    loops_per_second: float = 0.0
    last_sleep_duration_s: float = 0.0
    expected_sleep_duration_s: float = 0.0
    event_loop_delay_s: float = 0.0
    num_asyncio_tasks: int = 0
    handle_ingest_duration_ms: Optional[DurationStats] = None
    replica_ingest_duration_ms: Optional[DurationStats] = None
    metrics_decompress_duration_ms: Optional[DurationStats] = None
    columnar_decode_duration_ms: Optional[DurationStats] = None
    handle_reports_received: int = 0
    replica_reports_received: int = 0
    ingest_reports_received: int = 0
    ingest_cpu_fraction: float = 0.0
    deployment_state_update_duration_s: Optional[DurationStats] = None
    application_state_update_duration_s: Optional[DurationStats] = None
    proxy_state_update_duration_s: Optional[DurationStats] = None
    node_update_duration_s: Optional[DurationStats] = None
    handle_metrics_delay_ms: Optional[DurationStats] = None
    replica_metrics_delay_ms: Optional[DurationStats] = None
    process_memory_mb: float = 0.0


class ServeInstanceDetails(BaseModel):
    """The answer to ``GET /api/serve/applications/``."""

    model_config = ConfigDict(extra="forbid")

    controller_info: ServeActorDetails = Field(default_factory=ServeActorDetails)
    proxy_location: Optional[ProxyLocation] = None
    http_options: Optional[HTTPOptionsSchema] = None
    grpc_options: Optional[gRPCOptionsSchema] = None
    proxies: Dict[str, ProxyDetails]
    applications: Dict[str, ApplicationDetails]
    target_capacity: Optional[float] = Field(default=None, ge=0, le=100)
    target_groups: List[TargetGroup] = Field(default_factory=list)
    controller_health_metrics: ControllerHealthMetrics = Field(
        default_factory=ControllerHealthMetrics
    )
    restores_unset_config_options: bool = False

    @staticmethod
    def get_empty_schema_dict() -> Dict[str, Any]:
        return {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}

    def _get_status(self) -> ServeStatus:
        return ServeStatus(
            proxies={node: proxy.status for node, proxy in self.proxies.items()},
            applications={name: _overview(app) for name, app in self.applications.items()},
            target_capacity=self.target_capacity,
        )


def _overview(application: ApplicationDetails) -> ApplicationStatusOverview:
    deployments = {
        name: DeploymentStatusOverview(
            status=deployment.status,
            status_trigger=deployment.status_trigger,
            replica_states=_count(deployment.replicas),
            message=deployment.message,
        )
        for name, deployment in application.deployments.items()
    }
    return ApplicationStatusOverview(
        status=application.status,
        message=application.message,
        last_deployed_time_s=application.last_deployed_time_s,
        deployments=deployments,
    )


def _count(replicas: List[ReplicaDetails]) -> Dict[Any, int]:
    return dict(Counter(replica.state.value for replica in replicas))


def complete(names: Dict[str, Any]) -> None:
    """Give the models the classes that they name."""
    for model in (DeploymentDetails, ApplicationDetails, ServeInstanceDetails):
        model.model_rebuild(_types_namespace={**globals(), **names})
