# SPDX-License-Identifier: Apache-2.0
"""Values on their way to another process.

cloudpickle is loaded on first use: an application whose arguments are plain never needs it.  What
is plain here is what cannot be changed after it was given, so that the same object may stand on
both sides.
"""

from __future__ import annotations

import pickle
from typing import Any

_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})


def is_plain(value: Any) -> bool:
    """Whether a value may be handed over as it is, without a copy through pickle."""
    kind = type(value)
    return kind in _PLAIN or (kind is tuple and all(is_plain(item) for item in value))


def dumps(value: Any) -> bytes:
    import cloudpickle

    return cloudpickle.dumps(value)


def loads(data: bytes) -> Any:
    return pickle.loads(data)


def dumps_or_tell(value: Any, message: str) -> bytes:
    """Pickle for a deployment; what cannot be pickled is a TypeError that says what it was."""
    try:
        return dumps(value)
    except (TypeError, pickle.PicklingError) as error:
        raise TypeError(f"{message}:\n{_blame(value, error)}") from error


def _blame(value: Any, error: Exception) -> str:
    """The innermost part that is at fault, as far as a look into containers and closures tells."""
    lines = [f"{error}"]
    for name, part in _parts(value):
        try:
            dumps(part)
        except Exception as inner:
            lines.append(f"  {name} = {part!r} cannot be serialized: {inner}")
    return "\n".join(lines)


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, type):
        members = [(name, member) for name, member in vars(value).items()]
        return [pair for name, member in members for pair in _closed_over(name, member)]
    return _closed_over(getattr(value, "__name__", "value"), value)


def _closed_over(name: str, function: Any) -> list[tuple[str, Any]]:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or not cells:
        return []
    values = []
    for variable, cell in zip(code.co_freevars, cells, strict=False):
        try:
            values.append((f"{name}: {variable}", cell.cell_contents))
        except ValueError:
            continue  # Not assigned yet.
    return values


def copy_through_pickle(value: Any) -> Any:
    """The value as the other side of a call would see it."""
    return value if is_plain(value) else loads(dumps(value))
