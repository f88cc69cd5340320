# SPDX-License-Identifier: Apache-2.0
"""Many models in one replica: ``@serve.multiplexed``.

The decorated loader becomes a cache of the models used last.  A model that is there is given at
once; one that is not is loaded under a lock, after the one that was used longest ago has been
unloaded if the cache is full.  Which models are loaded or being loaded is told to the run time, so
that requests for a model go to replicas that have it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import Any, Optional

from manta._private import instance
from manta._private.constants import logger
from manta._private.methods import self_of_call
from manta._private.user_code import MULTIPLEX_ATTRIBUTE
from manta.serve import context, metrics

__all__ = ["get_multiplexed_model_id", "multiplexed"]

_ONE_ARGUMENT = (
    "Functions decorated with `@serve.multiplexed` must take exactly one the multiplexed model ID "
    "(str), but got {}"
)
_MARK = "__serve_multiplexed_function__"


class _MISSING:
    """No model.  A class, because a loader that travels by value takes its module's names along."""


# A model that is there is found in less time than a metric takes to record; so requests are counted in such lots.
_COUNTED_TOGETHER = 100


class _ModelMultiplexWrapper:
    """The models of one loader on one object."""

    def __init__(
        self, model_load_func: Callable[..., Any], self_arg: Any, max_num_models_per_replica: int
    ) -> None:
        replica = context._get_internal_replica_context()
        if replica is None:
            raise RuntimeError(
                "`@serve.multiplex` can only be used within a deployment (failed to retrieve "
                "Serve replica context)."
            )
        self._replica_id = replica.replica_id
        self.models: OrderedDict[str, Any] = OrderedDict()
        self.max_num_models_per_replica = max_num_models_per_replica
        self.self_arg = self_arg
        self._func = model_load_func
        self._lock = asyncio.Lock()
        self._loading: set[str] = set()
        self._measures = _Measures()
        self._uncounted = 0  # requests that the counter has not been told of

    def find(self, model_id: Any) -> Any:
        """A model that is there, or ``_MISSING``: for a request this is all there is to do."""
        models = self.models
        model = models.get(model_id, _MISSING) if type(model_id) is str else _MISSING
        if model is not _MISSING:
            models.move_to_end(model_id)
            self._uncounted += 1
            if self._uncounted >= _COUNTED_TOGETHER:
                self._count()
        return model

    def serves(self, loader: Any, owner: Any) -> bool:
        """Whether this is the cache of that loader on that object."""
        return self._func is loader and self.self_arg is owner

    def _count(self) -> None:
        if self._uncounted:
            self._measures.requests.inc(self._uncounted)
            self._uncounted = 0

    async def load_model(self, model_id: str) -> Any:
        """The model, from the cache or freshly loaded."""
        if not isinstance(model_id, str):
            raise TypeError("The model ID must be a string.")
        if not model_id:
            raise ValueError("The model ID cannot be empty.")
        found = self.find(model_id)
        if found is not _MISSING:
            return found
        self._uncounted += 1
        self._count()
        self._loading.add(model_id)
        self._tell()
        try:
            async with self._lock:
                if model_id not in self.models:
                    await self._load(model_id)
                return self.models[model_id]
        finally:
            self._loading.discard(model_id)
            self._tell()

    async def _load(self, model_id: str) -> None:
        limit = self.max_num_models_per_replica
        if 0 < limit <= len(self.models):
            await self.unload_model_lru()
        self._measures.loads.inc()
        start = asyncio.get_running_loop().time()
        first = () if self.self_arg is None else (self.self_arg,)
        try:
            self.models[model_id] = await self._func(*first, model_id)
        except Exception as error:
            logger.error(f"Failed to load model '{model_id}'. Error: {error}")
            raise
        self._measures.load_ms.observe(_ms_since(start))
        self._measures.count.set(len(self.models))
        self._measures.registered.set(1, tags={"model_id": model_id})

    async def unload_model_lru(self) -> None:
        """Drop the model that was used longest ago; its ``__del__`` runs once."""
        start = asyncio.get_running_loop().time()
        model_id, model = self.models.popitem(last=False)
        self._measures.unloads.inc()
        if hasattr(model, "__del__"):
            await _destroy(model)
        self._measures.unload_ms.observe(_ms_since(start))
        self._measures.count.set(len(self.models))
        self._measures.registered.set(0, tags={"model_id": model_id})

    async def shutdown(self) -> None:
        """Unload everything; one that fails does not keep the others."""
        self._count()
        while self.models:
            try:
                await self.unload_model_lru()
            except Exception:
                logger.exception("Failed to unload model.")

    def _get_loading_and_loaded_model_ids(self) -> list[str]:
        return list({*self.models, *self._loading})

    def _tell(self) -> None:
        instance.record_models(self._replica_id, self._get_loading_and_loaded_model_ids())


