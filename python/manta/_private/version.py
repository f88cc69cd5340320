# SPDX-License-Identifier: Apache-2.0
"""The version of a deployment: a hash of what it is, so that nothing restarts without a change.

Two parts.  The *code* part says whether a replica that runs may stay: the bytes of the modules of
the application, the class itself where it is in no module's file, the constructor's arguments, the
environment and the resources.  The *options* part covers what can be changed in place.

Where something cannot be hashed for sure -- an object that cannot be taken apart, a file that
cannot be read -- the answer is a fresh one, so that the replicas are replaced rather than left with
old code.
"""

from __future__ import annotations

import ast
import copyreg
import enum
import hashlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import types
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manta._private.options import TABLE, Update

if TYPE_CHECKING:
    from manta.serve.deployment import Deployment

_PLACEMENT = (
    "ray_actor_options",
    "placement_group_bundles",
    "placement_group_strategy",
    "placement_group_bundle_label_selector",
    "max_replicas_per_node",
)
_PLAIN = (bool, int, float, complex, str, bytes, bytearray)
_MOST_FILES = 10_000  # of a working directory; more than that is never "unchanged"


@dataclass(frozen=True)
class Version:
    """What must be equal for replicas to stay, and what can be told to them."""

    code: str
    options: str


def of_deployment(deployment: Deployment) -> Version:
    """The version of one deployment of a built application."""
    spec, chosen = deployment._replica_config, deployment._deployment_config
    heavy = {n: getattr(chosen, n) for n, o in TABLE.items() if o.update is Update.HEAVY}
    light = {
        n: getattr(chosen, n)
        for n, o in TABLE.items()
        if o.update is not Update.HEAVY and n in chosen.non_default()
    }
    placement = {name: getattr(spec, name) for name in _PLACEMENT}
    env = (spec.ray_actor_options or {}).get("runtime_env") or {}
    code = _Hash()
    code.add(deployment.name)
    code.add_code(spec.func_or_class)
    code.add((spec.init_args, spec.init_kwargs, placement, heavy))
    code.add(list(of_folders(env)))
    options = _Hash()
    options.add(light)
    return Version(code.text(), options.text())


class _Hash:
    """A hash over values, in a form that is equal in another process."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no id is given twice

    def text(self) -> str:
        return self._hash.hexdigest()[:16]

    def _mark(self, *parts: Any) -> None:
        self._hash.update(("\0".join(str(part) for part in parts) + "\1").encode())

    def add(self, value: Any) -> None:
        """Any value; one that resists makes the hash unlike all others."""
        try:
            self._add(value)
        except Exception:
            self._mark("unsure", uuid.uuid4())

    def _add(self, value: Any) -> None:
        if value is None or isinstance(value, enum.Enum) or type(value) in _PLAIN:
            self._mark(type(value).__name__, repr(value))
            return
        if id(value) in self._seen:
            self._mark("again", self._seen[id(value)])
            return
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        self._add_structure(value)

    def _add_structure(self, value: Any) -> None:
        if isinstance(value, types.ModuleType):
            self._mark("module", value.__name__)
        elif isinstance(value, (type, types.FunctionType)):
            self.add_code(value)
        elif type(value) in (list, tuple):
            self._mark(type(value).__name__, len(value))
            for item in value:
                self._add(item)
        elif type(value) is dict:
            self._mark("dict", len(value))
            for key, item in value.items():
                self._add(key)
                self._add(item)
        elif type(value) in (set, frozenset):
            self._mark("set", sorted(map(_digest_of, value)))
        else:
            self._add_object(value)

    def _add_object(self, value: Any) -> None:
        """By what pickle would need to make it again."""
        self._mark("object", type(value).__module__, type(value).__qualname__)
        registered = copyreg.dispatch_table.get(type(value))
        reduced = value.__reduce_ex__(4) if registered is None else registered(value)
        if isinstance(reduced, str):
            self._mark(reduced)
            return
        make, arguments, *rest = reduced
        self._mark(getattr(make, "__qualname__", repr(make)))
        self._add(arguments)
        for part in rest:
            self._add(part if part is None or not hasattr(part, "__next__") else list(part))

    def add_code(self, code: Any) -> None:
        """A class or function: its modules' files, and itself where no file tells all."""
        if isinstance(code, str):
            self._mark("path", code)
            return
        self._mark("code", code.__module__, code.__qualname__)
        module = sys.modules.get(code.__module__)
        if module is None or not _is_own(_file_of(module)):
            self._mark("foreign", getattr(module, "__version__", ""))
        if module is None or "<locals>" in code.__qualname__ or _file_of(module) is None:
            self._add_by_source(code)
        for name, data in own_files():
            self._mark("file", name, hashlib.sha256(data).hexdigest())

    def _add_by_source(self, code: Any) -> None:
        try:
            self._mark(inspect.getsource(code))
        except (OSError, TypeError):
            self._mark("unsure", uuid.uuid4())
        for function in _functions_of(code):
            self.add(function.__defaults__)
            for cell in function.__closure__ or ():
                self.add(_content_of(cell))


