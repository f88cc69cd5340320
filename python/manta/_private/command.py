# SPDX-License-Identifier: Apache-2.0
"""The command ``manta`` of a Python environment: it becomes the program that the package holds."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> int:
    """Replaces this process; returns only when the program is missing."""
    program = Path(__file__).resolve().parent.parent / "bin" / "manta"
    os.environ.setdefault("MANTA_PYTHON", sys.executable)
    try:
        os.execv(program, ["manta", *sys.argv[1:]])
    except OSError as error:
        print(f"manta: {program} could not be run: {error.strerror}", file=sys.stderr)
        return 1
