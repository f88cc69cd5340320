# SPDX-License-Identifier: Apache-2.0
"""The controller's status as the fields of ``ServeInstanceDetails``."""

from __future__ import annotations

import time
from typing import Any

# Words of ours for states that Ray Serve has no word for.
_REPLICA_STATES = {"WANTED": "STARTING", "DRAINING": "STOPPING", "ENDING": "STOPPING"}
_KNOWN_STATES = frozenset(
    {"STARTING", "UPDATING", "RECOVERING", "RUNNING", "STOPPING", "PENDING_MIGRATION"}
)


def of_status(status: dict[str, Any]) -> dict[str, Any]:
    """What ``serve.status()`` and the details' schema are made from."""
    return {
        "proxies": {
            name: {"status": word if isinstance(word, str) else word.get("status", "HEALTHY")}
            for name, word in (status.get("proxies") or {}).items()
        },
        "applications": {
            name: _application(name, app)
            for name, app in (status.get("applications") or {}).items()
        },
    }


def _application(name: str, app: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "route_prefix": app.get("route_prefix") or None,
        "docs_path": None,
        "status": app["status"],
        "message": app.get("message", ""),
        "last_deployed_time_s": app.get("last_deployed_time_s", 0.0),
        "source": app.get("source", "imperative"),
        "external_scaler_enabled": False,
        "deployments": {
            deployment: _deployment(deployment, facts)
            for deployment, facts in app["deployments"].items()
        },
    }


def _deployment(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    # A schema knows no deployment without replicas; one that is being deleted wants none.
    wanted = facts.get("target_num_replicas", 0)
    config = {"name": name, "num_replicas": wanted} if wanted else {"name": name}
    return {
        "name": name,
        "status": facts["status"],
        "status_trigger": facts.get("status_trigger", "UNSPECIFIED"),
        "message": facts.get("message", ""),
        "deployment_config": config,
        "target_num_replicas": wanted,
        "required_resources": {},
        "replicas": [_replica(replica) for replica in facts.get("replicas") or ()],
    }


def _replica(replica: dict[str, Any]) -> dict[str, Any]:
    state = _REPLICA_STATES.get(replica["state"], replica["state"])
    return {
        "replica_id": str(replica["replica_id"]),
        "state": state if state in _KNOWN_STATES else "RUNNING",
        "pid": replica.get("pid") or None,
        "start_time_s": replica.get("start_time_s", time.time()),
    }
