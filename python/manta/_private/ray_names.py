# SPDX-License-Identifier: Apache-2.0
"""``ray.serve`` by the name that programs know: the same modules as ``manta.serve``.

A finder in front of all others answers for ``ray`` and everything below it.  What Manta has is the
very module object of Manta's, so that classes are identical whichever name imported them; what it
does not have is an import error that says what to do instead.  An installed Ray is not looked at.

The mode belongs to a process.  A driver hands it to its replicas with the surroundings of its code
(``manta._private.native_code``).
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Optional

from manta._private.absent import advice

_PARTS = {"ray.serve": "manta.serve", "ray.exceptions": "manta.exceptions"}


def _ours(name: str) -> Optional[str]:
    """The module of Manta that a name of Ray stands for; None when there is none."""
    if name in _PARTS:
        return _PARTS[name]
    if name.startswith("ray.serve.") and not name.startswith("ray.serve._"):
        wanted = f"manta{name[len('ray') :]}"
        return wanted if importlib.util.find_spec(wanted) is not None else None
    return None


class _Alias(importlib.abc.Loader):
    """Loads a module by putting another one in its place."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted

    def exec_module(self, module: ModuleType) -> None:
        found = importlib.import_module(self._wanted)
        sys.modules[module.__name__] = found
        if self._wanted == "manta.serve":
            _alias_what_is_loaded()


def _alias_what_is_loaded() -> None:
    """The parts that came with the package.

    They would be found later, too, but an import sets the attribute of its name in the parent, and
    ``deployment`` there is the decorator, not the module.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("manta.serve."):
            sys.modules.setdefault(f"ray{name[len('manta') :]}", module)


class _Ray(importlib.abc.Loader):
    """Makes the module ``ray``."""

    def exec_module(self, module: ModuleType) -> None:
        from manta._private import ray_module

        vars(module).update(ray_module.NAMES)


class RayNames(importlib.abc.MetaPathFinder):
    """Answers for every name below ``ray``."""

    def find_spec(
        self, name: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if name != "ray" and not name.startswith("ray."):
            return None
        if name == "ray":
            return importlib.machinery.ModuleSpec(name, _Ray(), is_package=True)
        wanted = _ours(name)
        if wanted is None:
            raise ModuleNotFoundError(advice(name))
        return importlib.machinery.ModuleSpec(name, _Alias(wanted))


def is_installed() -> bool:
    """Whether ``ray.serve`` is ``manta.serve`` in this process."""
    return any(isinstance(finder, RayNames) for finder in sys.meta_path)


def install() -> None:
    """Let ``ray.serve`` be ``manta.serve`` from now on; again is harmless.

    Raises ``RuntimeError`` when the real Ray was imported before: two of them in one process would
    answer each other's calls.
    """
    if is_installed():
        return
    real: Any = sys.modules.get("ray")
    if real is not None:
        raise RuntimeError(
            f"Ray itself is imported already, from {getattr(real, '__file__', 'somewhere')}. "
            "Install Manta's names before the first `import ray`."
        )
    sys.meta_path.insert(0, RayNames())
