# SPDX-License-Identifier: Apache-2.0
"""FastAPI routes that are methods of the deployment's class.

``@app.get(...)`` inside a class body registers a plain function whose first parameter is ``self``.
Here that parameter becomes a dependency on the replica's object, and the others keyword-only, as
FastAPI calls them.  Routes that belong to another class decorated with the same application are
taken out.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from manta.serve.exceptions import RayServeException


async def _replica_object() -> Any:
    from manta.serve.context import get_replica_context

    return get_replica_context().servable_object


def bind_routes(app: Any, cls: type) -> None:
    """Give the class's own and inherited routes their ``self``."""
    from fastapi import APIRouter

    own = APIRouter()
    for route, router, prefix in list(_routes(app)):
        if not _belongs_to(route.endpoint, cls):
            continue
        router.routes.remove(route)
        _set_prefix(route, prefix)
        route.endpoint.__signature__ = _signature_with_self(route.endpoint)
        route.endpoint._serve_cls = cls
        own.routes.append(route)
    app.include_router(own)
    for route, router, _ in list(_routes(app)):
        owner = getattr(route.endpoint, "_serve_cls", None)
        if owner is not None and owner is not cls:
            router.routes.remove(route)


def _routes(router: Any, prefix: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every route with the router that holds it and the prefix that is not in its path."""
    from fastapi.routing import APIRoute, APIWebSocketRoute

    for route in router.routes:
        if isinstance(route, (APIRoute, APIWebSocketRoute)):
            yield route, router, prefix
        elif hasattr(route, "original_router"):  # Routers that FastAPI includes by reference.
            inner = prefix + route.include_context.prefix
            yield from _routes(route.original_router, inner)


def _belongs_to(endpoint: Any, cls: type) -> bool:
    return any(
        endpoint.__qualname__.startswith(f"{base.__qualname__}.")
        for base in cls.__mro__
        if base is not object
    )


def _set_prefix(route: Any, prefix: str) -> None:
    if not prefix:
        return
    from starlette.routing import compile_path

    route.path = prefix + route.path
    route.path_regex, route.path_format, route.param_convertors = compile_path(route.path)


def _signature_with_self(endpoint: Any) -> inspect.Signature:
    from fastapi import Depends

    signature = inspect.signature(endpoint)
    parameters = list(signature.parameters.values())
    if not parameters:
        raise RayServeException(
            "Methods in FastAPI class-based view must have ``self`` as their first argument."
        )
    first, *others = parameters
    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in others]
    return signature.replace(
        parameters=[first.replace(default=Depends(_replica_object)), *keyword_only]
    )
