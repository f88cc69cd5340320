# SPDX-License-Identifier: Apache-2.0
"""What of Ray Serve's names is another thing in Manta; docs/ray-serve-names.md is made from it.

A name that is not here is *same*: it takes the same, does the same and fails the same.  The kinds:

``better``   the same, and in what it is better
``partly``   it is taken and checked, and what of it is not acted upon
``refused``  asking for it is an error, and why

Keys are Ray Serve's: ``serve.module.Name`` without ``ray.``, or ``deployment option: name`` and so on.
"""

BETTER, PARTLY, REFUSED = "better", "partly", "refused"

_ROUTERS = "requests are routed by Manta itself: two choices by queue length, models first"
_GANGS = "a deployment that asks for gangs is refused when it is run"
_ACTORS = "a deployment with actors is refused when it is run"
_TASKS = "consumers of task queues are not there; let the consumer of the queue call a handle"
_SCALING = "checked; replicas are not scaled by load yet, `initial_replicas` or `min_replicas` are started"
_PROMETHEUS = "policies of one's own are not called yet"
_METRICS = "checked as in Ray Serve; values are not exported yet"
_ONE_MACHINE = "checked; an instance is one machine, so that it changes nothing"
_TLS = "put a proxy that ends TLS in front"
_GRPC = "gRPC is not served yet"
_REFERENCE = "results are values; large ones travel by reference by themselves"

