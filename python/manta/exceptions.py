# SPDX-License-Identifier: Apache-2.0
"""The errors of the run time: what can go wrong outside the user's own code.

The names are those of ``ray.exceptions``, so that ``except`` clauses keep working after the import
line is changed.  The errors that belong to serving (back pressure, unavailable deployments) are in
``manta.serve.exceptions``; those that only an object store or a cluster can raise are here as well
where programs are known to catch them.

An error of the user's code arrives at the caller as a ``RayTaskError`` that is *also* an instance
of the user's type: ``except ValueError`` catches it, its text is the remote trace, and ``.cause``
is the error itself.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

__all__ = [
    "ActorDiedError",
    "ActorUnavailableError",
    "CrossLanguageError",
    "GetTimeoutError",
    "NodeDiedError",
    "ObjectLostError",
    "ObjectStoreFullError",
    "OutOfMemoryError",
    "RayActorError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "RuntimeEnvSetupError",
    "TaskCancelledError",
    "TaskUnschedulableError",
    "UserCodeException",
    "WorkerCrashedError",
]


class RayError(Exception):
    """The base of every error of the run time."""


class CrossLanguageError(RayError):
    """An error of a deployment that is not written in Python, told as text."""

    def __init__(self, language: str, text: str) -> None:
        super().__init__(f"An exception raised from {language}:\n{text}")
        self._parts = (language, text)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._parts)


class TaskCancelledError(RayError):
    """The request was cancelled before it had a result."""

    def __init__(self, task_id: object = None, error_message: str | None = None) -> None:
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        told = f"Task: {self.task_id} was cancelled. " if self.task_id else ""
        return told + (self.error_message or "")


class UserCodeException(RayError):
    """Marks an error of user code for those who want only its own frames."""


class RayTaskError(RayError):
    """An error that user code raised in a replica, with the trace as it was there."""

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause = _transportable(cause, traceback_str)
        self.proctitle = proctitle or f"manta::{function_name}"
        self.pid = pid or os.getpid()
        self.ip = ip or "127.0.0.1"
        self.actor_repr = actor_repr
        self.actor_id = actor_id
        self.args = (
            function_name,
            traceback_str,
            self.cause,
            self.proctitle,
            self.pid,
            self.ip,
            actor_repr,
            actor_id,
        )

    @classmethod
    def from_exception(
        cls, error: BaseException, function_name: str, replica: str | None = None
    ) -> RayTaskError:
        """Wrap an error where it was caught; the frames of the caller's side are not in it yet."""
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        return cls(function_name, "".join(lines), error, actor_repr=replica)

    def as_instanceof_cause(self) -> RayTaskError:
        """The same error as an instance of its cause's type too; itself where that cannot be."""
        cause_class = type(self.cause)
        if isinstance(self, cause_class) or issubclass(RayTaskError, cause_class):
            return self
        try:
            return _make_dual(self, cause_class)
        except Exception:
            return self  # A type that cannot be subclassed, or that guards its construction.

    def __str__(self) -> str:
        head = f"{self.proctitle}() (pid={self.pid}, ip={self.ip}"
        head += f", repr={self.actor_repr})" if self.actor_repr else ")"
        lines = self.traceback_str.strip().split("\n")
        return "\n".join(head if line.startswith("Traceback ") else line for line in lines)


def _transportable(cause: BaseException, trace: str) -> BaseException:
    """The cause if it can be pickled, else an error that tells about it."""
    from manta._private import pickling

    while isinstance(cause, RayTaskError):  # It passed through several deployments.
        cause = cause.cause
    try:
        pickling.dumps(cause)
    except Exception as error:
        name = f"{type(cause).__module__}.{type(cause).__name__}"
        return RayError(
            f"Exception {name} isn't serializable: {error}.\nOriginal exception details:\n{trace}"
        )
    return cause


def _restore_dual(error: RayTaskError) -> RayTaskError:
    return error.as_instanceof_cause()


class _Dual:
    """What an error that is two errors adds: the parts of the task error, the rest of the cause."""

    _task_error: RayTaskError
    cause: BaseException

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore_dual, (self._task_error,))

    def __str__(self) -> str:
        return str(self._task_error)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__dict__["cause"], name)


