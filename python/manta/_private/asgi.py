# SPDX-License-Identifier: Apache-2.0
"""An ASGI application inside a replica: the class that ``@serve.ingress`` adds, and lifespan.

The application is called as it is; what this adds is that it is started before the replica is
ready and stopped with it, as an ASGI server would (the lifespan protocol, "on": an application
that raises there has failed).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Optional

from manta._private.constants import logger

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class Lifespan:
    """One run of an application's lifespan, as a task beside the requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._task: Optional[asyncio.Task[None]] = None
        self._stop = asyncio.Event()
        self._answered = asyncio.Event()
        self._asked_to_start = False
        self._failure: Optional[str] = None
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Returns when the application is ready; RuntimeError when it will not be."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._answered.wait()
        if self._failure is not None:
            logger.error(f"ASGI lifespan startup failed: {self._failure}")
            raise RuntimeError("ASGI lifespan startup failed. Check replica logs for details.")

    async def shutdown(self) -> None:
        """Returns when the application has cleaned up."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:
            if not self._answered.is_set():
                self._failure = repr(error)
            elif not isinstance(error, asyncio.CancelledError):
                logger.exception("The ASGI application failed in its lifespan.")
        finally:
            self._answered.set()

    async def _receive(self) -> Message:
        if not self._asked_to_start:
            self._asked_to_start = True
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.failed":
            self._failure = message.get("message") or "the application said so"
        if kind.startswith("lifespan.startup."):
            self._answered.set()
        elif kind == "lifespan.shutdown.failed" and self._stop.is_set():
            logger.error(f"ASGI lifespan shutdown failed: {message.get('message', '')}")


class ASGIAppReplicaWrapper:
    """The half of an ingress deployment's class that is an ASGI application."""

    _asgi_app: ASGIApp
    _lifespan: Optional[Lifespan] = None

    def __init__(self, app_or_func: Any) -> None:
        if app_or_func is not None:
            self._set_asgi_app(app_or_func() if inspect.isfunction(app_or_func) else app_or_func)

    def _set_asgi_app(self, app: ASGIApp) -> None:
        self._asgi_app = app

    @property
    def app(self) -> ASGIApp:
        return self._asgi_app

    @property
    def docs_path(self) -> Optional[str]:
        """Where FastAPI shows its documentation."""
        path = getattr(self._asgi_app, "docs_url", None)
        return path if isinstance(path, str) else None

    async def _run_asgi_lifespan_startup(self) -> None:
        _tell_serve_errors(self._asgi_app)
        self._lifespan = Lifespan(self._asgi_app)
        await self._lifespan.startup()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._lifespan is not None and self._lifespan.state and "state" not in scope:
            scope["state"] = dict(self._lifespan.state)
        await self._asgi_app(scope, receive, send)

    async def _run_asgi_lifespan_shutdown(self) -> None:
        if self._lifespan is not None:
            await self._lifespan.shutdown()


def _tell_serve_errors(app: Any) -> None:
    """Back pressure from a deployment further down is not an error of this one."""
    add = getattr(app, "add_exception_handler", None)
    if add is None:
        return
    from manta._private import http_result
    from manta.serve.exceptions import BackPressureError, DeploymentUnavailableError

    def answer(request: Any, error: Exception) -> Any:
        return http_result.response_to_error(error)

    for kind in (BackPressureError, DeploymentUnavailableError):
        add(kind, answer)
