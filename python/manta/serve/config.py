# SPDX-License-Identifier: Apache-2.0
"""The config classes of the Python surface, as pydantic 2 models.

They take what Ray Serve's take, with the same defaults and the same refusals.  The classes of the
configuration file are in ``manta.serve.schema``; the options of a deployment that are plain values
are in ``manta._private.options``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from enum import Enum
from typing import Any, Dict, List, Literal, Optional, Tuple, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    field_validator,
    model_validator,
)

from manta._private import constants, import_path, pickling
from manta._private.scaling import AutoscalingContext

__all__ = [
    "AggregationFunction",
    "AutoscalingConfig",
    "AutoscalingContext",
    "AutoscalingPolicy",
    "BackpressureConfig",
    "ControllerOptions",
    "DeploymentActorConfig",
    "GangPlacementStrategy",
    "GangRuntimeFailurePolicy",
    "GangSchedulingConfig",
    "HTTPOptions",
    "ProxyLocation",
    "RequestRouterConfig",
    "gRPCOptions",
]

DEFAULT_METRICS_INTERVAL_S = 10.0


def _json_or_refuse(value: Any, name: str) -> Any:
    if isinstance(value, bytes):
        return value
    try:
        json.dumps(value)
    except TypeError as error:
        raise ValueError(f"{name} is not JSON-serializable: {error}.") from error
    return value


def _sorted_text(value: Any) -> Any:
    return json.dumps(value, sort_keys=True, default=str) if value else ()


def check_tls_pair(certificate: str | None, key: str | None) -> None:
    if bool(certificate) != bool(key):
        raise ValueError(
            "Both ssl_keyfile and ssl_certfile must be provided together to enable HTTPS."
        )


class _ByPathOrValue(BaseModel):
    """A class or function that is named in the configuration and carried as a pickle.

    It is stored under its path.  The default is never pickled: every process has it.
    """

    _carried: bytes = PrivateAttr(default=b"")
    _loaded: Optional[Callable[..., Any]] = PrivateAttr(default=None)

    def _carry(self, value: Union[str, Callable[..., Any]], default: str) -> str:
        if isinstance(value, str):
            path = import_path.ours(value)
            if path != default:
                self._carried = pickling.dumps(import_path.load(path))
            return path
        self._carried = pickling.dumps(value)
        return import_path.of(value)

    def _load(self, path: str, what: str) -> Callable[..., Any]:
        if self._loaded is None:
            try:
                self._loaded = (
                    pickling.loads(self._carried) if self._carried else import_path.load(path)
                )
            except ImportError as error:
                raise ImportError(
                    f"Failed to deserialize custom {what}: {error}\n\nIts module, or one that it "
                    "imports, is not available here. Install it where the controller runs, or put "
                    "it on PYTHONPATH."
                ) from error
        return self._loaded


class RequestRouterConfig(_ByPathOrValue):
    """Which router chooses replicas for requests, and how often it asks for their state."""

    request_router_class: Union[str, Callable] = constants.DEFAULT_REQUEST_ROUTER
    request_router_kwargs: Dict[str, Any] = Field(default_factory=dict)
    request_routing_stats_period_s: PositiveFloat = constants.DEFAULT_ROUTING_STATS_PERIOD_S
    request_routing_stats_timeout_s: PositiveFloat = constants.DEFAULT_ROUTING_STATS_TIMEOUT_S
    initial_backoff_s: PositiveFloat = constants.ROUTER_INITIAL_BACKOFF_S
    backoff_multiplier: PositiveFloat = constants.ROUTER_BACKOFF_MULTIPLIER
    max_backoff_s: PositiveFloat = constants.ROUTER_MAX_BACKOFF_S

    @field_validator("request_router_kwargs")
    @classmethod
    def _kwargs_are_json(cls, value: Any) -> Any:
        return _json_or_refuse(value, "request_router_kwargs")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.request_router_class = self._carry(
            self.request_router_class, constants.DEFAULT_REQUEST_ROUTER
        )

    def is_default_request_router(self) -> bool:
        return self.request_router_class == constants.DEFAULT_REQUEST_ROUTER

    def get_request_router_class(self) -> Callable[..., Any]:
        if self.is_default_request_router():
            raise NotImplementedError(
                "The default request router is native; it is no Python class."
            )
        return self._load(str(self.request_router_class), "request router")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RequestRouterConfig) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        values = self.model_dump()
        return hash((_sorted_text(values.pop("request_router_kwargs")), *values.values()))


class AggregationFunction(str, Enum):
    """How the samples of the look-back period become one number."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


