# SPDX-License-Identifier: Apache-2.0
"""Errors of the user's own: through handles, through several deployments, over HTTP; time, cancels."""

import asyncio
import os
import time

import ray
from client import PORT, get
from ray import serve
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError


class QuotaExceeded(Exception):
    def __init__(self, user, limit):
        super().__init__(f"{user} may have {limit}")
        self.user, self.limit = user, limit

    def __reduce__(self):
        return QuotaExceeded, (self.user, self.limit)


class NotPicklable(Exception):
    def __init__(self):
        self.lock = __import__("threading").Lock()


@serve.deployment
class Inner:
    def raise_(self, kind):
        if kind == "quota":
            raise QuotaExceeded("bob", 3)
        if kind == "chained":
            try:
                {}["missing"]
            except KeyError as error:
                raise ValueError("outer") from error
        if kind == "lock":
            raise NotPicklable()
        if kind == "group":
            raise ExceptionGroup("two", [ValueError(1), TypeError(2)])
        raise RuntimeError(kind)

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)
        return "slept"

    def die(self):
        os._exit(3)


@serve.deployment
class Outer:
    def __init__(self, inner):
        self.inner = inner
        self.cancelled = []

    async def through(self, kind):
        return await self.inner.raise_.remote(kind)

    async def caught(self, kind):
        try:
            await self.inner.raise_.remote(kind)
        except QuotaExceeded as error:
            return f"caught {error.user} {error.limit} {isinstance(error, RayTaskError)}"

    async def waits(self):
        try:
            return await self.inner.sleep.remote(60)
        except asyncio.CancelledError:
            self.cancelled.append("waits")
            raise

    async def seen(self):
        return self.cancelled

    async def __call__(self, request):
        return await self.through(request.query_params.get("kind", "plain"))


@serve.deployment(max_ongoing_requests=1, max_queued_requests=1)
class Narrow:
    async def __call__(self, request=None):
        await asyncio.sleep(60)


def outcome(function):
    try:
        return function()
    except Exception as error:
        return error


if __name__ == "__main__":
    ray.init(num_cpus=16)
    serve.start(http_options={"port": PORT})
    handle = serve.run(Outer.bind(Inner.bind()), name="errors", route_prefix="/errors")
    inner = serve.get_deployment_handle("Inner", "errors")

    error = outcome(lambda: inner.raise_.remote("quota").result())
    print(isinstance(error, QuotaExceeded), isinstance(error, RayTaskError), error.limit)
    print(error.cause, "QuotaExceeded: bob may have 3" in str(error))
    error = outcome(lambda: handle.through.remote("quota").result())
    print(isinstance(error, QuotaExceeded), error.cause.user, type(error.cause).__name__)
    error = outcome(lambda: handle.through.remote("chained").result())
    print(isinstance(error, ValueError), error.cause)
    error = outcome(lambda: handle.through.remote("group").result())
    print(isinstance(error, ExceptionGroup), len(error.cause.exceptions))
    error = outcome(lambda: inner.raise_.remote("lock").result())
    print(isinstance(error, RayTaskError), "NotPicklable" in str(error))
    print(handle.caught.remote("quota").result())

    answer = get("/errors?kind=quota")
    print(answer.status, answer.text)
    print(type(outcome(lambda: handle.nothing.remote().result())).__name__ != "str")
    error = outcome(lambda: handle.nothing.remote().result())
    print(isinstance(error, RayServeException), "nothing" in str(error))
    print(type(outcome(lambda: handle.through.remote().result())).__name__)

    error = outcome(lambda: inner.sleep.remote(60).result(timeout_s=0.2))
    print(type(error).__name__)
    call = handle.waits.remote()
    outcome(lambda: call.result(timeout_s=0.5))
    call.cancel()
    print(type(outcome(call.result)).__name__, call.cancelled())
    print(isinstance(outcome(call.result), RequestCancelledError))
    end = time.monotonic() + 20
    while not handle.seen.remote().result() and time.monotonic() < end:
        time.sleep(0.05)
    print(handle.seen.remote().result())

    narrow = serve.run(Narrow.bind(), name="narrow", route_prefix="/narrow")
    calls = [narrow.remote() for _ in range(8)]
    results = [outcome(lambda c=c: c.result(timeout_s=1)) for c in calls]
    refused = [r for r in results if isinstance(r, BackPressureError)]
    print(len(refused) >= 1, "backpressure" in str(refused[0]))

    error = outcome(lambda: inner.die.remote().result())
    print(isinstance(error, (ActorDiedError, RayActorError)))
    print(inner.sleep.remote(0).result(timeout_s=60))
    for call, result in zip(calls, results):
        if isinstance(result, TimeoutError):
            call.cancel()
    serve.shutdown()
