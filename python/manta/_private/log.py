# SPDX-License-Identifier: Apache-2.0
"""The package's logger: one under two names, and where its lines go.

``ray.serve`` is the name that programs for Ray Serve log to; here it is the same logger as
``manta.serve``.  A driver sees its lines on standard error unless it has set up logging itself; a
replica writes them to its log and, unless told otherwise, to standard error, too, which is the
terminal or the notebook of the program that started a private instance.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Optional

from manta._private import environment

NAME = "manta.serve"
RAY_NAME = "ray.serve"
_FORMAT = "%(levelname)s %(asctime)s {who} -- %(message)s"


def get() -> logging.Logger:
    """The logger; from now on it answers to Ray's name as well, unless Ray itself uses that."""
    logger = logging.getLogger(NAME)
    known = logging.root.manager.loggerDict
    if not isinstance(known.get(RAY_NAME), logging.Logger):
        # The place that children of the name, which may exist already, take for their parent.
        waiting: Any = known.get(RAY_NAME)
        known[RAY_NAME] = logger
        for child in getattr(waiting, "loggerMap", ()):
            child.parent = logger
    return logger


class _ToStderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what ``sys.stderr`` is at that moment: a notebook replaces it."""

    def __init__(self, who: str) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter(_FORMAT.format(who=who)))

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        raise AttributeError("It is always sys.stderr.")


def show(who: str, level: Optional[str] = None) -> None:
    """Lines of the logger go to standard error, unless somebody has set up logging."""
    logger = logging.getLogger(NAME)
    if logger.hasHandlers() or not environment.flag("LOG_TO_STDERR"):
        return
    logger.addHandler(_ToStderr(who))
    logger.setLevel(level or logging.INFO)
    logger.propagate = False


def show_as_command() -> None:
    """The same in the words of the command ``manta``, which has a line of its own for the end."""
    logger = logging.getLogger(NAME)
    handler = _ToStderr("")
    handler.setFormatter(logging.Formatter("manta: %(message)s"))
    handler.addFilter(lambda record: not getattr(record, "is_ready", False))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def add_to_replica(handler: logging.Handler, who: str, log_is_stderr: bool, level: int) -> None:
    """In a replica: to its log by that handler, and to standard error where that is another place."""
    logger = logging.getLogger(NAME)
    logger.addHandler(handler)
    if environment.flag("LOG_TO_STDERR") and not log_is_stderr:
        copy = _ToStderr(who)
        copy.addFilter(lambda record: not getattr(record, "serve_access_log", False))
        logger.addHandler(copy)
    logger.setLevel(level)
    logger.propagate = False


def start_anew() -> None:
    """In a fork that becomes a replica: what its origin showed to a person is not its affair."""
    logger = logging.getLogger(NAME)
    for handler in list(logger.handlers):
        if isinstance(handler, _ToStderr):
            logger.removeHandler(handler)
