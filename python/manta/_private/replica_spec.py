# SPDX-License-Identifier: Apache-2.0
"""What a replica runs, with which arguments, and where: the half of a deployment that is code.

A change of anything in here means new replicas.  The class travels by its import path where it has
one; only what lives in a function's body or in ``__main__`` is pickled, and that this is possible
is checked early, where the mistake stands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from manta._private import pickling, resources
from manta._private.user_code import is_asgi

Bundles = list[dict[str, float]]


class ReplicaSpec:
    """Class or function, constructor arguments, resources and placement; checked once."""

    __slots__ = (
        "func_or_class",
        "init_args",
        "init_kwargs",
        "max_replicas_per_node",
        "placement_group_bundle_label_selector",
        "placement_group_bundles",
        "placement_group_strategy",
        "ray_actor_options",
    )

    def __init__(
        self,
        func_or_class: Callable[..., Any] | str,
        *,
        init_args: Any = None,
        init_kwargs: Any = None,
        ray_actor_options: dict[str, Any] | None = None,
        placement_group_bundles: Bundles | None = None,
        placement_group_strategy: str | None = None,
        placement_group_bundle_label_selector: list[dict[str, str]] | None = None,
        max_replicas_per_node: int | None = None,
    ) -> None:
        _check_callable(func_or_class, init_args, init_kwargs)
        self.func_or_class = func_or_class
        self.init_args = () if init_args is None else tuple(init_args)
        self.init_kwargs = {} if init_kwargs is None else init_kwargs
        self.ray_actor_options = resources.check_options(
            {} if ray_actor_options is None else ray_actor_options
        )
        self.placement_group_bundles = placement_group_bundles
        self.placement_group_strategy = placement_group_strategy
        self.placement_group_bundle_label_selector = _for_every_bundle(
            placement_group_bundle_label_selector, placement_group_bundles
        )
        self.max_replicas_per_node = max_replicas_per_node
        self._check_placement()

    def changed(self, **given: Any) -> ReplicaSpec:
        """A copy with other values, checked again."""
        values = {name: getattr(self, name) for name in self.__slots__} | given
        return ReplicaSpec(values.pop("func_or_class"), **values)

    def _check_placement(self) -> None:
        bundles = self.placement_group_bundles
        resources.check_max_replicas_per_node(self.max_replicas_per_node)
        for name in ("placement_group_strategy", "placement_group_bundle_label_selector"):
            if getattr(self, name) is not None and bundles is None:
                raise ValueError(
                    f"If `{name}` is provided, `placement_group_bundles` must also be provided."
                )
        if bundles is None:
            return
        resources.check_bundles(
            bundles,
            self.placement_group_strategy or "PACK",
            self.placement_group_bundle_label_selector,
        )
        resources.check_first_bundle(bundles[0], self.ray_actor_options)
        if self.max_replicas_per_node is not None:
            raise ValueError(
                "Setting max_replicas_per_node is not allowed when placement_group_bundles is "
                "provided."
            )


def _for_every_bundle(
    selectors: list[dict[str, str]] | None, bundles: Bundles | None
) -> list[dict[str, str]] | None:
    """One selector alone stands for all bundles."""
    if selectors and bundles and len(selectors) == 1 and len(bundles) > 1:
        return [dict(selectors[0]) for _ in bundles]
    return selectors


def _check_callable(func_or_class: Any, init_args: Any, init_kwargs: Any) -> None:
    if not callable(func_or_class) and not isinstance(func_or_class, str):
        raise TypeError("@serve.deployment must be called on a class or function.")
    if not (init_args is None or isinstance(init_args, (tuple, list))):
        raise TypeError("init_args must be a tuple.")
    if not (init_kwargs is None or isinstance(init_kwargs, dict)):
        raise TypeError("init_kwargs must be a dict.")
    if inspect.isfunction(func_or_class):
        if init_args:
            raise ValueError("init_args not supported for function deployments.")
        if init_kwargs:
            raise ValueError("init_kwargs not supported for function deployments.")


def check_code_travels(func_or_class: Any) -> None:
    """What lives in a function's body can only be sent by value: see at once whether it can.

    Classes with an ASGI application are left out: applications of some frameworks can never be
    pickled, and where they need not travel they shall work.
    """
    if "<locals>" in getattr(func_or_class, "__qualname__", "") and not is_asgi(func_or_class):
        pickling.dumps_or_tell(
            func_or_class, f"Could not serialize the deployment {func_or_class!r}"
        )


def check_arguments_travel(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Plain arguments always do, so that the usual ``bind`` pickles nothing."""
    if not all(map(pickling.is_plain, args)):
        pickling.dumps_or_tell(args, "Could not serialize the deployment init args")
    if not all(map(pickling.is_plain, kwargs.values())):
        pickling.dumps_or_tell(kwargs, "Could not serialize the deployment init kwargs")
