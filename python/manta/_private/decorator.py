# SPDX-License-Identifier: Apache-2.0
"""``serve.deployment``: the checks that concern several options, and the making of a Deployment.

The one function is long because its signature is the public list of all options, and its text
their explanation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, Union, overload

from manta._private import auto_replicas, replica_spec
from manta._private.default import DEFAULT, Default, is_given
from manta._private.options import DeploymentOptions
from manta._private.replica_spec import ReplicaSpec
from manta.serve.deployment import PLACEMENT, Deployment, check_gang_placement, plain_logging

if TYPE_CHECKING:
    from manta.serve.config import (
        AutoscalingConfig,
        BackpressureConfig,
        DeploymentActorConfig,
        GangSchedulingConfig,
        RequestRouterConfig,
    )
    from manta.serve.schema import LoggingConfig


@overload
def deployment(_func_or_class: Callable[..., Any], /) -> Deployment: ...


@overload
def deployment(
    _func_or_class: None = None,
    name: Default[str] = DEFAULT.VALUE,
    version: Default[str] = DEFAULT.VALUE,
    num_replicas: Default[Optional[Union[int, str]]] = DEFAULT.VALUE,
    ray_actor_options: Default[dict] = DEFAULT.VALUE,
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
    max_constructor_retry_count: Default[int] = DEFAULT.VALUE,
    gang_scheduling_config: Default[Union[dict, GangSchedulingConfig, None]] = DEFAULT.VALUE,
    deployment_actors: Default[Optional[list[Union[dict, DeploymentActorConfig]]]] = DEFAULT.VALUE,
    rolling_update_percentage: Default[float] = DEFAULT.VALUE,
    max_surge_percent: Default[int] = DEFAULT.VALUE,
) -> Callable[[Callable[..., Any]], Deployment]: ...


def deployment(
    _func_or_class: Optional[Callable] = None,
    name: Default[str] = DEFAULT.VALUE,
    version: Default[str] = DEFAULT.VALUE,
    num_replicas: Default[Optional[Union[int, str]]] = DEFAULT.VALUE,
    ray_actor_options: Default[dict] = DEFAULT.VALUE,
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
    max_constructor_retry_count: Default[int] = DEFAULT.VALUE,
    gang_scheduling_config: Default[Union[dict, GangSchedulingConfig, None]] = DEFAULT.VALUE,
    deployment_actors: Default[Optional[list[Union[dict, DeploymentActorConfig]]]] = DEFAULT.VALUE,
    rolling_update_percentage: Default[float] = DEFAULT.VALUE,
    max_surge_percent: Default[int] = DEFAULT.VALUE,
) -> Any:
    """Make a class or function a deployment.

    Used bare, with options in parentheses, or called with the class.

    Args:
        _func_or_class: The class or function when the decorator is used bare.
        name: Its name within the application; by default that of the class or function.
        version: Not accepted any more: versions are computed from the code and the options.
        num_replicas: How many replicas run; "auto" follows the load. 1 by default.
        ray_actor_options: What each replica asks of its machine: num_cpus, num_gpus, memory,
            resources, accelerator_type, runtime_env, label_selector, fallback_strategy.
        placement_group_bundles: Resources reserved together for each replica; the replica itself
            lives in the first bundle.
        placement_group_strategy: PACK (the default), SPREAD, STRICT_PACK or STRICT_SPREAD.
        placement_group_bundle_label_selector: Labels of machines, for all bundles or for each.
        max_replicas_per_node: How many replicas one machine may run, 1 to 100.
        user_config: What ``reconfigure`` is called with; changes need no restart.
        max_ongoing_requests: How many requests one replica handles at once. 5 by default.
        max_queued_requests: How many requests may wait in one caller; -1 (default) for any number.
        backpressure_config: The HTTP answer to requests that found the queue full.
        autoscaling_config: How the number of replicas follows the load.
        graceful_shutdown_wait_loop_s: How often a stopping replica looks for running requests. 2.
        graceful_shutdown_timeout_s: How long it may take before it is killed. 20.
        health_check_period_s: How often ``check_health`` is asked. 10.
        health_check_timeout_s: How long an answer may take. 30.
        logging_config: What the replicas log.
        request_router_config: Which router chooses replicas.
        max_constructor_retry_count: How often constructors may fail before the deployment has. 20.
        gang_scheduling_config: Replicas that live and die together.
        deployment_actors: Processes that all replicas share.
        rolling_update_percentage: The part of the replicas that is replaced at a time. 0.2.
        max_surge_percent: How many replicas more than wanted a rollout may run, in percent. 0.
    """
    given = {k: v for k, v in locals().items() if k != "_func_or_class" and is_given(v)}
    if "version" in given:
        raise ValueError(
            "`version` in `@serve.deployment` has been removed. "
            "Serve manages deployment versions internally."
        )
    written = set(given)
    check_gang_placement(
        given.get("gang_scheduling_config"),
        given.get("max_replicas_per_node"),
        given.get("placement_group_strategy"),
    )
    auto_replicas.resolve(given)
    if given.get("num_replicas", 1) is None:
        given["num_replicas"] = 1
    placement = {key: given.pop(key) for key in PLACEMENT if key in given}
    given_name = given.pop("name", None)
    options = DeploymentOptions().changed(plain_logging(given), written)

    def decorate(func_or_class: Any) -> Deployment:
        spec = ReplicaSpec(func_or_class, **placement)
        replica_spec.check_code_travels(func_or_class)
        own_name = func_or_class.__name__ if given_name is None else given_name
        return Deployment(own_name, options, spec, _internal=True)

    return decorate(_func_or_class) if callable(_func_or_class) else decorate
