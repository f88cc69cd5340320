# SPDX-License-Identifier: Apache-2.0
"""How a handle reaches replicas: the seam between the Python surface and a run time.

There are two run times.  ``manta._private.local`` runs a whole application inside the caller's
process, for tests and notebooks.  The native one is reached through the C extension
``manta._native``; ``manta._private.native`` says what that module must hold and is the only place
that imports it.

A transport sees requests, not user objects: arguments that were answers of other calls have been
waited for, and the caller's request context is in the request.  It answers by filling the reply
that comes with the request (see ``manta._private.reply``), from any thread that holds the
interpreter:

* a unary request ends with one ``reply.set_result(value)`` or ``reply.set_error(error)``;
* a streaming one has any number of ``reply.push(item)`` before its end, which is
  ``reply.set_result()`` or ``reply.set_error(error)``; when ``push`` returns False nobody reads
  any more and the rest may be dropped;
* ``reply.on_cancel(function)`` tells how the request is cancelled; the function is called at most
  once, perhaps at once, perhaps from another thread.  A cancelled request ends with
  ``reply.set_error(asyncio.CancelledError())``, and its children end likewise: they are the
  requests whose ``parent_id`` is its ``internal_id``;
* errors of user code are ``manta.exceptions.RayTaskError(...).as_instanceof_cause()``, a dead
  replica is ``ActorDiedError``, a full queue ``BackPressureError``, a deployment that will never
  answer ``DeploymentUnavailableError``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from manta._private.names import DeploymentID
from manta._private.reply import Reply, StreamReply


@dataclass(slots=True)
class Request:
    """One call of one method, with everything that travels beside its arguments.

    Nobody changes one; it is not frozen, because frozen ones take three times as long to make.
    """

    deployment: DeploymentID
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    stream: bool
    request_id: str  # The caller's: one id for a whole tree of calls.
    internal_id: str  # This call's own.
    parent_id: str  # The internal id of the call that makes this one; "" outside a replica.
    route: str = ""
    model_id: str = ""
    session_id: str = ""
    prefer_local: bool = False
    by_reference: bool = True
    request_serialization: str = "cloudpickle"
    response_serialization: str = "cloudpickle"
    deadline_s: float | None = None  # On the monotonic clock; None waits for ever.


class Transport(ABC):
    """What a handle needs of a run time."""

    @abstractmethod
    def submit(self, request: Request, reply: Reply) -> None:
        """Send one request; the reply is a ``StreamReply`` when the request streams.

        Never blocks, and never raises for what belongs to the request: that is an outcome.
        """

    @abstractmethod
    def broadcast(self, request: Request) -> list[Reply]:
        """Send the request to every replica that lives now; one reply for each."""

    @abstractmethod
    def has_replicas(self, deployment: DeploymentID) -> bool:
        """Whether the set of running replicas is known and not empty."""

    def choose_replica(self, request: Request) -> Any:
        """An asynchronous context that reserves a slot on one replica."""
        raise NotImplementedError("choose_replica is not supported by this transport.")

    def dispatch(self, selection: Any, request: Request, reply: Reply) -> None:
        """Send a request to the replica that was chosen before."""
        raise NotImplementedError("dispatch is not supported by this transport.")

    def release(self, deployment: DeploymentID) -> None:
        """A handle's ``shutdown``: whatever was kept for this deployment may go."""
        del deployment  # Nothing is kept unless a transport says so.


def new_reply(stream: bool) -> Reply:
    """The kind of reply that the caller will read."""
    return StreamReply() if stream else Reply()
