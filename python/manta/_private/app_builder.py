# SPDX-License-Identifier: Apache-2.0
"""From an import path to an application: what a configuration file and the command line name.

The path leads to an application that was bound already, or to a function that makes one from the
arguments of the file.  The file's options then go over those of the code, and the other way round
an application can be described as such a file.
"""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any

from manta._private import graph, import_path
from manta.serve.deployment import Application, Deployment, deployment_to_schema

if TYPE_CHECKING:
    from manta.serve.schema import DeploymentSchema, ServeApplicationSchema


def load(path: str, args: dict[str, Any]) -> Application:
    """Import and, if it is a function, call."""
    return make(import_path.load(path), args)


def make(builder: Any, args: dict[str, Any]) -> Application:
    """The application itself, or what the function makes of the arguments.

    A function whose parameter is annotated with a pydantic model gets that model.
    """
    if isinstance(builder, Application):
        if args:
            raise ValueError(
                "Arguments can only be passed to an application builder function, "
                "not an already built application."
            )
        return builder
    if not isinstance(builder, FunctionType):
        raise TypeError(
            "Expected a built Serve application or an application builder function "
            f"but got: {type(builder)}."
        )
    app = builder(_converted(builder, args))
    if not isinstance(app, Application):
        raise TypeError(
            "Application builder functions must return an `Application` returned "
            f"`from `Deployment.bind()`, but got: {type(app)}."
        )
    return app


def _converted(builder: FunctionType, args: dict[str, Any]) -> Any:
    signature = inspect.signature(builder, eval_str=_has_text_annotations(builder))
    if len(signature.parameters) != 1:
        raise TypeError(
            "Application builder functions should take exactly one parameter, "
            "a dictionary containing the passed arguments."
        )
    (parameter,) = signature.parameters.values()
    if hasattr(parameter.annotation, "model_validate"):
        return parameter.annotation.model_validate(args)
    return args


def _has_text_annotations(builder: FunctionType) -> bool:
    """Annotations are texts under the future import; they count only if all names are known."""
    texts = [a for a in builder.__annotations__.values() if isinstance(a, str)]
    return bool(texts) and all(text.split(".")[0] in builder.__globals__ for text in texts)


def override(
    deployments: list[Deployment], application: ServeApplicationSchema
) -> list[Deployment]:
    """The deployments with the options of the file; what it does not say stays."""
    by_name = {deployment.name: deployment for deployment in deployments}
    for written in application.deployments:
        if written.name not in by_name:
            raise ValueError(
                f"Deployment '{written.name}' does not exist. Available: {list(by_name)}"
            )
        by_name[written.name] = _overridden(by_name[written.name], written)
    env = application.runtime_env
    return [_with_app_env(by_name[deployment.name], env) for deployment in deployments]


def _overridden(deployment: Deployment, written: DeploymentSchema) -> Deployment:
    names = written._get_user_configured_option_names() - {"name"}
    given = {name: getattr(written, name) for name in names}
    if "ray_actor_options" in given:
        given["ray_actor_options"] = given["ray_actor_options"].model_dump(exclude_unset=True)
    if given.get("num_replicas") == "auto" and not given.get("autoscaling_config"):
        given["autoscaling_config"] = deployment._deployment_config.autoscaling_config
    changed = deployment
    if "rolling_update_percentage" in given:  # Not an option of options().
        part = {"rolling_update_percentage": given.pop("rolling_update_percentage")}
        options = deployment._deployment_config.changed(part, set(part))
        changed = Deployment(
            deployment.name, options, deployment._replica_config, deployment.version, _internal=True
        )
    return changed.options(**given)


def _with_app_env(deployment: Deployment, app_env: dict[str, Any]) -> Deployment:
    """The application's environment under the deployment's own; variables are joined."""
    if not app_env:
        return deployment
    options = dict(deployment.ray_actor_options or {})
    own = options.get("runtime_env") or {}
    variables = {**app_env.get("env_vars", {}), **own.get("env_vars", {})}
    merged = {**app_env, **own} | ({"env_vars": variables} if variables else {})
    return deployment.options(ray_actor_options={**options, "runtime_env": merged}, _internal=True)


def describe(app: Application, path: str, name: str, route_prefix: str) -> dict[str, Any]:
    """An application as its part of a configuration file: only what the user wrote in code."""
    built = graph.build_app(app, name=name)
    deployments = [
        deployment_to_schema(deployment).model_dump(mode="json", exclude_unset=True)
        for deployment in built.deployments
    ]
    return {
        "name": name,
        "route_prefix": route_prefix,
        "import_path": path,
        "runtime_env": {},
        "deployments": deployments,
    }
