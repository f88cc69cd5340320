# SPDX-License-Identifier: Apache-2.0
"""Deployments and applications: what will be run, before anything runs.

A ``Deployment`` is a class or function with its options; it is never changed, ``options()`` and
``bind()`` make new ones.  An ``Application`` is a deployment bound to its constructor's arguments,
which may be other applications: that is the graph that ``serve.run`` builds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, Union

from manta._private import auto_replicas, replica_spec
from manta._private.default import DEFAULT, Default, is_given, is_set
from manta._private.options import DeploymentOptions
from manta._private.replica_spec import ReplicaSpec

if TYPE_CHECKING:
    from manta.serve.config import (
        AutoscalingConfig,
        BackpressureConfig,
        DeploymentActorConfig,
        GangSchedulingConfig,
        RequestRouterConfig,
    )
    from manta.serve.schema import DeploymentSchema, LoggingConfig

__all__ = ["Application", "Deployment", "deployment_to_schema", "schema_to_deployment"]

# Options that belong to the code's half of a deployment.
PLACEMENT = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "placement_group_bundle_label_selector",
    "max_replicas_per_node",
)


class Application:
    """One or more deployments bound to their arguments; the result of ``Deployment.bind()``.

    Opaque: give it to ``serve.run``, to another ``bind()``, or name it in a configuration file.
    """

    def __init__(self, bound_deployment: Deployment) -> None:
        self._bound_deployment = bound_deployment


class Deployment:
    """A class or function decorated with ``@serve.deployment``."""

    def __init__(
        self,
        name: str,
        deployment_config: DeploymentOptions,
        replica_config: ReplicaSpec,
        version: Optional[str] = None,
        _internal: bool = False,
    ) -> None:
        if not _internal:
            raise RuntimeError(
                "The Deployment constructor should not be called directly. "
                "Use `@serve.deployment` instead."
            )
        check_name(name)
        if not (version is None or isinstance(version, str)):
            raise TypeError("version must be a string.")
        self._name = name
        self._version = version
        self._deployment_config = deployment_config
        self._replica_config = replica_config

    @property
    def name(self) -> str:
        """Unique name of this deployment within its application."""
        return self._name

    @property
    def version(self) -> Optional[str]:
        return self._version

    @property
    def func_or_class(self) -> Union[Callable, str]:
        """The class or function that this deployment wraps."""
        return self._replica_config.func_or_class

    @property
    def num_replicas(self) -> int:
        """Target number of replicas."""
        return self._deployment_config.num_replicas

    @property
    def user_config(self) -> Any:
        """What ``reconfigure`` is called with."""
        return self._deployment_config.user_config

    @property
    def max_ongoing_requests(self) -> int:
        """How many requests one replica handles at once."""
        return self._deployment_config.max_ongoing_requests

    @property
    def max_queued_requests(self) -> int:
        """How many requests may wait in one handle; -1 for any number."""
        return self._deployment_config.max_queued_requests

    @property
    def backpressure_config(self) -> BackpressureConfig:
        """The HTTP answer to requests that found the queue full."""
        return self._deployment_config.backpressure_config

    @property
    def ray_actor_options(self) -> Optional[dict[str, Any]]:
        """What each replica asks of its machine."""
        return self._replica_config.ray_actor_options

    @property
    def init_args(self) -> tuple[Any, ...]:
        return self._replica_config.init_args

    @property
    def init_kwargs(self) -> dict[str, Any]:
        return self._replica_config.init_kwargs

    @property
    def logging_config(self) -> Optional[dict[str, Any]]:
        return self._deployment_config.logging_config

    def set_logging_config(self, logging_config: dict[str, Any]) -> None:
        self._deployment_config.assign("logging_config", logging_config)

    def __call__(self) -> None:
        raise RuntimeError(
            "Deployments cannot be constructed directly. Use `deployment.deploy() instead.`"
        )

    def bind(self, *args: Any, **kwargs: Any) -> Application:
        """An application: this deployment with the arguments of its constructor."""
        replica_spec.check_arguments_travel(
            tuple(value for value in args if not isinstance(value, Application)),
            {k: value for k, value in kwargs.items() if not isinstance(value, Application)},
        )
        return Application(self.options(_init_args=args, _init_kwargs=kwargs))

    def options(
        self,
        func_or_class: Optional[Callable] = None,
        name: Default[str] = DEFAULT.VALUE,
        version: Default[str] = DEFAULT.VALUE,
        num_replicas: Default[Optional[Union[int, str]]] = DEFAULT.VALUE,
        ray_actor_options: Default[Optional[dict]] = DEFAULT.VALUE,
        placement_group_bundles: Default[list[dict[str, float]]] = DEFAULT.VALUE,
        placement_group_strategy: Default[str] = DEFAULT.VALUE,
        placement_group_bundle_label_selector: Default[list[dict[str, str]]] = DEFAULT.VALUE,
        max_replicas_per_node: Default[int] = DEFAULT.VALUE,
        user_config: Default[Optional[Any]] = DEFAULT.VALUE,
        max_ongoing_requests: Default[int] = DEFAULT.VALUE,
        max_queued_requests: Default[int] = DEFAULT.VALUE,
        backpressure_config: Default[Union[dict, BackpressureConfig, None]] = DEFAULT.VALUE,
        autoscaling_config: Default[Union[dict, AutoscalingConfig, None]] = DEFAULT.VALUE,
        graceful_shutdown_wait_loop_s: Default[float] = DEFAULT.VALUE,
        graceful_shutdown_timeout_s: Default[float] = DEFAULT.VALUE,
        health_check_period_s: Default[float] = DEFAULT.VALUE,
        health_check_timeout_s: Default[float] = DEFAULT.VALUE,
        logging_config: Default[Union[dict, LoggingConfig, None]] = DEFAULT.VALUE,
        request_router_config: Default[Union[dict, RequestRouterConfig, None]] = DEFAULT.VALUE,
        _init_args: Default[tuple[Any, ...]] = DEFAULT.VALUE,
        _init_kwargs: Default[dict[Any, Any]] = DEFAULT.VALUE,
        _internal: bool = False,
        max_constructor_retry_count: Default[int] = DEFAULT.VALUE,
        gang_scheduling_config: Default[Union[dict, GangSchedulingConfig, None]] = DEFAULT.VALUE,
        deployment_actors: Default[
            Optional[list[Union[dict, DeploymentActorConfig]]]
        ] = DEFAULT.VALUE,
        max_surge_percent: Default[int] = DEFAULT.VALUE,
    ) -> Deployment:
        """A copy with the given options; all others stay as they are.

        The options are explained at ``serve.deployment``.
        """
        given = {k: v for k, v in locals().items() if k not in _NOT_OPTIONS and is_given(v)}
        if is_given(version) and not _internal:
            raise ValueError(
                "`version` in `Deployment.options()` has been removed. "
                "Serve manages deployment versions internally."
            )
        written = set() if _internal else set(given)
        code = {"func_or_class": func_or_class} if func_or_class is not None else {}
        code |= {name: given.pop(name) for name in PLACEMENT if name in given}
        code |= {k[1:]: given.pop(k) for k in ("_init_args", "_init_kwargs") if k in given}
        return Deployment(
            given.pop("name", self._name),
            self._changed_options(given, written, code),
            self._replica_config.changed(**code) if code else self._replica_config,
            version=given.pop("version", self._version),
            _internal=True,
        )

    def _changed_options(
        self, given: dict[str, Any], written: set[str], code: dict[str, Any]
    ) -> DeploymentOptions:
        """The other half's options with what was given, and the checks that touch both halves."""
        given = {k: v for k, v in given.items() if k not in ("name", "version")}
        auto_replicas.resolve(given)
        if given.get("num_replicas", 1) is None:
            del given["num_replicas"]  # None leaves the number as it is.
        if not given and not written:
            return self._deployment_config
        options = self._deployment_config.changed(plain_logging(given), written)
        per_node = code.get("max_replicas_per_node", self._replica_config.max_replicas_per_node)
        strategy = code.get(
            "placement_group_strategy", self._replica_config.placement_group_strategy
        )
        check_gang_placement(options.gang_scheduling_config, per_node, strategy)
        return options

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deployment):
            return NotImplemented
        return (
            self._name == other._name
            and self._version == other._version
            and self._deployment_config == other._deployment_config
            and self.init_args == other.init_args
            and self.init_kwargs == other.init_kwargs
            and self.ray_actor_options == other.ray_actor_options
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"Deployment(name={self._name})"

    __repr__ = __str__


_NOT_OPTIONS = frozenset({"self", "func_or_class", "_internal"})


def check_name(name: Any) -> None:
    """A name is a text without the sign that parts the ids of replicas."""
    if not isinstance(name, str):
        raise TypeError("name must be a string.")
    if "#" in name:
        raise ValueError(
            f"Deployment names must not contain the '#' character. Current name: {name}."
        )


def plain_logging(given: dict[str, Any]) -> dict[str, Any]:
    """The logging configuration as values, whichever way it was given."""
    logging_config: Any = given.get("logging_config")
    if hasattr(logging_config, "model_dump"):
        return given | {"logging_config": logging_config.model_dump()}
    return given


def check_gang_placement(gang: Any, max_replicas_per_node: Any, strategy: Any) -> None:
    """A gang places its replicas itself."""
    if not is_set(gang):
        return
    if is_set(max_replicas_per_node):
        raise ValueError(
            "Setting max_replicas_per_node is not allowed when gang_scheduling_config is "
            "provided. Please set max_replicas_per_node to None."
        )
    if is_set(strategy):
        raise ValueError(
            "Setting placement_group_strategy is not allowed when gang_scheduling_config is "
            "provided. Use gang_scheduling_config.gang_placement_strategy instead."
        )


def deployment_to_schema(d: Deployment) -> DeploymentSchema:
    """What the user wrote about a deployment, as the configuration file would say it."""
    from manta.serve.schema import DeploymentSchema, RayActorOptionsSchema

    values: dict[str, Any] = {"name": d.name}
    for option in d._deployment_config.user_configured_option_names:
        if option == "ray_actor_options":
            values[option] = RayActorOptionsSchema.model_validate(d.ray_actor_options)
        elif option in PLACEMENT:
            values[option] = getattr(d._replica_config, option)
        elif option in DeploymentSchema.model_fields and option != "name":
            values[option] = getattr(d._deployment_config, option)
    if "num_replicas" in values and d._deployment_config.autoscaling_config:
        values["num_replicas"] = None
    return DeploymentSchema(**values)


def schema_to_deployment(s: DeploymentSchema) -> Deployment:
    """A deployment with the options of the schema and no code yet."""
    written = s._get_user_configured_option_names()
    given = {name: getattr(s, name) for name in written if name not in ("name", *PLACEMENT)}
    auto_replicas.resolve(given)
    placement = {name: getattr(s, name) for name in PLACEMENT if name in written}
    if "ray_actor_options" in placement:
        placement["ray_actor_options"] = s.ray_actor_options.model_dump(exclude_unset=True)
    return Deployment(
        s.name,
        DeploymentOptions().changed(plain_logging(given), written),
        ReplicaSpec("", **placement),
        _internal=True,
    )
