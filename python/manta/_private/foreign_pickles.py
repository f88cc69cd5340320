# SPDX-License-Identifier: Apache-2.0
"""How objects of Starlette and FastAPI travel that pickle cannot take as they are.

An application that lives in a script or a notebook is sent to its replicas by value.  Starlette's
``State`` cannot be unpickled (its attributes ask for themselves), and FastAPI's included routers,
which every class with routes has, hold a lock.
"""

from __future__ import annotations

import copyreg
import sys
import threading
from typing import Any

_Lock = type(threading.Lock())


def register() -> None:
    """For the packages that are loaded; again is harmless."""
    state = getattr(sys.modules.get("starlette.datastructures"), "State", None)
    if state is not None:
        copyreg.pickle(state, _reduce_state)
    included = getattr(sys.modules.get("fastapi.routing"), "_IncludedRouter", None)
    if included is not None:
        copyreg.pickle(included, _reduce_included)


def _reduce_state(state: Any) -> tuple[Any, ...]:
    return type(state), (vars(state)["_state"],)


def _reduce_included(router: Any) -> tuple[Any, ...]:
    """Without its locks; the other side makes its own.

    The rest is state, apart from the making, because router and application hold each other.
    """
    state = dict(vars(router))
    locks = [name for name, value in state.items() if isinstance(value, _Lock)]
    for name in locks:
        del state[name]
    return _new_included, (type(router), locks), state


def _new_included(kind: type, locks: list[str]) -> Any:
    router: Any = object.__new__(kind)
    for name in locks:
        vars(router)[name] = threading.Lock()
    return router
