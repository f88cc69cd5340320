# SPDX-License-Identifier: Apache-2.0
"""The code of a deployment on its way to a replica.

What a module holds is imported there again; only what lives in ``__main__`` or in a function's body
is pickled by value.  The constructor's arguments are pickled; their classes follow the same rule,
which is cloudpickle's own.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from manta._private import ray_names
from manta._private import code_by_value
from manta.serve.deployment import Deployment


@dataclass(frozen=True)
class Code:
    """What a replica needs to make the user's object."""

    module: str  # Where func_or_class is found, or "" when it is in `pickled`.
    name: str
    pickled: Optional[bytes]
    arguments: bytes  # A pickle of (init_args, init_kwargs, options of the deployment).


@dataclass(frozen=True)
class Unpacked:
    """What came out in the replica."""

    thing: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    config: Any


def importable(thing: Any) -> Optional[tuple[str, str]]:
    """Module and qualified name under which another process finds the same thing."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not module or not name or module == "__main__" or "<locals>" in name:
        return None
    try:
        found = _walk(sys.modules[module], name)
    except (KeyError, AttributeError):
        return None
    return (module, name) if _undecorated(found) is thing else None


def _walk(holder: Any, name: str) -> Any:
    for part in name.split("."):
        holder = getattr(holder, part)
    return holder


def _undecorated(found: Any) -> Any:
    """The class or function behind ``@serve.deployment``."""
    return found.func_or_class if isinstance(found, Deployment) else found


def dumps(value: Any) -> bytes:
    """Pickle by reference where another process has the same modules, else by value."""
    try:
        data = pickle.dumps(value, protocol=5)
        if b"__main__" not in data:
            return data
    except Exception:
        pass  # Local classes and closures: cloudpickle can, or says why not.
    import cloudpickle

    return cloudpickle.dumps(value, protocol=5)


def dumps_by_value(value: Any, protocol: int, buffer_callback: Any = None) -> bytes:
    """As ``pickle.dumps``, for what another process cannot import."""
    import cloudpickle

    data: bytes = cloudpickle.dumps(value, protocol=protocol, buffer_callback=buffer_callback)
    return data


def pack(deployment: Deployment) -> bytes:
    """The code of a deployment as bytes."""
    thing = deployment.func_or_class
    config = deployment._deployment_config
    arguments = dumps((tuple(deployment.init_args), dict(deployment.init_kwargs), config))
    if isinstance(thing, str):
        module, _, name = thing.replace(":", ".").rpartition(".")
        return pickle.dumps(Code(module, name, None, arguments))
    where = importable(thing)
    if where is not None:
        return pickle.dumps(Code(*where, None, arguments))
    return pickle.dumps(Code("", "", code_by_value.dumps(thing), arguments))


def by_value(data: bytes) -> str:
    """A hash of what no module's file tells: with a pickled function its globals travel, too."""
    pickled = pickle.loads(data).pickled
    return "" if pickled is None else hashlib.sha256(pickled).hexdigest()


def unpack(data: bytes) -> Unpacked:
    """The class or function, and its constructor's arguments.  Imports what they need."""
    code = pickle.loads(data)
    if code.pickled is not None:
        thing = pickle.loads(code.pickled)
    else:
        thing = _undecorated(_walk(importlib.import_module(code.module), code.name))
    args, kwargs, config = pickle.loads(code.arguments)
    return Unpacked(thing, args, kwargs, config)
