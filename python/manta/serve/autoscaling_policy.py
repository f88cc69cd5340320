# SPDX-License-Identifier: Apache-2.0
"""Autoscaling policies that come with the system.

The controller makes the default decision natively; the function here is the same decision in
Python, for custom policies that build on it.  A policy says how many replicas it wants; factors,
delays and limits are applied to its answer afterwards, by the controller.
"""

from __future__ import annotations

import math
from typing import Any, Union

from manta._private.scaling import AutoscalingContext

__all__ = ["default_autoscaling_policy", "replica_queue_length_autoscaling_policy"]


def replica_queue_length_autoscaling_policy(
    ctx: AutoscalingContext,
) -> tuple[Union[int, float], dict[str, Any]]:
    """So many replicas that each has ``target_ongoing_requests`` running or waiting for it."""
    running = ctx.current_num_replicas
    if running == 0:
        if ctx.total_num_requests > 0:  # Somebody waits: no factor, no delay.
            first = math.ceil(ctx.config.get_upscaling_factor())
            return max(first, ctx.target_num_replicas), ctx.policy_state
        return ctx.target_num_replicas, {}
    load = ctx.total_num_requests / (ctx.config.get_target_ongoing_requests() * running)
    return running * load, {}


default_autoscaling_policy = replica_queue_length_autoscaling_policy
