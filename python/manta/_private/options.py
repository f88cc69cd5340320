# SPDX-License-Identifier: Apache-2.0
"""The options of a deployment: one table, two readers.

Each row says what an option's default is, which plain values are certainly right, and what the
type is in pydantic's words.  Values that are certainly right are taken as they are, so that an
ordinary application never loads pydantic.  Everything else -- a text that spells a number, a
dictionary for a config class, a mistake -- is judged by a pydantic model made from the same table,
which converts it or raises pydantic's own ``ValidationError``.

What needs no pydantic and concerns several options at once is checked by the decorator.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from manta._private import constants
from manta._private.default import is_given


class Update(enum.Enum):
    """What a change of the option asks of the replicas that run already."""

    LIGHT = "controller only"
    RECONFIGURE = "told to the replicas"
    CALL = "calls into the replicas' user code"
    HEAVY = "rolling restart"


@dataclass(frozen=True)
class Option:
    """One row: the default, a test for values beyond doubt, the type for the rest."""

    default: Any
    is_right: Callable[[Any], bool]
    annotation: str
    update: Update


def _whole(least: int, most: int | None = None) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and v >= least and (most is None or v <= most)


def _number(above: float | None = None, least: float | None = None) -> Callable[[Any], bool]:
    def is_right(value: Any) -> bool:
        if type(value) is not float:
            return False  # A whole number is converted, so that equal options look equal.
        return value > above if above is not None else value >= (least or 0.0)

    return is_right


def _fraction(value: Any) -> bool:
    return type(value) is float and 0.0 < value <= 1.0


def _json(value: Any) -> bool:
    if value is None or isinstance(value, bytes):
        return True
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _nothing(value: Any) -> bool:
    return value is None


def _never(value: Any) -> bool:
    return False


TABLE: dict[str, Option] = {
    "num_replicas": Option(1, _whole(0), "Optional[NonNegativeInt]", Update.LIGHT),
    "max_ongoing_requests": Option(
        constants.DEFAULT_MAX_ONGOING_REQUESTS, _whole(1), "PositiveInt", Update.CALL
    ),
    "max_queued_requests": Option(
        -1, lambda v: type(v) is int and v != 0 and v >= -1, "int", Update.LIGHT
    ),
    "backpressure_config": Option(None, _never, "BackpressureConfig", Update.CALL),
    "user_config": Option(None, _json, "Any", Update.CALL),
    "graceful_shutdown_timeout_s": Option(
        constants.DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S,
        _number(least=0),
        "NonNegativeFloat",
        Update.RECONFIGURE,
    ),
    "graceful_shutdown_wait_loop_s": Option(
        constants.DEFAULT_GRACEFUL_SHUTDOWN_WAIT_LOOP_S,
        _number(least=0),
        "NonNegativeFloat",
        Update.CALL,
    ),
    "health_check_period_s": Option(
        constants.DEFAULT_HEALTH_CHECK_PERIOD_S,
        _number(above=0),
        "PositiveFloat",
        Update.RECONFIGURE,
    ),
    "health_check_timeout_s": Option(
        constants.DEFAULT_HEALTH_CHECK_TIMEOUT_S,
        _number(above=0),
        "PositiveFloat",
        Update.RECONFIGURE,
    ),
    "autoscaling_config": Option(None, _nothing, "Optional[AutoscalingConfig]", Update.CALL),
    "request_router_config": Option(None, _never, "RequestRouterConfig", Update.CALL),
    "logging_config": Option(None, _nothing, "Optional[dict]", Update.CALL),
    "max_constructor_retry_count": Option(
        constants.DEFAULT_CONSTRUCTOR_RETRY_COUNT, _whole(1), "PositiveInt", Update.RECONFIGURE
    ),
    "gang_scheduling_config": Option(
        None, _nothing, "Optional[GangSchedulingConfig]", Update.HEAVY
    ),
    "deployment_actors": Option(
        None, _nothing, "Optional[List[DeploymentActorConfig]]", Update.HEAVY
    ),
    "rolling_update_percentage": Option(
        constants.DEFAULT_ROLLING_UPDATE_PERCENTAGE, _fraction, "Fraction", Update.LIGHT
    ),
    "max_surge_percent": Option(0, _whole(0, 100), "Percent", Update.LIGHT),
}

# Options whose default is an object of a config class, made when somebody looks.
_DEFAULT_CLASSES = {
    "backpressure_config": "BackpressureConfig",
    "request_router_config": "RequestRouterConfig",
}


class DeploymentOptions:
    """The checked values of one deployment, and the names of those the user wrote down."""

    __slots__ = ("_values", "user_configured_option_names")

    def __init__(
        self, values: dict[str, Any] | None = None, written: set[str] | None = None
    ) -> None:
        self._values: dict[str, Any] = dict(values or {})
        self.user_configured_option_names: set[str] = set(written or ())

    def __getattr__(self, name: str) -> Any:
        if name not in TABLE:
            raise AttributeError(f"a deployment has no option {name!r}")
        if name in self._values:
            return self._values[name]
        if name in _DEFAULT_CLASSES:
            from manta.serve import config

            return self._values.setdefault(name, getattr(config, _DEFAULT_CLASSES[name])())
        return TABLE[name].default

    def changed(self, given: dict[str, Any], written: set[str]) -> DeploymentOptions:
        """A copy with what was given (the mark for "not given" is skipped), checked."""
        new = {name: value for name, value in given.items() if is_given(value)}
        checked = check(new)
        changed = DeploymentOptions(
            self._values | checked, self.user_configured_option_names | written
        )
        changed._check_together()
        return changed

    def assign(self, name: str, value: Any) -> None:
        """Change one value in place; only for what is applied to a finished deployment."""
        self._values |= check({name: value})

    def non_default(self) -> dict[str, Any]:
        """What differs from the defaults as far as was said."""
        return dict(self._values)

    def to_dict(self) -> dict[str, Any]:
        """Every option as plain values."""
        values = {}
        for name in TABLE:
            value = getattr(self, name)
            values[name] = value.model_dump() if hasattr(value, "model_dump") else value
        return values

    def _check_together(self) -> None:
        gang = self.gang_scheduling_config
        count = self.num_replicas
        if gang is None or self.autoscaling_config is not None or count is None:
            return
        if count % gang.gang_size:
            raise ValueError(
                f"num_replicas ({count}) must be a multiple of gang_size ({gang.gang_size})."
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeploymentOptions):
            return NotImplemented
        return self.user_configured_option_names == other.user_configured_option_names and all(
            getattr(self, name) == getattr(other, name) for name in TABLE
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> tuple[dict[str, Any], set[str]]:
        return self._values, self.user_configured_option_names

    def __setstate__(self, state: tuple[dict[str, Any], set[str]]) -> None:
        self._values, self.user_configured_option_names = state


def check(given: dict[str, Any]) -> dict[str, Any]:
    """The values as they will be used; pydantic's ValidationError for what cannot be."""
    doubtful = {name for name, value in given.items() if not TABLE[name].is_right(value)}
    if not doubtful:
        return given
    judged = _model()(**{name: given[name] for name in doubtful})
    return given | {name: getattr(judged, name) for name in doubtful}


@lru_cache(maxsize=1)
def _model() -> Any:
    """The table as a pydantic model, named as the one whose errors people have seen."""
    from manta._private import option_types

    fields = {
        name: (option_types.resolve(option.annotation), option.default)
        for name, option in TABLE.items()
    }
    return option_types.make_model("DeploymentConfig", fields)
