# SPDX-License-Identifier: Apache-2.0
"""Configuration files from Python: what ``manta deploy`` does, for a ``ServeDeploySchema``.

Each application is built in a process of its own (``manta._private.build_main``), so that neither its
modules nor its environment disturb this one, and one that fails does not keep the others from
running.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, Union

from manta.serve.schema import ServeDeploySchema

BUILD_LIMIT_S = 300  # As of `manta deploy`.


def checked(config: Union[dict[str, Any], ServeDeploySchema]) -> ServeDeploySchema:
    """The configuration; pydantic's error says what is wrong with it."""
    return config if isinstance(config, ServeDeploySchema) else ServeDeploySchema(**config)


def build_all(config: ServeDeploySchema) -> list[tuple[str, Any, Any, Any]]:
    """What ``Instance.apply`` of the extension takes: name, route prefix, document or failure."""
    begun = [_Build(application) for application in config.applications]
    return [build.end() for build in begun]


class _Build:
    """One application in the making."""

    def __init__(self, application: Any) -> None:
        self.application = application
        # Files, not pipes: nobody waits for a reader.
        self.input, self.answer = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        described = application.model_dump(mode="json", exclude_unset=True)
        described.setdefault("name", application.name)
        self.input.write(json.dumps(described).encode())
        self.input.seek(0)
        # Modules are found where this process finds them.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "manta._private.build_main", "--answer", str(self.answer.fileno())],
            stdin=self.input,
            stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
            pass_fds=[self.answer.fileno()],
            env={**os.environ, "PYTHONPATH": path},
        )

    def end(self) -> tuple[str, Any, Any, Any]:
        """Wait for it."""
        failure = None
        try:
            code = self.process.wait(BUILD_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            failure = f"it was not built within {BUILD_LIMIT_S} s"
        self.answer.seek(0)
        told = self.answer.read()
        self.answer.close()
        self.input.close()
        if failure is None and told[:1] == b"F":
            failure = told[1:].decode(errors="replace")
        elif failure is None and (code != 0 or told[:1] != b"D"):
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            failure = f"its builder ended {how} before it was done"
        document = told[1:] if failure is None else None
        return self.application.name, self.application.route_prefix, document, failure


def _has_descriptor(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True
