# SPDX-License-Identifier: Apache-2.0
"""What a program looks like whose author has a type checker; test_python_types.py runs mypy over it.

mypy does not see what a decorator makes of a class, here as with Ray Serve: a class whose `bind` it shall know is
made a deployment by a call.
"""

from typing import Any, AsyncIterator

from manta import serve
from manta.serve.config import AutoscalingConfig
from manta.serve.handle import DeploymentHandle


class Adder:
    def __init__(self, increment: int) -> None:
        self.increment = increment

    async def __call__(self, number: int) -> int:
        return number + self.increment

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number


class Front:
    def __init__(self, adder: "DeploymentHandle[Any]") -> None:
        self.adder = adder

    async def __call__(self, number: int) -> Any:
        return await self.adder.remote(number)


@serve.deployment(num_replicas=2, max_ongoing_requests=10)
def double(number: int) -> int:
    return 2 * number


adder_deployment: serve.Deployment = serve.deployment(num_replicas=2)(Adder)
front_deployment: serve.Deployment = serve.deployment(Front)
scaled: serve.Deployment = front_deployment.options(autoscaling_config=AutoscalingConfig(max_replicas=3), name="scaled")
app: serve.Application = front_deployment.bind(adder_deployment.bind(3))


def main() -> int:
    serve.start(http_options={"port": 0})
    handle = serve.run(app, name="typed", route_prefix=None)
    twice = serve.run(double.bind(), name="double", route_prefix=None)
    if not serve.status().applications["typed"].status:
        return 1
    total: int = handle.remote(1).result(timeout_s=10.0) + twice.remote(2).result()
    serve.shutdown()
    return 0 if total == 8 else 1


if __name__ == "__main__":
    raise SystemExit(main())
