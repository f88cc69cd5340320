# SPDX-License-Identifier: Apache-2.0
"""The classes of the configuration file and of the REST answers, as pydantic 2 models.

Here stand the models of what a user writes: the file, its applications, their deployments.  What
the system answers (details, statuses) is in ``manta._private.details`` and is exported from here
under the names that people import.
"""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any, Dict, List, Optional, Union
from zlib import crc32

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StrictInt,
    field_validator,
    model_validator,
)

from manta._private import constants, resources
from manta._private.default import DEFAULT, is_set
from manta._private.details import (
    APIType,
    ApplicationDetails,
    ApplicationStatusOverview,
    AutoscalingMetricsHealth,
    AutoscalingStatus,
    ControllerHealthMetrics,
    DeploymentAutoscalingDetail,
    DeploymentDetails,
    DeploymentNode,
    DeploymentStatusOverview,
    DeploymentTopology,
    DurationStats,
    ProxyDetails,
    ReplicaDetails,
    ScalingDecision,
    ServeActorDetails,
    ServeInstanceDetails,
    ServeStatus,
    Target,
    TargetGroup,
)
from manta._private.names import (
    ApplicationStatus,
    DeploymentStatus,
    DeploymentStatusTrigger,
    ProxyStatus,
    ReplicaState,
)
from manta._private.task_schema import (
    CeleryAdapterConfig,
    TaskProcessorAdapter,
    TaskProcessorConfig,
    TaskResult,
)
from manta.serve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    BackpressureConfig,
    ControllerOptions,
    DeploymentActorConfig,
    GangSchedulingConfig,
    ProxyLocation,
    RequestRouterConfig,
    check_tls_pair,
)

__all__ = [
    "APIType",
    "ApplicationDetails",
    "ApplicationStatus",
    "ApplicationStatusOverview",
    "AutoscalingMetricsHealth",
    "AutoscalingStatus",
    "CeleryAdapterConfig",
    "ControllerHealthMetrics",
    "DeploymentAutoscalingDetail",
    "DeploymentDetails",
    "DeploymentNode",
    "DeploymentSchema",
    "DeploymentStatus",
    "DeploymentStatusOverview",
    "DeploymentStatusTrigger",
    "DeploymentTopology",
    "DurationStats",
    "EncodingType",
    "HTTPOptionsSchema",
    "LoggingConfig",
    "ProxyDetails",
    "ProxyStatus",
    "RayActorOptionsSchema",
    "ReplicaDetails",
    "ReplicaRank",
    "ReplicaState",
    "ScaleDeploymentRequest",
    "ScalingDecision",
    "ServeActorDetails",
    "ServeApplicationSchema",
    "ServeDeploySchema",
    "ServeInstanceDetails",
    "ServeStatus",
    "Target",
    "TargetGroup",
    "TaskProcessorAdapter",
    "TaskProcessorConfig",
    "TaskResult",
    "TracingConfig",
    "gRPCOptionsSchema",
]

_LOG_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "taskName",
}


_NOT_GIVEN: Any = DEFAULT.VALUE  # the default of every option of a deployment


class EncodingType(str, Enum):
    """How a log line is written."""

    TEXT = "TEXT"
    JSON = "JSON"


