# SPDX-License-Identifier: Apache-2.0
"""Builds one application of a configuration file: ``python -m manta._private.build_main``.

The application's part of the file comes as JSON on standard input; the answer goes to the descriptor
that ``--answer`` names: ``D`` and the document for the controller, or ``F`` and what went wrong, with
the trace where the user's code is at fault.  The process is the application's own: its ``runtime_env``
holds while its modules are imported, and what they do here disturbs no other one.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional
from urllib.parse import unquote, urlsplit

_ENV_KEYS = ("env_vars", "working_dir", "py_modules")


_NOT_THE_USERS = (
    str(Path(__file__).parent.parent) + os.sep,
    str(Path(importlib.__file__).parent) + os.sep,
    "<frozen importlib",
)


class Refused(Exception):
    """What the file asks for cannot be; the text says it all."""


def main(words: list[str]) -> int:
    """The whole program; the exit status."""
    parser = argparse.ArgumentParser(prog="build_main", allow_abbrev=False)
    parser.add_argument("--app-dir", default=".")
    parser.add_argument("--answer", type=int, required=True)
    given = parser.parse_args(words)
    answer = _answer_of(lambda: build(json.load(sys.stdin), given.app_dir))
    with os.fdopen(given.answer, "wb") as out:
        out.write(answer)
    return 0 if answer[:1] == b"D" else 1


def _answer_of(make: Callable[[], bytes]) -> bytes:
    try:
        return b"D" + make()
    except Refused as error:
        return b"F" + str(error).encode()
    except (Exception, SystemExit):
        return b"F" + _trace().encode()


def _trace() -> str:
    """As Python prints it, from where the user's code begins."""
    kind, error, frames = sys.exc_info()
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        frames = frames.tb_next
    lines = traceback.format_exception(kind, error, frames)
    return "".join(lines if frames is not None else lines[-1:]).rstrip()


def build(described: dict[str, Any], app_dir: str) -> bytes:
    """The document of the application that the dictionary describes."""
    described = {**described, "runtime_env": _local(described.get("runtime_env") or {})}
    described["deployments"] = [_deployment(d) for d in described.get("deployments") or ()]
    if os.environ.get("MANTA_AS_RAY_SERVE"):
        from manta import as_ray_serve

        as_ray_serve.install()
    _enter(described["runtime_env"], app_dir)
    from manta._private import app_builder, graph, native_instance

    schema = _schema(described)
    app = app_builder.load(schema.import_path, schema.args)
    built = graph.build_app(
        app,
        name=schema.name,
        route_prefix=schema.route_prefix,
        logging_config=schema.logging_config,
        external_scaler_enabled=schema.external_scaler_enabled,
    )
    built = dataclasses.replace(
        built, deployments=app_builder.override(built.deployments, schema)
    )
    built.validate_single_fastapi_ingress()
    built.validate_external_scaler()
    return native_instance.document_of(built)


def _schema(described: dict[str, Any]) -> Any:
    """Checked; its directories stand in the file as URIs and are paths already."""
    import pydantic

    from manta.serve.schema import ServeApplicationSchema

    env, deployments = described["runtime_env"], described["deployments"]
    plain = [_without_env(deployment) for deployment in deployments]
    try:
        schema = ServeApplicationSchema.model_validate(
            {**described, "runtime_env": {}, "deployments": plain}
        )
    except pydantic.ValidationError as error:
        raise Refused("\n".join(map(_sentence, error.errors()))) from None
    schema.runtime_env = env
    for checked, deployment in zip(schema.deployments, deployments, strict=True):
        own = (deployment.get("ray_actor_options") or {}).get("runtime_env")
        if own:
            checked.ray_actor_options.runtime_env = own
    return schema


def _sentence(fact: Any) -> str:
    where = ".".join(str(part) for part in fact["loc"])
    return f"{where}: {fact['msg']}" if where else str(fact["msg"])


def _without_env(deployment: dict[str, Any]) -> dict[str, Any]:
    options = deployment.get("ray_actor_options")
    if not options or "runtime_env" not in options:
        return deployment
    return {**deployment, "ray_actor_options": {**options, "runtime_env": {}}}


def _deployment(described: dict[str, Any]) -> dict[str, Any]:
    options = described.get("ray_actor_options")
    if not options or not options.get("runtime_env"):
        return described
    env = _local(options["runtime_env"])
    return {**described, "ray_actor_options": {**options, "runtime_env": env}}


def _local(env: dict[str, Any]) -> dict[str, Any]:
    """A ``runtime_env`` whose directories are paths of this machine."""
    for key in env:
        if key not in _ENV_KEYS:
            raise Refused(
                f"runtime_env.{key}: this version of Manta does not support it. Install what the "
                f"application needs into its Python environment; {', '.join(_ENV_KEYS)} are known."
            )
    local = dict(env)
    if env.get("working_dir"):
        local["working_dir"] = _path("working_dir", env["working_dir"])
    if env.get("py_modules"):
        local["py_modules"] = [_path("py_modules", uri) for uri in env["py_modules"]]
    return local


def _path(key: str, uri: Any) -> str:
    parts = urlsplit(uri) if isinstance(uri, str) else None
    if parts is None or parts.scheme not in ("local", "file") or parts.netloc:
        raise Refused(
            f"runtime_env.{key}: {uri!r} is not local:///a/path/of/this/machine; other places are "
            "not fetched"
        )
    path = unquote(parts.path)
    if not Path(path).exists():
        raise Refused(f"runtime_env.{key}: there is no {path}")
    return path


def _enter(env: dict[str, Any], app_dir: str) -> None:
    for name, value in (env.get("env_vars") or {}).items():
        os.environ[str(name)] = os.path.expandvars(str(value))
    first: list[str] = [str(Path(module).parent) for module in env.get("py_modules") or ()]
    working: Optional[str] = env.get("working_dir")
    if working:
        os.chdir(working)
        first.append(working)
    sys.path[:] = [*first, os.path.abspath(app_dir), *(p for p in sys.path if p != "")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
