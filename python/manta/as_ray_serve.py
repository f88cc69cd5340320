# SPDX-License-Identifier: Apache-2.0
"""Runs programs that are written for Ray Serve, unchanged.

::

    python -m manta.as_ray_serve program.py [arguments]
    python -m manta.as_ray_serve -m module [arguments]

In such a program, and in its replicas, ``ray.serve`` is ``manta.serve``; Ray need not be installed.
A notebook or a test does the same with ``manta.as_ray_serve.install()`` before its first
``import ray``.
"""

from __future__ import annotations

import builtins
import os
import runpy
import sys
from types import ModuleType

from manta._private.ray_names import install, is_installed

__all__ = ["install", "is_installed", "main"]

_USAGE = """usage: python -m manta.as_ray_serve PROGRAM.py [arguments]
       python -m manta.as_ray_serve -m MODULE [arguments]

Runs a program that is written for Ray Serve: in it, ray.serve is manta.serve."""


def _run_file(path: str) -> None:
    """As ``python path`` does: the program is ``__main__`` and stays it."""
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"manta: {path} cannot be read: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    module = ModuleType("__main__")
    module.__file__ = os.path.abspath(path)
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)


def main(words: list[str]) -> int:
    """The whole command; the exit status, unless the program says another."""
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE, file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    module = words[0] == "-m"
    if module and len(words) == 1:
        print("manta: -m wants the name of a module", file=sys.stderr)
        return 2
    install()
    if module:
        sys.argv = words[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0].startswith("-"):
        print(f"manta: unknown option '{words[0]}'\n{_USAGE}", file=sys.stderr)
        return 2
    else:
        sys.argv = list(words)
        _run_file(words[0])
    return 0


if __name__ == "__main__":
    # As the module of its own name, so that what it holds is there once.
    from manta import as_ray_serve

    sys.exit(as_ray_serve.main(sys.argv[1:]))
