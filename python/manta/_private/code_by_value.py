# SPDX-License-Identifier: Apache-2.0
"""Code that no module holds, as bytes: that of scripts, notebooks and functions' bodies.

cloudpickle takes it apart, but forgets the file in which it stands.  Whoever reads a replica's trace
wants to know it, so it is put back.
"""

from __future__ import annotations

import io
import re
import types
from collections import ChainMap
from functools import lru_cache
from typing import Any

_FORGOTTEN = "<dynamic-code>"
_CELL = re.compile(r".*/ipykernel_\d+/(\d+)\.py")


def dumps(thing: Any) -> bytes:
    """A class or function by value, with the names of its files."""
    out = io.BytesIO()
    _pickler()(out, protocol=5).dump(thing)
    return out.getvalue()


def _file_of(code: types.CodeType) -> str:
    """A cell of a notebook has another file in each kernel; its number is that of its text."""
    return _CELL.sub(r"<notebook cell \1>", code.co_filename)


@lru_cache(maxsize=1)
def _pickler() -> Any:
    import cloudpickle

    known = cloudpickle.Pickler.dispatch_table
    take_apart = known[types.CodeType]

    def reduce_code(code: types.CodeType) -> Any:
        make, parts, *rest = take_apart(code)
        file = _file_of(code)
        named = tuple(file if isinstance(p, str) and p == _FORGOTTEN else p for p in parts)
        return (make, named, *rest)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined]
        dispatch_table = ChainMap({types.CodeType: reduce_code}, known)

    return Pickler
