# SPDX-License-Identifier: Apache-2.0
"""Handles: how code calls a deployment.

``handle.remote(...)`` never blocks.  It gives a response, which is awaited in an event loop and
asked for its ``result()`` elsewhere; with ``options(stream=True)`` it gives a generator.  A
response may be passed to another call as it is: the call is sent when the value is there.

What carries the calls is a transport (``manta._private.transport``); this module makes the
requests and reads the replies.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Optional, TypeVar, Union

from manta._private.constants import HANDLES_BY_REFERENCE
from manta._private.default import DEFAULT, is_given
from manta._private.names import DeploymentID, call_id, random_id, request_id
from manta._private.reply import Reply, StreamReply, Wake
from manta._private.transport import Request, Transport, new_reply
from manta.serve import context
from manta.serve.exceptions import RayServeException, RequestCancelledError

__all__ = [
    "DeploymentBroadcastResponse",
    "DeploymentHandle",
    "DeploymentResponse",
    "DeploymentResponseGenerator",
]

_METHODS_KEPT = 256  # Handles for methods, which a handle keeps beside its own attributes.

T = TypeVar("T")
R = TypeVar("R")

_IN_LOOP = (
    "Sync methods should not be called from within an `asyncio` event loop. Use {instead} instead."
)
_NO_GENERATOR_ARGUMENTS = (
    "Streaming deployment handle results cannot be passed to downstream handle calls. If you have "
    "a use case requiring this feature, please file a feature request."
)
_NO_REFERENCE = (
    "Converting {kind} to ObjectRefs is not supported: results are values here, there is no "
    "object store. Await the response, or pass it to another handle as it is."
)


@dataclass(frozen=True)
class HandleOptions:
    """What ``options()`` changes; it travels with a pickled handle."""

    method_name: str = "__call__"
    multiplexed_model_id: str = ""
    session_id: str = ""
    stream: bool = False
    _by_reference: bool = HANDLES_BY_REFERENCE
    request_serialization: str = "cloudpickle"
    response_serialization: str = "cloudpickle"

    def changed(self, given: dict[str, Any]) -> HandleOptions:
        known = {field.name for field in fields(self)}
        return replace(
            self, **{name: v for name, v in given.items() if name in known and is_given(v)}
        )


@dataclass(frozen=True)
class InitOptions:
    """What ``_init()`` fixes for all handles that share a way to the replicas."""

    _prefer_local_routing: bool = False
    _run_router_in_separate_loop: bool = True


def _in_event_loop() -> bool:
    """Whether waiting in this thread would hold up an event loop.

    A notebook's own loop does not count: it runs one cell after the other, and answers arrive in
    other threads.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return not _in_notebook_cell()


def _in_notebook_cell() -> bool:
    if "ipykernel" not in sys.modules or threading.current_thread() is not threading.main_thread():
        return False
    kernel = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    return kernel is not None and kernel.initialized()


def _find_transport(deployment: DeploymentID) -> Transport:
    from manta._private import instance

    return instance.transport_of(deployment)