DIFFERENCES = {
    "serve.start": (BETTER, "port 0 takes any free one; TLS, gRPC servicers and tracing are refused"),
    "serve.run": (
        BETTER,
        "only what changed is restarted; an error says what the constructor raised and where",
    ),
    "serve.run_many": (BETTER, "the applications are one change: all are stored, or none"),
    "serve.status": (BETTER, "any `user_config` that was accepted can be told"),
    "serve.shutdown": (BETTER, "there is nothing left to be started again"),
    "serve.batch": (BETTER, "an error names the sizes; see the guide for what a batch costs"),
    "serve.multiplexed": (
        BETTER,
        "a model is unloaded once; senders know at once which replica holds it, and do not poll",
    ),
    "serve.ingress": (BETTER, "routers that the application includes travel, whatever they hold"),
    "serve.get_deployment_actor": (REFUSED, "there are no deployment actors yet"),
    "serve.get_deployment_actor_context": (REFUSED, "there are no deployment actors yet"),
    "serve.get_trace_context": (PARTLY, "always None: requests are not traced yet"),
    "serve.TracingConfig": (PARTLY, "checked; `enabled=True` is refused by `serve.start`"),
    "serve.ControllerOptions": (PARTLY, "checked; the controller is no Python process"),
    "serve.autoscaling_policy.PrometheusQueryMixin": (REFUSED, _PROMETHEUS),
    "serve.autoscaling_policy.PrometheusSample": (REFUSED, _PROMETHEUS),
    "serve.autoscaling_policy.PrometheusScalar": (REFUSED, _PROMETHEUS),
    "serve.autoscaling_policy.PrometheusVector": (REFUSED, _PROMETHEUS),
    "serve.autoscaling_policy.default_autoscaling_policy": (PARTLY, "decides the same; is not called yet"),
    "serve.autoscaling_policy.replica_queue_length_autoscaling_policy": (
        PARTLY,
        "decides the same; is not called yet",
    ),
    "serve.batching.batch": (BETTER, "as `serve.batch`"),
    "serve.config.AutoscalingConfig": (PARTLY, _SCALING),
    "serve.config.AutoscalingContext": (PARTLY, "there; policies are not called yet"),
    "serve.config.AutoscalingPolicy": (PARTLY, "checked; policies are not called yet"),
    "serve.config.BackpressureConfig": (
        PARTLY,
        "checked; a full queue is answered with 503 and without `Retry-After`, a warning says so",
    ),
    "serve.config.ControllerOptions": (PARTLY, "checked; the controller is no Python process"),
    "serve.config.DeploymentActorConfig": (PARTLY, f"checked; {_ACTORS}"),
    "serve.config.GangPlacementStrategy": (PARTLY, f"there; {_GANGS}"),
    "serve.config.GangRuntimeFailurePolicy": (PARTLY, f"there; {_GANGS}"),
    "serve.config.GangSchedulingConfig": (PARTLY, f"checked; {_GANGS}"),
    "serve.config.HTTPOptions": (PARTLY, "see the table of its fields"),
    "serve.config.RequestRouterConfig": (
        PARTLY,
        "checked; another `request_router_class` than the default is refused when it is run",
    ),
    "serve.config.gRPCOptions": (PARTLY, "checked; servicers are refused by `serve.start`"),
    "serve.context.DeploymentActorContext": (PARTLY, f"there; {_ACTORS}"),
    "serve.gang.GangContext": (PARTLY, f"there; {_GANGS}"),
    "serve.grpc_util.RayServegRPCContext": (PARTLY, f"there, for tests; {_GRPC}"),
    "serve.grpc_util.gRPCInputStream": (PARTLY, f"there, for tests; {_GRPC}"),
    "serve.exceptions.gRPCStatusError": (PARTLY, f"there; {_GRPC}"),
    "serve.handle.DeploymentBroadcastResponse": (PARTLY, "in local testing mode"),
    "serve.handle.DeploymentResponse": (
        BETTER,
        "`result()` may wait in a notebook's cell; `_to_object_ref` is refused: " + _REFERENCE,
    ),
    "serve.metrics.Counter": (PARTLY, _METRICS),
    "serve.metrics.Gauge": (PARTLY, _METRICS),
    "serve.metrics.Histogram": (PARTLY, _METRICS),
    "serve.schema.ServeStatus": (BETTER, "`target_capacity` is None, not a description of the field"),
    "serve.schema.CeleryAdapterConfig": (PARTLY, f"checked; {_TASKS}"),
    "serve.schema.ScaleDeploymentRequest": (PARTLY, "checked; there is no REST API yet"),
    "serve.schema.TaskProcessorAdapter": (PARTLY, f"there; {_TASKS}"),
    "serve.schema.TaskProcessorConfig": (PARTLY, f"checked; {_TASKS}"),
    "serve.schema.TaskResult": (PARTLY, f"there; {_TASKS}"),
    "serve.schema.TracingConfig": (PARTLY, "checked; `enabled=True` is refused by `serve.start`"),
    "deployment option: autoscaling_config": (PARTLY, _SCALING + "; a warning says so"),
    "deployment option: backpressure_config": (PARTLY, "as `BackpressureConfig`"),
    "deployment option: deployment_actors": (REFUSED, "when it is run: " + _ACTORS),
    "deployment option: gang_scheduling_config": (REFUSED, "when it is run: " + _GANGS),
    "deployment option: graceful_shutdown_wait_loop_s": (
        BETTER,
        "accepted; a replica ends when its last request has, there is no loop that looks",
    ),
    "deployment option: max_replicas_per_node": (PARTLY, _ONE_MACHINE),
    "deployment option: placement_group_bundle_label_selector": (PARTLY, _ONE_MACHINE),
    "deployment option: placement_group_bundles": (PARTLY, _ONE_MACHINE),
    "deployment option: placement_group_strategy": (PARTLY, _ONE_MACHINE),
    "deployment option: ray_actor_options": (
        PARTLY,
        "checked; `num_cpus` sets the threads of numeric libraries; `runtime_env`: `env_vars`, and `working_dir` and "
        "`py_modules` of this machine; pip, conda and containers are refused",
    ),
    "deployment option: request_router_config": (PARTLY, "as `RequestRouterConfig`"),
    "deployment option: user_config": (BETTER, "any JSON value, and the status can be asked"),
    "handle option: _prefer_local_routing": (PARTLY, _ONE_MACHINE),
    "handle option: _by_reference": (PARTLY, "told by the response; " + _REFERENCE),
    "handle option: request_serialization": (
        PARTLY,
        "checked; values travel as they are best sent: plain ones, arrays, and pickles for the rest",
    ),
    "handle option: response_serialization": (PARTLY, "as `request_serialization`"),
    "handle method: broadcast": (REFUSED, "on replicas; in local testing mode it works"),
    "handle method: choose_replica": (REFUSED, _ROUTERS),
    "handle method: dispatch": (REFUSED, _ROUTERS),
    "HTTPOptions: location": (PARTLY, "Disabled is acted upon; the others mean the same here"),
    "HTTPOptions: middlewares": (REFUSED, "as in Ray Serve: put them into the ASGI application"),
    "HTTPOptions: num_cpus": (REFUSED, "as in Ray Serve"),
    "HTTPOptions: port": (BETTER, "0 takes any free one"),
    "HTTPOptions: root_url": (PARTLY, "checked"),
    "HTTPOptions: ssl_ca_certs": (REFUSED, _TLS),
    "HTTPOptions: ssl_certfile": (REFUSED, _TLS),
    "HTTPOptions: ssl_keyfile": (REFUSED, _TLS),
    "HTTPOptions: ssl_keyfile_password": (REFUSED, _TLS),
}

# Modules of Ray Serve's that are no part of the table of names, and why.
MODULES_ELSEWHERE = {
    "api": "the functions of `serve` itself",
    "scripts": "the command `serve`; here it is `manta`",
}
