# SPDX-License-Identifier: Apache-2.0
"""Is a decorated function called as a method, and with which arguments?

Decorators see functions, not methods.  A call is one of a method when the first argument has, under
the function's name, something that wraps this very function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

# Of a deployment's ``@serve.multiplexed`` and ``@serve.batch`` functions there are few.
_signature = lru_cache(maxsize=256)(inspect.signature)


def self_of_call(args: tuple[Any, ...], function: Callable[..., Any]) -> Any:
    """The object, or None for the call of a plain function."""
    if not args:
        return None
    found = getattr(args[0], function.__name__, None)
    return args[0] if getattr(found, "__wrapped__", None) is function else None


def bind(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as given; TypeError when the function could not be called with them."""
    if kwargs or len(args) != _plain_parameters(function):
        _signature(function).bind(*args, **kwargs)
    return args, kwargs


@lru_cache(maxsize=256)
def _plain_parameters(function: Callable[..., Any]) -> int:
    """How many positional arguments it takes when it takes no others; -1 when it does."""
    parameters = _signature(function).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return len(parameters) if all(parameter.kind in plain for parameter in parameters) else -1