class DeploymentHandle(Generic[T]):
    """A way to call one deployment.  Cheap to copy, to pickle and to keep."""

    def __init__(
        self,
        deployment_name: str,
        app_name: str,
        *,
        init_options: Optional[InitOptions] = None,
        handle_options: Optional[HandleOptions] = None,
        _transport: Optional[Transport] = None,
        _handle_id: Optional[str] = None,
    ) -> None:
        self.deployment_id = DeploymentID(deployment_name, app_name)
        self.init_options = init_options
        self.handle_options = handle_options or HandleOptions()
        self.handle_id = _handle_id or random_id()
        self._transport = _transport

    @property
    def deployment_name(self) -> str:
        return self.deployment_id.name

    @property
    def app_name(self) -> str:
        return self.deployment_id.app_name

    @property
    def is_initialized(self) -> bool:
        return self.init_options is not None

    def running_replicas_populated(self) -> bool:
        if not self.is_initialized:
            return False
        return self._get_transport().has_replicas(self.deployment_id)

    def _init(self, **kwargs: Any) -> None:
        """Fix the init options; once, before the first ``options()`` or ``remote()``."""
        if self.is_initialized:
            raise RuntimeError(
                "Handle has already been initialized. Note that a handle is implicitly initialized "
                "when you call `.options()` or `.remote()`. You either tried to call `._init()` "
                "twice or called `._init()` after calling `.options()` or `.remote()`. If you want "
                "to modify the init options, please do so before calling `.options()` or "
                f"`.remote()`. This handle was initialized with {self.init_options}."
            )
        self._get_transport()
        self.init_options = InitOptions(**kwargs)

    def _ensure_initialized(self) -> None:
        if self.init_options is None:
            self._init()

    def _get_transport(self) -> Transport:
        if self._transport is None:
            self._transport = _find_transport(self.deployment_id)
        return self._transport

    def options(
        self,
        *,
        method_name: Union[str, DEFAULT] = DEFAULT.VALUE,
        multiplexed_model_id: Union[str, DEFAULT] = DEFAULT.VALUE,
        session_id: Union[str, DEFAULT] = DEFAULT.VALUE,
        stream: Union[bool, DEFAULT] = DEFAULT.VALUE,
        _prefer_local_routing: Union[bool, DEFAULT] = DEFAULT.VALUE,
        _by_reference: Union[bool, DEFAULT] = DEFAULT.VALUE,
        request_serialization: Union[str, DEFAULT] = DEFAULT.VALUE,
        response_serialization: Union[str, DEFAULT] = DEFAULT.VALUE,
        use_new_handle_api: Union[bool, DEFAULT] = DEFAULT.VALUE,
    ) -> DeploymentHandle[T]:
        """A copy with other options, over the same way to the replicas."""
        if is_given(use_new_handle_api):
            warnings.warn(
                "Setting `use_new_handle_api` no longer has any effect.",
                DeprecationWarning,
                stacklevel=2,
            )
        if is_given(_prefer_local_routing):
            warnings.warn(
                "Modifying `_prefer_local_routing` with `options()` is deprecated. Please use "
                "`init()` instead.",
                stacklevel=2,
            )
            self._init(_prefer_local_routing=_prefer_local_routing)
        self._ensure_initialized()
        given = {
            "method_name": method_name,
            "multiplexed_model_id": multiplexed_model_id,
            "session_id": session_id,
            "stream": stream,
            "_by_reference": _by_reference,
            "request_serialization": request_serialization,
            "response_serialization": response_serialization,
        }
        return self._copy(self.handle_options.changed(given))

    def _copy(self, options: HandleOptions) -> DeploymentHandle[T]:
        return DeploymentHandle(
            self.deployment_name,
            self.app_name,
            init_options=self.init_options,
            handle_options=options,
            _transport=self._transport,
            _handle_id=self.handle_id,
        )

    def __getattr__(self, name: str) -> DeploymentHandle[T]:
        """``handle.method`` is the handle for that method."""
        if name.startswith("__") and name != "__call__":
            raise AttributeError(name)  # copy, pickle and others look for hooks here.
        if name in ("deployment_id", "init_options", "handle_options", "_transport"):
            raise AttributeError(name)  # Asked before the constructor ran.
        made = self.options(method_name=name)
        if len(self.__dict__) < _METHODS_KEPT:
            self.__dict__[name] = made  # The options of a handle never change.
        return made

    def remote(
        self, *args: Any, **kwargs: Any
    ) -> Union[DeploymentResponse[Any], DeploymentResponseGenerator[Any]]:
        """Call the deployment."""
        if self.init_options is None:
            self._ensure_initialized()
        request = self._make_request(self.handle_options, args, kwargs)
        reply = new_reply(request.stream)
        transport = self._transport or self._get_transport()
        for value in args:
            if isinstance(value, _ResponseBase):
                _submit_when_resolved(request, reply, transport.submit)
                break
        else:
            if kwargs:
                _submit_when_resolved(request, reply, transport.submit)
            else:
                transport.submit(request, reply)
        return _response(request, reply)

    def _make_request(
        self, options: HandleOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Request:
        now = context._get_serve_request_context()
        init = self.init_options or InitOptions()
        # In the order of its fields: names for all of them take longer than the rest of the call.
        return Request(
            self.deployment_id,
            options.method_name,
            args,
            kwargs,
            options.stream,
            now.request_id or request_id(),
            call_id(),
            now._internal_request_id,
            now.route,
            options.multiplexed_model_id,
            options.session_id,
            init._prefer_local_routing,
            options._by_reference,
            options.request_serialization,
            options.response_serialization,
        )

    def broadcast(self, method_name: str, *args: Any, **kwargs: Any) -> DeploymentBroadcastResponse:
        """Call every replica that lives now."""
        self._ensure_initialized()
        options = replace(self.handle_options, method_name=method_name, stream=False)
        request = self._make_request(options, args, kwargs)
        return DeploymentBroadcastResponse(self._get_transport().broadcast(request))

    def choose_replica(self, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Any]:
        """Choose a replica and reserve a slot on it for ``dispatch``."""
        return self._choose_replica(args, kwargs)

    @asynccontextmanager
    async def _choose_replica(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        self._ensure_initialized()
        request = self._make_request(self.handle_options, args, kwargs)
        async with self._get_transport().choose_replica(request) as selection:
            selection._deployment_id = self.deployment_id
            yield selection

    def dispatch(
        self, selection: Any, *args: Any, **kwargs: Any
    ) -> Union[DeploymentResponse[Any], DeploymentResponseGenerator[Any]]:
        """Call the replica that was chosen."""
        chosen = getattr(selection, "_deployment_id", None)
        if chosen != self.deployment_id:
            raise ValueError(
                "Cannot dispatch a selection created for a different deployment. This handle is "
                f"for {self.deployment_id}, but the selection was created for {chosen}."
            )
        self._ensure_initialized()
        request = self._make_request(self.handle_options, args, kwargs)
        reply = new_reply(request.stream)
        self._get_transport().dispatch(selection, request, reply)
        return _response(request, reply)

    def shutdown(self) -> None:
        """Give up what was kept for calls through this handle."""
        if self._transport is not None:
            self._transport.release(self.deployment_id)

    async def shutdown_async(self) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(deployment='{self.deployment_name}')"

    @classmethod
    def _deserialize(cls, kwargs: dict[str, Any]) -> DeploymentHandle[Any]:
        return cls(**kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {
            "deployment_name": self.deployment_name,
            "app_name": self.app_name,
            "handle_options": self.handle_options,
        }
        return (type(self)._deserialize, (arguments,))


def _response(request: Request, reply: Reply) -> Any:
    if isinstance(reply, StreamReply):
        return DeploymentResponseGenerator(request, reply)
    return DeploymentResponse(request, reply)


def _submit_when_resolved(request: Request, reply: Reply, submit: Any) -> None:
    """Send the request as soon as the answers among its arguments are there."""
    values = [*request.args, *request.kwargs.values()]
    if any(isinstance(value, DeploymentResponseGenerator) for value in values):
        raise RuntimeError(_NO_GENERATOR_ARGUMENTS)
    upstream = [value for value in values if isinstance(value, DeploymentResponse)]
    if not upstream:
        submit(request, reply)
        return
    reply.on_cancel(lambda: _give_up(reply))
    _Waiting(request, reply, submit, len(upstream)).watch(upstream)


def _give_up(reply: Reply) -> None:
    reply.set_error(asyncio.CancelledError())


class _Waiting:
    """A request whose arguments are still under way."""

    def __init__(self, request: Request, reply: Reply, submit: Any, count: int) -> None:
        self._request = request
        self._reply = reply
        self._submit = submit
        self._count = count
        self._lock = threading.Lock()

    def watch(self, upstream: list[DeploymentResponse[Any]]) -> None:
        for response in upstream:
            response._reply.add_done_callback(self._one_is_there)

    def _one_is_there(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count > 0:
                return
        if self._reply.done:
            return
        try:
            args = tuple(_value_of(value) for value in self._request.args)
            kwargs = {name: _value_of(value) for name, value in self._request.kwargs.items()}
        except BaseException as error:
            self._reply.set_error(error)
            return
        self._submit(replace(self._request, args=args, kwargs=kwargs), self._reply)


def _value_of(value: Any) -> Any:
    return value._reply.outcome() if isinstance(value, DeploymentResponse) else value


class _ResponseBase(Generic[R]):
    """What a response and a generator share: identity and cancellation."""

    def __init__(self, request: Request, reply: Reply) -> None:
        self._request_id = request.request_id
        self._by_reference = request.by_reference
        self._reply = reply
        self._cancelled = False

    @property
    def request_id(self) -> str:
        return self._request_id

    @property
    def by_reference(self) -> bool:
        return self._by_reference

    def cancel(self) -> None:
        """Try to stop the request and the calls that it made; harmless when it is over."""
        if not self._cancelled:
            self._cancelled = True
            self._reply.cancel()

    def cancelled(self) -> bool:
        """Whether ``cancel`` was called; the request may have been faster."""
        return self._cancelled

    def _cancellation(self) -> BaseException:
        if self._cancelled:
            return RequestCancelledError(self._request_id)
        return asyncio.CancelledError()

    def _refuse_reference(self, kind: str) -> RuntimeError:
        if not self._by_reference:
            kind = "by-value DeploymentResponses"
        return RuntimeError(_NO_REFERENCE.format(kind=kind))


class DeploymentResponse(_ResponseBase[R]):
    """The answer of one call, now or later."""

    def __await__(self) -> Generator[Any, None, R]:
        """One generator and nothing below it: this is where most of a caller's time goes."""
        reply = self._reply
        try:
            if not reply._done:
                wake = Wake()
                reply.add_done_callback(wake)
                try:
                    yield from wake.future
                except asyncio.CancelledError:
                    reply.cancel()
                    raise
            return reply.outcome()  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            raise self._cancellation() from None

    def result(self, *, timeout_s: Optional[float] = None, _skip_asyncio_check: bool = False) -> R:
        """Wait in this thread.  The request goes on when the time is over."""
        if not _skip_asyncio_check and _in_event_loop():
            raise RuntimeError(_IN_LOOP.format(instead="`await response`"))
        try:
            return self._reply.wait(timeout_s)
        except asyncio.CancelledError:
            raise RequestCancelledError(self._request_id) from None

    async def _to_object_ref(self) -> Any:
        raise self._refuse_reference("DeploymentResponses")

    def _to_object_ref_sync(
        self, _timeout_s: Optional[float] = None, _allow_running_in_asyncio_loop: bool = False
    ) -> Any:
        raise self._refuse_reference("DeploymentResponses")

    def __reduce__(self) -> Any:
        raise RayServeException(
            "`DeploymentResponse` is not serializable. If you are passing the "
            "`DeploymentResponse` in a nested object (e.g. a list or dictionary) to a downstream "
            "deployment handle call, that is no longer supported. Please only pass "
            "`DeploymentResponse` objects as top level arguments."
        )


class DeploymentResponseGenerator(_ResponseBase[R]):
    """The items of a streaming call: ``for`` outside event loops, ``async for`` inside."""

    _reply: StreamReply

    def __await__(self) -> Any:
        raise TypeError(
            "`DeploymentResponseGenerator` cannot be awaited directly. Use `async for` or "
            "`await response.__anext__() instead`."
        )

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        try:
            return await self._reply.next_async()
        except asyncio.CancelledError:
            raise self._cancellation() from None

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        if _in_event_loop():
            raise RuntimeError(
                _IN_LOOP.format(instead="`async for` or `await response.__anext__()`")
            )
        try:
            return self._reply.next()
        except asyncio.CancelledError:
            raise RequestCancelledError(self._request_id) from None

    def result(
        self, *, timeout_s: Optional[float] = None, _skip_asyncio_check: bool = False
    ) -> Any:
        raise TypeError(
            "`DeploymentResponseGenerator` doesn't support `.result()`. Use iteration instead: "
            "`for item in response` (outside deployments) or `async for item in response` "
            "(inside deployments)."
        )

    async def _to_object_ref_gen(self) -> Any:
        raise self._refuse_reference("DeploymentResponseGenerators")

    def _to_object_ref_gen_sync(
        self, _timeout_s: Optional[float] = None, _allow_running_in_asyncio_loop: bool = False
    ) -> Any:
        raise self._refuse_reference("DeploymentResponseGenerators")

    def __reduce__(self) -> Any:
        raise RayServeException("`DeploymentResponseGenerator` is not serializable.")


class DeploymentBroadcastResponse:
    """The answers of all replicas that lived when the call was made; their order says nothing."""

    def __init__(self, replies: list[Reply]) -> None:
        self._replies = replies

    def results(
        self, *, timeout_s: Optional[float] = None, return_exceptions: bool = False
    ) -> list[Any]:
        """Wait in this thread for all answers, or for the first error."""
        if _in_event_loop():
            raise RuntimeError(_IN_LOOP.format(instead="`await response.results_async()`"))
        _check_timeout(timeout_s)
        end = None if timeout_s is None else time.monotonic() + timeout_s
        answers: list[Any] = []
        for reply in self._replies:
            left = None if end is None else max(0.0, end - time.monotonic())
            try:
                answers.append(reply.wait(left))
            except Exception as error:
                if not reply.done:
                    raise TimeoutError("Timed out waiting for broadcast results.") from None
                if not return_exceptions:
                    raise
                answers.append(error)
        return answers

    async def results_async(
        self, *, timeout_s: Optional[float] = None, return_exceptions: bool = False
    ) -> list[Any]:
        """Wait in this task for all answers, or for the first error."""
        _check_timeout(timeout_s)
        gathered = asyncio.gather(
            *(reply.wait_async() for reply in self._replies), return_exceptions=return_exceptions
        )
        try:
            return list(await asyncio.wait_for(gathered, timeout_s))
        except asyncio.TimeoutError:
            if all(reply.done for reply in self._replies):
                raise
            raise TimeoutError("Timed out waiting for broadcast results.") from None

    def __repr__(self) -> str:
        return "DeploymentBroadcastResponse()"


def _check_timeout(timeout_s: Optional[float]) -> None:
    if timeout_s is not None and timeout_s < 0:
        raise ValueError("timeout_s must be None or non-negative.")