class AutoscalingPolicy(_ByPathOrValue):
    """The function or class that decides how many replicas there should be."""

    policy_function: Union[str, Callable] = constants.DEFAULT_AUTOSCALING_POLICY
    policy_kwargs: Dict[str, Any] = Field(default_factory=dict)

    @field_validator("policy_kwargs")
    @classmethod
    def _kwargs_are_json(cls, value: Any) -> Any:
        return _json_or_refuse(value, "policy_kwargs")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.serialize_policy()

    def serialize_policy(self) -> None:
        self.policy_function = self._carry(
            self.policy_function, constants.DEFAULT_AUTOSCALING_POLICY
        )

    def is_default_policy_function(self) -> bool:
        return self.policy_function == constants.DEFAULT_AUTOSCALING_POLICY

    def get_policy(self) -> Callable[..., Any]:
        return self._load(str(self.policy_function), "autoscaling policy")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AutoscalingPolicy) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        return hash((self.policy_function, _sorted_text(self.policy_kwargs)))


class BackpressureConfig(BaseModel):
    """The HTTP answer to a request that found the queue full."""

    model_config = ConfigDict(extra="forbid")

    status_code: Literal[503, 429] = 503
    retry_after_s: Optional[NonNegativeFloat] = Field(default=None, allow_inf_nan=False)


class AutoscalingConfig(BaseModel):
    """The limits of the number of replicas, and how it follows the load."""

    min_replicas: NonNegativeInt = 1
    initial_replicas: Optional[NonNegativeInt] = None
    max_replicas: PositiveInt = 1
    target_ongoing_requests: Optional[PositiveFloat] = constants.DEFAULT_TARGET_ONGOING_REQUESTS
    metrics_interval_s: PositiveFloat = DEFAULT_METRICS_INTERVAL_S
    look_back_period_s: PositiveFloat = 30.0
    smoothing_factor: PositiveFloat = 1.0
    upscale_smoothing_factor: Optional[PositiveFloat] = None
    downscale_smoothing_factor: Optional[PositiveFloat] = None
    upscaling_factor: Optional[PositiveFloat] = None
    downscaling_factor: Optional[PositiveFloat] = None
    downscale_delay_s: NonNegativeFloat = 600.0
    downscale_to_zero_delay_s: Optional[NonNegativeFloat] = None
    upscale_delay_s: NonNegativeFloat = 30.0
    aggregation_function: Union[str, AggregationFunction] = AggregationFunction.MEAN
    policy: AutoscalingPolicy = Field(default_factory=AutoscalingPolicy)

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> AutoscalingConfig:
        least, most, first = self.min_replicas, self.max_replicas, self.initial_replicas
        if most < least:
            raise ValueError(
                f"max_replicas ({most}) must be greater than or equal to min_replicas ({least})!"
            )
        if first is not None and first < least:
            raise ValueError(
                f"min_replicas ({least}) must be less than or equal to initial_replicas ({first})!"
            )
        if first is not None and first > most:
            raise ValueError(
                f"max_replicas ({most}) must be greater than or equal to "
                f"initial_replicas ({first})!"
            )
        return self

    @field_validator("metrics_interval_s")
    @classmethod
    def _interval_is_deprecated(cls, value: float) -> float:
        if value != DEFAULT_METRICS_INTERVAL_S:
            warnings.warn(
                "The `metrics_interval_s` field in AutoscalingConfig is deprecated and will be "
                "replaced by the environment variables "
                "`RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S` and "
                "`RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S` in a future release.",
                DeprecationWarning,
                stacklevel=2,
            )
        return value

    @field_validator("look_back_period_s")
    @classmethod
    def _period_covers_an_interval(cls, value: float, info: Any) -> float:
        interval = info.data.get("metrics_interval_s", DEFAULT_METRICS_INTERVAL_S)
        if value <= interval:
            warnings.warn(
                f"`look_back_period_s` ({value}) must be greater than `metrics_interval_s` "
                f"({interval}). This will raise an exception in a future release. "
                "Please set `look_back_period_s` > `metrics_interval_s`.",
                FutureWarning,
                stacklevel=2,
            )
        return value

    @field_validator("aggregation_function")
    @classmethod
    def _aggregation_is_known(cls, value: Any) -> AggregationFunction:
        if isinstance(value, AggregationFunction):
            return value
        return AggregationFunction(str(value).lower())

    @classmethod
    def default(cls) -> AutoscalingConfig:
        """What ``num_replicas="auto"`` starts from."""
        return cls(
            target_ongoing_requests=constants.DEFAULT_TARGET_ONGOING_REQUESTS,
            min_replicas=1,
            max_replicas=100,
        )

    def get_upscaling_factor(self) -> float:
        return self.upscaling_factor or self.upscale_smoothing_factor or self.smoothing_factor

    def get_downscaling_factor(self) -> float:
        return self.downscaling_factor or self.downscale_smoothing_factor or self.smoothing_factor

    def get_target_ongoing_requests(self) -> Optional[float]:
        return self.target_ongoing_requests


