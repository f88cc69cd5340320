# SPDX-License-Identifier: Apache-2.0
"""What a Python replica keeps after many requests: nothing.

A leak of 50 bytes a request would show: memory is measured around 100,000 of them, after as many have
warmed it up as bring every pool to its size.
"""

from test_python import drive  # noqa: F401  (a fixture)

LEAKS = """
import http.client, pathlib, resource

@serve.deployment(max_ongoing_requests=1000)
class Callee:
    async def __call__(self, request):
        await asyncio.sleep(0)
        return "body"
    async def same(self, value):
        return value
    async def later(self, value):
        await asyncio.sleep(0)
        return (value,)
    def in_thread(self, value):
        return value
    async def fail(self):
        raise ValueError("told")
    async def items(self, count):
        for i in range(count):
            yield i
    async def forever(self):
        await asyncio.sleep(600)
    @serve.batch(max_batch_size=50, batch_wait_timeout_s=0.001)
    async def batch(self, values):
        return values

@serve.deployment(max_ongoing_requests=1000)
class Caller:
    def __init__(self, callee):
        self.callee = callee

    async def calls(self, rounds):
        for number in range(rounds):
            fresh = serve.get_deployment_handle("Callee", "default")
            calls = [getattr(self.callee, name).remote(number) for name in ("same", "later", "batch") for _ in range(30)]
            calls += [fresh.options(method_name="later").remote({"key": [number]}) for _ in range(8)]
            await asyncio.gather(*calls)
            try:
                await fresh.fail.remote()
            except ValueError:
                pass
            assert [i async for i in fresh.options(stream=True).items.remote(5)] == [0, 1, 2, 3, 4]

    async def rare(self, rounds):
        for number in range(rounds):
            await self.callee.in_thread.remote(number)
            call = self.callee.forever.remote()
            await asyncio.sleep(0)
            call.cancel()
            waiting = asyncio.ensure_future(call)
            await asyncio.wait([waiting])
            assert waiting.cancelled() or waiting.exception() is not None

caller = serve.run(Caller.bind(Callee.bind()), route_prefix="/")
found = instance.must_join().status()["applications"]["default"]["deployments"]
pids = {name: found[name]["replicas"][0]["pid"] for name in ("Caller", "Callee")}

def used():
    return {name: (int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize(),
                   len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir())),
                   len(list(pathlib.Path(f"/proc/{pid}/task").iterdir())))
            for name, pid in pids.items()}

def check(load, warm, count, most):
    load(warm)
    before = used()
    load(count)
    after = used()
    for name in pids:
        (memory, files, threads), (memory_now, files_now, threads_now) = before[name], after[name]
        assert memory_now - memory < most, (name, before, after)
        assert files_now <= files + 1 and threads_now <= threads + 2, (name, before, after)
"""


def test_nothing_is_kept_of_a_hundred_thousand_requests(drive):  # noqa: F811
    drive(LEAKS + """
check(lambda rounds: caller.calls.remote(rounds).result(), 300, 1000, 4 << 20)
""")


def test_nothing_is_kept_of_cancelled_calls_and_threads(drive):  # noqa: F811
    drive(LEAKS + """
check(lambda rounds: caller.rare.remote(rounds).result(), 500, 2000, 2 << 20)
""")


def test_nothing_is_kept_of_http_requests_and_of_a_drivers_calls(drive):  # noqa: F811
    drive(LEAKS + """
serve.run(Callee.bind(), name="web", route_prefix="/web")
pids["Callee"] = instance.must_join().status()["applications"]["web"]["deployments"]["Callee"]["replicas"][0]["pid"]
pids["driver"] = os.getpid()
handle = serve.get_deployment_handle("Callee", "web")
def load(count):
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    for i in range(count):
        connection.request("GET", "/web")
        assert connection.getresponse().read() == b"body"
        assert handle.later.remote(i).result() == (i,)
    for _ in range(count // 100):
        calls = [handle.same.remote(i) for i in range(100)]
        assert sum(call.result() for call in calls) == sum(range(100))
check(load, 500, 4000, 2 << 20)
""")
