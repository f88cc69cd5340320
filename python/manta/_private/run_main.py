# SPDX-License-Identifier: Apache-2.0
"""``manta run module:application``: the part of the command that is Python's.

The command of the C side becomes this one when its target is a module; options, lines and exit
statuses are the same.

The application is imported first, before there are threads and before anything runs: a module that
fails leaves nothing behind, and the process that has imported it can be copied (``launch``).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, NoReturn, Optional

from manta._private import app_builder, import_path, instance, log
from manta.serve import api
from manta.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from manta._private.graph import BuiltApplication
    from manta._private.reload import Watch

_FAILED = 1
_MISUSED = 2
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="manta run", allow_abbrev=False)
    parser.add_argument("--name", default="default")
    parser.add_argument("--route-prefix", default="/")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--proxies", type=int, default=0)
    parser.add_argument("--request-timeout-s", type=float, default=0.0)
    parser.add_argument("--log-level", default="INFO")
    parser.add_argument("--log-dir", default=None)
    parser.add_argument("--log-to-stderr", action="store_true")
    parser.add_argument("--blocking", dest="blocking", action="store_true", default=True)
    parser.add_argument("--non-blocking", dest="blocking", action="store_false")
    parser.add_argument("--app-dir", default=".")
    parser.add_argument("--as-ray-serve", action="store_true")
    parser.add_argument("--reload", action="store_true")
    parser.add_argument("--build-only", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("target")
    parser.add_argument("arguments", nargs="*")
    return parser


def _say(text: str) -> None:
    print(f"manta: {text}", file=sys.stderr, flush=True)


# ---- the application


class Mistake(Exception):
    """What the user of the command did wrong, in words; no trace helps."""


def _arguments(words: list[str]) -> dict[str, str]:
    arguments = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise Mistake(f"'{word}' is not key=value")
        arguments[key] = value
    return arguments


def _import(target: str, folder: str) -> Any:
    """What the target names.  An error inside the user's module passes with its trace."""
    module, name = import_path.split(import_path.ours(target))
    try:
        return import_path.load(target)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise  # One that the user's module imports.
        raise Mistake(
            f"there is no module '{error.name}' in {os.path.abspath(folder)} or on the search path"
        ) from None
    except AttributeError:
        loaded = sys.modules.get(module)
        if loaded is None or hasattr(loaded, name):
            raise
        raise Mistake(
            f"module '{module}' ({getattr(loaded, '__file__', 'built in')}) has no '{name}'; "
            f"its applications and builders: {_names_in(loaded) or 'none'}"
        ) from None


def _names_in(module: Any) -> str:
    from manta.serve.deployment import Application

    found = [name for name, thing in vars(module).items() if isinstance(thing, Application)]
    return ", ".join(sorted(found))


def _build(given: argparse.Namespace) -> BuiltApplication:
    if given.as_ray_serve:
        from manta import as_ray_serve

        as_ray_serve.install()
    arguments = _arguments(given.arguments)
    if not os.path.isdir(given.app_dir):
        raise Mistake(f"--app-dir: there is no directory '{given.app_dir}'")
    sys.path.insert(0, os.path.abspath(given.app_dir))
    found = _import(given.target, given.app_dir)
    try:
        app = app_builder.make(found, arguments)
    except (TypeError, ValueError) as error:
        if not _is_ours(error):
            raise  # The builder's own, with its trace.
        raise Mistake(f"'{given.target}': {error}") from None
    return api._build(
        api.RunTarget(app, name=given.name, route_prefix=given.route_prefix or None)
    )


def _is_ours(error: BaseException) -> bool:
    """Whether it was raised by this package, or by the model that checks a builder's arguments."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return last.startswith(_OURS) or type(error).__module__.startswith("pydantic")


# ---- the instance


def _options(given: argparse.Namespace) -> dict[str, Any]:
    if given.log_to_stderr:
        os.environ["MANTA_LOG_TO_STDERR"] = "1"
    return {
        "http_options": {
            "host": given.host,
            "port": given.port,
            "request_timeout_s": given.request_timeout_s or None,
        },
        "logging_config": {"log_level": given.log_level, "logs_dir": given.log_dir},
        "proxies": given.proxies,
    }


def _join(given: argparse.Namespace, app: BuiltApplication, ready: Any) -> tuple[Any, bool]:
    """The instance, and whether it ran before."""
    found = instance.join()
    if found is not None:
        return found, True
    if not given.blocking:
        raise Mistake(
            "--non-blocking needs a running instance: a private one would end with this command"
        )
    options = {**_options(given), "launch": ready.launch(app)}
    return instance.join(start=True, options=options), False


# ---- staying


class End:
    """The first SIGINT or SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self._came = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Optional[Any]) -> None:
        signal.signal(number, signal.SIG_DFL)
        self._came.set()

    def wait(self, seconds: float) -> bool:
        return self._came.wait(seconds)


