# SPDX-License-Identifier: Apache-2.0
"""Defaults of the public surface, and the environment variables that change them.

They are read once, at import.  The names of the variables are Ray Serve's, because they stand in
people's start scripts.
"""

from __future__ import annotations

import logging
import os


def _flag(name: str, default: str) -> bool:
    return os.environ.get(name, default) == "1"


def _positive(name: str, default: float) -> float:
    value = float(os.environ.get(name, default))
    if value <= 0:
        raise ValueError(f"Got unexpected value {value} for {name} environment variable.")
    return value


LOGGER_NAME = "manta.serve"
logger = logging.getLogger(LOGGER_NAME)

DEFAULT_APP_NAME = "default"
DEFAULT_HTTP_HOST = os.environ.get("RAY_SERVE_DEFAULT_HTTP_HOST") or "127.0.0.1"
DEFAULT_HTTP_PORT = 8000
DEFAULT_GRPC_PORT = 9000
DEFAULT_KEEP_ALIVE_TIMEOUT_S = 90

DEFAULT_MAX_ONGOING_REQUESTS = 5
DEFAULT_TARGET_ONGOING_REQUESTS = 2
DEFAULT_GRACEFUL_SHUTDOWN_WAIT_LOOP_S = 2.0
DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S = 20.0
DEFAULT_HEALTH_CHECK_PERIOD_S = 10.0
DEFAULT_HEALTH_CHECK_TIMEOUT_S = 30.0
DEFAULT_CONSTRUCTOR_RETRY_COUNT = 20
DEFAULT_ROLLING_UPDATE_PERCENTAGE = 0.2
MAX_REPLICAS_PER_NODE_MAX_VALUE = 100
DEFAULT_CONSUMER_CONCURRENCY = DEFAULT_MAX_ONGOING_REQUESTS

DEFAULT_AUTOSCALING_POLICY = "manta.serve.autoscaling_policy:default_autoscaling_policy"
DEFAULT_REQUEST_ROUTER = "manta.serve.request_router:PowerOfTwoChoicesRequestRouter"
DEFAULT_ROUTING_STATS_PERIOD_S = 10.0
DEFAULT_ROUTING_STATS_TIMEOUT_S = 30.0
ROUTER_INITIAL_BACKOFF_S = _positive("RAY_SERVE_ROUTER_RETRY_INITIAL_BACKOFF_S", 0.025)
ROUTER_BACKOFF_MULTIPLIER = _positive("RAY_SERVE_ROUTER_RETRY_BACKOFF_MULTIPLIER", 2)
ROUTER_MAX_BACKOFF_S = _positive("RAY_SERVE_ROUTER_RETRY_MAX_BACKOFF_S", 0.5)

FORCE_LOCAL_TESTING_MODE = _flag("RAY_SERVE_FORCE_LOCAL_TESTING_MODE", "0")
RUN_SYNC_IN_THREADPOOL = _flag("RAY_SERVE_RUN_SYNC_IN_THREADPOOL", "1")
HANDLES_BY_REFERENCE = not _flag("RAY_SERVE_USE_GRPC_BY_DEFAULT", "0")

TRACING_EXPORTER_IMPORT_PATH = os.environ.get("RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", "")
TRACING_SAMPLING_RATIO = float(os.environ.get("RAY_SERVE_TRACING_SAMPLING_RATIO", "0.01"))
