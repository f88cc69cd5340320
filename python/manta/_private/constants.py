# SPDX-License-Identifier: Apache-2.0
"""Defaults of the public surface, and the environment variables that change them.

They are read once, at import.  Which there are, and by which names, stands in ``environment``.
"""

from __future__ import annotations

from manta._private import environment, log

LOGGER_NAME = log.NAME
logger = log.get()

DEFAULT_APP_NAME = "default"
DEFAULT_HTTP_HOST = environment.text("DEFAULT_HTTP_HOST") or "127.0.0.1"
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
ROUTER_INITIAL_BACKOFF_S = environment.number("ROUTER_RETRY_INITIAL_BACKOFF_S", above=0)
ROUTER_BACKOFF_MULTIPLIER = environment.number("ROUTER_RETRY_BACKOFF_MULTIPLIER", above=0)
ROUTER_MAX_BACKOFF_S = environment.number("ROUTER_RETRY_MAX_BACKOFF_S", above=0)

FORCE_LOCAL_TESTING_MODE = environment.flag("FORCE_LOCAL_TESTING_MODE")
RUN_SYNC_IN_THREADPOOL = environment.flag("RUN_SYNC_IN_THREADPOOL")
HANDLES_BY_REFERENCE = not environment.flag("USE_GRPC_BY_DEFAULT")

TRACING_EXPORTER_IMPORT_PATH = environment.text("TRACING_EXPORTER_IMPORT_PATH")
TRACING_SAMPLING_RATIO = environment.number("TRACING_SAMPLING_RATIO")

FREEZE_GC_ON_STARTUP = environment.flag("FREEZE_GC_ON_STARTUP")
LOG_TO_STDERR = environment.flag("LOG_TO_STDERR")
SESSION_ID_HEADER = environment.text("SESSION_ID_HEADER_KEY").lower()

# How the root path of an instance's HTTP reaches its replicas.
ROOT_PATH_VARIABLE = "MANTA_HTTP_ROOT_PATH"
