# SPDX-License-Identifier: Apache-2.0
"""The way to the native run time: the only place that imports ``manta._native``.

``manta._native`` is the C extension over libmanta.  It must hold one function:

``connect(start: bool, options: dict | None) -> Instance | None``
    Join the instance that this process belongs to: the one a replica runs in, the one that
    ``MANTA_INSTANCE`` names, a running ``default``, or one joined before.  With ``start`` a
    private one is started when there is none, with the options of ``serve.start`` (plain values,
    as ``ServeDeploySchema`` has them: proxy_location, http_options, grpc_options, logging_config,
    tracing_config, controller_options); without ``start`` the answer is None then.

The object it gives implements ``manta._private.instance.Instance``; its ``transport`` implements
``manta._private.transport.Transport`` (both are abstract base classes that it registers with or
derives from).

In a replica process the extension starts the run time itself.  What it needs from here:

* ``manta._private.user_code.UserCode`` -- constructs, calls, streams, reconfigures, checks and
  destroys the user's object, as coroutines on the replica's loop;
* ``manta.serve.context._set_internal_replica_context`` -- once, before construction -- and the
  context variable ``_serve_request_context`` -- set for each request, in the request's own
  context;
* ``manta._private.http_result.encode`` and ``encode_error`` -- results and errors as bodies with
  content types; what ``is_asgi_response`` answers for is called with ASGI's arguments instead;
* ``manta.exceptions.RayTaskError.from_exception(...)`` -- an error with its trace, pickled to the
  caller, where ``as_instanceof_cause()`` makes it an instance of the user's type too;
* ``manta._private.version.of_deployment`` -- what decides whether replicas are replaced.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Optional

from manta.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from manta._private.instance import Instance


def connect(start: bool, options: Optional[dict[str, Any]] = None) -> Optional[Instance]:
    """The native instance; None when there is none and none shall be started."""
    try:
        extension = importlib.import_module("manta._native")
    except ModuleNotFoundError as error:
        if error.name != "manta._native":
            raise
        if not start:
            return None
        raise RayServeException(
            "This installation of Manta has no native run time (the module manta._native is "
            "missing). Install Manta from a wheel or build it, or use "
            "serve.run(..., _local_testing_mode=True)."
        ) from None
    return extension.connect(start, options)
