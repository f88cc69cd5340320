# SPDX-License-Identifier: Apache-2.0
"""Local testing mode: a whole application inside the caller's process.

Every deployment has one replica with its own event loop in its own thread, so that user code runs
as it does in a replica process: constructors fail in ``serve.run``, ``async`` methods interleave,
``def`` methods run in threads, arguments arrive as copies.  There is no socket, no other process,
no health check and no scaling; errors arrive as they were raised, so that a debugger stops where
they happened.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Coroutine
from typing import Any

from manta._private import pickling
from manta._private.constants import logger
from manta._private.names import DeploymentID, ReplicaID, random_id
from manta._private.reply import Reply, StreamReply
from manta._private.transport import Request, Transport
from manta._private.user_code import UserCode
from manta.exceptions import ActorDiedError
from manta.serve import context
from manta.serve.deployment import Deployment
from manta.serve.exceptions import DeploymentUnavailableError

_LEAST_THREADS = 40
_DESTROY_TIMEOUT_S = 20.0
_LAST_WORDS_S = 1.0  # for tasks that refuse to be cancelled


class LocalReplica:
    """One deployment's user code and the loop it lives on."""

    def __init__(self, deployment: Deployment, app_name: str) -> None:
        self.id = DeploymentID(deployment.name, app_name)
        self._deployment = deployment
        _warn_about_ignored(deployment, self.id)
        self._loop = asyncio.new_event_loop()
        self._code = UserCode(
            deployment.func_or_class,  # type: ignore[arg-type]
            deployment.init_args,
            deployment.init_kwargs,
            deployment_id=self.id,
            thread_limit=max(_LEAST_THREADS, deployment.max_ongoing_requests),
        )
        self._variables = contextvars.Context()
        self._stop = weakref.finalize(self, _stop_loop, self._loop)
        self._open: dict[int, Reply] = {}  # what this replica has not answered yet
        threading.Thread(
            target=_run_loop,
            args=(self._loop, self._open, str(self.id)),
            name=f"manta-{self.id.name}",
            daemon=True,
        ).start()

    def start(self) -> None:
        """Construct and configure; what user code raises is raised here."""
        try:
            self._wait(self._start())
        except BaseException:
            self._stop()
            raise

    async def _start(self) -> None:
        self._variables.run(context._replica_of_task.set, self._make_replica_context())
        await self._in_replica(self._code.construct())
        found = self._variables.get(context._replica_of_task)
        if found is not None:
            found.servable_object = self._code.callable
        rank = found.rank if found is not None else None
        await self._in_replica(self._code.reconfigure(self._deployment.user_config, rank))

    def _make_replica_context(self) -> context.ReplicaContext:
        return context.ReplicaContext(
            replica_id=ReplicaID(random_id(), self.id),
            servable_object=self._code.callable,
            _deployment_config=self._deployment._deployment_config,
            rank=_FirstRank(),  # type: ignore[arg-type]
            world_size=1,
        )

    def _in_replica(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that knows in which replica it runs; requests each get their own copy."""
        return self._variables.copy().run(self._loop.create_task, _contained(coroutine))

    def _wait(self, coroutine: Coroutine[Any, Any, Any], timeout_s: float | None = None) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_s)

    def submit(self, request: Request, reply: Reply, calls: _Calls) -> None:
        """Run one request on the replica's loop."""
        self._open[id(reply)] = reply
        reply.add_done_callback(lambda: self._open.pop(id(reply), None))
        try:
            self._loop.call_soon_threadsafe(self._begin, request, reply, calls)
        except RuntimeError:
            reply.set_error(_death_of(str(self.id)))

    def _begin(self, request: Request, reply: Reply, calls: _Calls) -> None:
        if reply.wants_cancel:
            reply.set_error(asyncio.CancelledError())
            return
        task = self._in_replica(self._answer(request, reply))
        calls.add(request, reply)
        task.add_done_callback(lambda ended: _end(ended, request, reply, calls))
        reply.on_cancel(lambda: self._cancel(task, request, reply, calls))

    async def _answer(self, request: Request, reply: Reply) -> None:
        context._serve_request_context.set(_request_context(request))
        if isinstance(reply, StreamReply):
            await self._code.stream(request.method, request.args, request.kwargs, reply.push)
            reply.set_result()
            return
        result = await self._code.call(request.method, request.args, request.kwargs)
        reply.set_result(result)

    def _cancel(
        self, task: asyncio.Task[Any], request: Request, reply: Reply, calls: _Calls
    ) -> None:
        """The caller is told at once; user code learns of it at its next await."""
        calls.cancel_children(request)
        try:
            self._loop.call_soon_threadsafe(task.cancel)
        except RuntimeError:
            pass  # The loop has ended, and the task with it.
        reply.set_error(asyncio.CancelledError())

    def close(self) -> None:
        """Destroy the user's object and end the loop."""
        if not self._stop.alive or self._loop.is_closed():
            return
        try:
            self._wait(self._destroy(), _DESTROY_TIMEOUT_S)
        except Exception:
            logger.exception(f"Failed to stop {self.id}.")
        self._stop()

    async def _destroy(self) -> None:
        await self._in_replica(self._code.destroy())


class _FirstRank:
    """The rank of the only replica, without loading pydantic for three zeros."""

    rank = 0
    node_rank = 0
    local_rank = 0


def _run_loop(loop: asyncio.AbstractEventLoop, waiting: dict[int, Reply], name: str) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        _fail_all(waiting, name)
        _cancel_all(loop)
        loop.close()
        _fail_all(waiting, name)  # What was submitted meanwhile; from now on submitting fails.


def _fail_all(waiting: dict[int, Reply], name: str) -> None:
    for reply in list(waiting.values()):
        reply.set_error(_death_of(name))


def _death_of(name: str) -> ActorDiedError:
    return ActorDiedError(f"The replica of {name} has ended.")


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What would end a replica's process shall not end the loop and leave everybody waiting."""
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        raise RuntimeError(f"User code raised {error!r}, which ends a replica.") from error


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """What still waits (queues of batches, abandoned requests) shall not outlive the loop."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=_LAST_WORDS_S))


def _stop_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.call_soon_threadsafe(loop.stop)
    except RuntimeError:
        pass  # Closed already.


def _request_context(request: Request) -> context._RequestContext:
    return context._RequestContext(
        route=request.route,
        request_id=request.request_id,
        _internal_request_id=request.internal_id,
        app_name=request.deployment.app_name,
        multiplexed_model_id=request.model_id,
        session_id=request.session_id,
    )


def _end(task: asyncio.Task[Any], request: Request, reply: Reply, calls: _Calls) -> None:
    calls.remove(request)
    if task.cancelled():
        reply.set_error(asyncio.CancelledError())
        return
    error = task.exception()
    if error is not None:
        reply.set_error(error)


def _warn_about_ignored(deployment: Deployment, deployment_id: DeploymentID) -> None:
    options = deployment.ray_actor_options or {}
    if "num_gpus" in options:
        logger.warning(
            f"Deployment {deployment_id} has num_gpus configured. CUDA_VISIBLE_DEVICES is not "
            "managed automatically in local testing mode."
        )
    if "runtime_env" in options:
        logger.warning(
            f"Deployment {deployment_id} has runtime_env configured. "
            "runtime_envs are ignored in local testing mode."
        )


class _Calls:
    """The requests that run now, by the request that made them: the tree of cancellation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: dict[str, dict[str, Reply]] = {}

    def add(self, request: Request, reply: Reply) -> None:
        if request.parent_id:
            with self._lock:
                self._children.setdefault(request.parent_id, {})[request.internal_id] = reply

    def remove(self, request: Request) -> None:
        with self._lock:
            siblings = self._children.get(request.parent_id)
            if siblings is not None:
                siblings.pop(request.internal_id, None)
                if not siblings:
                    del self._children[request.parent_id]

    def cancel_children(self, request: Request) -> None:
        with self._lock:
            children = list(self._children.get(request.internal_id, {}).values())
        for reply in children:
            reply.cancel()


class LocalTransport(Transport):
    """The replicas of one application, and the way to them."""

    def __init__(self, app_name: str) -> None:
        self.app_name = app_name
        self._replicas: dict[str, LocalReplica] = {}
        self._calls = _Calls()

    def add(self, deployment: Deployment) -> None:
        """Start the deployment's replica."""
        replica = LocalReplica(deployment, self.app_name)
        logger.info(f"Initializing local replica class for {replica.id}.")
        try:
            replica.start()
        except Exception:
            logger.exception(f"Failed to initialize deployment {replica.id}.")
            raise
        self._replicas[deployment.name] = replica

    def submit(self, request: Request, reply: Reply) -> None:
        replica = self._replicas.get(request.deployment.name)
        if replica is None:
            reply.set_error(DeploymentUnavailableError(request.deployment))
            return
        try:
            replica.submit(_with_copied_arguments(request), reply, self._calls)
        except Exception as error:
            reply.set_error(error)

    def broadcast(self, request: Request) -> list[Reply]:
        reply = Reply()
        self.submit(request, reply)
        return [reply]

    def has_replicas(self, deployment: DeploymentID) -> bool:
        return deployment.name in self._replicas

    def choose_replica(self, request: Request) -> Any:
        raise NotImplementedError(
            "choose_replica is not supported in local testing mode. Use remote() instead."
        )

    def dispatch(self, selection: Any, request: Request, reply: Reply) -> None:
        raise NotImplementedError(
            "dispatch is not supported in local testing mode. Use remote() instead."
        )

    def close(self) -> None:
        """Callers before callees: the last one started is the ingress."""
        for name in reversed(list(self._replicas)):
            self._replicas.pop(name).close()


def _with_copied_arguments(request: Request) -> Request:
    """The arguments as another process would see them."""
    if all(map(pickling.is_plain, request.args)) and all(
        map(pickling.is_plain, request.kwargs.values())
    ):
        return request
    args, kwargs = pickling.copy_through_pickle((request.args, request.kwargs))
    return _replaced(request, args, kwargs)


def _replaced(request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    import dataclasses

    return dataclasses.replace(request, args=args, kwargs=kwargs)
