# SPDX-License-Identifier: Apache-2.0
"""What a replica asks of its machine: ``ray_actor_options`` and placement, checked.

The rules and the messages are those of Ray, because the same dictionaries reach Ray when a cluster
places the replicas.  One thing is stricter: a ``runtime_env`` that would install software (pip,
conda, containers) is refused here, instead of starting without it.
"""

from __future__ import annotations

import re
from typing import Any

from manta._private.constants import MAX_REPLICAS_PER_NODE_MAX_VALUE

ALLOWED_OPTIONS = (
    "accelerator_type",
    "memory",
    "num_cpus",
    "num_gpus",
    "resources",
    "runtime_env",
    "label_selector",
    "fallback_strategy",
)
_TYPES: dict[str, tuple[type, ...]] = {
    "accelerator_type": (str, type(None)),
    "memory": (float, int, type(None)),
    "num_cpus": (float, int, type(None)),
    "num_gpus": (float, int, type(None)),
    "resources": (dict, type(None)),
    "runtime_env": (dict, type(None)),
    "label_selector": (dict, type(None)),
    "fallback_strategy": (list, type(None)),
}
_SMALLEST_PART = 0.0001

# Parts of a runtime_env that this run time carries out, and those that say nothing to it.
RUNTIME_ENV_SUPPORTED = frozenset({"env_vars", "working_dir", "py_modules"})
RUNTIME_ENV_IGNORED = frozenset({"excludes", "config", "_ray_commit"})
PLACEMENT_STRATEGIES = frozenset({"PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"})

_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?"
_LABEL_PREFIX = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL_VALUE = rf"!?({_LABEL})?|!?in\({_LABEL}(,{_LABEL})*\)"


def check_options(options: Any) -> dict[str, Any]:
    """``ray_actor_options`` as a new dictionary with the default number of CPUs written down."""
    if not isinstance(options, dict):
        raise TypeError(
            f'Got invalid type "{type(options)}" for ray_actor_options. Expected a dictionary.'
        )
    for name, value in options.items():
        if name not in ALLOWED_OPTIONS:
            raise ValueError(
                f"Specifying '{name}' in ray_actor_options is not allowed. "
                f"Allowed options: {set(ALLOWED_OPTIONS)}"
            )
        _check_option(name, value)
    checked = dict(options)
    if checked.get("num_cpus") is None:
        checked["num_cpus"] = 1
    return checked


def _check_option(name: str, value: Any) -> None:
    wanted = _TYPES[name]
    if not any(isinstance(value, kind) for kind in wanted):
        raise TypeError(
            f"The type of keyword '{name}' must be {wanted}, but received type {type(value)}"
        )
    if value is None:
        return
    if name in ("num_cpus", "num_gpus", "memory"):
        check_quantity(name, value)
    elif name == "resources":
        _check_custom_resources(value)
    elif name == "label_selector":
        check_labels(value)
    elif name == "fallback_strategy":
        _check_fallback(value)
    elif name == "runtime_env":
        check_runtime_env(value)


def check_quantity(name: str, quantity: float) -> None:
    if quantity < 0:
        raise ValueError(f"The quantity of resource {name} cannot be negative")
    if isinstance(quantity, float) and 0.0 < quantity < _SMALLEST_PART:
        raise ValueError(
            f"The precision of the fractional quantity of resource {name} cannot go beyond 0.0001"
        )


def _check_custom_resources(resources: dict[str, float]) -> None:
    if "CPU" in resources or "GPU" in resources:
        raise ValueError(
            "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU' in "
            "'resources' keyword"
        )
    for name, quantity in resources.items():
        check_quantity(name, quantity)


def check_labels(labels: dict[str, str] | None) -> None:
    """Keys and values of a label selector, operators ``!`` and ``in()`` included."""
    for key, value in (labels or {}).items():
        prefix, _, name = key.rpartition("/")
        if prefix and (len(prefix) > 253 or not re.fullmatch(_LABEL_PREFIX, prefix)):
            raise ValueError(
                f"Invalid label key prefix `{prefix}`. Prefix must be a series of DNS labels "
                "separated by dots (.), not longer than 253 characters in total."
            )
        if len(name) > 63 or not re.fullmatch(_LABEL, name):
            raise ValueError(
                f"Invalid label key name `{name}`. Name must be 63 chars or less beginning and "
                "ending with an alphanumeric character ([a-z0-9A-Z]) with dashes (-), "
                "underscores (_),dots (.), and alphanumerics between."
            )
        if value is not None and not re.fullmatch(_LABEL_VALUE, value):
            raise ValueError(
                f"Invalid label selector value `{value}`. The label selector value should contain "
                "optional operators and a label value. Supported operators are: ! and in."
            )


