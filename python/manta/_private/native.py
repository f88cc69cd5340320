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

``Instance.deploy`` gets ``BuiltApplication``s (``manta._private.graph``).  Of each deployment it
takes

* ``_deployment_config`` -- the checked options by name, defaults included (``TABLE`` in
  ``manta._private.options`` says for each what a change asks of running replicas);
* ``_replica_config`` -- ``ray_actor_options``, placement and ``max_replicas_per_node``;
* ``manta._private.version.of_deployment(d)`` -- two hashes: another ``code`` means new replicas,
  another ``options`` means that the running ones are told;
* ``manta._private.parcel.pack(d)`` -- bytes for ``unpack`` in the replica.

What it cannot do, it refuses in ``deploy`` (a custom request router, for one: see
``request_router_config.is_default_request_router()``); nothing is accepted and left undone.

A configuration file is ``manta.serve.schema.ServeDeploySchema``; ``manta._private.app_builder``
imports its applications and lays its options over those of the code.

In a replica process the extension owns the event loop and, in this order,

1. ``program = manta._private.parcel.unpack(data)`` -- imports, or unpickles;
2. ``manta.serve.context._set_internal_replica_context(...)`` -- who this replica is;
3. ``code = manta._private.user_code.UserCode(program.func_or_class, ...)`` and
   ``await code.construct()``; then the context again with ``servable_object=code.callable``, for
   FastAPI's views; then ``await code.reconfigure(user_config, rank)`` and ``check_health()``;
4. for each request, in a context of its own, sets the variable
   ``manta.serve.context._serve_request_context`` to a ``_RequestContext`` and runs
   ``code.call(method, args, kwargs)`` or ``code.stream(method, args, kwargs, push)``; it may call
   what ``code.method(name)`` gives directly, as long as the rules of ``UserCode`` hold (``def`` in
   threads, generators only with ``stream``);
5. an HTTP request goes to ``code.callable(scope, receive, send)`` when
   ``manta._private.user_code.is_asgi(code.callable)``; else the method gets a Starlette request (or
   nothing, if it has no parameters), and its result is ``manta._private.http_result.encode(...)``
   -- except that a result for which ``is_asgi_response`` answers yes is called with ASGI's
   arguments.  An error is ``http_result.encode_error(error)`` for HTTP, and for handles
   ``manta.exceptions.RayTaskError.from_exception(error, "Deployment.method", replica)``, pickled;
   the caller's side raises its ``as_instanceof_cause()``;
6. at the end ``await code.destroy()``.
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
        importlib.import_module("manta._native")
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
    from manta._private import native_instance

    return native_instance.connect(start, options)
