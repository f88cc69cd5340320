# SPDX-License-Identifier: Apache-2.0
"""The errors of serving: what a handle, a proxy or a replica says instead of an answer.

Errors that are not about serving (a replica that died, user code that raised) are in
``manta.exceptions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from manta._private.names import DeploymentID
from manta.exceptions import TaskCancelledError

if TYPE_CHECKING:
    import grpc

__all__ = [
    "BackPressureError",
    "DeploymentUnavailableError",
    "RayServeException",
    "ReplicaUnavailableError",
    "RequestCancelledError",
    "gRPCStatusError",
]


class RayServeException(Exception):
    """The base of the errors of serving."""


class gRPCStatusError(RayServeException):
    """An error of a handler that had chosen a gRPC status before it raised."""

    def __init__(
        self,
        original_exception: BaseException,
        code: grpc.StatusCode | None = None,
        details: str | None = None,
    ) -> None:
        super().__init__(str(original_exception))
        self._original_exception = original_exception
        self._grpc_code = code
        self._grpc_details = details

    @property
    def original_exception(self) -> BaseException:
        return self._original_exception

    @property
    def grpc_code(self) -> grpc.StatusCode | None:
        return self._grpc_code

    @property
    def grpc_details(self) -> str | None:
        return self._grpc_details

    def __str__(self) -> str:
        return str(self._original_exception)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._original_exception, self._grpc_code, self._grpc_details))


class BackPressureError(RayServeException):
    """The queue of the handle or proxy is full."""

    def __init__(
        self,
        num_queued_requests: int,
        max_queued_requests: int,
        status_code: int = 503,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(num_queued_requests, max_queued_requests, status_code, retry_after_s)
        self._message = (
            "Request dropped due to backpressure "
            f"(num_queued_requests={num_queued_requests}, "
            f"max_queued_requests={max_queued_requests})."
        )
        self._status_code = status_code
        self._retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self._message

    @property
    def message(self) -> str:
        return self._message

    @property
    def status_code(self) -> int:
        return self._status_code

    @property
    def retry_after_s(self) -> float | None:
        return self._retry_after_s


class RequestCancelledError(RayServeException, TaskCancelledError):
    """The caller cancelled the request whose result it asks for."""

    def __init__(self, request_id: str | None = None) -> None:
        super().__init__(request_id)
        self._request_id = request_id

    def __str__(self) -> str:
        told = f"Request {self._request_id}" if self._request_id else "Request"
        return f"{told} was cancelled."


class DeploymentUnavailableError(RayServeException):
    """The deployment failed to deploy or is gone, so nothing will ever answer."""

    def __init__(self, deployment_id: DeploymentID) -> None:
        super().__init__(deployment_id)
        self._deployment_id = deployment_id

    @property
    def message(self) -> str:
        return f"{self._deployment_id} is unavailable because it failed to deploy."

    def __str__(self) -> str:
        return self.message


class ReplicaUnavailableError(RayServeException):
    """The chosen replica went away before the request was sent to it."""

    def __init__(self, replica_id: str) -> None:
        super().__init__(replica_id)
        self._replica_id = replica_id

    @property
    def message(self) -> str:
        return f"Replica {self._replica_id} is no longer available."

    def __str__(self) -> str:
        return self.message
