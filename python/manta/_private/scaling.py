# SPDX-License-Identifier: Apache-2.0
"""What an autoscaling policy may look at.

Numbers that are expensive to gather may be given as functions; they are called when a policy asks,
and once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Optional, Union

from manta._private.names import DeploymentID, ReplicaID

Lazy = Union[Any, Callable[[], Any]]


class AutoscalingContext:
    """The state of one deployment at the moment of a decision."""

    def __init__(
        self,
        deployment_id: DeploymentID,
        deployment_name: str,
        app_name: Optional[str],
        current_num_replicas: int,
        target_num_replicas: int,
        running_replicas: list[ReplicaID],
        total_num_requests: Lazy,
        total_queued_requests: Lazy,
        aggregated_metrics: Lazy,
        raw_metrics: Lazy,
        capacity_adjusted_min_replicas: int,
        capacity_adjusted_max_replicas: int,
        policy_state: dict[str, Any],
        last_scale_up_time: Optional[float],
        last_scale_down_time: Optional[float],
        current_time: Optional[float],
        config: Any,
    ) -> None:
        self.deployment_id = deployment_id
        self.deployment_name = deployment_name
        self.app_name = app_name
        self.current_num_replicas = current_num_replicas
        self.target_num_replicas = target_num_replicas
        self.running_replicas = running_replicas
        self._requests = total_num_requests
        self._queued = total_queued_requests
        self._aggregated = aggregated_metrics
        self._raw = raw_metrics
        self.capacity_adjusted_min_replicas = capacity_adjusted_min_replicas
        self.capacity_adjusted_max_replicas = capacity_adjusted_max_replicas
        self.policy_state = policy_state
        self.last_scale_up_time = last_scale_up_time
        self.last_scale_down_time = last_scale_down_time
        self.current_time = current_time
        self.config = config

    @cached_property
    def total_num_requests(self) -> float:
        return _gathered(self._requests)

    @cached_property
    def total_queued_requests(self) -> float:
        return _gathered(self._queued)

    @property
    def total_running_requests(self) -> float:
        return max(0.0, self.total_num_requests - self.total_queued_requests)

    @cached_property
    def aggregated_metrics(self) -> Optional[dict[str, dict[ReplicaID, float]]]:
        return _gathered(self._aggregated)

    @cached_property
    def raw_metrics(self) -> Optional[dict[str, dict[ReplicaID, list[Any]]]]:
        return _gathered(self._raw)


def _gathered(value: Lazy) -> Any:
    return value() if callable(value) else value
