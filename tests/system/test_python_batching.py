# SPDX-License-Identifier: Apache-2.0
"""Batches that a replica forms of requests for the batched function itself, without a task for each.

What callers see is what tests/conform/python says of batches; here are the ends of single requests.
"""

from test_python import drive  # noqa: F401  (a fixture)

BATCHES = """
@serve.deployment(max_ongoing_requests=1000)
class Batches:
    def __init__(self):
        self.sizes = []
        self.gate = asyncio.Event()

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.05)
    async def double(self, numbers, add=0):
        self.sizes.append(len(numbers))
        if "bad" in numbers:
            raise ValueError("a bad number")
        if "short" in numbers:
            return numbers[:-1]
        return [threading.Lock() if number == "lock" else number * 2 for number in numbers]

    @serve.batch(max_batch_size=1)
    async def wait(self, numbers):
        self.gate.clear()
        await self.gate.wait()
        return numbers

    @serve.batch(max_batch_size=4)
    async def models(self, numbers):
        return [serve.get_multiplexed_model_id()] * len(numbers)

    async def open(self):
        self.gate.set()

    async def told(self):
        sizes, self.sizes = self.sizes, []
        return sizes

batches = serve.run(Batches.bind(), route_prefix=None)
"""


def test_requests_for_a_batched_method_are_one_batch(drive):  # noqa: F811
    drive(BATCHES + """
calls = [batches.double.remote(i) for i in range(20)]
assert [call.result() for call in calls] == [2 * i for i in range(20)]
sizes = batches.told.remote().result()
assert sum(sizes) == 20 and max(sizes) <= 8 and len(sizes) < 20, sizes
assert batches.double.remote(3, add=1).result() == 6
assert batches.models.options(multiplexed_model_id="m").remote(1).result() == "m"
""")


def test_a_batched_function_is_a_deployment(drive):  # noqa: F811
    drive("""
@serve.deployment(max_ongoing_requests=100)
@serve.batch(max_batch_size=4)
async def triple(numbers):
    return [3 * number for number in numbers]
handle = serve.run(triple.bind(), route_prefix=None)
calls = [handle.remote(i) for i in range(10)]
assert [call.result() for call in calls] == [3 * i for i in range(10)]
""")


def test_each_request_of_a_batch_that_fails_is_told_why(drive):  # noqa: F811
    drive(BATCHES + """
def outcome(*args):
    try:
        return batches.double.remote(*args).result()
    except Exception as error:
        return f"{type(error).__mro__}{error}"
assert "ValueError" in outcome("bad") and "a bad number" in outcome("bad")
assert "Batched function doesn't preserve batch size" in outcome("short")
assert "cannot pickle" in outcome("lock")
assert "missing a required argument" in outcome() and "too many positional" in outcome(1, 2, 3)
assert outcome(4) == 8
""")


def test_a_request_cancelled_before_its_batch_is_left_out_and_one_within_it_ends(drive):  # noqa: F811
    drive(BATCHES + """
from manta.serve.exceptions import RequestCancelledError
def cancelled(call):
    call.cancel()
    try:
        call.result()
    except RequestCancelledError:
        return True
within, queued, last = (batches.wait.remote(i) for i in range(3))
time.sleep(0.2)
assert cancelled(queued) and cancelled(within)
until(lambda: batches.open.remote().result() is None and last._reply.done, "the last batch runs")
assert last.result() == 2
assert batches.double.remote(1).result() == 2
""")
