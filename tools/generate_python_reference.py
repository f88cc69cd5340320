#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the pages about the Python package from the package itself.

    generate_python_reference.py            writes the pages that differ
    generate_python_reference.py --check    writes nothing; exit status 1 when a page is out of date

docs/reference/python.md is made of signatures and docstrings, docs/reference/environment.md of the table of
environment variables, docs/ray-serve-names.md of Ray Serve's names (tests/python/ray_names.json) and of what
ray_serve_names.py says of them.  The interpreter needs what the package needs.
"""

import argparse
import enum
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tools")]
import ray_serve_names  # noqa: E402
from generate_reference import table  # noqa: E402

MODULES = [
    ("manta.serve", "What applications are made of, and what runs them"),
    ("manta.serve.handle", "Calls to deployments"),
    ("manta.serve.config", "Options"),
    ("manta.serve.exceptions", "Errors of serving"),
    ("manta.exceptions", "Errors of the run time"),
    ("manta.serve.context", "Where code runs"),
    ("manta.serve.schema", "Status, details and configuration files"),
    ("manta.serve.metrics", "Metrics of user code"),
    ("manta.serve.autoscaling_policy", "Decisions about the number of replicas"),
    ("manta.serve.grpc_util", "gRPC's words"),
    ("manta.as_ray_serve", "Programs written for Ray Serve"),
]
MARK = (
    "<!-- Written by tools/generate_python_reference.py from {}. Change that, then run ./dev docs. -->"
)


def page(title, source, *parts):
    return "\n".join([f"# {title}", "", MARK.format(source), "", *parts]).rstrip("\n") + "\n"


# ---- docs/reference/python.md


def prose(thing):
    """The docstring as Markdown; "Args:" and the like become lists."""
    lines = own_words(thing).replace("``", "`").split("\n")
    out, in_list = [], False
    for line in lines:
        if re.fullmatch(r"(Args|Returns|Raises|Yields):", line):
            in_list = line.startswith("Args")
            out += [f"**{line}**" if in_list else f"**{line[:-1]}:**", ""]
        elif in_list and re.match(r"    \S", line):
            name, colon, text = line.strip().partition(":")
            out.append(f"- `{name}`:{text}" if colon else f"- {line.strip()}")
        elif in_list and re.match(r"        \S", line):
            out[-1] += f" {line.strip()}"
        else:
            in_list = in_list and line.startswith(" ")
            out.append(line.strip() if line.startswith("    ") and not in_list else line)
    return "\n".join(out).rstrip()


def own_words(thing):
    """The docstring; not that of a base class of Python's."""
    if inspect.isclass(thing) and not vars(thing).get("__doc__"):
        return ""
    return inspect.getdoc(thing) or ""


def text_of(value):
    if type(value).__name__ == "DEFAULT":
        return "DEFAULT"
    if isinstance(value, enum.Enum):
        value = value.value
    text = repr(value)
    return "..." if " at 0x" in text else text


def signature(name, function):
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return f"{name}(...)"
    words, star, before_slash = [], False, False
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if before_slash and parameter.kind is not parameter.POSITIONAL_ONLY:
            words.append("/")
        before_slash = parameter.kind is parameter.POSITIONAL_ONLY
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        sign = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        star = star or sign == "*"
        default = "" if parameter.default is parameter.empty else f"={text_of(parameter.default)}"
        words.append(f"{sign}{parameter.name}{default}")
    whole = f"{name}({', '.join(words)})"
    if len(whole) > 96:
        whole = f"{name}(\n    " + ",\n    ".join(words) + ",\n)"
    return whole


def own(kind):
    """The methods and properties that a reader of the class's page wants."""
    for name, member in vars(kind).items():
        if name.startswith("_") or name in validators(kind):
            continue
        plain = getattr(member, "__func__", member)
        if isinstance(member, property):
            yield name, member
        elif inspect.isfunction(plain) and plain.__module__.startswith("manta."):
            yield name, member


def validators(kind):
    found = getattr(kind, "__pydantic_decorators__", None)
    return {*found.field_validators, *found.model_validators} if found is not None else ()


def fields(kind):
    rows = []
    for name, field in getattr(kind, "model_fields", {}).items():
        default = "required" if field.is_required() else f"`{text_of(field.get_default(call_default_factory=True))}`"
        rows.append((f"`{name}`", default))
    return rows


def class_parts(name, kind):
    parts = [f"### `{name}`", ""]
    if issubclass(kind, enum.Enum):
        parts += [prose(kind), "", "Values: " + ", ".join(f"`{member.value}`" for member in kind) + ".", ""]
        return parts
    if not hasattr(kind, "model_fields") and "__init__" in vars(kind):
        parts += ["```python", signature(name, kind), "```", ""]
    if "Args:" not in (kind.__doc__ or "") and kind.__doc__ and not kind.__doc__.startswith(f"{name}("):
        parts += [prose(kind), ""]
    rows = fields(kind)
    if rows:
        parts += [table(("field", "default"), rows)]
    for member_name, member in own(kind):
        plain = getattr(member, "__func__", member)
        title = f"`{name}.{member_name}`" if isinstance(member, property) else f"`{name}.{signature(member_name, plain)}`"
        text = prose(member.fget if isinstance(member, property) else plain)
        first, _, rest = text.partition("\n")
        parts += [f"- {title}" + (f": {first}" if first else "")]
        parts += [f"  {line}".rstrip() for line in rest.split("\n") if line.strip()] if rest.strip() else []
    return [*parts, ""]


