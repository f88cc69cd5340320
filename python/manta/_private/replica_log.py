# SPDX-License-Identifier: Apache-2.0
"""What a replica's loggers write into its log: Ray Serve's line, or Ray Serve's JSON.

The deployment's ``LoggingConfig`` says how.  Level, encoding and directory hold for the whole log,
and the node has opened it so; the lines of Python's loggers are formatted here, since they know more:
the request that was being served, where the line stands in the source, and what came by ``extra``.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Optional

from manta.serve.context import _get_serve_request_context

ACCESS_LOG = "serve_access_log"  # in a record's ``extra``: a line about a request, for the file alone
_EXTRA_FIELDS = "ray_serve_extra_fields"
_NOT_SHOWN = frozenset({ACCESS_LOG, _EXTRA_FIELDS, "skip_context_filter", "task_id", "job_id"})
_STANDARD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_LEVEL = logging.INFO


def log_options(config: Optional[dict[str, Any]]) -> dict[str, Any]:
    """What the node needs to open the log: the parts of a ``LoggingConfig`` that are not defaults."""
    if not config:
        return {}
    found: dict[str, Any] = {"level": level_of(config), "encoding": str(config["encoding"])}
    if config.get("logs_dir"):
        found["directory"] = config["logs_dir"]
    return found


def level_of(config: Optional[dict[str, Any]]) -> int:
    name = (config or {}).get("log_level") or _LEVEL
    return name if isinstance(name, int) else int(logging.getLevelName(name))


class ReplicaLog(logging.Handler):
    """The package's logger and the user's lines on it, into the replica's log."""

    def __init__(
        self, taker: Any, names: tuple[str, str, str], config: Optional[dict[str, Any]]
    ) -> None:
        """``names`` are those of the application, the deployment and the replica."""
        super().__init__()
        self._taker = taker
        config = config or {}
        attributes = tuple(config.get("additional_log_standard_attrs") or ())
        as_json = str(config.get("encoding")) == "JSON"
        self.setFormatter((_Json if as_json else _Text)(names, attributes))
        if not config.get("enable_access_log", True):
            self.addFilter(lambda record: not getattr(record, ACCESS_LOG, False))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._taker.log_line(record.levelno, self.format(record))
        except Exception:
            self.handleError(record)


class _Text(logging.Formatter):
    """``INFO 2024-01-01 10:00:00,000 app_deployment replica request -- message``"""

    def __init__(self, names: tuple[str, str, str], attributes: tuple[str, ...]) -> None:
        super().__init__()
        app, deployment, replica = names
        self._who = f"{app}_{deployment} {replica}" if app else f"{deployment} {replica}"
        self._attributes = attributes

    def formatMessage(self, record: logging.LogRecord) -> str:
        request_id = _get_serve_request_context().request_id
        parts = [record.levelname, self.formatTime(record), self._who]
        parts += [request_id] if request_id else []
        parts += [str(getattr(record, name, "")) for name in self._attributes]
        return f"{' '.join(parts)} -- {record.message}"


class _Json(logging.Formatter):
    """One object a line."""

    def __init__(self, names: tuple[str, str, str], attributes: tuple[str, ...]) -> None:
        super().__init__()
        self._app, self._deployment, self._replica = names
        self._attributes = attributes

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
        }
        now = _get_serve_request_context()
        told |= {"request_id": now.request_id} if now.request_id else {}
        told |= {"route": now.route} if now.route else {}
        told |= {
            "application": self._app,
            "deployment": self._deployment,
            "replica": self._replica,
            "component_name": "replica",
        }
        told |= {name: getattr(record, name, None) for name in self._attributes}
        told |= {n: v for n, v in vars(record).items() if n not in _STANDARD | _NOT_SHOWN}
        told |= getattr(record, _EXTRA_FIELDS, None) or {}
        if record.exc_info:
            told["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)
