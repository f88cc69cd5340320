# SPDX-License-Identifier: Apache-2.0
"""A deployment's code and arguments on their way to a replica process.

Code that can be imported is imported there: the parcel names the module and the variable in which
the class, its deployment or its application stands.  Nothing of it is pickled, so that it may hold
what cannot be.  Only what lives in a function's body or in ``__main__`` is sent by value; and where
that fails, a script is run again under another name, as ``multiprocessing`` does (the script's
``if __name__ == "__main__"`` keeps it from deploying a second time).

The constructor's arguments are always sent by value; handles among them travel as names.
"""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manta._private import pickling
from manta._private.user_code import is_asgi

if TYPE_CHECKING:
    from manta.serve.deployment import Deployment

_AGAIN = "__mp_main__"


@dataclass(frozen=True)
class Program:
    """What a replica runs."""

    func_or_class: Any
    init_args: tuple[Any, ...]
    init_kwargs: dict[str, Any]


def pack(deployment: Deployment) -> bytes:
    """Everything that a replica needs to construct the deployment's object."""
    spec = deployment._replica_config
    arguments = pickling.dumps_or_tell(
        (spec.init_args, spec.init_kwargs), "Could not serialize the deployment init args"
    )
    paths = [str(Path(entry or ".").resolve()) for entry in sys.path]
    return pickle.dumps((paths, *_pack_code(spec.func_or_class), arguments))


def unpack(data: bytes) -> Program:
    """The other side; imports the application's modules."""
    paths, how, code, arguments = pickle.loads(data)
    sys.path += [path for path in paths if path not in sys.path]
    func_or_class = _LOADERS[how](code)
    args, kwargs = pickling.loads(arguments)
    return Program(func_or_class, args, kwargs)


def _pack_code(code: Any) -> tuple[str, Any]:
    if isinstance(code, str):
        return "import", code
    found = where_it_stands(code)
    if found is not None:
        return "import", found
    try:
        return "value", pickling.dumps_or_tell(code, f"Could not serialize the deployment {code!r}")
    except TypeError:
        script = _script_variable(code)
        if script is None:
            raise
        return "script", script


def where_it_stands(code: Any) -> str | None:
    """``module:variable`` for code that an import finds again, whatever it is wrapped in there."""
    own = sys.modules.get(code.__module__)
    others = [m for m in list(sys.modules.values()) if m is not own]
    for module in (own, *others):
        name = _variable_of(module, code)
        if name is not None and isinstance(module, types.ModuleType):
            return f"{module.__name__}:{name}"
    return None


def _variable_of(module: Any, code: Any) -> str | None:
    if not isinstance(module, types.ModuleType) or module.__name__ in ("__main__", _AGAIN):
        return None
    if not is_asgi(code) and code.__module__ != module.__name__:
        return None  # Only classes made by ``ingress`` may stand elsewhere than they say.
    for name, value in list(vars(module).items()):
        if any(part is code for part in _inside(value)):
            return name
    return None


def _inside(value: Any) -> Iterator[Any]:
    """The value, and the class that it wraps if it is a deployment or an application."""
    from manta.serve.deployment import Application, Deployment

    yield value
    if isinstance(value, Application):
        value = value._bound_deployment
    if isinstance(value, Deployment):
        yield value.func_or_class


def _script_variable(code: Any) -> tuple[str, str] | None:
    """The script and the variable of what stands in ``__main__``."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if main is None or file is None:
        return None
    for name, value in list(vars(main).items()):
        if any(part is code for part in _inside(value)):
            return str(Path(file).resolve()), name
    return None


def _load_import(path: str) -> Any:
    from manta._private import import_path

    return list(_inside(import_path.load(path)))[-1]


def _load_script(place: tuple[str, str]) -> Any:
    """Run the script once per process, under a name that is not ``__main__``."""
    import runpy

    file, name = place
    module = sys.modules.get(_AGAIN)
    if module is None or getattr(module, "__file__", None) != file:
        module = types.ModuleType(_AGAIN)
        module.__dict__.update(runpy.run_path(file, run_name=_AGAIN))
        sys.modules[_AGAIN] = module
    return list(_inside(vars(module)[name]))[-1]


_LOADERS: dict[str, Callable[[Any], Any]] = {
    "import": _load_import,
    "value": pickling.loads,
    "script": _load_script,
}
