# SPDX-License-Identifier: Apache-2.0
"""Metrics of user code: counters, gauges and histograms.

Inside a replica every metric also carries the tags ``deployment``, ``replica`` and
``application``.  Values go to the run time of the process (``manta._private.instance``); where
there is none, as in tests, they are dropped.
"""

from __future__ import annotations

import re
from typing import Any, Optional, Union

from manta._private import instance
from manta.serve import context

__all__ = ["Counter", "Gauge", "Histogram"]

_RESERVED = ("deployment", "replica", "application")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LATENCY_MS: list[float] = [
    1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 1000, 2000, 5000, 10000, 60000, 120000, 300000,
    600000,
]  # fmt: skip


class _Metric:
    """A name, its tags, and the tags that are there without being said."""

    def __init__(self, name: str, description: str, tag_keys: Optional[tuple[str, ...]]) -> None:
        if tag_keys and not isinstance(tag_keys, tuple):
            raise TypeError(f"tag_keys should be a tuple type, got: {type(tag_keys)}")
        for key in tag_keys or ():
            if not isinstance(key, str):
                raise TypeError(f"Tag keys must be str, got {type(key)}.")
        self._name = name
        self._is_named_well = _NAME.fullmatch(name) is not None  # Others are never recorded.
        self._description = description
        self._tag_keys = (*self._replica_tags(tag_keys or ()), *(tag_keys or ()))
        self._default_tags: dict[str, str] = {}
        self.set_default_tags({})

    @staticmethod
    def _replica_tags(given: Any) -> dict[str, str]:
        """The replica's tags, which the user may not use; none outside a replica."""
        replica = context._get_internal_replica_context()
        if replica is None:
            return {}
        for tag in _RESERVED:
            if tag in given:
                raise ValueError(f"'{tag}' tag is reserved for Ray Serve metrics")
        tags = {"deployment": replica.deployment, "replica": replica.replica_tag}
        return tags | ({"application": replica.app_name} if replica.app_name else {})

    def set_default_tags(self, default_tags: dict[str, str]) -> None:
        """Tags for all values from now on; given ones go over them."""
        for key, value in default_tags.items():
            if key not in self._tag_keys:
                raise ValueError(f"Unrecognized tag key {key}.")
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")
        self._default_tags = {**default_tags, **self._replica_tags(default_tags)}

    @property
    def info(self) -> dict[str, Any]:
        """The metric's own description."""
        return {
            "name": self._name,
            "description": self._description,
            "tag_keys": self._tag_keys,
            "default_tags": self._default_tags,
        }

    def _tags(self, given: Optional[dict[str, str]]) -> dict[str, str]:
        for value in (given or {}).values():
            if not isinstance(value, str):
                raise TypeError(f"Tag values must be str, got {type(value)}.")
        tags = self._default_tags | (given or {})
        if "route" in self._tag_keys and "route" not in tags:
            tags["route"] = context._get_serve_request_context().route
        missing = [key for key in self._tag_keys if key not in tags]
        if missing:
            raise ValueError(f"Missing value for tag key(s): {','.join(missing)}.")
        return tags

    def _record(self, kind: str, value: Union[int, float], tags: Any, **more: Any) -> None:
        if self._is_named_well:
            told = self._tags(tags)
            instance.record_metric(kind, self._name, self._description, value, told, **more)


class Counter(_Metric):
    """A number that only grows."""

    def __init__(
        self, name: str, description: str = "", tag_keys: Optional[tuple[str, ...]] = None
    ) -> None:
        super().__init__(name, description, tag_keys)

    def inc(self, value: Union[int, float] = 1.0, tags: Optional[dict[str, str]] = None) -> None:
        if not isinstance(value, (int, float)):
            raise TypeError(f"value must be int or float, got {type(value)}.")
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        self._record("counter", value, tags)


class Gauge(_Metric):
    """A number that goes up and down."""

    def __init__(
        self, name: str, description: str = "", tag_keys: Optional[tuple[str, ...]] = None
    ) -> None:
        super().__init__(name, description, tag_keys)

    def set(self, value: Union[int, float, None], tags: Optional[dict[str, str]] = None) -> None:
        if value is None:
            return
        if not isinstance(value, (int, float)):
            raise TypeError(f"value must be int or float, got {type(value)}.")
        self._record("gauge", value, tags)


class Histogram(_Metric):
    """How values are spread over intervals."""

    def __init__(
        self,
        name: str,
        description: str = "",
        boundaries: Optional[list[float]] = None,
        tag_keys: Optional[tuple[str, ...]] = None,
    ) -> None:
        super().__init__(name, description, tag_keys)
        if not boundaries:
            raise ValueError(
                "boundaries argument should be provided when using the Histogram class. "
                'e.g., Histogram("name", boundaries=[1.0, 2.0])'
            )
        for index, boundary in enumerate(boundaries):
            if boundary <= 0:
                raise ValueError(
                    f"Invalid `boundaries` argument at index {index}, {boundaries}. "
                    "Use positive values for the arguments."
                )
        self.boundaries = boundaries

    def observe(self, value: Union[int, float], tags: Optional[dict[str, str]] = None) -> None:
        if not isinstance(value, (int, float)):
            raise TypeError(f"value must be int or float, got {type(value)}.")
        self._record("histogram", value, tags, boundaries=self.boundaries)