def _digest_of(value: Any) -> str:
    single = _Hash()
    single._add(value)
    return single.text()


def _functions_of(code: Any) -> Iterator[types.FunctionType]:
    members = vars(code).values() if isinstance(code, type) else (code,)
    for member in members:
        plain = getattr(member, "__func__", getattr(member, "fget", member))
        if isinstance(plain, types.FunctionType):
            yield plain


def _content_of(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None  # Not assigned yet.


def _foreign_roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    own_package = str(Path(__file__).resolve().parent.parent)
    return (*{str(Path(paths[name]).resolve()) for name in names}, own_package)


_FOREIGN = _foreign_roots()


@lru_cache(maxsize=65536)
def _is_own(file: Path | None) -> bool:
    """Whether a file belongs to the application, not to an installed package."""
    if file is None:
        return False
    text = str(file)
    return "site-packages" not in file.parts and not text.startswith(_FOREIGN)


def _file_of(module: types.ModuleType) -> Path | None:
    name = getattr(module, "__file__", None)
    return _resolved(name, os.getcwd()) if isinstance(name, str) else None


@lru_cache(maxsize=65536)
def _resolved(name: str, directory: str) -> Path:
    """Where a module's file lies does not change while it is loaded; asking is what takes time."""
    whole = os.path.join(directory, name)
    if os.path.islink(whole):
        return Path(os.path.realpath(whole))
    folder, _, last = whole.rpartition("/")
    return Path(_resolved_folder(folder), last)


@lru_cache(maxsize=65536)
def _resolved_folder(folder: str) -> str:
    return os.path.realpath(folder)


def own_files() -> list[tuple[str, bytes]]:
    """The files of the application: of its loaded modules, and of those they import later."""
    return sorted(_own_by_path().values())


def own_paths() -> list[str]:
    """Where they lie."""
    return sorted(map(str, _own_by_path()))


def _own_by_path() -> dict[Path, tuple[str, bytes]]:
    found: dict[Path, tuple[str, bytes]] = {}
    waiting = [
        (name, file)
        for name, module in list(sys.modules.items())
        if isinstance(module, types.ModuleType)
        for file in (_file_of(module),)
        if file is not None and _is_own(file)
    ]
    while waiting:
        name, file = waiting.pop()
        if file in found or not file.is_file():
            continue
        data = file.read_bytes()
        found[file] = ("__main__" if name == "__mp_main__" else name, data)
        if file.suffix == ".py":
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            names = [_absolute(other, package) for other in _named_by(data)]
            waiting += [(n, f) for n in names for f in _own_file_named(n)]
    return found


@lru_cache(maxsize=4096)
def _named_by(source: bytes) -> frozenset[str]:
    """The modules that a source names in import statements, the standard library's left out."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return frozenset()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            dot = "." if node.module else ""
            names |= {start} | {f"{start}{dot}{alias.name}" for alias in node.names}
    return frozenset(n for n in names if n.split(".")[0] not in sys.stdlib_module_names)


def _absolute(name: str, package: str) -> str:
    """The full name of what a module of the package calls by a relative one."""
    if not name.startswith("."):
        return name
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return ""  # Beyond the top: the import itself will say so.


def _own_file_named(name: str) -> Iterator[Path]:
    if not name or name in sys.modules:
        return  # Seen among the loaded ones.
    loaded = sys.modules.get(name.split(".")[0])
    if loaded is not None and not _is_own(_file_of(loaded)):
        return  # A part of an installed package, or a name that is no module.
    relative = Path(*name.split("."))
    for entry in sys.path:
        base = Path(entry or ".").resolve()
        if not _is_own(base / "x"):
            continue
        for candidate in (base / relative / "__init__.py", (base / relative).with_suffix(".py")):
            if candidate.is_file():
                yield candidate
                return


def of_folders(env: dict[str, Any]) -> Iterator[Any]:
    """Facts of the directories that a runtime_env names."""
    yield from _folder_facts(env.get("working_dir"))
    for module in env.get("py_modules") or ():
        path = module if isinstance(module, str) else _folder_of(module)
        yield from _folder_facts(path)


def _folder_of(module: types.ModuleType) -> str:
    file = Path(str(module.__file__))
    return str(file.parent if file.name == "__init__.py" else file)


def _folder_facts(folder: Any) -> Iterator[tuple[str, int, int]]:
    """What a directory holds, without reading it: names, sizes and times of change."""
    if not isinstance(folder, str):
        return
    root = Path(folder)
    if not root.is_dir():
        yield (folder, 0, 0)
        return
    for count, file in enumerate(sorted(root.rglob("*"))):
        if count >= _MOST_FILES:
            yield (str(uuid.uuid4()), 0, 0)
            return
        if file.is_file() and "__pycache__" not in file.parts:
            facts = file.stat()
            yield (str(file.relative_to(root)), facts.st_size, facts.st_mtime_ns)