class LoggingConfig(BaseModel):
    """What the Serve logger of a part writes, and where."""

    model_config = ConfigDict(extra="forbid")

    encoding: Union[str, EncodingType] = Field(default_factory=lambda: "TEXT")
    log_level: Union[int, str] = "INFO"
    logs_dir: Union[str, None] = None
    enable_access_log: bool = True
    additional_log_standard_attrs: List[str] = Field(default_factory=list)

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, value: Any) -> Any:
        if value not in list(EncodingType):
            raise ValueError(
                f"Got '{value}' for encoding. Encoding must be one of {set(EncodingType)}."
            )
        return value

    @field_validator("log_level")
    @classmethod
    def _level_is_known(cls, value: Union[int, str]) -> str:
        names: dict[Any, str] = dict(logging._levelToName)
        known = names if isinstance(value, int) else logging._nameToLevel
        if value not in known:
            raise ValueError(
                f'Got "{value}" for log_level. log_level must be one of {list(known)}.'
            )
        return names.get(value, str(value))

    @field_validator("additional_log_standard_attrs")
    @classmethod
    def _attributes_are_known(cls, value: List[str]) -> List[str]:
        for attribute in value:
            if attribute not in _LOG_RECORD_ATTRIBUTES:
                raise ValueError(
                    f"Unknown attribute '{attribute}'. Additional log standard attributes must be "
                    f"one of {set(_LOG_RECORD_ATTRIBUTES)}."
                )
        return list(dict.fromkeys(value))

    def _compute_hash(self) -> int:
        text = f"{self.encoding}{self.log_level}{self.logs_dir}{self.enable_access_log}"
        return crc32(text.encode("utf-8"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoggingConfig) and self._compute_hash() == other._compute_hash()


class TracingConfig(BaseModel):
    """Whether requests are traced, and where spans go."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(default_factory=lambda: bool(constants.TRACING_EXPORTER_IMPORT_PATH))
    exporter_import_path: str = Field(
        default_factory=lambda: constants.TRACING_EXPORTER_IMPORT_PATH
    )
    sampling_ratio: float = Field(default_factory=lambda: constants.TRACING_SAMPLING_RATIO)

    @field_validator("sampling_ratio")
    @classmethod
    def _ratio_is_a_part(cls, value: float) -> float:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"sampling_ratio must be between 0.0 and 1.0, got {value}.")
        return value


def _check_runtime_env(env: Optional[dict]) -> Optional[dict]:
    """In a file, code is named by URIs: the machine that reads it is not the one that wrote it."""
    if env is None:
        return env
    resources.check_runtime_env(env)
    for uri in [*env.get("py_modules", []), env.get("working_dir")]:
        if uri is not None and "://" not in str(uri):
            raise ValueError(
                "runtime_envs in the Serve config support only remote URIs in working_dir and "
                'py_modules, or "local://" URIs for directories that already exist on every node. '
                f"Got error when parsing URI: Invalid protocol for runtime_env URI '{uri}'."
            )
    return env


class RayActorOptionsSchema(BaseModel):
    """What one replica asks of its machine."""

    runtime_env: dict = {}
    num_cpus: Optional[float] = Field(default=None, ge=0)
    num_gpus: Optional[float] = Field(default=None, ge=0)
    memory: Optional[float] = Field(default=None, ge=0)
    resources: Dict = {}
    accelerator_type: Optional[str] = None
    label_selector: Optional[Dict[str, str]] = None
    fallback_strategy: Optional[List[Dict[str, Any]]] = None

    @field_validator("label_selector")
    @classmethod
    def _labels_are_right(cls, value: Optional[Dict[str, str]]) -> Optional[Dict[str, str]]:
        resources.check_labels(value)
        return value

    @field_validator("runtime_env")
    @classmethod
    def _runtime_env_is_right(cls, value: Optional[dict]) -> Optional[dict]:
        return _check_runtime_env(value)


class DeploymentSchema(BaseModel):
    """What the file says about one deployment; what it does not say stays as the code has it."""

    model_config = ConfigDict(populate_by_name=True)

    name: str
    num_replicas: Optional[Union[PositiveInt, str]] = Field(default=_NOT_GIVEN)
    max_ongoing_requests: int = Field(default=_NOT_GIVEN, gt=0)
    max_queued_requests: StrictInt = Field(default=_NOT_GIVEN)
    backpressure_config: BackpressureConfig = Field(default=_NOT_GIVEN)
    user_config: Optional[Dict] = Field(default=_NOT_GIVEN)
    autoscaling_config: Optional[Union[Dict, AutoscalingConfig]] = Field(default=_NOT_GIVEN)
    graceful_shutdown_wait_loop_s: float = Field(default=_NOT_GIVEN, ge=0)
    graceful_shutdown_timeout_s: float = Field(default=_NOT_GIVEN, ge=0)
    health_check_period_s: float = Field(default=_NOT_GIVEN, gt=0)
    health_check_timeout_s: float = Field(default=_NOT_GIVEN, gt=0)
    ray_actor_options: RayActorOptionsSchema = Field(default=_NOT_GIVEN)
    placement_group_bundles: List[Dict[str, float]] = Field(default=_NOT_GIVEN)
    placement_group_strategy: str = Field(default=_NOT_GIVEN)
    placement_group_bundle_label_selector: List[Dict[str, str]] = Field(default=_NOT_GIVEN)
    max_replicas_per_node: int = Field(default=_NOT_GIVEN)
    logging_config: LoggingConfig = Field(default=_NOT_GIVEN)
    request_router_config: Union[Dict, RequestRouterConfig] = Field(default=_NOT_GIVEN)
    gang_scheduling_config: Optional[Union[Dict, GangSchedulingConfig]] = Field(default=_NOT_GIVEN)
    deployment_actors: Optional[List[Union[Dict, DeploymentActorConfig]]] = Field(
        default=_NOT_GIVEN
    )
    rolling_update_percentage: float = Field(default=_NOT_GIVEN, gt=0.0, le=1.0)
    max_surge_percent: int = Field(default=_NOT_GIVEN, ge=0, le=100)

    @model_validator(mode="before")
    @classmethod
    def _count_is_fixed_or_automatic(cls, values: Any) -> Any:
        count = values.get("num_replicas")
        if isinstance(count, int):
            if is_set(values.get("autoscaling_config")):
                raise ValueError(
                    "Manually setting num_replicas is not allowed when autoscaling_config is "
                    "provided."
                )
        elif count not in ("auto", None, DEFAULT.VALUE):
            raise ValueError(f'`num_replicas` must be an int or "auto", but got: {count}')
        return values

    @model_validator(mode="before")
    @classmethod
    def _counts_are_whole_gangs(cls, values: Any) -> Any:
        gang = values.get("gang_scheduling_config")
        if not is_set(gang):
            return values
        if isinstance(gang, dict):
            gang = GangSchedulingConfig(**gang)
            values["gang_scheduling_config"] = gang
        for name, count in _counts(values):
            if count is not None and count % gang.gang_size:
                raise ValueError(
                    f"{name} ({count}) must be a multiple of gang_size ({gang.gang_size})."
                )
        return values

    @model_validator(mode="after")
    def _placement_is_consistent(self) -> DeploymentSchema:
        bundles = is_set(self.placement_group_bundles)
        gang = is_set(self.gang_scheduling_config)
        if is_set(self.max_replicas_per_node) and (bundles or gang):
            by = "placement_group_bundles" if bundles else "gang_scheduling_config"
            raise ValueError(f"Setting max_replicas_per_node is not allowed when {by} is provided.")
        if is_set(self.placement_group_strategy) and gang:
            raise ValueError(
                "Setting placement_group_strategy is not allowed when gang_scheduling_config is "
                "provided. Use gang_scheduling_config.gang_placement_strategy instead."
            )
        self._check_bundle_selectors()
        return self

    def _check_bundle_selectors(self) -> None:
        selectors = self.placement_group_bundle_label_selector
        if not is_set(selectors):
            return
        if not is_set(self.placement_group_bundles):
            raise ValueError(
                "Setting bundle_label_selector is not allowed when placement_group_bundles is not "
                "provided."
            )
        count = len(self.placement_group_bundles)
        if len(selectors) not in (1, count):
            raise ValueError(
                "The `placement_group_bundle_label_selector` list must contain either a single "
                "selector (to apply to all bundles) or match the number of "
                f"`placement_group_bundles`. Got {len(selectors)} selectors for {count} bundles."
            )

    @model_validator(mode="after")
    def _queue_is_unlimited_or_positive(self) -> DeploymentSchema:
        limit = self.max_queued_requests
        if is_set(limit) and limit < 1 and limit != -1:
            raise ValueError("max_queued_requests must be -1 (no limit) or a positive integer.")
        return self

    def _get_user_configured_option_names(self) -> set[str]:
        return {name for name in self.model_fields_set if getattr(self, name) is not DEFAULT.VALUE}

    def is_autoscaling_configured(self) -> bool:
        return self.num_replicas == "auto" or is_set(self.autoscaling_config)


def _counts(values: dict[str, Any]) -> list[tuple[str, Optional[int]]]:
    """The numbers of replicas that a deployment's configuration names."""
    count = values.get("num_replicas")
    if isinstance(count, int):
        return [("num_replicas", count)]
    scaling: Any = values.get("autoscaling_config")
    if count != "auto" or not is_set(scaling):
        return []
    if isinstance(scaling, AutoscalingConfig):
        scaling = scaling.model_dump(exclude_unset=True)
    limits = ("min_replicas", "max_replicas", "initial_replicas")
    return [(f"autoscaling_config.{name}", scaling.get(name)) for name in limits]


class ServeApplicationSchema(BaseModel):
    """One application of the file."""

    name: str = constants.DEFAULT_APP_NAME
    route_prefix: Optional[str] = "/"
    import_path: str
    runtime_env: dict = {}
    host: str = "0.0.0.0"
    port: int = 8000
    deployments: List[DeploymentSchema] = []
    autoscaling_policy: Optional[dict] = None
    args: Dict = {}
    logging_config: Optional[LoggingConfig] = None
    external_scaler_enabled: bool = False

    @field_validator("autoscaling_policy", mode="before")
    @classmethod
    def _policy_as_values(cls, value: Any) -> Any:
        return value.model_dump() if isinstance(value, AutoscalingPolicy) else value

    @field_validator("runtime_env")
    @classmethod
    def _runtime_env_is_right(cls, value: Optional[dict]) -> Optional[dict]:
        return _check_runtime_env(value)

    @field_validator("import_path")
    @classmethod
    def _import_path_is_right(cls, path: str) -> str:
        told = f'Got invalid import path "{path}". An import path'
        if path.count(":") > 1:
            raise ValueError(f"{told} may have at most one colon.")
        if ":" in path:
            if path.startswith(":") or path.endswith(":"):
                raise ValueError(f"{told} may not start or end with a colon.")
            return path
        if "." not in path:
            raise ValueError(
                f"{told} must contain at least on dot or colon separating the module (and "
                "potentially submodules) from the deployment graph. "
                'E.g.: "module.deployment_graph".'
            )
        if path.rfind(".") in (0, len(path) - 1):
            raise ValueError(f"{told} may not start or end with a dot.")
        return path

    @model_validator(mode="after")
    def _one_scaler_only(self) -> ServeApplicationSchema:
        scaled = [d.name for d in self.deployments if d.is_autoscaling_configured()]
        if self.external_scaler_enabled and scaled:
            names = ", ".join(f'"{name}"' for name in scaled)
            raise ValueError(
                "external_scaler_enabled is set to True, but the following deployment(s) have "
                f"autoscaling configured: {names}. When using an external autoscaler, Serve's "
                "built-in autoscaling must be disabled for all deployments in the application."
            )
        return self

    @property
    def deployment_names(self) -> List[str]:
        return [deployment.name for deployment in self.deployments]

    @staticmethod
    def get_empty_schema_dict() -> Dict[str, Any]:
        return {"import_path": "", "runtime_env": {}, "deployments": []}


class gRPCOptionsSchema(BaseModel):
    """How the proxies listen for gRPC."""

    port: int = constants.DEFAULT_GRPC_PORT
    grpc_servicer_functions: List[str] = []
    request_timeout_s: Optional[float] = None
    enable_reflection: bool = True


class HTTPOptionsSchema(BaseModel):
    """How the proxies listen for HTTP; unlike from Python, on every interface by default."""

    host: str = "0.0.0.0"
    port: int = 8000
    root_path: str = ""
    request_timeout_s: Optional[float] = None
    keep_alive_timeout_s: int = constants.DEFAULT_KEEP_ALIVE_TIMEOUT_S
    ssl_keyfile: Optional[str] = None
    ssl_certfile: Optional[str] = None
    ssl_keyfile_password: Optional[str] = None
    ssl_ca_certs: Optional[str] = None

    @field_validator("ssl_certfile")
    @classmethod
    def _certificate_has_its_key(cls, value: Optional[str], info: Any) -> Optional[str]:
        check_tls_pair(value, info.data.get("ssl_keyfile"))
        return value


class ServeDeploySchema(BaseModel):
    """The whole file: the state that the instance shall reach."""

    proxy_location: ProxyLocation = ProxyLocation.EveryNode
    http_options: HTTPOptionsSchema = HTTPOptionsSchema()
    grpc_options: gRPCOptionsSchema = gRPCOptionsSchema()
    controller_options: Optional[ControllerOptions] = None
    logging_config: Optional[LoggingConfig] = None
    tracing_config: Optional[TracingConfig] = None
    applications: List[ServeApplicationSchema]
    target_capacity: Optional[float] = Field(default=None, ge=0, le=100)

    @field_validator("applications")
    @classmethod
    def _applications_differ(
        cls, applications: List[ServeApplicationSchema]
    ) -> List[ServeApplicationSchema]:
        names = _twice([application.name for application in applications])
        if names:
            raise ValueError(
                f"Found multiple configs for {_listed('application', 'applications', names)}. "
                "Please remove all duplicates."
            )
        routes = _twice([a.route_prefix for a in applications if a.route_prefix is not None])
        if routes:
            raise ValueError(
                "Found duplicate applications for "
                f"{_listed('route prefix', 'route prefixes', routes)}. "
                "Please ensure each application's route_prefix is unique."
            )
        if any(not application.name for application in applications):
            raise ValueError("Application names must be nonempty.")
        return applications

    @model_validator(mode="after")
    def _host_and_port_stand_above(self) -> ServeDeploySchema:
        for application in self.applications:
            for key, word in (("host", "Host"), ("port", "Port")):
                if key in application.model_fields_set:
                    value = getattr(application, key)
                    shown = f'"{value}"' if key == "host" else value
                    raise ValueError(
                        f"{word} {shown} is set in the config for application "
                        f"`{application.name}`. Please remove it and set {key} in the top level "
                        "deploy config only."
                    )
        return self

    @staticmethod
    def get_empty_schema_dict() -> Dict[str, Any]:
        return {"applications": []}


def _twice(names: List[str]) -> List[str]:
    return list(dict.fromkeys(f'"{name}"' for name in names if names.count(name) > 1))


def _listed(one: str, many: str, names: List[str]) -> str:
    return f"{one if len(names) == 1 else many} {', '.join(names)}"


class ScaleDeploymentRequest(BaseModel):
    """The body of the REST call that scales one deployment."""

    target_num_replicas: NonNegativeInt


class ReplicaRank(BaseModel):
    """The place of a replica among the replicas of its deployment."""

    rank: int
    node_rank: int
    local_rank: int


from manta._private import details as _details  # noqa: E402 (its models name classes of ours)

_details.complete(globals())