class _Measures:
    """The metrics of a cache of models."""

    def __init__(self) -> None:
        self.load_ms = metrics.Histogram(
            "serve_multiplexed_model_load_latency_ms", boundaries=metrics.LATENCY_MS
        )
        self.unload_ms = metrics.Histogram(
            "serve_multiplexed_model_unload_latency_ms", boundaries=metrics.LATENCY_MS
        )
        self.count = metrics.Gauge("serve_num_multiplexed_models")
        self.registered = metrics.Gauge(
            "serve_registered_multiplexed_model_id", tag_keys=("model_id",)
        )
        self.requests = metrics.Counter("serve_multiplexed_get_model_requests_counter")
        self.loads = metrics.Counter("serve_multiplexed_models_load_counter")
        self.unloads = metrics.Counter("serve_multiplexed_models_unload_counter")


def _ms_since(start: float) -> float:
    return (asyncio.get_running_loop().time() - start) * 1000.0


async def _destroy(model: Any) -> None:
    """The destructor, awaited or in a thread; the garbage collector shall not run it again."""
    if inspect.iscoroutinefunction(model.__del__):
        await model.__del__()
    else:
        await asyncio.get_running_loop().run_in_executor(None, model.__del__)
    kind = type(model)
    try:
        model.__class__ = type(kind.__name__, (kind,), {"__del__": lambda self: None})
    except TypeError:
        pass  # A layout that cannot change.


def multiplexed(
    func: Optional[Callable[..., Any]] = None, max_num_models_per_replica: int = 3
) -> Any:
    """Make an async loader of models a cache of the models used last.

    Args:
        func: The loader when the decorator is used without parentheses: an ``async`` function or
            method whose only argument is the id of a model.
        max_num_models_per_replica: How many models stay loaded; -1 for any number.
    """
    if func is not None:
        _check_loader(func)
    if not isinstance(max_num_models_per_replica, int):
        raise TypeError("max_num_models_per_replica must be an integer.")
    if max_num_models_per_replica != -1 and max_num_models_per_replica <= 0:
        raise ValueError("max_num_models_per_replica must be positive.")

    def decorate(loader: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(loader)
        async def load(*args: Any) -> Any:
            # The usual case first: a method of an object that has loaded models, and has this one.
            if len(args) == 2:
                cache = getattr(args[0], MULTIPLEX_ATTRIBUTE, None)
                if cache is not None and cache.serves(loader, args[0]):
                    model = cache.find(args[1])
                    if model is not _MISSING:
                        return model
            owner, model_id = _owner_and_id(loader, args)
            return await _cache_of(loader, owner, max_num_models_per_replica).load_model(model_id)

        setattr(load, _MARK, True)
        return load

    return decorate(func) if callable(func) else decorate


def _check_loader(func: Any) -> None:
    if not callable(func):
        raise TypeError("The `multiplexed` decorator must be used with a function or method.")
    if not inspect.iscoroutinefunction(func):
        raise TypeError(
            "@serve.multiplexed can only be used to decorate async functions or methods."
        )
    if len(inspect.signature(func).parameters) not in (1, 2):
        raise TypeError(
            "@serve.multiplexed can only be used to decorate functions or methods with at least "
            "one 'model_id: str' argument."
        )


def _owner_and_id(loader: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Any]:
    """The object whose method was called (None for a function), and the model's id."""
    if not args:
        raise TypeError(_ONE_ARGUMENT.format("no arguments are provided."))
    owner = self_of_call(args, loader)
    if len(args) != (1 if owner is None else 2):
        raise TypeError(_ONE_ARGUMENT.format("more than one arguments."))
    return owner, args[-1]


def _cache_of(loader: Any, owner: Any, limit: int) -> _ModelMultiplexWrapper:
    holder = loader if owner is None else owner
    found = getattr(holder, MULTIPLEX_ATTRIBUTE, None)
    if found is None:
        found = _ModelMultiplexWrapper(loader, owner, limit)
        setattr(holder, MULTIPLEX_ATTRIBUTE, found)
    return found


def get_multiplexed_model_id() -> str:
    """The model that the current request is for, or "".

    Within a ``@serve.batch`` function it is the model of the whole batch: requests for different
    models are never in one batch.
    """
    batch = context._get_serve_batch_request_context()
    request = batch[0] if batch else context._get_serve_request_context()
    return request.multiplexed_model_id
