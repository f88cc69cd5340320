# SPDX-License-Identifier: Apache-2.0
"""Writes down what an installed Ray Serve calls things.

    python record_names.py > ray_names.json

``test_ray_serve_names.py`` holds docs/ray-serve-names.md and the package against it, and
``test_environment.py`` the table of environment variables.
"""

import importlib
import inspect
import json
import pathlib
import pkgutil
import re
import sys

MODULES = [
    "serve",
    "serve.autoscaling_policy",
    "serve.batching",
    "serve.config",
    "serve.context",
    "serve.deployment",
    "serve.exceptions",
    "serve.gang",
    "serve.grpc_util",
    "serve.handle",
    "serve.metrics",
    "serve.multiplex",
    "serve.request_router",
    "serve.schema",
    "serve.task_consumer",
    "serve.utils",
]


def names_of(module):
    """What it exports, or the classes and functions that it defines."""
    own = [
        name
        for name, thing in vars(module).items()
        if (inspect.isclass(thing) or inspect.isroutine(thing))
        and thing.__module__ == module.__name__
        and not name.startswith("_")
    ]
    return sorted(getattr(module, "__all__", None) or own)


def parameters(function):
    found = inspect.signature(function).parameters
    return sorted(name for name in found if name not in ("self", "_func_or_class"))


def variables(package):
    """The environment variables that its sources name, without their prefix."""
    sources = (file.read_text() for file in pathlib.Path(package.__file__).parent.rglob("*.py"))
    return sorted({name for text in sources for name in re.findall('"RAY_SERVE_([A-Z0-9_]+)"', text)})


def record():
    serve = importlib.import_module("ray.serve")
    handle = importlib.import_module("ray.serve.handle").DeploymentHandle
    told = {path: names_of(importlib.import_module(f"ray.{path}")) for path in MODULES}
    inner = (module.name for module in pkgutil.iter_modules(serve.__path__))
    told["modules"] = sorted(name for name in inner if not name.startswith("_"))
    told["deployment options"] = parameters(serve.deployment)
    told["handle options"] = parameters(handle.options)
    told["handle methods"] = sorted(name for name in dir(handle) if not name.startswith("_"))
    told["HTTPOptions"] = sorted(serve.HTTPOptions.model_fields)
    told["environment"] = variables(serve)
    return told


if __name__ == "__main__":
    json.dump(record(), sys.stdout, indent=1)
    print()
