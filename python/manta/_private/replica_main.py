# SPDX-License-Identifier: Apache-2.0
"""A replica's process: ``python -m manta._private.replica_main``, started by the node.

The extension's ``Taker`` is the network's side: its descriptor lies on the event loop, and each turn
hands over what has come.  What is done with a request stands in ``replica_requests``; here is the
replica's life: its document, its code, its health, its end.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import importlib
import json
import logging
import os
import selectors
import sys
import traceback
from collections.abc import Callable
from typing import Any, Optional

native: Any = importlib.import_module("manta._native")

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_WORDS = 300
_HEALTH_STRIKES = 3
_DESTROY_TIMEOUT_S = 10.0


class Entered:
    """While a ``def`` handler runs in its thread, Manta answers for a loop that cannot."""

    def __init__(self, taker: Any) -> None:
        self._taker = taker

    def __call__(self, function: Callable[[], Any]) -> Any:
        self._taker.enter()
        try:
            return function()
        finally:
            self._taker.leave()


class Replica:
    """One replica of one deployment: this process."""

    def __init__(self, taker: Any, document: dict[str, Any], loop: asyncio.AbstractEventLoop):
        self._taker = taker
        self._document = document
        self._loop = loop
        self._timer: Optional[asyncio.TimerHandle] = None
        self._descriptor = -1
        self._ended: asyncio.Future[None] = loop.create_future()
        self._health: Optional[asyncio.Task[None]] = None
        self._strikes = 0  # Health checks that failed in a row.
        self._configuring: Optional[asyncio.Task[None]] = None
        self._code: Any = None
        self._requests: Any = None

    # The network on the loop.

    def _watch(self) -> None:
        self._descriptor = self._taker.watch(_selector is not None)
        self._loop.add_reader(self._descriptor, self._turn)

    def _turn(self) -> None:
        """Everything that has come, at once; the next turn by time is set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        timeout_ms = self._taker.turn(self._begin, self._tell)
        if timeout_ms >= 0:
            self._timer = self._loop.call_later(timeout_ms / 1000, self._turn)

    def _begin(self, request: Any) -> None:
        self._requests.begin(request)

    def _tell(self, name: str, value: Any) -> None:
        if name == "drained" and not self._ended.done():
            self._ended.set_result(None)
        elif name == "configure":
            self._configuring = self._loop.create_task(self._configure(value))

    # Life.

    async def run(self) -> int:
        """Until it is drained; the exit status."""
        self._watch()
        if not await self._start():
            return 1
        self._health = self._loop.create_task(self._watch_health())
        await self._ended
        self._health.cancel()
        try:
            await asyncio.wait_for(self._code.destroy(), _DESTROY_TIMEOUT_S)
        except Exception:
            self._log_trace("The replica's object could not be destroyed")
        return 0

    async def _start(self) -> bool:
        """Load and construct user code; what it raises goes to the controller."""
        from manta._private import constants

        try:
            await self._construct()
        except BaseException as error:
            self._loop.remove_reader(self._descriptor)
            self._log_trace("User code could not be loaded or constructed")
            self._taker.failed(native.EUSER, _told(error))
            return False
        gc.collect()
        if constants.FREEZE_GC_ON_STARTUP:
            gc.freeze()
        else:
            gc.unfreeze()  # What a zygote froze.
        if _has_models(self._code.callable):
            self._taker.models([])  # From now on senders look for the replica that has a model.
        self._taker.ready()
        self._turn()
        return True

    async def _construct(self) -> None:
        from manta._private import native_code

        self._taker.enter()
        try:
            code = native_code.unpack(self._document["code"])
        finally:
            self._taker.leave()
        await self._construct_code(code)

    async def _construct_code(self, code: Any) -> None:
        from manta._private.names import DeploymentID
        from manta._private.replica_requests import Requests
        from manta._private.user_code import UserCode

        document = self._document
        deployment = DeploymentID(document["deployment"], document["application"])
        user_config = document["user_config"]
        self._code = UserCode(
            code.thing,
            code.args,
            code.kwargs,
            deployment_id=deployment,
            thread_limit=document["max_ongoing_requests"],
        )
        self._code.around_threads = Entered(self._taker)
        self._set_context(deployment, code.config)
        self._requests = Requests(self._taker, self._code, deployment, document, self._loop)
        await self._code.construct()
        context = self._replica_context()
        context.servable_object = self._code.callable
        config = None if user_config is None else json.loads(user_config)
        await self._code.reconfigure(config, context.rank)

    def _set_context(self, deployment: Any, config: Any) -> None:
        from manta._private.names import ReplicaID
        from manta._private.rank import LazyRank
        from manta.serve import context

        context._set_internal_replica_context(
            replica_id=ReplicaID(self._document["id"], deployment),
            servable_object=None,  # type: ignore[arg-type]
            _deployment_config=config,
            rank=LazyRank(max(0, self._document["rank"])),  # type: ignore[arg-type]
            world_size=self._document["world_size"] or 1,
            code_version=self._document["options"].get("code_version"),
        )

    @staticmethod
    def _replica_context() -> Any:
        from manta.serve import context

        return context._get_internal_replica_context()

    async def _configure(self, told: dict[str, Any]) -> None:
        """A new configuration, while requests run; what user code raises goes to the controller."""
        try:
            await self._take_configuration(told)
        except BaseException as error:
            self._log_trace("The replica could not be reconfigured")
            self._taker.configured(_told(error))
        else:
            self._taker.configured(None)

    async def _take_configuration(self, told: dict[str, Any]) -> None:
        from manta._private.rank import LazyRank

        rhythm = ("health_check_period_s", "health_check_timeout_s")
        new_rhythm = any(self._document[name] != told[name] for name in rhythm)
        self._document.update({name: told[name] for name in self._document if name in told})
        self._code.set_thread_limit(told["max_ongoing_requests"])
        if new_rhythm and self._health is not None:
            self._health.cancel()
            self._health = self._loop.create_task(self._watch_health())
        config = None if told["user_config"] is None else json.loads(told["user_config"])
        rank = LazyRank(max(0, told["rank"]))
        if told["user_config_changed"] or told["rank_changed"]:
            await self._code.reconfigure(config, rank)
        context = self._replica_context()
        context.rank = rank
        context.world_size = told["world_size"] or 1
        for name in ("max_ongoing_requests", "graceful_shutdown_timeout_s", *rhythm):
            context._deployment_config.assign(name, told[name])
        context._deployment_config.assign("user_config", config)

    async def _watch_health(self) -> None:
        """The user's own check, at its period; three failures in a row are a verdict."""
        period = self._document["health_check_period_s"]
        timeout = self._document["health_check_timeout_s"]
        while True:
            await asyncio.sleep(period)
            try:
                await asyncio.wait_for(self._code.check_health(), timeout)
                self._strikes = 0
            except Exception as error:
                self._strikes += 1
                self._log_trace("The health check failed")
                if self._strikes >= _HEALTH_STRIKES:
                    self._taker.health(f"{type(error).__name__}: {error}")
                continue
            self._taker.health(None)

    def _log_trace(self, what: str) -> None:
        self._taker.log(logging.ERROR, f"{what}\n{traceback.format_exc().rstrip()}")