def function_parts(name, function):
    return [f"### `{name}`", "", "```python", signature(name, function), "```", "", prose(function), ""]


def python_page():
    parts = [
        "The interface is Ray Serve's: [what is the same and what is not](../ray-serve-names.md). Names that begin with an",
        "underscore are there because programs use them.",
        "",
    ]
    for path, title in MODULES:
        module = importlib.import_module(path)
        parts += [f"## {title}: `{path}`", "", prose(module), ""]
        for name in module.__all__:
            thing = getattr(module, name)
            if path != "manta.serve" and name in importlib.import_module("manta.serve").__all__:
                parts += [f"### `{name}`", "", f"Also `manta.serve.{name}`, above.", ""]
                continue
            if inspect.isclass(thing):
                parts += class_parts(name, thing)
            elif inspect.isroutine(thing):
                parts += function_parts(name, thing)
    return page("The Python package", "the package's docstrings", *parts)


# ---- docs/reference/environment.md


def environment_page():
    from manta._private import environment

    honoured = [
        (
            f"`RAY_SERVE_{name}`<br>`MANTA_SERVE_{name}`",
            f"`{row.default}`" if row.default else "",
            row.meaning + (f" (turns `{row.setting}`)" if row.setting else ""),
        )
        for name, row in sorted(environment.HONOURED.items())
    ]
    refused = [(f"`RAY_SERVE_{name}`", why) for name, why in sorted(environment.REFUSED.items())]
    others = [(f"`RAY_SERVE_{name}`", why) for name, why in sorted(environment.NOT_APPLICABLE.items())]
    return page(
        "Environment variables of the Python package",
        "python/manta/_private/environment.py",
        "They are read once, when a process starts; `MANTA_SERVE_...` goes over `RAY_SERVE_...`. Those that turn a setting",
        "count for an instance that the program starts. All settings of an instance, and their variables, are in",
        "[settings.md](settings.md).",
        "",
        "## Honoured",
        "",
        table(("variable", "default", "meaning"), honoured),
        "## Refused",
        "",
        "A program that has one of these set is told so when it starts an instance.",
        "",
        table(("variable", "why"), refused),
        "## Without an effect",
        "",
        "Ray Serve's other variables, and why there is nothing here that they could turn.",
        "",
        table(("variable", "why"), others),
    )


# ---- docs/ray-serve-names.md


def verdict(key):
    kind, words = ray_serve_names.DIFFERENCES.get(key, ("same", ""))
    return f"**{kind}**" if kind != "same" else kind, words


def module_rows(path, names):
    from manta._private import absent

    module = path.partition(".")[2]
    for name in names:
        if module in absent.SERVE_MODULES:
            yield f"`{name}`", "**refused**", absent.SERVE_MODULES[module]
        else:
            yield (f"`{name}`", *verdict(f"{path}.{name}"))


def option_rows(what, names):
    return [(f"`{name}`", *verdict(f"{what}: {name}")) for name in names]


def names_page():
    from manta._private import absent

    ray = json.loads((ROOT / "tests/python/ray_names.json").read_text())
    heads = ("name", "", "what is different")
    parts = [
        "Every public name of `ray.serve` 2.60, and what it is in Manta: the *same*; *better*; *partly* acted upon, and what not;",
        "or *refused* with an error that says what to do instead. A test holds this page against the package.",
        "",
    ]
    for path, names in ray.items():
        if path.startswith("serve") and names:
            parts += [f"## `ray.{path}`", "", table(heads, module_rows(path, names))]
    parts += ["## Options of `@serve.deployment` and `options()`", ""]
    parts += [table(heads, option_rows("deployment option", ray["deployment options"]))]
    parts += ["## Options and methods of a handle", ""]
    parts += [table(heads, option_rows("handle option", ray["handle options"]))]
    parts += [table(heads, option_rows("handle method", ray["handle methods"]))]
    parts += ["## Fields of `HTTPOptions`", "", table(heads, option_rows("HTTPOptions", ray["HTTPOptions"]))]
    refused = sorted(absent.SERVE_MODULES.items())
    parts += ["## Modules that are refused", "", "Importing one is an error that says this.", ""]
    parts += [table(("module", "what to do instead"), [(f"`ray.serve.{n}`", why) for n, why in refused])]
    parts += ["Environment variables have [a page of their own](reference/environment.md)."]
    return page("Ray Serve's names", "tools/ray_serve_names.py", *parts)


PAGES = {
    "docs/reference/python.md": python_page,
    "docs/reference/environment.md": environment_page,
    "docs/ray-serve-names.md": names_page,
}


def main():
    parser = argparse.ArgumentParser(description="Writes the pages about the Python package.")
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = 0
    for name, make in PAGES.items():
        path, text = ROOT / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale += 1
        print(f"{name} is out of date" if check else name)
        if not check:
            path.write_text(text)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