def _check_fallback(strategies: list[Any]) -> None:
    for strategy in strategies:
        if not isinstance(strategy, dict):
            raise ValueError("Each element in fallback_strategy must be a dictionary.")
        if not strategy:
            raise ValueError("Empty dictionary found in `fallback_strategy`.")
        for option in strategy:
            if option != "label_selector":
                raise ValueError(
                    f"Unsupported option found: '{option}'. "
                    "Only ['label_selector'] is currently supported."
                )
        check_labels(strategy["label_selector"])


def check_runtime_env(env: dict[str, Any]) -> None:
    """Refuse what would need an installation; check the shape of the rest."""
    for part in env:
        if part not in RUNTIME_ENV_SUPPORTED | RUNTIME_ENV_IGNORED:
            raise ValueError(
                f"runtime_env['{part}'] is not supported: replicas run in the environment that "
                "Manta was started in. Install what they need there; env_vars, working_dir and "
                "py_modules are supported."
            )
    variables = env.get("env_vars", {})
    if not isinstance(variables, dict) or not all(
        isinstance(name, str) and isinstance(value, str) for name, value in variables.items()
    ):
        raise TypeError(
            f"runtime_env['env_vars'] must be of type Dict[str, str], got {variables!r}."
        )
    if not isinstance(env.get("working_dir", ""), str):
        raise TypeError("`working_dir` must be a string (either a local path or remote URI).")
    modules = env.get("py_modules", [])
    if not isinstance(modules, list):
        raise TypeError(f"`py_modules` must be a list of strings or modules, got {type(modules)}.")


def check_max_replicas_per_node(limit: Any) -> None:
    if limit is None:
        return
    span = f"[1, {MAX_REPLICAS_PER_NODE_MAX_VALUE}]"
    if not isinstance(limit, int):
        raise TypeError(
            f"Get invalid type '{type(limit)}' for max_replicas_per_node. "
            f"Expected None or an integer in the range of {span}."
        )
    if not 1 <= limit <= MAX_REPLICAS_PER_NODE_MAX_VALUE:
        raise ValueError(
            f"Invalid max_replicas_per_node {limit}. "
            f"Valid values are None or an integer in the range of {span}."
        )


def check_bundles(bundles: Any, strategy: str, selectors: Any) -> None:
    """The bundles of a placement group by themselves."""
    if strategy not in PLACEMENT_STRATEGIES:
        raise ValueError(
            f"Invalid placement group strategy {strategy}. "
            f"Supported strategies are: {set(PLACEMENT_STRATEGIES)}."
        )
    if not isinstance(bundles, list):
        raise ValueError(f"Placement group bundles must be a list, got {type(bundles)}.")
    example = 'For example: `[{"CPU": 1.0}, {"GPU": 1.0}]`.'
    if not bundles:
        raise ValueError(
            f"Bundles must be a non-empty list of resource dictionaries. {example} "
            "Got empty list instead."
        )
    for bundle in bundles:
        if not _is_bundle(bundle):
            raise ValueError(
                f"Bundles must be a non-empty list of resource dictionaries. {example}"
            )
        if not any(bundle.values()):
            raise ValueError(
                "Bundles cannot be an empty dictionary or resources with only 0 values. "
                f"Bundles: {bundles}"
            )
    _check_bundle_selectors(bundles, selectors)


def _is_bundle(bundle: Any) -> bool:
    return isinstance(bundle, dict) and all(
        isinstance(name, str) and isinstance(quantity, (int, float))
        for name, quantity in bundle.items()
    )


def _check_bundle_selectors(bundles: list[Any], selectors: Any) -> None:
    if selectors is None:
        return
    if len(bundles) != len(selectors):
        raise ValueError(
            f"Invalid bundle label selector {selectors}. The length of `bundle_label_selector` "
            "should equal the length of `bundles`."
        )
    for selector in selectors:
        try:
            check_labels(selector)
        except ValueError as error:
            raise ValueError(
                "Invalid label selector provided in bundle_label_selector list. "
                f"Detailed error: '{error}'"
            ) from error


def check_first_bundle(bundle: dict[str, float], options: dict[str, Any]) -> None:
    """The replica itself lives in the first bundle, so that must be large enough."""
    needs = [
        ("`num_cpus`", "CPU", options.get("num_cpus") or 0),
        ("`num_gpus`", "GPU", options.get("num_gpus") or 0),
    ]
    needs += [
        (f"`{name}` requirement", name, quantity)
        for name, quantity in (options.get("resources") or {}).items()
    ]
    for words, name, quantity in needs:
        if bundle.get(name, 0) < quantity:
            raise ValueError(
                "When using `placement_group_bundles`, the replica actor will be placed in the "
                "first bundle, so the resource requirements for the actor must be a subset of "
                f"the first bundle. {words} for the actor is {quantity}, but the bundle only has "
                f"{bundle.get(name, 0)} `{name}` specified."
            )
