# SPDX-License-Identifier: Apache-2.0
"""After warm-up a unary keep-alive request asks the heap for nothing, neither in the proxy nor in the replica.

Every process of the instance runs with preload/count_malloc.c, which counts malloc, calloc, realloc and free in a
mapped file.  The mirror's own code asks for no memory, so that what is counted is Manta's and its libraries'.

What is kept for reuse grows to what was ever needed at once, for instance a second buffer when a heartbeat is read in
the same turn as a request.  So the warm-up goes on until nothing was asked for during several rounds, with
heartbeats as often as they may come; then comes the round that counts.
"""

import pathlib
import struct

import pytest
from conftest import wait_until
from crowd import Crowd
from plain_http import Connection

REQUESTS = 2000  # of a round
QUIET_ROUNDS = 3  # in a row, and the process is warm
ROUNDS_MOST = 30


class Counters:
    def __init__(self, directory):
        self.directory = directory

    def read(self, pid):
        """(allocations, frees) of a process so far."""
        return struct.unpack("=QQ", (self.directory / str(pid)).read_bytes())

    def sum(self, pids):
        return tuple(sum(counts) for counts in zip(*map(self.read, pids)))


@pytest.fixture
def counted(manta_build, manta_service, tmp_path):
    library = pathlib.Path(manta_build) / "tests/system/count_malloc.so"
    environment = {
        "LD_PRELOAD": str(library),
        "MANTA_COUNT_DIRECTORY": str(tmp_path),
        "MANTA_PING_PERIOD_MS": "10",
    }
    with manta_service(environment=environment) as service:
        service.deploy("mirror", "/", "tests/objects/libmirror.so:mirror")
        pids = {name: service.processes(name)[0] for name in ("manta-proxy", "manta-replica")}
        counters = Counters(tmp_path)
        for pid in pids.values():
            assert counters.read(pid)[0] > 10  # it counts: starting asks for memory
        yield service, counters, pids


def assert_quiet_when_warm(counters, pids, one_round):
    quiet, rounds = 0, 0
    while quiet < QUIET_ROUNDS:
        before = {name: counters.read(pid) for name, pid in pids.items()}
        one_round()
        quiet = quiet + 1 if before == {name: counters.read(pid) for name, pid in pids.items()} else 0
        rounds += 1
        assert rounds < ROUNDS_MOST, "the warm-up does not end"
    before = {name: counters.read(pid) for name, pid in pids.items()}
    one_round()
    assert {name: counters.read(pid) for name, pid in pids.items()} == before


def ask(connection, count, **options):
    for _ in range(count):
        connection.ask("/a/b?c=d", fields=[("Accept", "*/*"), ("User-Agent", "test")], **options)
        assert connection.answer().status == 200


@pytest.mark.parametrize("body", [None, b"x" * 1000], ids=["GET", "POST of 1,000 bytes"])
def test_a_keep_alive_request_allocates_nothing_after_warm_up(counted, body):
    service, counters, pids = counted
    options = {"method": "POST", "body": body} if body else {}
    with Connection(service.port) as connection:
        assert_quiet_when_warm(counters, pids, lambda: ask(connection, REQUESTS, **options))


def test_requests_side_by_side_allocate_nothing_after_warm_up(counted):
    service, counters, pids = counted
    with Crowd(service.port, "/", threads=8, body_size=500) as crowd:

        def one_round():
            wanted = crowd.count() + REQUESTS
            wait_until(lambda: crowd.count() >= wanted, f"{REQUESTS} further requests")

        assert_quiet_when_warm(counters, pids, one_round)
        assert set(crowd.stop()) == {200}


def test_what_is_allocated_is_given_back(counted):
    """M1: bodies, streams, connections and refusals come and go; nothing stays."""
    service, counters, pids = counted

    def everything():
        for _ in range(20):
            with Connection(service.port) as connection:
                connection.ask("/", method="POST", body=bytes(300_000))
                assert connection.answer().status == 200
                connection.get("/", method="HEAD")
                connection.send(b"GET / HTTP/9.9\r\n\r\n")
                assert connection.answer().status == 505
            with Connection(service.port) as connection:
                connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + bytes(200_000))

    def held():
        allocations, frees = counters.sum(pids.values())
        return allocations - frees

    everything()
    with Connection(service.port) as connection:
        ask(connection, 10)
    most = held()
    for _ in range(5):
        everything()
    with Connection(service.port) as connection:
        ask(connection, 10)
    wait_until(lambda: held() <= most + 8, f"no more than {most} blocks are held; it is {held()}")
