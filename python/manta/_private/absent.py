# SPDX-License-Identifier: Apache-2.0
"""What Ray and Ray Serve have and Manta does not: the words in which it is refused.

A name that is missing says what to do instead, whether it is imported or asked for.
"""

from __future__ import annotations

# Modules of ray.serve that this version does not have.
SERVE_MODULES = {
    "async_inference_autoscaling_policy": "task consumers are not there yet",
    "dag": "graphs are made by passing applications to bind()",
    "experimental": "requests are routed by Manta itself, custom request routers are not there yet",
    "generated": "gRPC is not served yet; use HTTP, or handles between deployments",
    "gradio_integrations": "give Gradio's ASGI application to serve.ingress()",
    "llm": "run the engine inside a deployment of your own",
    "request_router": "requests are routed by Manta itself, custom request routers are not there yet",
    "task_consumer": "task consumers are not there yet; let the consumer of the queue call a handle",
    "task_processor": "task consumers are not there yet; let the consumer of the queue call a handle",
    "taskiq_task_processor": "task consumers are not there yet; let the consumer of the queue call a "
    "handle",
}

_CLUSTER = "there is no cluster; os.cpu_count() tells what this machine has"
_TRAINING = "training is not part of it; keep it in a program of its own that runs on Ray"
_INSTEAD = {
    "ObjectRef": "results are values; pass the response itself to other handles",
    "actor": "make the class a deployment (@serve.deployment) and call it through its handle",
    "air": _TRAINING,
    "available_resources": _CLUSTER,
    "cancel": "call cancel() of the response",
    "cloudpickle": "import the package cloudpickle",
    "cluster_resources": _CLUSTER,
    "data": "read the data in the deployment, or in a program of its own that runs on Ray",
    "get_actor": "make the actor a deployment and use serve.get_deployment_handle()",
    "get_runtime_context": "serve.get_replica_context() tells which replica runs the code",
    "kill": "serve.delete() ends an application",
    "method": "methods of a deployment need no decorator",
    "nodes": _CLUSTER,
    "put": "pass the value itself; large arrays travel by reference by themselves",
    "remote": "make the function or class a deployment (@serve.deployment) and call it through its "
    "handle, or use concurrent.futures for work inside a replica",
    "rllib": _TRAINING,
    "train": _TRAINING,
    "tune": _TRAINING,
    "util": "there is no cluster; for metrics use ray.serve.metrics",
    "wait": "use concurrent.futures, or asyncio.wait on responses inside an event loop",
    "workflow": "compose deployments through their handles",
}


def advice(name: str) -> str:
    """Why a name of Ray is not there, and what to do instead."""
    inner = name.removeprefix("ray.")
    top, _, rest = inner.partition(".")
    if top in _INSTEAD:
        told = _INSTEAD[top]
    elif inner.startswith("serve._"):
        told = "modules that begin with an underscore are Ray's own; use what ray.serve exports"
    elif top == "serve":
        told = f"Manta has no module {rest}"
    else:
        told = "only ray.serve, ray.exceptions, init, shutdown, is_initialized and get are there"
    return f"{name} is not part of Manta, which stands in for Ray in this program: {told}."


def of_serve(name: str) -> str:
    """The same for a module of ``manta.serve``."""
    return f"manta.serve.{name} is not part of this version of Manta: {SERVE_MODULES[name]}."


def refuse(module: str) -> None:
    """What the module itself does when it is imported."""
    raise ImportError(of_serve(module.rpartition(".")[2]), name=module)
