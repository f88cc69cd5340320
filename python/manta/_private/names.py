# SPDX-License-Identifier: Apache-2.0
"""Who is who, and in what state: identities of deployments and replicas, and the status enums."""

from __future__ import annotations

import enum
import itertools
import os
import random
import string
from dataclasses import dataclass

from manta._private.constants import DEFAULT_APP_NAME

_REPLICA_PREFIX = "SERVE_REPLICA::"


@dataclass(frozen=True)
class DeploymentID:
    """A deployment within its application."""

    name: str
    app_name: str = DEFAULT_APP_NAME

    def __str__(self) -> str:
        return f"Deployment(name='{self.name}', app='{self.app_name}')"

    __repr__ = __str__


@dataclass(frozen=True)
class ReplicaID:
    """A replica within its deployment."""

    unique_id: str
    deployment_id: DeploymentID

    def to_full_id_str(self) -> str:
        parts = [self.deployment_id.app_name, self.deployment_id.name, self.unique_id]
        return _REPLICA_PREFIX + "#".join(part for part in parts if part)

    @staticmethod
    def is_full_id_str(text: str) -> bool:
        return text.startswith(_REPLICA_PREFIX)

    @classmethod
    def from_full_id_str(cls, text: str) -> ReplicaID:
        if not cls.is_full_id_str(text):
            raise ValueError(f"'{text}' is not the full id of a replica.")
        parts = text[len(_REPLICA_PREFIX) :].split("#")
        if len(parts) not in (2, 3):
            raise ValueError(
                f"Given replica ID string {text} didn't match expected pattern, ensure it has "
                "either two or three fields with delimiter '#'."
            )
        app_name = parts[0] if len(parts) == 3 else ""
        return cls(parts[-1], DeploymentID(parts[-2], app_name))

    def __str__(self) -> str:
        of = self.deployment_id
        return f"Replica(id='{self.unique_id}', deployment='{of.name}', app='{of.app_name}')"

    __repr__ = __str__


def random_id(length: int = 8) -> str:
    """A short name for a thing that lives in this process."""
    return "".join(random.choices(string.ascii_lowercase + string.digits, k=length))


_calls = itertools.count()
_process = os.urandom(6).hex()
os.register_at_fork(after_in_child=lambda: globals().update(_process=os.urandom(6).hex()))


def call_id() -> str:
    """Names one call within the whole instance; made for every call, so it must be cheap."""
    return f"{_process}-{next(_calls):x}"


def request_id() -> str:
    """Names a request for people: it is in logs and headers, and looks as such ids do."""
    text = os.urandom(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


class ReplicaState(str, enum.Enum):
    """Where in its life a replica is."""

    STARTING = "STARTING"
    UPDATING = "UPDATING"
    RECOVERING = "RECOVERING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    PENDING_MIGRATION = "PENDING_MIGRATION"


class DeploymentStatus(str, enum.Enum):
    """What a deployment is on its way to, or that it is there."""

    UPDATING = "UPDATING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    UPSCALING = "UPSCALING"
    DOWNSCALING = "DOWNSCALING"

    def to_numeric(self) -> int:
        """The value of the status gauge."""
        order = ("DEPLOY_FAILED", "UNHEALTHY", "UPDATING", "UPSCALING", "DOWNSCALING", "HEALTHY")
        return order.index(self.value) + 1


class DeploymentStatusTrigger(str, enum.Enum):
    """What brought a deployment into its status."""

    UNSPECIFIED = "UNSPECIFIED"
    CONFIG_UPDATE_STARTED = "CONFIG_UPDATE_STARTED"
    CONFIG_UPDATE_COMPLETED = "CONFIG_UPDATE_COMPLETED"
    UPSCALE_COMPLETED = "UPSCALE_COMPLETED"
    DOWNSCALE_COMPLETED = "DOWNSCALE_COMPLETED"
    AUTOSCALING = "AUTOSCALING"
    REPLICA_STARTUP_FAILED = "REPLICA_STARTUP_FAILED"
    DEPLOYMENT_ACTOR_FAILED = "DEPLOYMENT_ACTOR_FAILED"
    HEALTH_CHECK_FAILED = "HEALTH_CHECK_FAILED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    DELETING = "DELETING"


class ApplicationStatus(str, enum.Enum):
    """What an application is: of its deployments the worst counts."""

    NOT_STARTED = "NOT_STARTED"
    DEPLOYING = "DEPLOYING"
    DEPLOY_FAILED = "DEPLOY_FAILED"
    RUNNING = "RUNNING"
    UNHEALTHY = "UNHEALTHY"
    DELETING = "DELETING"

    def to_numeric(self) -> int:
        """The value of the status gauge."""
        order = ("DEPLOY_FAILED", "UNHEALTHY", "NOT_STARTED", "DELETING", "DEPLOYING", "RUNNING")
        return order.index(self.value) + 1


class ProxyStatus(str, enum.Enum):
    """What a proxy is."""

    STARTING = "STARTING"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"

    def to_numeric(self) -> int:
        """The value of the status gauge."""
        return list(ProxyStatus).index(self) + 1


class RequestProtocol(str, enum.Enum):
    UNDEFINED = "UNDEFINED"
    HTTP = "HTTP"
    GRPC = "gRPC"
