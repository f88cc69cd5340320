# SPDX-License-Identifier: Apache-2.0
"""Running a deployment's class or function.

One object of this class stands for one replica's user code.  It knows how to construct it, call
it, stream from it, reconfigure it, ask for its health and destroy it -- sync or async, class or
function, plain or ASGI.  It owns no loop: all its coroutines run on the loop of whoever hosts the
replica, be that local testing mode or the native replica process.

``def`` handlers run in threads, side by side; ``async def`` handlers run on the loop.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from manta._private.constants import RUN_SYNC_IN_THREADPOOL, logger
from manta._private.names import DeploymentID
from manta._private.threads import ThreadPool
from manta.serve.exceptions import RayServeException

MULTIPLEX_ATTRIBUTE = "__serve_multiplex_wrapper"
_BUILD_ASGI_APP = "__serve_build_asgi_app__"
_BLOCKS_LOOP = (
    "Calling sync method '{name}' directly on the asyncio loop. With "
    "RAY_SERVE_RUN_SYNC_IN_THREADPOOL=1 sync methods run in threads and do not block other "
    "requests."
)


class UserCode:
    """The user's class or function within one replica."""

    def __init__(
        self,
        func_or_class: Callable[..., Any],
        init_args: tuple[Any, ...],
        init_kwargs: dict[str, Any],
        *,
        deployment_id: DeploymentID,
        thread_limit: int,
        sync_in_threads: bool = RUN_SYNC_IN_THREADPOOL,
    ) -> None:
        if not (inspect.isfunction(func_or_class) or inspect.isclass(func_or_class)):
            raise TypeError(
                "deployment_def must be a function or class. Instead, its type was "
                f"{type(func_or_class)}."
            )
        self._definition = func_or_class
        self._init_args = init_args
        self._init_kwargs = init_kwargs
        self._deployment_id = deployment_id
        self._is_function = inspect.isfunction(func_or_class)
        self._sync_in_threads = sync_in_threads
        self._pool = ThreadPool(thread_limit, f"manta-{deployment_id.name}-def")
        self._methods: dict[str, Callable[..., Any]] = {}
        self._warned = False
        self._destroyed = False
        self.callable: Any = None
        # What a run time does around each function that runs in a thread; None: nothing.
        self.around_threads: Callable[[Callable[[], Any]], Any] | None = None

    # Life.

    async def construct(self) -> None:
        """Make the object (``__init__`` may be async), then its ASGI application if it has one."""
        if self._is_function:
            self.callable = self._definition
            return
        cls: Any = self._definition
        made = cls.__new__(cls)
        await self._on_loop(made.__init__, self._init_args, self._init_kwargs)
        if is_asgi(made):
            await self._start_asgi(made)
        self.callable = made

    async def _start_asgi(self, made: Any) -> None:
        build = getattr(made, _BUILD_ASGI_APP, None)
        if build is not None:
            app = await self._on_loop(build, (), {})
            if app is None:
                raise TypeError(f"`{_BUILD_ASGI_APP}` must return an ASGI app.")
            made._set_asgi_app(app)
        elif not hasattr(made, "_asgi_app"):
            raise TypeError(
                f"ASGI app was not provided to the wrapper and `{_BUILD_ASGI_APP}` is not defined "
                "on the deployment."
            )
        await made._run_asgi_lifespan_startup()

    async def reconfigure(self, user_config: Any, rank: Any) -> None:
        """Hand over the user's configuration; to a method that wants it, the rank too."""
        method = None if self._is_function else getattr(self.callable, "reconfigure", None)
        wants_rank = method is not None and "rank" in inspect.signature(method).parameters
        if user_config is None and not wants_rank:
            return
        if self._is_function:
            raise ValueError("deployment_def must be a class to use user_config or rank")
        if method is None:
            raise RayServeException(
                f"user_config or rank specified but deployment {self._deployment_id} missing "
                "reconfigure method"
            )
        await self._run(method, (user_config,), {"rank": rank} if wants_rank else {})

    def set_thread_limit(self, limit: int) -> None:
        """At most so many ``def`` handlers side by side from now on."""
        self._pool.set_limit(limit)

    async def check_health(self) -> None:
        """Raises when the user's own check does."""
        check = getattr(self.callable, "check_health", None)
        if check is not None:
            await self._run(check, (), {})

    async def destroy(self) -> None:
        """The application's lifespan, ``__del__`` (once), the models that are still loaded."""
        if self.callable is None or self._destroyed:
            return
        self._destroyed = True
        try:
            if not self._is_function and is_asgi(self.callable):
                await self.callable._run_asgi_lifespan_shutdown()
            end = getattr(self.callable, "__del__", None)
            if end is not None and not self._is_function:
                await self._on_loop(end, (), {})
                _silence(type(self.callable), self.callable)
            models = getattr(self.callable, MULTIPLEX_ATTRIBUTE, None)
            if models is not None:
                await models.shutdown()
        except Exception:
            logger.exception("Exception during graceful shutdown of replica")

    # Calls.

    def method(self, name: str) -> Callable[..., Any]:
        """What a request's method name stands for; a function deployment answers to any name."""
        found = self._methods.get(name)
        if found is None:
            found = self._methods[name] = self._find(name)
        return found

    def _find(self, name: str) -> Callable[..., Any]:
        if self._is_function:
            return self.callable
        found = getattr(self.callable, name, None)
        if found is None:
            public = [
                other
                for other in dir(self.callable)
                if not other.startswith("__") and callable(getattr(self.callable, other))
            ]
            raise RayServeException(
                f"Tried to call a method '{name}' that does not exist. Available methods: {public}."
            )
        return found

    async def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One answer; a generator is refused."""
        method = self.method(name)
        if inspect.isgeneratorfunction(method) or inspect.isasyncgenfunction(method):
            raise _needs_stream(method)
        result = await self._run(method, args, kwargs)
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise _needs_stream(method)
        return result

    async def stream(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        push: Callable[[Any], bool],
    ) -> None:
        """Every item to ``push``, until that says that nobody reads any more."""
        method = self.method(name)
        if self._sync_in_threads and _is_sync(method):
            await self._in_thread(lambda: _push_all(method, args, kwargs, push))
            return
        result = method(*args, **kwargs)
        if inspect.isawaitable(result):
            result = await result
        if inspect.isgenerator(result):
            _push_items(result, push)
        elif inspect.isasyncgen(result):
            await _push_async_items(result, push)
        else:
            raise _no_generator(method)

    async def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not _is_sync(function):
            return await self._on_loop(function, args, kwargs)
        if self._sync_in_threads:
            return await self._in_thread(lambda: function(*args, **kwargs))
        if not self._warned:
            self._warned = True
            warnings.warn(_BLOCKS_LOOP.format(name=_name(function)), stacklevel=2)
        return await self._on_loop(function, args, kwargs)

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        around = self.around_threads
        return await self._pool.run(function if around is None else lambda: around(function))

    @staticmethod
    async def _on_loop(
        function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = function(*args, **kwargs)
        return await result if inspect.iscoroutine(result) else result


def is_asgi(thing: Any) -> bool:
    """Whether ``@serve.ingress`` made its class."""
    return hasattr(thing, "_run_asgi_lifespan_startup")


def _is_sync(function: Callable[..., Any]) -> bool:
    """A plain ``def``; objects that are called run on the loop, since nothing tells of them."""
    return (inspect.isfunction(function) or inspect.ismethod(function)) and not (
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


def _needs_stream(method: Callable[..., Any]) -> TypeError:
    return TypeError(
        f"Method '{_name(method)}' returned a generator. You must use "
        "`handle.options(stream=True)` to call generators on a deployment."
    )


def _no_generator(method: Callable[..., Any]) -> TypeError:
    return TypeError(
        f"Called method '{_name(method)}' with `handle.options(stream=True)` but it did not "
        "return a generator."
    )


def _push_all(
    method: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    push: Callable[[Any], bool],
) -> None:
    result = method(*args, **kwargs)
    if not inspect.isgenerator(result):
        raise _no_generator(method)
    _push_items(result, push)


def _push_items(items: Any, push: Callable[[Any], bool]) -> None:
    try:
        for item in items:
            if not push(item):
                return
    finally:
        items.close()


async def _push_async_items(items: Any, push: Callable[[Any], bool]) -> None:
    """A stream that ends early is told by CancelledError at the generator's current yield."""
    ended = False
    try:
        async for item in items:
            if not push(item):
                return
        ended = True
    finally:
        if not ended:
            try:
                await items.athrow(asyncio.CancelledError())
            except (StopAsyncIteration, asyncio.CancelledError):
                pass


def _silence(kind: type, made: Any) -> None:
    """The destructor ran; the garbage collector shall not run it a second time."""
    try:
        made.__class__ = type(kind.__name__, (kind,), {"__del__": lambda self: None})
    except TypeError:
        pass  # A layout that cannot change: the second call is the class's own affair.
