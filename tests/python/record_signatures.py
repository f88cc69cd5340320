# SPDX-License-Identifier: Apache-2.0
"""Writes down the public signatures of an installed Ray Serve.

    python record_signatures.py > ray_signatures.json

``test_signatures.py`` compares Manta with what is written there.  A signature is the list of its
parameters: name, kind, and the default as text; annotations are not part of it.
"""

import enum
import importlib
import inspect
import json
import sys

MODULES = [
    "serve",
    "serve.config",
    "serve.schema",
    "serve.handle",
    "serve.exceptions",
    "serve.context",
    "serve.batching",
    "serve.multiplex",
    "serve.metrics",
    "serve.grpc_util",
    "serve.autoscaling_policy",
    "serve.deployment",
    "serve.gang",
    "serve.utils",
]


def parameters(function):
    """The parameters of a function, or None when nothing can be told."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, p.kind.name, default_text(p.default)] for p in found]


def default_text(default):
    if default is inspect.Parameter.empty:
        return None
    if type(default).__name__ == "DEFAULT":
        return "DEFAULT"
    if type(default).__name__ == "FieldInfo":  # Ray writes pydantic's Field in a dataclass.
        default = default.default
    text = repr(default)
    return "..." if " at 0x" in text or "<factory>" in text else text


def of_class(kind):
    """A class: its constructor and the public methods and properties that it defines itself."""
    members = {}
    for name, member in inspect.getmembers(kind):
        if name.startswith("_") or not defined_in(kind, name) or name in validators(kind):
            continue
        if isinstance(member, property):
            members[name] = "property"
        elif inspect.isroutine(member):
            members[name] = parameters(member)
    if issubclass(kind, enum.Enum):
        return {"values": [member.value for member in kind], "members": members}
    fields = sorted(getattr(kind, "model_fields", {}))
    new = None if fields else parameters(kind)
    return {"new": new, "members": members, "fields": fields}


def validators(kind):
    """The methods that pydantic calls; their names are nobody's business."""
    found = getattr(kind, "__pydantic_decorators__", None)
    if found is None:
        return ()
    return {*found.field_validators, *found.model_validators, *found.root_validators}


def defined_in(kind, name):
    owner = next((base for base in kind.__mro__ if name in vars(base)), object)
    return is_ours(owner) and "serialized" not in name  # the pickles are Ray's own affair


def is_ours(thing):
    return str(getattr(thing, "__module__", "")).startswith(("ray.serve.", "manta."))


def of_module(root, path):
    module = importlib.import_module(f"{root}.{path}")
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    told = {}
    for name in names:
        thing = getattr(module, name)
        if not is_ours(thing):
            continue
        if inspect.isclass(thing):
            told[name] = of_class(thing)
        elif inspect.isroutine(thing):
            told[name] = parameters(thing)
    return told


def record(root):
    return {path: of_module(root, path) for path in MODULES}


def write(told, out):
    """One line for each name, so that a change can be read."""
    modules = []
    for module, names in told.items():
        lines = [f"  {json.dumps(n)}: {json.dumps(t, sort_keys=True)}" for n, t in names.items()]
        modules.append(f" {json.dumps(module)}: {{\n" + ",\n".join(sorted(lines)) + "\n }")
    out.write("{\n" + ",\n".join(modules) + "\n}\n")


if __name__ == "__main__":
    write(record("ray"), sys.stdout)