class ProxyLocation(str, Enum):
    """Which machines listen for requests from outside."""

    Disabled = "Disabled"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"

    @classmethod
    def _normalize(cls, location: Any) -> Optional[ProxyLocation]:
        if location is None or isinstance(location, cls):
            return location
        if not isinstance(location, str):
            raise TypeError(f"Must be a `ProxyLocation` or str, got: {type(location)}.")
        return cls.Disabled if location == "NoServer" else cls(location)


class DeploymentMode(str, Enum):
    """The older name of ``ProxyLocation``, accepted wherever that is."""

    NoServer = "NoServer"
    HeadOnly = "HeadOnly"
    EveryNode = "EveryNode"


class HTTPOptions(BaseModel):
    """How the proxies listen for HTTP.  Fixed when the instance starts."""

    model_config = ConfigDict(validate_assignment=True, arbitrary_types_allowed=True)

    host: Optional[str] = constants.DEFAULT_HTTP_HOST
    port: int = constants.DEFAULT_HTTP_PORT
    middlewares: List[Any] = []
    location: Optional[ProxyLocation] = None
    num_cpus: int = 0
    root_url: str = ""
    root_path: str = ""
    request_timeout_s: Optional[float] = None
    keep_alive_timeout_s: int = constants.DEFAULT_KEEP_ALIVE_TIMEOUT_S
    ssl_keyfile: Optional[str] = None
    ssl_certfile: Optional[str] = None
    ssl_keyfile_password: Optional[str] = None
    ssl_ca_certs: Optional[str] = None

    @field_validator("location", mode="before")
    @classmethod
    def _location_is_deprecated(cls, value: Any) -> Optional[ProxyLocation]:
        if value is not None:
            warnings.warn(
                "`location` in HTTPOptions is deprecated and will be removed in a future version. "
                "Use the `proxy_location` argument to `serve.start` or the top-level "
                "`proxy_location` field in the Serve config instead.",
                DeprecationWarning,
                stacklevel=2,
            )
        return ProxyLocation._normalize(value)

    @model_validator(mode="after")
    def _no_host_means_no_proxy(self) -> HTTPOptions:
        if self.host is None:
            self.__dict__["location"] = ProxyLocation.Disabled
        return self

    @field_validator("ssl_certfile")
    @classmethod
    def _certificate_has_its_key(cls, value: Optional[str], info: Any) -> Optional[str]:
        check_tls_pair(value, info.data.get("ssl_keyfile"))
        return value

    @field_validator("middlewares")
    @classmethod
    def _middlewares_are_gone(cls, value: List[Any]) -> List[Any]:
        if value:
            raise ValueError(
                "`middlewares` in HTTPOptions has been removed. Use Serve's FastAPI integration "
                "to configure middlewares on ingress deployments instead."
            )
        return value

    @field_validator("num_cpus")
    @classmethod
    def _cpus_are_gone(cls, value: int) -> int:
        if value:
            raise ValueError(
                "`num_cpus` in HTTPOptions has been removed. Serve no longer supports configuring "
                "CPU reservations for HTTP proxy actors via HTTPOptions."
            )
        return value