def _told(error: BaseException) -> str:
    """What happened and where, in the few words that the controller keeps."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_PACKAGE)]
    what = "".join(traceback.format_exception_only(type(error), error)).strip()[-_WORDS:]
    where = "".join(traceback.format_list(theirs[-1:]))
    return f"{where}{what}" if len(where) + len(what) <= _WORDS else what


def _has_models(made: Any) -> bool:
    """Whether a method of the user's class is ``@serve.multiplexed``."""
    from manta.serve.multiplex import _MARK

    return any(hasattr(vars(kind).get(name), _MARK) for kind in type(made).__mro__ for name in vars(kind))


class _Selector(selectors.EpollSelector):
    """Tells the taker when the loop waits: at all other times handlers may keep it busy."""

    def __init__(self, taker: Any) -> None:
        super().__init__()
        self._asleep = taker.asleep
        self._awake = taker.awake

    def select(self, timeout: Optional[float] = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        self._asleep()
        try:
            return super().select(timeout)
        finally:
            self._awake()


_selector: Optional[_Selector] = None  # Of the loop, unless it is uvloop's.


def _new_loop(taker: Any) -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed."""
    global _selector
    try:
        import uvloop
    except ImportError:
        _selector = _Selector(taker)
        return asyncio.SelectorEventLoop(_selector)
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _set_output(taker: Any, document: dict[str, Any], arguments: list[str]) -> None:
    """What user code logs and prints: to the replica's log, and where the person looks, at once."""
    from manta._private import log, replica_log

    config = document["options"].get("logging")
    app, name, number = document["application"], document["deployment"], document["id"]
    handler = replica_log.ReplicaLog(taker, (app, name, number), config)
    to_stderr = "--log-to-stderr" in arguments
    log.add_to_replica(handler, f"{app}_{name} {number}", to_stderr, replica_log.level_of(config))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def _join_where_we_belong(arguments: list[str]) -> None:
    """User code that asks for handles, or starts programs that do, means the instance around it."""
    directory = arguments[arguments.index("--instance") + 1]
    os.environ["MANTA_INSTANCE"] = os.path.basename(directory)


def main(arguments: list[str]) -> int:
    """The whole life of the process."""
    faulthandler.enable()  # A crash in native code shows where Python was; the node keeps it.
    try:
        taker = native.Taker(["manta-replica", *arguments])
    except native.Error as error:
        print(f"manta: {error.args[1]}", file=sys.stderr)
        return 1
    _join_where_we_belong(arguments)
    document = taker.document()

    from manta._private import surroundings

    surroundings.enter(document["options"])
    _set_output(taker, document, arguments)

    from manta._private import native_instance

    native_instance.become_replica(taker, arguments)
    loop = _new_loop(taker)
    asyncio.set_event_loop(loop)
    status = loop.run_until_complete(Replica(taker, document, loop).run())
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    taker.close()
    return status


if __name__ == "__main__":
    _status = main(sys.argv[1:])
    # Threads of user code that still run do not keep a replica that has ended.
    os._exit(_status)
