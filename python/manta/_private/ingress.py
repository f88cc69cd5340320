# SPDX-License-Identifier: Apache-2.0
"""``serve.ingress``: a deployment class whose way in is an ASGI application.

The application is taken as it is at decoration.  Applications of the Starlette family are copied
so far that routes added later do not appear (the endpoints themselves are shared); others are used
as they are.  Nothing is pickled for this, so that an application may hold what cannot be.
"""

from __future__ import annotations

import collections.abc
import copy
import inspect
import sys
from collections.abc import Callable
from typing import Any, Optional

from manta._private import foreign_pickles
from manta._private.asgi import ASGIAppReplicaWrapper

_METADATA = ("__name__", "__qualname__", "__module__", "__doc__")
_BUILD_ASGI_APP = "__serve_build_asgi_app__"


def decorate(app: Any, cls: Optional[type]) -> type:
    """The class of the deployment."""
    wrapped = _Anything if cls is None else cls
    _check_class(app, wrapped)
    foreign_pickles.register()
    if is_fastapi(app):
        from manta._private import views

        views.bind_routes(app, wrapped)
    return _make_class(wrapped, freeze(app))


class _Anything:
    """The class when there is none: it takes whatever ``bind()`` is given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


_Anything.__name__ = _Anything.__qualname__ = "ASGIIngressDeployment"


def _check_class(app: Any, cls: Any) -> None:
    if not inspect.isclass(cls):
        raise ValueError("@serve.ingress must be used with a class.")
    if issubclass(cls, collections.abc.Callable):  # type: ignore[arg-type]
        raise ValueError("Classes passed to @serve.ingress may not have __call__ method.")
    if app is None and not hasattr(cls, _BUILD_ASGI_APP):
        raise ValueError(
            "serve.ingress() called without an app argument requires "
            f"{cls.__name__} to define `{_BUILD_ASGI_APP}`."
        )


def is_fastapi(app: Any) -> bool:
    """Whether it is a FastAPI application or router; nobody has one who has not imported it."""
    fastapi = sys.modules.get("fastapi")
    return fastapi is not None and isinstance(app, (fastapi.FastAPI, fastapi.APIRouter))


def _make_class(cls: Any, app: Any) -> type:
    class ASGIIngressWrapper(cls, ASGIAppReplicaWrapper):  # type: ignore[misc]
        """The user's class and the application in one."""

        async def __init__(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]
            await _finish(cls.__init__(self, *args, **kwargs))
            ASGIAppReplicaWrapper.__init__(self, app)

        def __init_subclass__(subcls, **kwargs: Any) -> None:  # noqa: N804 (cls is the user's)
            super().__init_subclass__(**kwargs)
            if not inspect.iscoroutinefunction(subcls.__init__):
                raise TypeError(_SYNC_SUBCLASS.format(name=subcls.__name__))

    for name in _METADATA:
        setattr(ASGIIngressWrapper, name, getattr(cls, name))
    ASGIIngressWrapper.__annotations__ = dict(getattr(cls, "__annotations__", {}))
    return ASGIIngressWrapper


async def _finish(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


_SYNC_SUBCLASS = (
    "{name}.__init__ must be `async def` when subclassing a class decorated with @serve.ingress. "
    "The parent `__init__` is async; a sync `super().__init__(...)` call would silently drop the "
    "returned coroutine and leave the replica uninitialized. Change `def __init__(self, ...)` to "
    "`async def __init__(self, ...)` and `super().__init__(...)` to "
    "`await super().__init__(...)`. If the sync `__init__` comes from a mixin in the MRO, override "
    "it on the subclass with an `async def __init__` that awaits both parents."
)


def freeze(app: Any) -> Any:
    """The application with the routes that it has now."""
    if app is None or inspect.isfunction(app) or inspect.isclass(app):
        return app
    router = getattr(app, "router", None)
    if isinstance(getattr(app, "routes", None), list) and router is None:
        return _copy_with_routes(app)  # A router by itself.
    if router is None or not isinstance(getattr(router, "routes", None), list):
        return app
    frozen = copy.copy(app)
    frozen.router = _copy_with_routes(router)
    for name in ("user_middleware", "exception_handlers"):
        if hasattr(app, name):
            setattr(frozen, name, copy.copy(getattr(app, name)))
    frozen.middleware_stack = None
    _document_again(frozen)
    return frozen


def _copy_with_routes(router: Any) -> Any:
    """A router with a list of routes of its own, also in the routers that it includes."""
    frozen = copy.copy(router)
    frozen.routes = [_copy_included(route) for route in router.routes]
    for name, value in list(vars(frozen).items()):
        if getattr(value, "__self__", None) is router and inspect.ismethod(value):
            setattr(frozen, name, getattr(frozen, value.__name__))
    return frozen


def _copy_included(route: Any) -> Any:
    """FastAPI includes routers by reference and remembers what it found in them."""
    if not hasattr(route, "original_router"):
        return route
    frozen = copy.copy(route)
    object.__setattr__(frozen, "original_router", _copy_with_routes(route.original_router))
    for name in vars(frozen):
        if name.startswith("_effective") and name.endswith("_version"):
            object.__setattr__(frozen, name, None)
    return frozen


def _document_again(app: Any) -> None:
    """FastAPI's own pages speak of the application that made them: have the copy make its own."""
    setup: Optional[Callable[[], None]] = getattr(app, "setup", None)
    if setup is None or not hasattr(app, "openapi_url"):
        return
    pages = {app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url}
    others = [route for route in app.router.routes if not _is_page(route, pages)]
    app.openapi_schema = None
    app.router.routes.clear()
    setup()
    app.router.routes.extend(others)


def _is_page(route: Any, pages: set[Any]) -> bool:
    return getattr(route, "path", None) in pages and getattr(route, "include_in_schema", 1) is False