class gRPCOptions(BaseModel):
    """How the proxies listen for gRPC; no servicer functions, no gRPC."""

    port: int = constants.DEFAULT_GRPC_PORT
    grpc_servicer_functions: List[str] = []
    request_timeout_s: Optional[float] = None
    enable_reflection: bool = True

    @property
    def grpc_servicer_func_callable(self) -> List[Callable[..., Any]]:
        return [_load_servicer(path) for path in self.grpc_servicer_functions]


def _load_servicer(path: str) -> Callable[..., Any]:
    try:
        function = import_path.load(path)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path} can't be imported! Please make sure there are no typo in those functions. "
            "Or you might want to rebuild service definitions if .proto file is changed."
        ) from error
    if not callable(function):
        raise ValueError(
            f"{path} is not a callable function! "
            "Please make sure the function is imported correctly."
        )
    return function


class ControllerOptions(BaseModel):
    """Options of the controller's process; they count when it is first started."""

    model_config = ConfigDict(extra="forbid")

    runtime_env: Optional[Dict[str, Any]] = None

    @field_validator("runtime_env")
    @classmethod
    def _only_variables(cls, value: Optional[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
        if value is None:
            return value
        others = sorted(set(value) - {"env_vars"})
        if others:
            raise ValueError(
                "ControllerOptions.runtime_env only supports ['env_vars'] in this version; "
                f"got disallowed keys {others}. Per-replica runtime_env belongs on the deployment, "
                "not on the controller."
            )
        _check_variables(value.get("env_vars", {}))
        return value


def _check_variables(variables: Any) -> None:
    if not isinstance(variables, dict):
        raise ValueError(
            f"runtime_env.env_vars must be a dict[str, str], got {type(variables).__name__}."
        )
    for name, value in variables.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"env_vars key must be a non-empty str, got {name!r}.")
        if not isinstance(value, str):
            raise ValueError(
                f"env_vars[{name!r}] must be str (got {type(value).__name__}); coerce explicitly."
            )


class GangPlacementStrategy(str, Enum):
    """Where the replicas of a gang go, as far as possible."""

    PACK = "PACK"
    SPREAD = "SPREAD"


class GangRuntimeFailurePolicy(str, Enum):
    """What happens to a gang when one of its replicas fails."""

    RESTART_GANG = "RESTART_GANG"
    RESTART_REPLICA = "RESTART_REPLICA"


class DeploymentActorConfig(BaseModel):
    """A process that all replicas of a deployment share."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    actor_class: Union[type, str, Any]
    init_args: Tuple[Any, ...] = Field(default_factory=tuple)
    init_kwargs: Dict[str, Any] = Field(default_factory=dict)
    actor_options: Dict[str, Any] = Field(default_factory=dict)
    _carried: bytes = PrivateAttr(default=b"")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(self.actor_class, str):
            self._carried = pickling.dumps(self.actor_class)
            plain = getattr(self.actor_class, "__ray_actor_class__", self.actor_class)
            self.actor_class = f"{plain.__module__}:{plain.__qualname__}"

    @field_validator("init_args", mode="before")
    @classmethod
    def _arguments_are_a_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value or ()

    def get_actor_class(self) -> type:
        if self._carried:
            return pickling.loads(self._carried)
        return import_path.load(str(self.actor_class))


class GangSchedulingConfig(BaseModel):
    """Replicas that live and die together."""

    gang_size: int = Field(ge=1)
    gang_placement_strategy: GangPlacementStrategy = GangPlacementStrategy.PACK
    runtime_failure_policy: GangRuntimeFailurePolicy = GangRuntimeFailurePolicy.RESTART_GANG

    @field_validator("runtime_failure_policy")
    @classmethod
    def _only_the_whole_gang(cls, value: GangRuntimeFailurePolicy) -> GangRuntimeFailurePolicy:
        if value is GangRuntimeFailurePolicy.RESTART_REPLICA:
            raise NotImplementedError(
                "RESTART_REPLICA policy is not yet implemented: a gang is restarted as a whole."
            )
        return value
