# SPDX-License-Identifier: Apache-2.0
"""The arguments of ``serve.start``, checked and made plain values."""

from __future__ import annotations

from typing import Any

from manta.serve.config import ControllerOptions, HTTPOptions, ProxyLocation, gRPCOptions
from manta.serve.schema import LoggingConfig, TracingConfig


def check(
    proxy_location: Any,
    http_options: Any,
    grpc_options: Any,
    logging_config: Any,
    tracing_config: Any,
    controller_options: Any,
) -> dict[str, Any]:
    """What was given, under the keys of the configuration file; the rest is not there."""
    http = _made(HTTPOptions, http_options)
    checked: dict[str, Any] = {"proxy_location": _location(proxy_location, http).value}
    given = {
        "http_options": http,
        "grpc_options": _made(gRPCOptions, grpc_options),
        "logging_config": _made(LoggingConfig, logging_config),
        "tracing_config": _made(TracingConfig, tracing_config),
        "controller_options": _made(ControllerOptions, controller_options),
    }
    for key, options in given.items():
        if options is not None:
            checked[key] = options.model_dump(mode="json")
    return checked


def _made(kind: Any, given: Any) -> Any:
    return kind(**given) if isinstance(given, dict) else given


def _location(proxy_location: Any, http: Any) -> ProxyLocation:
    """The argument, else what the HTTP options say, else every machine; no host, no proxies."""
    wanted = ProxyLocation._normalize(proxy_location)
    if http is not None and http.host is None:
        return ProxyLocation.Disabled
    if wanted is None and http is not None:
        wanted = http.location
    return wanted or ProxyLocation.EveryNode
