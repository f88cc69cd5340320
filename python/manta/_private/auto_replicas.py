# SPDX-License-Identifier: Apache-2.0
"""``num_replicas``: a number, "auto", or nothing; and what that means for autoscaling."""

from __future__ import annotations

from typing import Any

from manta._private.default import is_set


def resolve(given: dict[str, Any]) -> None:
    """Check the number against the rest, and turn "auto" into an autoscaling configuration.

    ``given`` holds the options that were given, and is changed in place.
    """
    if "max_ongoing_requests" in given and given["max_ongoing_requests"] is None:
        raise ValueError("`max_ongoing_requests` must be non-null, got None.")
    count = given.get("num_replicas")
    if count == "auto":
        del given["num_replicas"]
        given["autoscaling_config"] = _automatic(given.get("autoscaling_config"))
        return
    if count is not None and is_set(given.get("autoscaling_config")):
        raise ValueError(
            "Manually setting num_replicas is not allowed when autoscaling_config is provided."
        )
    if count is not None and type(count) is not str and count == 0:
        raise ValueError("num_replicas is expected to larger than 0")


def _automatic(given: Any) -> Any:
    """The defaults of "auto", with the user's fields over them."""
    from manta.serve.config import AutoscalingConfig

    if not is_set(given):
        return AutoscalingConfig.default()
    written = given if isinstance(given, dict) else given.model_dump(exclude_unset=True)
    return AutoscalingConfig(**AutoscalingConfig.default().model_dump(exclude_unset=True) | written)
