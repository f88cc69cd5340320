# SPDX-License-Identifier: Apache-2.0
"""Manta: Ray Serve's programming model on a C core.

``from manta import serve`` is the way in.  Importing the package itself loads nothing: the parts
are imported the first time somebody asks for them, so that tools which only want the version, or
only the exceptions, do not pay for the rest.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["__version__", "exceptions", "serve"]
__version__ = "0.1.0"

_PARTS = frozenset({"exceptions", "serve"})


def __getattr__(name: str) -> ModuleType:
    if name in _PARTS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | _PARTS)
