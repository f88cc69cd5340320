# SPDX-License-Identifier: Apache-2.0
"""``module.sub:name`` and ``module.sub.name``: from a text to the thing."""

from __future__ import annotations

import importlib
from typing import Any


def split(path: str) -> tuple[str, str]:
    """The module's and the attribute's name."""
    if path.count(":") > 1:
        raise ValueError(
            f'Got invalid import path "{path}". An import path may have at most one colon.'
        )
    module, _, name = path.rpartition(":" if ":" in path else ".")
    return module, name


def ours(path: str) -> str:
    """A path that names a part of Ray Serve, as a configuration may, names the same part here."""
    return f"manta.{path[len('ray.') :]}" if path.startswith("ray.serve.") else path


def load(path: str) -> Any:
    """Import the module and get the attribute."""
    module, name = split(ours(path))
    return getattr(importlib.import_module(module), name)


def of(thing: Any) -> str:
    """The path under which a class or function is found again."""
    return f"{thing.__module__}.{thing.__name__}"