def _stay(
    given: argparse.Namespace, words: list[str], found: Any, joined: bool, files: Optional[Watch]
) -> None:
    end = End()
    if files is not None:
        _reload(given, words, found, end, files)
    while not end.wait(3600):
        pass
    _say("ending; once more to end at once")
    if joined:
        found.delete([given.name], wait=True)
    else:
        found.shutdown()


def _reload(
    given: argparse.Namespace, words: list[str], found: Any, end: End, files: Watch
) -> None:
    from manta._private import reload

    def again(changed: list[str]) -> None:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        _say(f"{changed[0]}{more} changed: loading the application again")
        made = reload.build(words, end.wait)
        if made is None:
            if not end.wait(0):
                _say("it does not load; what ran before serves on")
            return
        files.see(made[0])
        try:
            found.apply_document(given.name, given.route_prefix or None, made[1])
        except (RuntimeError, RayServeException) as error:
            _say(f"{error}; what ran before serves on")
        else:
            _say(f"application '{given.name}' is running as it stands now")

    reload.watch(files, end.wait, again)


def _watch(given: argparse.Namespace) -> Optional[Watch]:
    """The files as they are when they are imported: what changes from here on is seen."""
    if not given.reload:
        return None
    from manta._private import reload

    return reload.Watch(given.app_dir, ())


# ---- the command


def _run(given: argparse.Namespace, words: list[str]) -> int:
    from manta._private import launch, version

    ready = launch.Preparation()
    files = _watch(given)
    app = _build(given)
    gc.freeze()  # Modules are no garbage: nobody shall look through them again while all wait.
    if given.build_only >= 0:
        return _send(given, app)
    if files is not None:
        files.see(version.own_paths())
    found, joined = _join(given, app, ready)
    found.deploy([app], wait_ingress=True, wait_running=True)
    port, prefix = found.http_port, given.route_prefix
    if port > 0 and prefix:
        _say(f"application '{given.name}' is running at http://{given.host}:{port}{prefix}")
    else:
        _say(f"application '{given.name}' is running, not reachable over HTTP")
    if given.blocking:
        _stay(given, words, found, joined, files)
    return 0


def _send(given: argparse.Namespace, app: BuiltApplication) -> int:
    from manta._private import native_instance, reload, version

    reload.send(given.build_only, version.own_paths(), native_instance.document_of(app))
    return 0


def main(words: list[str]) -> int:
    """The whole command; the exit status."""
    given = _parser().parse_args(words)
    log.show_as_command()
    if given.reload and not given.blocking:
        _say("--reload stays and watches: it does not go with --non-blocking")
        return _MISUSED
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))  # The command has held it.
        return _run(given, words)
    except KeyboardInterrupt:
        _say("interrupted before the application was running")
    except Mistake as error:
        _say(str(error))
    except (Exception, SystemExit) as error:
        _tell(given.target, error)
    return _FAILED


def _tell(target: str, error: BaseException) -> None:
    """What we or the instance refuse in one line; of the user's own code the trace."""
    if isinstance(error, RayServeException) or _is_refusal(error):
        _say(str(error))
        return
    if _is_ours(error) and isinstance(error, (ValueError, TypeError, RuntimeError)):
        _say(str(error))
        return
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_machinery(frame.filename)]
    shown = traceback.format_list(theirs) + traceback.format_exception_only(type(error), error)
    print("Traceback (most recent call last):", file=sys.stderr)
    print("".join(shown).rstrip(), file=sys.stderr)
    where = f" at {theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else ""
    _say(f"'{target}' could not be loaded: {type(error).__name__}{where}")


def _is_refusal(error: BaseException) -> bool:
    """What the instance said to a deploy."""
    return isinstance(error, RuntimeError) and hasattr(error, "code")


def _is_machinery(file: str) -> bool:
    return file.startswith((_OURS, "<frozen importlib", importlib.__file__))


def _end(status: int) -> NoReturn:
    """As sys.exit; signals that come while the process ends do not spoil its last words."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


if __name__ == "__main__":
    try:
        _status = main(sys.argv[1:])
    except KeyboardInterrupt:
        _say("interrupted")
        _status = _FAILED
    _end(_status)
