# SPDX-License-Identifier: Apache-2.0
"""What a replica does with its requests.

Each request becomes one task with variables of its own.  The task takes its first step at once,
inside the turn that brought the request: a handler that never waits costs no trip through the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import sys
import traceback
from collections.abc import Coroutine
from typing import Any, Optional

from manta._private import http_result, native_errors
from manta._private.batch_queue import Direct
from manta._private.names import DeploymentID
from manta._private.native_transport import ACCEPTS_PICKLES, HTTP_SESSION, ROUTE, SESSION, current
from manta._private.replica_http import Exchange
from manta._private.replica_websocket import Conversation
from manta._private.user_code import UserCode, is_asgi
from manta.exceptions import RayTaskError
from manta.serve.context import _RequestContext, _serve_request_context

native = native_errors.native
_METHODS_KEPT = 1000  # A function answers to any name, and callers may think of many.
_new_context = _RequestContext.__new__
_set_attribute = object.__setattr__


class Requests:
    """The requests of one replica."""

    def __init__(
        self,
        taker: Any,
        code: UserCode,
        deployment: DeploymentID,
        document: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._taker = taker
        self._code = code
        self._app = deployment.app_name
        self._deployment = deployment
        self._loop = loop
        self._name = f"{deployment.app_name}#{deployment.name}#{document['id']}"
        self._streams_body = bool(document["stream_body"])
        self._variables = contextvars.copy_context()
        self._asyncs: dict[str, Any] = {}  # method name -> bound coroutine function
        self._batched: dict[str, Any] = {}  # method name -> its object and its queue
        self._takes_request: Optional[bool] = None
        self._fields = dict(vars(_RequestContext(app_name=self._app)))
        self._start = _starter(loop)

    def begin(self, request: Any) -> None:
        """Called by the turn for each request."""
        if request.is_websocket:
            conversation = Conversation(request, self._loop)
            task = self._start(self._serve_websocket(conversation), self._variables.copy())
            conversation.attend(task)
            return
        if request.is_http:
            work = self._serve_http(request)
        elif request.stream:
            work = self._serve_stream(request)
        else:
            name = request.method
            batched = self._batched_method(name)
            if batched is not None:
                self._put(request, name, *batched)
                return
            work = self._serve_call(request, name)
        task = self._start(work, self._variables.copy())
        if not task.done():
            request.on_cancel = task.cancel

    # What a handler may ask about its request.

    def _told(self, request: Any, route: str) -> _RequestContext:
        """Made without the constructor, which a frozen dataclass makes slow."""
        fields = self._fields.copy()
        fields["route"] = route
        fields["request_id"] = request.request_id
        fields["_internal_request_id"] = f"{self._name}#{request.number}"
        fields["multiplexed_model_id"] = request.model_id
        if request.is_http:
            fields["is_http_request"] = True
            fields["session_id"] = request.field(HTTP_SESSION) or ""
        else:
            fields["session_id"] = request.field(SESSION) or ""
        told = _new_context(_RequestContext)
        _set_attribute(told, "__dict__", fields)
        return told

    def _enter(self, request: Any, route: str) -> None:
        current.set(request)
        _serve_request_context.set(self._told(request, route))

    # Calls through handles.

    def _async_method(self, name: str) -> Optional[Any]:
        """The method if it is ``async def``: awaited without anything in between."""
        try:
            return self._asyncs[name]
        except KeyError:
            pass
        method = self._code.method(name)
        found = method if inspect.iscoroutinefunction(method) else None
        if len(self._asyncs) < _METHODS_KEPT:
            self._asyncs[name] = found
        return found

    def _batched_method(self, name: str) -> Optional[tuple[Any, Any]]:
        """Object and queue of the method if it is ``@serve.batch``: its requests need no task."""
        try:
            return self._batched[name]
        except KeyError:
            pass
        try:
            method = self._code.method(name)
        except Exception:
            return None  # The task will say so.
        put = getattr(method, "_manta_put", None)
        found = None if put is None else (getattr(method, "__self__", None), put)
        if len(self._batched) < _METHODS_KEPT:
            self._batched[name] = found
        return found

    def _put(self, request: Any, name: str, owner: Any, put: Any) -> None:
        def fail(failed: Any, error: BaseException) -> None:
            self._fail_call(failed, error, name)

        try:
            args, kwargs = request.args()
            told = self._told(request, request.field(ROUTE) or "")
            put(owner, Direct(request, owner, args, kwargs, told, self._loop.time(), fail))
        except BaseException as error:
            self._fail_call(request, error, name)

    async def _serve_call(self, request: Any, name: str) -> None:
        try:
            self._enter(request, request.field(ROUTE) or "")
            args, kwargs = request.args()
            method = self._async_method(name)
            if method is not None:
                result = await method(*args, **kwargs)
            else:
                result = await self._code.call(name, args, kwargs)
            request.reply(result)
        except BaseException as error:
            self._fail_call(request, error, name)

    async def _serve_stream(self, request: Any) -> None:
        name = request.method
        try:
            self._enter(request, request.field(ROUTE) or "")
            args, kwargs = request.args()
            method = self._code.method(name)
            if inspect.isasyncgenfunction(method):
                await _stream_async(request, method(*args, **kwargs))
            else:
                await self._code.stream(name, args, kwargs, _Push(request, self._loop))
            if request.open:
                _begin_values(request)
                request.finish()
        except BaseException as error:
            self._fail_call(request, error, name)

    def _fail_call(self, request: Any, error: BaseException, name: str) -> None:
        """To a caller that speaks Python the exception itself, to others its text."""
        if not request.open:
            if not isinstance(error, asyncio.CancelledError):
                self._log(f"{name} failed after its request had ended", error)
            return
        if request.cancelled or isinstance(error, asyncio.CancelledError):
            request.fail(native.ECANCELLED, "the request was cancelled")
            return
        self._log(f"{name} failed", error)
        if request.field(ACCEPTS_PICKLES[0]) != ACCEPTS_PICKLES[1] or request.is_http:
            request.fail(native_errors.code_of(error), f"{type(error).__name__}: {error}")
            return
        if not isinstance(error, RayTaskError):
            error = RayTaskError.from_exception(error, f"{self._deployment.name}.{name}")
        try:
            request.reply_exception(error)
        except Exception:
            if request.open:
                request.fail(native.EUSER, str(error))

    def _log(self, what: str, error: BaseException) -> None:
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._taker.log(logging.ERROR, f"{what}\n{trace.rstrip()}")

    # HTTP.

    async def _serve_http(self, request: Any) -> None:
        exchange = Exchange(request, self._loop, self._streams_body)
        try:
            self._enter(request, request.route_prefix)
            target = self._code.callable
            if is_asgi(target):
                await target(exchange.scope, exchange.receive, exchange.sender())
                exchange.check_answered()
            else:
                await self._serve_plain(exchange)
        except BaseException as error:
            self._fail_http(exchange, error)

    async def _serve_websocket(self, conversation: Conversation) -> None:
        request = conversation.request
        try:
            self._enter(request, request.route_prefix)
            target = self._code.callable
            if is_asgi(target):
                await target(conversation.scope, conversation.receive, conversation.send)
                conversation.check_ended()
            else:
                request.reply_http(
                    501, "text/plain; charset=utf-8", (), b"Only an ASGI application (serve.ingress) takes websockets."
                )
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._log("websocket failed", error)
            conversation.fail(error)

    async def _serve_plain(self, exchange: Exchange) -> None:
        method = self._async_method("__call__")
        args = self._plain_arguments(exchange)
        if method is not None:
            result = await method(*args)
        else:
            target = self._code.method("__call__")
            if inspect.isasyncgenfunction(target) or inspect.isgeneratorfunction(target):
                result = target(*args)
            else:
                result = await self._code.call("__call__", args, {})
        if http_result.is_asgi_response(result):
            await result(exchange.scope, exchange.receive, exchange.sender())
        elif inspect.isasyncgen(result) or inspect.isgenerator(result):
            await exchange.stream(result)
        else:
            exchange.answer(http_result.encode(result))

    def _plain_arguments(self, exchange: Exchange) -> tuple[Any, ...]:
        """The Starlette request, for a handler that takes one."""
        if self._takes_request is None:
            method = self._code.method("__call__")
            self._takes_request = len(inspect.signature(method).parameters) > 0
        return (exchange.starlette_request(),) if self._takes_request else ()

    def _fail_http(self, exchange: Exchange, error: BaseException) -> None:
        request = exchange.request
        if not isinstance(error, asyncio.CancelledError):
            self._log(f"{request.method if request.open else 'HTTP'} request failed", error)
        if not request.open:
            return
        if request.cancelled or isinstance(error, asyncio.CancelledError):
            request.fail(native.ECANCELLED, "the client left")
        elif request.begun:
            request.fail(native.EUSER, f"{type(error).__name__}: {error}")
        else:
            cause = getattr(error, "cause", None)
            exchange.answer(
                http_result.encode_error(cause if isinstance(error, RayTaskError) else error)
            )


# ---- streams of values


def _begin_values(request: Any) -> None:
    if not request.begun:
        request.begin(0, None, ())


async def _stream_async(request: Any, items: Any) -> None:
    loop = asyncio.get_running_loop()
    try:
        async for item in items:
            _begin_values(request)
            while not request.write_value(item):
                await _room(request, loop)
    except native.Error as error:
        if error.args[0] != native.ECANCELLED:
            raise
        raise asyncio.CancelledError() from None
    finally:
        await items.aclose()


async def _room(request: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Until the reader has taken something."""
    future = loop.create_future()
    request.on_room = lambda: future.done() or future.set_result(None)
    try:
        await future
    finally:
        request.on_room = None


