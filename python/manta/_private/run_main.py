# SPDX-License-Identifier: Apache-2.0
"""``manta run module:application``: the part of the command that is Python's.

The command of the C side becomes this one when its target is a module; options, lines and exit
statuses are the same.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import Any, Optional

from manta._private import app_builder, import_path, instance, log
from manta.serve import api
from manta.serve.exceptions import RayServeException


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
    parser.add_argument("target")
    parser.add_argument("arguments", nargs="*")
    return parser


def _say(text: str) -> None:
    print(f"manta: {text}", file=sys.stderr, flush=True)


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


def _load(given: argparse.Namespace) -> Any:
    if given.as_ray_serve:
        from manta import as_ray_serve

        as_ray_serve.install()
    sys.path.insert(0, os.path.abspath(given.app_dir))
    arguments = {}
    for word in given.arguments:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"'{word}' is not key=value")
        arguments[key] = value
    return app_builder.make(import_path.load(given.target), arguments)


def _join(given: argparse.Namespace) -> tuple[Any, bool]:
    """The instance, and whether it ran before."""
    found = instance.join()
    if found is not None:
        return found, True
    if not given.blocking:
        raise RayServeException(
            "--non-blocking needs a running instance: a private one would end with this command"
        )
    return instance.join(start=True, options=_options(given)), False


def _await_signal(ended: threading.Event) -> None:
    """Until the first SIGINT or SIGTERM; a second one ends the process at once."""

    def note(number: int, frame: Optional[Any]) -> None:
        signal.signal(number, signal.SIG_DFL)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    while not ended.wait(3600):
        pass


def _stay(found: Any, joined: bool, name: str) -> None:
    _await_signal(threading.Event())
    _say("ending; once more to end at once")
    if joined:
        found.delete([name], wait=True)
    else:
        found.shutdown()


def main(words: list[str]) -> int:
    """The whole command; the exit status."""
    given = _parser().parse_args(words)
    prefix = given.route_prefix or None
    log.show_as_command()
    try:
        app = _load(given)
        found, joined = _join(given)
        api._run(app, name=given.name, route_prefix=prefix)
    except KeyboardInterrupt:
        _say("interrupted before the application was running")
        return 1
    except Exception as error:
        _tell(error)
        return 1
    port = found.http_port
    if port > 0 and prefix:
        _say(f"application '{given.name}' is running at http://{given.host}:{port}{prefix}")
    else:
        _say(f"application '{given.name}' is running, not reachable over HTTP")
    if given.blocking:
        _stay(found, joined, given.name)
    return 0


def _tell(error: Exception) -> None:
    """One line for what we refuse; the trace where the user's module is at fault."""
    if isinstance(error, (RayServeException, RuntimeError, ValueError, TypeError)):
        _say(str(error))
        return
    import traceback

    traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
