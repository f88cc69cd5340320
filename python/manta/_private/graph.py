# SPDX-License-Identifier: Apache-2.0
"""From an application to the deployments that make it up.

The arguments of ``bind()`` are searched for other applications, however deep they lie and in
whatever objects, by pickling: what has no meaning for pickle could not reach a replica either.
Each application found becomes a deployment of its own with a name of its own, and in its place the
constructor will receive a handle.  One application bound in two places is one deployment.
"""

from __future__ import annotations

import inspect
import io
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from manta._private import pickling
from manta._private.constants import logger
from manta._private.user_code import is_asgi
from manta.serve.deployment import Application, Deployment
from manta.serve.exceptions import RayServeException
from manta.serve.handle import DeploymentHandle

MakeHandle = Callable[[Deployment, str], DeploymentHandle]


@dataclass(frozen=True)
class BuiltApplication:
    """An application ready to be run: deployments in the order in which they can be started."""

    name: str
    route_prefix: Optional[str]
    logging_config: Any
    ingress_deployment_name: str
    deployments: list[Deployment]
    deployment_handles: dict[str, DeploymentHandle]
    external_scaler_enabled: bool = False

    def validate_single_fastapi_ingress(self) -> None:
        """HTTP has one way in."""
        ways = [d for d in self.deployments if _has_asgi_class(d)]
        if len(ways) > 1:
            raise RayServeException(
                f'Found multiple FastAPI deployments in application "{self.name}". Please only '
                "include one deployment with @serve.ingress in your application to avoid this "
                "issue."
            )

    def validate_external_scaler(self) -> None:
        """Replicas are counted by one party."""
        scaled = [d.name for d in self.deployments if d._deployment_config.autoscaling_config]
        if self.external_scaler_enabled and scaled:
            names = ", ".join(f'"{name}"' for name in scaled)
            raise RayServeException(
                "external_scaler_enabled is set to True, but the following deployment(s) have "
                f"autoscaling configured: {names}. When using an external autoscaler, Serve's "
                "built-in autoscaling must be disabled for all deployments in the application."
            )


def _has_asgi_class(deployment: Deployment) -> bool:
    return inspect.isclass(deployment.func_or_class) and is_asgi(deployment.func_or_class)


def _plain_handle(deployment: Deployment, app_name: str) -> DeploymentHandle:
    return DeploymentHandle(deployment.name, app_name=app_name)


def build_app(
    app: Application,
    *,
    name: str,
    route_prefix: Optional[str] = None,
    logging_config: Union[dict[str, Any], Any, None] = None,
    default_runtime_env: Optional[dict[str, Any]] = None,
    make_deployment_handle: Optional[MakeHandle] = None,
    external_scaler_enabled: bool = False,
) -> BuiltApplication:
    """Walk the graph; callees come before their callers."""
    walk = _Walk(name, default_runtime_env, make_deployment_handle or _plain_handle)
    walk.visit(app)
    if logging_config is not None:
        walk.deployments = [with_logging(d, logging_config) for d in walk.deployments]
    return BuiltApplication(
        name=name,
        route_prefix=route_prefix,
        logging_config=logging_config,
        ingress_deployment_name=walk.names[id(app)],
        deployments=walk.deployments,
        deployment_handles={walk.names[key]: handle for key, handle in walk.handles.items()},
        external_scaler_enabled=external_scaler_enabled,
    )


@dataclass
class _Walk:
    """The state of one walk through a graph.  Applications are known by identity."""

    app_name: str
    default_runtime_env: Optional[dict[str, Any]]
    make_handle: MakeHandle
    names: dict[int, str] = field(default_factory=dict)
    handles: dict[int, DeploymentHandle] = field(default_factory=dict)
    deployments: list[Deployment] = field(default_factory=list)

    def visit(self, app: Application) -> DeploymentHandle:
        """Make the application's deployment, its callees' first; once."""
        known = self.handles.get(id(app))
        if known is not None:
            return known
        bound = app._bound_deployment
        args, kwargs = replace_applications((bound.init_args, bound.init_kwargs), self.visit)
        final = bound.options(
            name=self._unique_name(app), _init_args=args, _init_kwargs=kwargs, _internal=True
        )
        final = with_runtime_env(final, self.default_runtime_env)
        handle = self.handles[id(app)] = self.make_handle(final, self.app_name)
        self.deployments.append(final)
        return handle

    def _unique_name(self, app: Application) -> str:
        wanted = name = app._bound_deployment.name
        taken, suffix = set(self.names.values()), 1
        while name in taken:
            name, suffix = f"{wanted}_{suffix}", suffix + 1
        if name != wanted:
            logger.warning(
                f"There are multiple deployments with the same name '{wanted}'. "
                f"Renaming one to '{name}'."
            )
        self.names[id(app)] = name
        return name


def replace_applications(value: Any, replacement: Callable[[Application], Any]) -> Any:
    """A copy of the value in which every application is replaced."""
    args, kwargs = value
    if all(map(_is_simple, args)) and all(map(_is_simple, kwargs.values())):
        new = [replacement(v) if isinstance(v, Application) else v for v in args]
        items = kwargs.items()
        return tuple(new), {
            k: replacement(v) if isinstance(v, Application) else v for k, v in items
        }
    found: list[Application] = []
    data = _dump(value, found)
    replaced = [replacement(app) for app in found]
    return _load(data, replaced)


def _is_simple(value: Any) -> bool:
    return isinstance(value, (Application, DeploymentHandle)) or pickling.is_plain(value)


def _dump(value: Any, found: list[Application]) -> bytes:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):
        """Applications are left out; their place remembers which one it was."""

        def persistent_id(self, item: Any) -> Optional[int]:
            if isinstance(item, Application):
                found.append(item)
                return len(found) - 1
            return None

    buffer = io.BytesIO()
    Pickler(buffer).dump(value)
    return buffer.getvalue()


def _load(data: bytes, replaced: list[Any]) -> Any:
    class Unpickler(pickle.Unpickler):
        def persistent_load(self, index: int) -> Any:
            return replaced[index]

    return Unpickler(io.BytesIO(data)).load()


def with_logging(deployment: Deployment, logging_config: Any) -> Deployment:
    """The application's logging configuration for a deployment without one."""
    if deployment.logging_config is not None:
        return deployment
    return deployment.options(logging_config=logging_config, _internal=True)


def with_runtime_env(
    deployment: Deployment, default_runtime_env: Optional[dict[str, Any]]
) -> Deployment:
    """The driver's environment for a deployment without one, or its ``working_dir`` only."""
    if not default_runtime_env:
        return deployment
    options = deepcopy(deployment.ray_actor_options or {})
    if "runtime_env" not in options:
        options["runtime_env"] = default_runtime_env
    elif default_runtime_env.get("working_dir") is not None:
        options["runtime_env"].setdefault("working_dir", default_runtime_env["working_dir"])
    return deployment.options(ray_actor_options=options, _internal=True)