class _Push:
    """Items of a ``def`` generator: its thread waits for the reader, the loop's never does."""

    def __init__(self, request: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._request = request
        self._waiting = True
        self._loop = loop

    def __call__(self, item: Any) -> bool:
        request = self._request
        if not request.open or request.cancelled:
            return False
        try:
            _begin_values(request)
            while not request.write_value(item):
                if not request.wait_room():
                    return False
        except native.Error as error:
            if error.args[0] == native.ECANCELLED:
                return False
            raise
        return True


# ---- starting tasks


def _starter(loop: asyncio.AbstractEventLoop) -> Any:
    """A function (coroutine, variables) -> task that has taken its first step."""
    if sys.version_info >= (3, 12):
        return lambda work, variables: asyncio.Task(
            work, loop=loop, name="request", context=variables, eager_start=True
        )
    if sys.version_info >= (3, 11):
        return _FirstStep(loop).start
    return lambda work, variables: variables.run(loop.create_task, work)


class _FirstStep:
    """Python 3.11 has no eager tasks: the first step is taken from the task on its way to the loop.

    A task schedules its first step by its loop's ``call_soon``, which is ours for that moment.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._step: Any = None

    def _catch(self, step: Any, *, context: Optional[contextvars.Context] = None) -> None:
        self._step = step

    def start(
        self, work: Coroutine[Any, Any, Any], variables: contextvars.Context
    ) -> asyncio.Task[Any]:
        loop = self._loop
        loop.call_soon = self._catch  # type: ignore[assignment, method-assign]
        try:
            task = asyncio.Task(work, loop=loop, name="request", context=variables)
        finally:
            del loop.call_soon
        step, self._step = self._step, None
        variables.run(step)
        return task
