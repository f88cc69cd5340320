# SPDX-License-Identifier: Apache-2.0
"""Where a replica's process lives: module search path, directory, environment, and its zygote.

A deployment's ``runtime_env`` adds to what its driver has.  ``working_dir`` and ``py_modules`` are
directories of this machine, used where they are; a replica starts in the one and imports from the
others.  Replicas whose surroundings are equal can come from one warm interpreter (a zygote), which
is told apart by a key: a hash over everything that may make two of them differ, the application's
own files included, so that changed code is never served by an interpreter that imported the old.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickletools
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from manta._private import native_code, ray_names, version
from manta.serve.deployment import Deployment

if TYPE_CHECKING:
    from manta._private.graph import BuiltApplication

_THREADS = "OMP_NUM_THREADS"  # OpenBLAS and MKL go by it, too.


def of(deployment: Deployment) -> dict[str, Any]:
    """What a replica of this deployment enters.

    Raises ValueError for a directory that is not there, or is somewhere else than on this machine.
    """
    options = deployment.ray_actor_options or {}
    env = options.get("runtime_env") or {}
    directory, first = os.getcwd(), []
    if env.get("working_dir"):
        directory = _local("working_dir", env["working_dir"], deployment.name)
        if not os.path.isdir(directory):
            raise ValueError(_refused("working_dir", directory, deployment.name, "no directory"))
        first = [directory]
    first += _module_folders(env.get("py_modules") or (), deployment.name)
    return {
        "path": first + [entry for entry in search_path() if entry not in first],
        "directory": os.path.abspath(directory),
        "environment": dict(env.get("env_vars") or {}),
        "environment_defaults": {_THREADS: str(max(1, int(options.get("num_cpus") or 1)))},
        "as_ray_serve": ray_names.is_installed(),
    }


def search_path() -> list[str]:
    """Where this process looks for modules."""
    return [os.path.abspath(entry) for entry in sys.path]


def _local(part: str, path: str, deployment: str) -> str:
    if "://" in path:
        raise ValueError(
            _refused(part, path, deployment, "not on this machine: only local directories are used")
        )
    path = os.path.abspath(os.path.expanduser(path))
    if not os.path.exists(path):
        raise ValueError(_refused(part, path, deployment, "not there"))
    return path


def _refused(part: str, path: str, deployment: str, why: str) -> str:
    return f"Deployment '{deployment}': runtime_env['{part}'] names '{path}', which is {why}."


def _module_folders(modules: Iterable[Any], deployment: str) -> list[str]:
    """Where each of ``py_modules`` is found: beside a package's folder, or a module's file."""
    found: list[str] = []
    for module in modules:
        if not isinstance(module, str):
            module = (list(getattr(module, "__path__", ())) or [module.__file__])[0]
        path = _local("py_modules", module, deployment)
        if not os.path.isdir(path) and not path.endswith(".py"):
            raise ValueError(
                _refused("py_modules", path, deployment, "neither a package's directory nor a .py")
            )
        folder = os.path.dirname(path)
        if folder not in found:
            found.append(folder)
    return found


def enter(wanted: dict[str, Any]) -> None:
    """In a replica, before anything of the user's is imported."""
    if wanted.get("as_ray_serve"):
        ray_names.install()
    for name, value in (wanted.get("environment") or {}).items():
        os.environ[name] = os.path.expandvars(value)
    path = wanted.get("path") or []
    sys.path[:] = path + [entry for entry in sys.path if entry and entry not in path]
    directory = wanted.get("directory")
    if directory and os.path.isdir(directory):
        os.chdir(directory)


# ---- the zygote


def zygote(entered: dict[str, Any], codes: Iterable[bytes], facts: Any) -> dict[str, str]:
    """What the node needs to find or start the warm interpreter for these surroundings.

    Args:
        entered: What ``of`` gave.
        codes: The packed code of all deployments of the application.
        facts: Of directories that the deployment names: anything that JSON takes.
    """
    needed, named = modules_of(codes)
    load = json.dumps({**entered, "modules": needed, "perhaps": named}, sort_keys=True)
    return {"key": _key(load, facts), "load": load}


def keys_of(app: BuiltApplication) -> Iterator[tuple[dict[str, Any], str]]:
    """For each deployment what its replicas enter, and the key of their zygote."""
    codes = [native_code.pack(deployment) for deployment in app.deployments]
    for deployment in app.deployments:
        entered = of(deployment)
        yield entered, zygote(entered, codes, folders_of(deployment))["key"]


def folders_of(deployment: Deployment) -> list[Any]:
    """Facts of the directories that its runtime_env names."""
    env = (deployment.ray_actor_options or {}).get("runtime_env") or {}
    return list(version.of_folders(env))


def _key(load: str, facts: Any) -> str:
    made = hashlib.sha256()
    for text in (sys.executable, sys.version, load, json.dumps(facts)):
        made.update(text.encode() + b"\0")
    for name, content in version.own_files():
        made.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return made.hexdigest()[:32]


def modules_of(codes: Iterable[bytes]) -> tuple[list[str], list[str]]:
    """Modules that replicas import for sure, and those that pickles speak of."""
    import pickle

    needed: set[str] = set()
    named: set[str] = set()
    for data in codes:
        code = pickle.loads(data)
        if code.module:
            needed.add(code.module)
        for pickled in (code.pickled, code.arguments):
            named |= _named(pickled) if pickled else set()
    return sorted(needed), sorted(named - needed)


def _named(pickled: bytes) -> set[str]:
    """A pickle names modules by texts; one that this process has loaded is worth an attempt."""
    texts = {
        text.partition(" ")[0]
        for _opcode, text, _place in pickletools.genops(pickled)
        if isinstance(text, str) and len(text) < 200
    }
    return {
        text
        for text in texts
        if text in sys.modules and not text.startswith("manta.") and not text.startswith("__")
    }
