# SPDX-License-Identifier: Apache-2.0
"""The applications that run in this process in local testing mode, by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from manta._private.names import DeploymentID
from manta.serve.handle import DeploymentHandle

if TYPE_CHECKING:
    from manta._private.graph import BuiltApplication
    from manta._private.local import LocalTransport


@dataclass(frozen=True)
class LocalApp:
    """One application: what was built, and the transport that reaches it."""

    built: BuiltApplication
    transport: LocalTransport
    started_s: float


_lock = threading.Lock()
_apps: dict[str, LocalApp] = {}
_starting: dict[str, LocalTransport] = {}


@contextmanager
def starting(name: str, transport: LocalTransport) -> Iterator[None]:
    """While an application is built, its constructors may ask for handles; a failure ends it."""
    with _lock:
        _starting[name] = transport
    try:
        yield
    except BaseException:
        transport.close()
        raise
    finally:
        with _lock:
            _starting.pop(name, None)


def start(built: BuiltApplication, transport: LocalTransport) -> DeploymentHandle:
    """Keep a started application under its name.

    An older one of the same name answers as long as somebody holds a handle to it, because tests
    run many applications without names and keep their handles.
    """
    with _lock:
        _apps[built.name] = LocalApp(built, transport, time.time())
    return built.deployment_handles[built.ingress_deployment_name]


def find(app_name: str) -> LocalApp | None:
    with _lock:
        return _apps.get(app_name)


def names() -> list[str]:
    with _lock:
        return list(_apps)


def transport_of(deployment: DeploymentID) -> LocalTransport | None:
    """For a handle that was pickled: the way back to its application, if it runs here."""
    with _lock:
        being_built = _starting.get(deployment.app_name)
    if being_built is not None:
        return being_built
    app = find(deployment.app_name)
    return app.transport if app is not None else None


def stop(app_name: str) -> bool:
    """Stop one application; whether there was one."""
    with _lock:
        app = _apps.pop(app_name, None)
    if app is None:
        return False
    app.transport.close()
    return True


def stop_all() -> None:
    for name in names():
        stop(name)


def overviews() -> dict[str, Any]:
    """The applications as ``serve.status()`` tells them: what is here runs."""
    with _lock:
        apps = dict(_apps)
    return {name: _overview(app) for name, app in apps.items()}


def _overview(app: LocalApp) -> Any:
    from manta._private.details import ApplicationStatusOverview, DeploymentStatusOverview
    from manta._private.names import ApplicationStatus, DeploymentStatus, DeploymentStatusTrigger

    deployments = {
        made.name: DeploymentStatusOverview(
            status=DeploymentStatus.HEALTHY,
            status_trigger=DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED,
            replica_states={"RUNNING": 1},  # type: ignore[dict-item]
            message="",
        )
        for made in app.built.deployments
    }
    return ApplicationStatusOverview(
        status=ApplicationStatus.RUNNING,
        message="",
        last_deployed_time_s=app.started_s,
        deployments=deployments,
    )
