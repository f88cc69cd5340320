# SPDX-License-Identifier: Apache-2.0
"""Environment variables: every one of Ray Serve's, and what it does here.

``RAY_SERVE_X`` stands in people's start scripts and is read as such; ``MANTA_SERVE_X`` is the same
by Manta's name and goes over it.  The table is the whole truth: what is honoured is read through it,
and what is not says why.  ``docs/environment.md`` is made from it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Variable:
    """One variable without its prefix; ``setting`` is the knob of an instance that it turns."""

    name: str
    default: str
    meaning: str
    setting: str = ""
    factor: int = 1  # from the variable's unit to the setting's
    least: float = 0.0


def _honoured(*variables: Variable) -> dict[str, Variable]:
    return {variable.name: variable for variable in variables}


HONOURED = _honoured(
    Variable("DEFAULT_HTTP_HOST", "", "address that HTTP listens on; default the loopback address"),
    Variable("FORCE_LOCAL_TESTING_MODE", "0", "1: every serve.run runs inside the calling process"),
    Variable("FREEZE_GC_ON_STARTUP", "1", "gc.freeze() once a replica is constructed"),
    Variable(
        "HTTP_KEEP_ALIVE_TIMEOUT_S", "0", "above 0: goes over HTTPOptions.keep_alive_timeout_s"
    ),
    Variable("LOG_TO_STDERR", "1", "log lines of replicas' loggers also go to standard error"),
    Variable(
        "MAX_PER_REPLICA_RETRY_COUNT",
        "3",
        "failed starts for each wanted replica before DEPLOY_FAILED",
        "MANTA_START_RETRY_LIMIT",
        1,
        1,
    ),
    Variable(
        "MULTIPLEXED_MODEL_ID_MATCHING_TIMEOUT_S",
        "1",
        "how long a request insists on replicas that have its model",
        "MANTA_MODEL_MATCHING_TIMEOUT_MS",
        1000,
    ),
    Variable(
        "PROXY_GRACEFUL_SHUTDOWN_TIMEOUT_S",
        "20",
        "drain of a proxy at its end",
        "MANTA_DRAIN_TIMEOUT_MS",
        1000,
    ),
    Variable("ROUTER_RETRY_INITIAL_BACKOFF_S", "0.025", "default of RequestRouterConfig"),
    Variable("ROUTER_RETRY_BACKOFF_MULTIPLIER", "2", "default of RequestRouterConfig"),
    Variable("ROUTER_RETRY_MAX_BACKOFF_S", "0.5", "default of RequestRouterConfig"),
    Variable(
        "RUN_SYNC_IN_THREADPOOL", "1", "def methods run in threads; 0: on the replica's loop"
    ),
    Variable("SESSION_ID_HEADER_KEY", "x-session-id", "HTTP header that names the session"),
    Variable(
        "SLOW_STARTUP_WARNING_S",
        "30",
        "a replica that starts for so long is warned about",
        "MANTA_START_SLOW_MS",
        1000,
        0.1,
    ),
    Variable("TRACING_EXPORTER_IMPORT_PATH", "", "default of TracingConfig"),
    Variable("TRACING_SAMPLING_RATIO", "0.01", "default of TracingConfig"),
    Variable("USE_GRPC_BY_DEFAULT", "0", "1: responses say by_reference=False"),
)

REFUSED = {
    "CONTROLLER_CALLBACK_IMPORT_PATH": "the controller is not a Python process",
    "HTTP_PROXY_CALLBACK_IMPORT_PATH": "the proxy is not a Python process: put middlewares into the "
    "ASGI application of the ingress",
}

_AUTOSCALING = "replicas are not scaled by load yet"
_CLUSTER = "an instance is one machine"
_GRPC = "gRPC is not served yet"
_HEALTH = "processes are watched by the kernel and by heartbeats (ping_period_ms, silence_limit_ms)"
_INGRESS = "the proxy is native already; no other ingress is needed"
_METRICS = "metrics are not exported yet"
_ROUTING = "queue lengths ride on answers; nothing is probed"
_ACTORS = "deployment actors are not there yet"

NOT_APPLICABLE = {
    "ASYNC_INFERENCE_TASK_QUEUE_METRIC_PUSH_INTERVAL_S": "task consumers are not there yet",
    "AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR": _AUTOSCALING,
    "BATCH_SIZE_BUCKETS": _METRICS,
    "BATCH_UTILIZATION_BUCKETS_PERCENT": _METRICS,
    "COLLECT_AUTOSCALING_METRICS_ON_HANDLE": _AUTOSCALING,
    "COLUMNAR_AUTOSCALING_METRICS": _AUTOSCALING,
    "COMPACTION_MAX_BACKOFF_TIME_S": _CLUSTER,
    "COMPACTION_TIMEOUT_S": _CLUSTER,
    "COMPACT_LONG_POLL_METRIC_TAGS": _METRICS,
    "CONTROLLER_HEALTH_CHECK_RECONCILIATION_FRACTION": "health results are reported, not collected",
    "CONTROLLER_MAX_CONCURRENCY": "the controller is not asked by requests",
    "CONTROLLER_METRICS_INCLUDE_HIGH_CARDINALITY_TAGS": _METRICS,
    "CONTROL_LOOP_INTERVAL_S": "the controller acts on events; it has no loop that pauses",
    "DEPLOYMENT_ACTOR_HEALTH_CHECK_PERIOD_S": _ACTORS,
    "DEPLOYMENT_ACTOR_HEALTH_CHECK_TIMEOUT_S": _ACTORS,
    "DEPLOYMENT_ACTOR_HEALTH_CHECK_UNHEALTHY_THRESHOLD": _ACTORS,
    "DIRECT_INGRESS_MAX_GRPC_PORT": _INGRESS,
    "DIRECT_INGRESS_MAX_HTTP_PORT": _INGRESS,
    "DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": _INGRESS,
    "DIRECT_INGRESS_MIN_GRPC_PORT": _INGRESS,
    "DIRECT_INGRESS_MIN_HTTP_PORT": _INGRESS,
    "DIRECT_INGRESS_PORT_RETRY_COUNT": _INGRESS,
    "ENABLE_DIRECT_INGRESS": _INGRESS,
    "ENABLE_HAPROXY_OPTIMIZED_CONFIG": _INGRESS,
    "ENABLE_HA_PROXY": _INGRESS,
    "ENABLE_MEMORY_PROFILING": "run a replica's program under the profiler of your choice",
    "ENABLE_PROXY_GC_OPTIMIZATIONS": "the proxy has no garbage collector",
    "ENABLE_TASK_EVENTS": "there are no tasks of Ray's",
    "EVENT_LOOP_MONITORING_INTERVAL_S": _METRICS,
    "FAIL_ON_RANK_ERROR": "ranks are decided in one place and cannot disagree",
    "FALLBACK_PROXY_GRPC_PORT": _CLUSTER,
    "FALLBACK_PROXY_HTTP_PORT": _CLUSTER,
    "FORCE_STOP_UNHEALTHY_REPLICAS": "an unhealthy replica drains like any other, with its limit",
    "GRPC_MAX_MESSAGE_SIZE": _GRPC,
    "HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": _AUTOSCALING,
    "HAPROXY_*": _INGRESS,
    "HIGH_PRIORITY_CUSTOM_RESOURCES": _CLUSTER,
    "INGRESS_REQUEST_ROUTER_FORWARD_BODY": _INGRESS,
    "INGRESS_REQUEST_ROUTER_METRICS_ENABLED": _INGRESS,
    "INGRESS_ROUTER_REPLICAS_PER_NODE": _INGRESS,
    "INTERNAL_DEPLOYMENT_ACTOR_NAME": _ACTORS,
    "INTERNAL_DEPLOYMENT_APP_NAME": _ACTORS,
    "INTERNAL_DEPLOYMENT_CODE_VERSION": _ACTORS,
    "INTERNAL_DEPLOYMENT_NAME": _ACTORS,
    "KV_TIMEOUT_S": "the store is a file of the controller's",
    "LOG_CLIENT_ADDRESS": "the access log has no client addresses",
    "MAX_CACHED_HANDLES": "handles are small and hold no connection of their own",
    "MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S": _ROUTING,
    "METRICS_EXPORT_INTERVAL_MS": _METRICS,
    "MIN_HANDLE_METRICS_TIMEOUT_S": _AUTOSCALING,
    "MODEL_LOAD_LATENCY_BUCKETS_MS": _METRICS,
    "NODE_COMPACTION_DELAY_S": _CLUSTER,
    "PORT_QUARANTINE_S": _INGRESS,
    "PROXY_GC_THRESHOLD": "the proxy has no garbage collector",
    "PROXY_HEALTH_CHECK_PERIOD_S": _HEALTH,
    "PROXY_HEALTH_CHECK_TIMEOUT_S": _HEALTH,
    "PROXY_MIN_DRAINING_PERIOD_S": "a proxy drains as long as its connections need, not longer",
    "PROXY_PREFER_LOCAL_AZ_ROUTING": _CLUSTER,
    "PROXY_PREFER_LOCAL_NODE_ROUTING": _CLUSTER,
    "PROXY_READY_CHECK_TIMEOUT_S": _HEALTH,
    "PROXY_USE_GRPC": "proxies and replicas speak one protocol",
    "QUEUE_LENGTH_CACHE_TIMEOUT_S": _ROUTING,
    "QUEUE_LENGTH_RESPONSE_DEADLINE_S": _ROUTING,
    "RECORD_AUTOSCALING_STATS_TIMEOUT_S": _AUTOSCALING,
    "REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": _AUTOSCALING,
    "REPLICA_GRPC_MAX_MESSAGE_LENGTH": "messages between replicas have no such limit",
    "REPLICA_MAX_PROCESSING_LATENCY_NUM_BUCKETS": _METRICS,
    "REPLICA_MAX_PROCESSING_LATENCY_REPORT_INTERVAL_S": _METRICS,
    "REPLICA_MAX_PROCESSING_LATENCY_WINDOW_S": _METRICS,
    "REPLICA_STARTUP_SHUTDOWN_LATENCY_BUCKETS_MS": _METRICS,
    "REPLICA_UTILIZATION_NUM_BUCKETS": _METRICS,
    "REPLICA_UTILIZATION_REPORT_INTERVAL_S": _METRICS,
    "REPLICA_UTILIZATION_WINDOW_S": _METRICS,
    "REQUEST_LATENCY_BUCKETS_MS": _METRICS,
    "REQUEST_PATH_LOG_BUFFER_SIZE": "log lines are written in the background",
    "RETAINED_DEAD_REPLICAS": "dead replicas are told in the log, not kept",
    "ROUTER_QUEUE_LEN_GAUGE_THROTTLE_S": _METRICS,
    "RUN_ROUTER_IN_SEPARATE_LOOP": "the router is native and needs no loop of Python's",
    "RUN_USER_CODE_IN_SEPARATE_THREAD": "user code has the main thread; the network never waits for it",
    "SHUTDOWN_TIER_TIMEOUT_S": "each deployment has its own graceful_shutdown_timeout_s",
    "SLOW_STARTUP_WARNING_PERIOD_S": "the same period as SLOW_STARTUP_WARNING_S",
    "STATUS_GAUGE_REPORT_INTERVAL_S": _METRICS,
    "STOP_FAILED_ROLLING_UPDATES": "a failed rollout always stops and leaves the old version serving",
    "THROUGHPUT_OPTIMIZED": "the fast way is the only one",
    "USER_HEALTH_CHECK_PROBE_INTERVAL_S": _HEALTH,
    "USER_HEALTH_CHECK_PROBE_MAX_FAIL": _HEALTH,
    "USER_HEALTH_CHECK_PROBE_TIMEOUT_S": _HEALTH,
    "USE_COMPACT_SCHEDULING_STRATEGY": _CLUSTER,
    "USE_PACK_SCHEDULING_STRATEGY": _CLUSTER,
    "WORKER_PROXY_GRPC_PORT": _CLUSTER,
    "WORKER_PROXY_HTTP_PORT": _CLUSTER,
}


def _given(name: str) -> Optional[tuple[str, str]]:
    """The variable that is set, and its text; Manta's name goes over Ray's."""
    for prefix in ("MANTA_SERVE_", "RAY_SERVE_"):
        text = os.environ.get(prefix + name)
        if text:
            return prefix + name, text
    return None


def text(name: str) -> str:
    """The value of an honoured variable, or its default."""
    given = _given(name)
    return HONOURED[name].default if given is None else given[1]


def flag(name: str) -> bool:
    """Whether it is 1, as Ray Serve reads switches."""
    return text(name) == "1"


def number(name: str, *, above: Optional[float] = None) -> float:
    """Its value as a number; ``ValueError`` names the variable and what it holds."""
    given = _given(name) or (name, HONOURED[name].default)
    variable, written = given
    try:
        value = float(written)
    except ValueError:
        raise ValueError(f"The environment variable {variable} is {written!r}, not a number.") from None
    if above is not None and value <= above:
        raise ValueError(f"Got unexpected value {value} for {variable} environment variable.")
    return value


def check_refused() -> None:
    """``ValueError`` for a variable that asks for what cannot be done."""
    for name, why in REFUSED.items():
        given = _given(name)
        if given is not None:
            raise ValueError(f"The environment variable {given[0]} is set, but {why}.")


@contextmanager
def settings(**more: str) -> Iterator[None]:
    """Inside, what is given for an instance stands in the environment under the settings' names.

    A setting that is given by its own name stays.
    """
    added = [name for name, value in more.items() if value and name not in os.environ]
    os.environ.update({name: more[name] for name in added})
    for name, variable in HONOURED.items():
        if variable.setting and _given(name) and variable.setting not in os.environ:
            value = number(name)
            if value < variable.least:
                raise ValueError(
                    f"The environment variable {_given(name)[0]} is {value:g}; "  # type: ignore[index]
                    f"the least is {variable.least:g}."
                )
            os.environ[variable.setting] = str(round(value * variable.factor))
            added.append(variable.setting)
    try:
        yield
    finally:
        for setting in added:
            del os.environ[setting]