def _make_dual(error: RayTaskError, cause_class: type[BaseException]) -> RayTaskError:
    name = f"RayTaskError({cause_class.__name__})"
    members: dict[str, Any] = {"__init__": _init_dual, "__module__": __name__}
    if _is_group(error.cause):
        members["__new__"] = _new_dual_group
    members["args"] = property(lambda self: (self.cause,), lambda self, value: None)
    dual = type(name, (_Dual, RayTaskError, cause_class), members)
    return dual(error, error.cause)


def _init_dual(self: Any, error: RayTaskError, cause: BaseException) -> None:
    """Neither base is constructed again: the user's constructor may want anything."""
    self.__dict__.update(getattr(cause, "__dict__", {}))
    self.__dict__.update(error.__dict__)
    self.__dict__["_task_error"] = error


def _new_dual_group(cls: Any, error: RayTaskError, cause: Any) -> Any:
    make: Any = type(cause).__new__
    return make(cls, cause.message, cause.exceptions)


def _is_group(error: BaseException) -> bool:
    return sys.version_info >= (3, 11) and isinstance(
        error,
        BaseExceptionGroup,  # noqa: F821 (a builtin since 3.11)
    )


class WorkerCrashedError(RayError):
    """A process that ran user code ended without a word."""

    def __str__(self) -> str:
        return "The worker died unexpectedly while executing this task. Check the replica's log."


class RayActorError(RayError):
    """A replica (or another process that lives long) could not finish the call."""

    BASE_ERROR_MSG = "The actor experienced an error before finishing this task."

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str = BASE_ERROR_MSG,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        super().__init__(actor_id, error_msg, actor_init_failed, preempted)
        self.actor_id = actor_id
        self.error_msg = error_msg
        self._actor_init_failed = actor_init_failed
        self._preempted = preempted

    def __str__(self) -> str:
        return self.error_msg

    @property
    def preempted(self) -> bool:
        return self._preempted

    @property
    def actor_init_failed(self) -> bool:
        return self._actor_init_failed


class ActorDiedError(RayActorError):
    """The replica died while it ran the call; the call may or may not have had its effect."""

    BASE_ERROR_MSG = "The actor died unexpectedly before finishing this task."

    def __init__(self, cause: RayTaskError | str | None = None) -> None:
        text, failed = self.BASE_ERROR_MSG, False
        if isinstance(cause, RayTaskError):
            text = f"The actor died because of an error raised in its creation task, {cause}"
            failed = True
        elif cause:
            text = f"{self.BASE_ERROR_MSG}\n{cause}"
        replica = getattr(cause, "actor_id", None)
        super().__init__(replica, text, failed)
        self._cause_of_death = cause

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._cause_of_death,))

    @staticmethod
    def from_task_error(task_error: RayTaskError) -> ActorDiedError:
        return ActorDiedError(task_error)


class ActorUnavailableError(RayActorError):
    """The replica cannot be reached at the moment."""

    def __init__(self, error_message: str, actor_id: str | None = None) -> None:
        super().__init__(
            actor_id,
            f"The actor {actor_id} is unavailable: {error_message}. "
            "The task may or may not have been executed on the actor.",
        )
        self._parts = (error_message, actor_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._parts)


class RaySystemError(RayError):
    """Something of the run time itself failed."""

    def __init__(self, client_exc: object, traceback_str: str | None = None) -> None:
        super().__init__(client_exc, traceback_str)
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        told = f"System error: {self.client_exc}"
        return told + (f"\ntraceback: {self.traceback_str}" if self.traceback_str else "")


class GetTimeoutError(RayError, TimeoutError):
    """Nothing arrived within the time the caller gave."""


class _Told(RayError):
    """An error that is its message."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class OutOfMemoryError(_Told):
    """The machine ended a process because memory ran out."""


class NodeDiedError(_Told):
    """The machine that ran the call is gone."""


class ObjectStoreFullError(_Told):
    """No room is left for large values."""


class ObjectLostError(_Told):
    """A value that was passed by reference is gone with its owner."""


class RuntimeEnvSetupError(_Told):
    """The environment that a deployment asked for could not be made."""


class TaskUnschedulableError(_Told):
    """No machine can ever satisfy what the deployment asks for."""
