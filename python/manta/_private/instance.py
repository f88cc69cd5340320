# SPDX-License-Identifier: Apache-2.0
"""What the public functions ask of a running instance, whichever run time it is.

``Instance`` is the seam: the native run time implements it.  Applications in local testing mode
are looked up first, since they live in this very process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Optional

from manta._private import native
from manta._private.names import DeploymentID, ReplicaID
from manta.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from manta._private.graph import BuiltApplication
    from manta._private.transport import Transport


class Instance(ABC):
    """A running instance, as seen from a driver or a replica.  Its calls block."""

    transport: Transport
    is_private = False  # started by this process, and ending with it

    def start_again(self, options: dict[str, Any]) -> None:
        """``serve.start`` where this one runs: say which options are ignored."""

    @abstractmethod
    def deploy(
        self, apps: Sequence[BuiltApplication], *, wait_ingress: bool, wait_running: bool
    ) -> None:
        """Make the applications the wanted state; RuntimeError when one fails to deploy.

        Waits until all run (``wait_running``), or until their ingress deployments exist.
        """

    @abstractmethod
    def deploy_config(self, config: Any, *, wait: bool) -> None:
        """Make a ``ServeDeploySchema`` the wanted state; RuntimeError when an application fails."""

    @abstractmethod
    def delete(self, names: Sequence[str], *, wait: bool) -> None:
        """Delete applications; TimeoutError after 60 s of waiting.  Unknown names are ignored."""

    @abstractmethod
    def shutdown(self) -> None:
        """Delete everything and end the instance."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """The instance as the fields of ``ServeInstanceDetails``."""

    @abstractmethod
    def ingress_deployment(self, app_name: str) -> Optional[str]:
        """The name of an application's ingress deployment; None when there is no such one."""

    @abstractmethod
    def has_deployment(self, deployment: DeploymentID) -> bool:
        """Whether the deployment exists."""

    @abstractmethod
    def deployment_actor(self, deployment: DeploymentID, name: str, version: Optional[str]) -> Any:
        """A handle to an actor of the deployment; ValueError when it is not there."""

    @abstractmethod
    def record_models(self, replica: ReplicaID, model_ids: list[str]) -> None:
        """The models that a replica of this process has or loads have changed."""

    @abstractmethod
    def record_metric(
        self,
        kind: str,
        name: str,
        description: str,
        value: float,
        tags: dict[str, str],
        boundaries: Optional[list[float]] = None,
    ) -> None:
        """One value of a user's metric; kind is counter, gauge or histogram."""


_joined: Optional[Instance] = None


def is_joined() -> bool:
    """Whether this process has an instance already."""
    return _joined is not None


def join(start: bool = False, options: Optional[dict[str, Any]] = None) -> Optional[Instance]:
    """The instance of this process, joined or started when that was not done before."""
    global _joined
    if _joined is None:
        _joined = native.connect(start, options)
    return _joined


def must_join() -> Instance:
    """The instance, or the error that says that there is none."""
    found = join()
    if found is None:
        raise RayServeException("There is no Serve instance running.")
    return found


def leave() -> None:
    """Forget the instance, after its end."""
    global _joined
    _joined = None


def transport_of(deployment: DeploymentID) -> Transport:
    """The way to a deployment: in this process if it runs here, else through the instance."""
    from manta._private import local_apps

    return local_apps.transport_of(deployment) or must_join().transport


def record_models(replica: ReplicaID, model_ids: list[str]) -> None:
    if _joined is not None:
        _joined.record_models(replica, model_ids)


def record_metric(*args: Any, **kwargs: Any) -> None:
    if _joined is not None:
        _joined.record_metric(*args, **kwargs)
