# SPDX-License-Identifier: Apache-2.0
"""Starting, running, asking and ending: the functions of ``manta.serve``.

What they need of a run time stands in ``manta._private.instance``; what applications become before
they run, in ``manta._private.graph``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, List, Optional, Union

from manta._private import constants, graph, instance, log
from manta._private import ingress as ingress_classes
from manta._private.constants import DEFAULT_APP_NAME, logger
from manta._private.decorator import deployment
from manta._private.names import DeploymentID
from manta.serve import context
from manta.serve.context import get_deployment_actor_context, get_replica_context
from manta.serve.deployment import Application, Deployment
from manta.serve.exceptions import RayServeException
from manta.serve.handle import DeploymentHandle
from manta.serve.multiplex import get_multiplexed_model_id, multiplexed

if TYPE_CHECKING:
    from manta._private.asgi import ASGIApp
    from manta.serve.config import ControllerOptions, HTTPOptions, ProxyLocation, gRPCOptions
    from manta.serve.schema import LoggingConfig, ServeDeploySchema, ServeStatus, TracingConfig

__all__ = [
    "Application",
    "Deployment",
    "RunTarget",
    "_run",
    "_run_many",
    "delete",
    "deploy_apps",
    "deployment",
    "get_app_handle",
    "get_deployment_actor",
    "get_deployment_actor_context",
    "get_deployment_handle",
    "get_multiplexed_model_id",
    "get_replica_context",
    "ingress",
    "multiplexed",
    "run",
    "run_many",
    "shutdown",
    "shutdown_async",
    "start",
    "status",
]

_NOT_FOUND = "Application '{name}' does not exist."


def start(
    proxy_location: Union[None, str, ProxyLocation] = None,
    http_options: Union[None, dict, HTTPOptions] = None,
    grpc_options: Union[None, dict, gRPCOptions] = None,
    logging_config: Union[None, dict, LoggingConfig] = None,
    tracing_config: Union[None, dict, TracingConfig] = None,
    controller_options: Union[None, dict, ControllerOptions] = None,
    **kwargs: Any,
) -> None:
    """Start the instance, or join the one that runs.

    Optional: ``run`` starts one when there is none. Options count for a new instance only.

    Args:
        proxy_location: Which machines listen: "EveryNode" (default), "HeadOnly" or "Disabled".
        http_options: Address, port, timeouts and root path of the HTTP listeners.
        grpc_options: Port of the gRPC listeners; servicers are refused, gRPC is not there yet.
        logging_config: What the parts of the instance log.
        tracing_config: Whether requests are traced.
        controller_options: Environment of the controller's process.
        **kwargs: Accepted and ignored.
    """
    from manta._private import start_options

    options = start_options.check(
        proxy_location, http_options, grpc_options, logging_config, tracing_config,
        controller_options,
    )  # fmt: skip
    log.show(f"serve {os.getpid()}", (options.get("logging_config") or {}).get("log_level"))
    known = instance.is_joined()
    found = instance.join(start=True, options=options)
    if found is not None and (known or not found.is_private):
        found.start_again(options)


def shutdown() -> None:
    """Delete all applications and end the instance; nothing happens when none runs."""
    _stop_local()
    found = instance.join()
    if found is None:
        logger.info("Nothing to shut down. There's no Serve application running.")
        return
    try:
        found.shutdown()
    finally:
        instance.leave()


async def shutdown_async() -> None:
    """``shutdown`` without blocking the event loop."""
    await asyncio.to_thread(shutdown)


def _stop_local() -> None:
    from manta._private import local_apps

    local_apps.stop_all()


def ingress(app: Optional[Union[ASGIApp, Callable]] = None) -> Callable:
    """Make an ASGI application the way into a deployment's class.

    Args:
        app: A FastAPI application or router (routes may be methods of the class), any other ASGI
            application, or a function without parameters that makes one in each replica. Without
            it the class defines ``__serve_build_asgi_app__``, called after the constructor.

    Returns:
        A decorator for the class; called with nothing it makes a class by itself.
    """

    def decorator(cls: Optional[type] = None) -> Callable:
        return ingress_classes.decorate(app, cls)

    return decorator


@dataclass(frozen=True)
class RunTarget:
    """One application for ``serve.run_many``."""

    target: Application
    name: str = DEFAULT_APP_NAME
    route_prefix: Optional[str] = "/"
    logging_config: Optional[Union[dict, LoggingConfig]] = None
    external_scaler_enabled: bool = False


def check_route_prefix(route_prefix: Optional[str]) -> None:
    """None, or a path that starts with a slash, does not end with one, and has no wildcards."""
    if route_prefix is None:
        return
    told = f"Invalid route_prefix '{route_prefix}',"
    if not route_prefix.startswith("/"):
        raise ValueError(f"{told} must start with a forward slash ('/').")
    if route_prefix != "/" and route_prefix.endswith("/"):
        raise ValueError(f"{told} may not end with a trailing '/'.")
    if "{" in route_prefix or "}" in route_prefix:
        raise ValueError(f"{told} may not contain wildcards.")


def _check_target(target: RunTarget) -> None:
    if len(target.name) == 0:
        raise RayServeException("Application name must a non-empty string.")
    if not isinstance(target.target, Application):
        raise TypeError("`serve.run` expects an `Application` returned by `Deployment.bind()`.")
    check_route_prefix(target.route_prefix)


def _run_many(
    targets: Sequence[RunTarget],
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: Union[None, dict, ControllerOptions] = None,
) -> List[DeploymentHandle]:
    """Run applications and give the handles of their ingress deployments."""
    if not targets:
        raise ValueError("No applications provided.")
    if constants.FORCE_LOCAL_TESTING_MODE and not _local_testing_mode:
        logger.info("Overriding local_testing_mode=True from environment variable.")
        _local_testing_mode = True
    log.show(f"serve {os.getpid()}")
    if _local_testing_mode:
        return [_run_here(target) for target in targets]
    built = [_build(target) for target in targets]
    found = instance.join(start=True, options=_start_options(controller_options))
    if found is None:
        raise RayServeException("The instance could not be started.")
    found.deploy(
        built,
        wait_ingress=wait_for_ingress_deployment_creation,
        wait_running=wait_for_applications_running,
    )
    return [app.deployment_handles[app.ingress_deployment_name] for app in built]


def _start_options(controller_options: Any) -> Optional[dict[str, Any]]:
    """What ``run`` may say about an instance that it starts."""
    if controller_options is None:
        return None
    from manta._private import start_options

    return start_options.check(None, None, None, None, None, controller_options)


def _build(target: RunTarget, **more: Any) -> graph.BuiltApplication:
    _check_target(target)
    built = graph.build_app(
        target.target,
        name=target.name,
        route_prefix=target.route_prefix,
        logging_config=target.logging_config,
        external_scaler_enabled=target.external_scaler_enabled,
        **more,
    )
    built.validate_single_fastapi_ingress()
    built.validate_external_scaler()
    return built


def _run_here(target: RunTarget) -> DeploymentHandle:
    """Local testing mode: the replicas are started while the graph is walked."""
    from manta._private import local_apps
    from manta._private.local import LocalTransport

    _check_target(target)
    transport = LocalTransport(target.name)

    def start_replica(made: Deployment, app_name: str) -> DeploymentHandle:
        transport.add(made)
        return DeploymentHandle(made.name, app_name, _transport=transport)

    with local_apps.starting(target.name, transport):
        built = _build(target, make_deployment_handle=start_replica)
    return local_apps.start(built, transport)


def _run(
    target: Application,
    *,
    _blocking: bool = True,
    name: str = DEFAULT_APP_NAME,
    route_prefix: Optional[str] = "/",
    logging_config: Optional[Union[dict, LoggingConfig]] = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: Union[None, dict, ControllerOptions] = None,
) -> DeploymentHandle:
    """``run`` that may return before the application runs, and never parks."""
    one = RunTarget(target, name, route_prefix, logging_config, external_scaler_enabled)
    return _run_many(
        [one],
        wait_for_applications_running=_blocking,
        _local_testing_mode=_local_testing_mode,
        controller_options=controller_options,
    )[0]


def run_many(
    targets: Sequence[RunTarget],
    blocking: bool = False,
    wait_for_ingress_deployment_creation: bool = True,
    wait_for_applications_running: bool = True,
    _local_testing_mode: bool = False,
    controller_options: Union[None, dict, ControllerOptions] = None,
) -> List[DeploymentHandle]:
    """Run several applications and give the handles of their ingress deployments.

    Args:
        targets: The applications with their names and prefixes.
        blocking: Stay here until Ctrl-C.
        wait_for_ingress_deployment_creation: Return only when the ingress deployments exist.
        wait_for_applications_running: Return only when everything runs.
        _local_testing_mode: Run everything inside this process.
        controller_options: Environment of the controller's process, if this starts it.
    """
    with _told_of_interrupt(blocking):
        handles = _run_many(
            targets,
            wait_for_ingress_deployment_creation=wait_for_ingress_deployment_creation,
            wait_for_applications_running=wait_for_applications_running,
            _local_testing_mode=_local_testing_mode,
            controller_options=controller_options,
        )
        if blocking:
            _park()
    return handles


def run(
    target: Application,
    blocking: bool = False,
    name: str = DEFAULT_APP_NAME,
    route_prefix: Optional[str] = "/",
    logging_config: Optional[Union[dict, LoggingConfig]] = None,
    _local_testing_mode: bool = False,
    external_scaler_enabled: bool = False,
    controller_options: Union[None, dict, ControllerOptions] = None,
) -> DeploymentHandle:
    """Run an application and give the handle of its ingress deployment.

    Args:
        target: What ``Deployment.bind()`` returned.
        blocking: Stay here until Ctrl-C.
        name: The application's name; a running one of the same name is updated.
        route_prefix: Where HTTP requests reach it; None for nowhere.
        logging_config: For deployments without one of their own.
        _local_testing_mode: Run everything inside this process.
        external_scaler_enabled: Somebody else changes the number of replicas.
        controller_options: Environment of the controller's process, if this starts it.
    """
    with _told_of_interrupt(blocking):
        handle = _run(
            target,
            name=name,
            route_prefix=route_prefix,
            logging_config=logging_config,
            _local_testing_mode=_local_testing_mode,
            external_scaler_enabled=external_scaler_enabled,
            controller_options=controller_options,
        )
        if blocking:
            _park()
    return handle


def deploy_apps(config: Union[dict, ServeDeploySchema], _blocking: bool = True) -> None:
    """Make a whole configuration the wanted state, as ``manta deploy FILE`` does.

    What does not differ from what runs is left alone; applications of an earlier configuration that
    are not in this one are drained and deleted; what ``run`` started stays. Options of the instance
    (``http_options`` and so on) count when this starts it.

    Args:
        config: The configuration, or what ``ServeDeploySchema`` takes.
        _blocking: Return only when everything runs; ``RuntimeError`` names what does not.
    """
    from manta._private import declarative

    checked = declarative.checked(config)
    found = instance.join(start=True, options=_config_options(checked))
    if found is None:
        raise RayServeException("The instance could not be started.")
    found.deploy_config(checked, wait=_blocking)


def _config_options(config: ServeDeploySchema) -> dict[str, Any]:
    from manta._private import start_options

    given = config.model_fields_set
    http = config.http_options.model_dump(exclude_unset=True) if "http_options" in given else None
    return start_options.check(
        config.proxy_location if "proxy_location" in given else None,
        http, None, config.logging_config, None, None,
    )  # fmt: skip


@contextlib.contextmanager
def _told_of_interrupt(blocking: bool) -> Iterator[None]:
    """Whoever stays until Ctrl-C is told that it came, also when it came a moment before he stayed."""
    try:
        yield
    except KeyboardInterrupt:
        if blocking:
            logger.warning("Got KeyboardInterrupt, exiting...")
        raise


def _park() -> None:
    while True:
        time.sleep(10)


def delete(name: str, _blocking: bool = True) -> None:
    """Delete an application with all its deployments; an unknown name is no error."""
    from manta._private import local_apps

    if not local_apps.stop(name):
        instance.must_join().delete([name], wait=_blocking)


def status() -> ServeStatus:
    """The proxies, the applications and their deployments; empty when nothing runs."""
    from manta._private import local_apps
    from manta.serve.schema import ServeInstanceDetails, ServeStatus

    found = instance.join()
    told = ServeStatus() if found is None else ServeInstanceDetails(**found.details())._get_status()
    told.applications.update(local_apps.overviews())
    return told


def get_app_handle(name: str) -> DeploymentHandle:
    """The handle of an application's ingress deployment.

    Raises ``RayServeException`` when there is no such application.
    """
    from manta._private import local_apps

    local = local_apps.find(name)
    if local is not None:
        return local.built.deployment_handles[local.built.ingress_deployment_name]
    found = instance.must_join().ingress_deployment(name)
    if found is None:
        raise RayServeException(_NOT_FOUND.format(name=name))
    return DeploymentHandle(found, name)


def get_deployment_handle(
    deployment_name: str,
    app_name: Optional[str] = None,
    _check_exists: bool = True,
    _record_telemetry: bool = True,
) -> DeploymentHandle:
    """The handle of a deployment.

    Args:
        deployment_name: Its name.
        app_name: Its application; inside a replica that replica's by default.
        _check_exists: Whether a deployment that does not exist is an error (``KeyError``).
        _record_telemetry: Accepted and ignored.
    """
    from manta._private import local_apps

    replica = context._get_internal_replica_context()
    if app_name is None:
        if replica is None:
            raise RayServeException(
                "Please specify an application name when getting a deployment handle outside of a "
                "Serve application."
            )
        app_name = replica.app_name
    wanted = DeploymentID(deployment_name, app_name)
    transport = local_apps.transport_of(wanted)
    if _check_exists and not (
        transport.has_replicas(wanted)
        if transport is not None
        else instance.must_join().has_deployment(wanted)
    ):
        raise KeyError(f"{wanted} does not exist.")
    if replica is not None and replica._handle_registration_callback is not None:
        replica._handle_registration_callback(wanted)
    return DeploymentHandle(deployment_name, app_name, _transport=transport)


def get_deployment_actor(actor_name: str) -> Any:
    """A handle of an actor of this replica's deployment; ``ValueError`` when it is not there."""
    replica = context._get_internal_replica_context()
    if replica is None:
        raise RayServeException(
            "`serve.get_deployment_actor()` may only be called from within a Ray Serve deployment "
            "replica."
        )
    of = replica.replica_id.deployment_id
    return instance.must_join().deployment_actor(of, actor_name, replica.code_version)
