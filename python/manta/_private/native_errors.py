# SPDX-License-Identifier: Apache-2.0
"""What Manta's error codes are in Python."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from manta._private.names import DeploymentID
from manta.exceptions import ActorDiedError, CrossLanguageError, RaySystemError, RayTaskError
from manta.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    RequestCancelledError,
)

native: Any = importlib.import_module("manta._native")


def of_call(error: BaseException, deployment: DeploymentID) -> BaseException:
    """Why a call ended, as the exception that its caller sees."""
    if isinstance(error, RayTaskError):
        return error.as_instanceof_cause()
    if not isinstance(error, native.Error):
        return error
    code, text = error.args
    if code == native.ECANCELLED:
        return asyncio.CancelledError()
    if code == native.EBUSY:
        return _back_pressure(text)
    if code == native.ENOTFOUND and " has no method " in text:
        return RayServeException(text)
    if code in (native.EUNAVAILABLE, native.ENOTFOUND, native.ECLOSED):
        return DeploymentUnavailableError(deployment)
    if code == native.EREPLICADIED:
        return ActorDiedError(text)
    if code == native.ETIMEOUT:
        return TimeoutError(text)
    if code == native.EUSER:
        return CrossLanguageError("a deployment", text)
    return RaySystemError(text)


def _back_pressure(text: str) -> BaseException:
    try:
        return BackPressureError(num_queued_requests=0, max_queued_requests=0)
    except TypeError:
        return RayServeException(text)


def code_of(error: BaseException) -> int:
    """The code for a caller that does not speak Python."""
    if isinstance(error, (asyncio.CancelledError, RequestCancelledError)):
        return int(native.ECANCELLED)
    if isinstance(error, BackPressureError):
        return int(native.EBUSY)
    if isinstance(error, DeploymentUnavailableError):
        return int(native.EUNAVAILABLE)
    return int(native.EUSER)
