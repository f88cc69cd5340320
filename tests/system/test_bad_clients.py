# SPDX-License-Identifier: Apache-2.0
"""Clients that stop reading, stop writing, vanish, come in thousands or drip: each costs only itself.

All of them meet one service with short time limits.  What is measured is never how long something took,
only that it ended, and how.
"""

import contextlib

import pytest
from conftest import running_service, wait_until
from gate import Gate
from plain_http import Connection, get
from processes import cpu_s, descriptor_count, memory_bytes

MIB = 1 << 20


@pytest.fixture(scope="module")
def service(manta_build):
    environment = {"MANTA_HTTP_HEAD_TIMEOUT_MS": "300", "MANTA_HTTP_PROGRESS_TIMEOUT_MS": "500"}
    with running_service(manta_build, ["--keep-alive-ms", "3000"], environment) as service:
        service.deploy("mirror", "/", "tests/objects/libmirror.so:mirror")
        service.deploy("puppet", "/puppet", "tests/objects/libpuppet.so:puppet")
        service.deploy("reader", "/reader", "tests/objects/libpuppet.so:puppet", "stream_body=1")
        yield service
        # Whatever the tests of this file did: it serves, and has the processes that it began with.
        assert get(service.port, "/").status == 200
        names = sorted(service.processes().values())
        assert names == ["manta-controller", "manta-node", "manta-proxy"] + ["manta-replica"] * 3


@pytest.fixture
def connection(service):
    with Connection(service.port) as connection:
        yield connection


@pytest.fixture
def gate(service):
    with Gate(service.world.directory) as gate:
        yield gate


def drip(connection, data):
    """A byte at a time, until the peer says something; how many were sent."""
    for sent, byte in enumerate(data):
        if connection.is_readable(0.01):
            return sent
        connection.send(bytes([byte]))
    return len(data)


# ---- clients that stop writing


@pytest.mark.quick
def test_a_head_that_stops_is_answered_408_and_closed(connection):
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Part")
    answer = connection.answer()
    assert answer.status == 408 and answer.closes
    assert connection.rest() == b""


@pytest.mark.quick
def test_a_head_that_drips_gets_no_more_time_than_one_that_stops(connection):
    """Slow loris: every byte is progress, and none of it counts."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Filler: yes\r\n" * 1000
    assert drip(connection, head) < len(head)
    assert connection.answer().status == 408
    assert connection.rest() == b""


def test_slow_lorises_in_number_leave_the_others_alone(service):
    lorises = [Connection(service.port) for _ in range(200)]
    for loris in lorises:
        loris.send(b"GET / HTTP/1.1\r\nHost:")
    for _ in range(50):
        assert get(service.port, "/").status == 200
    assert [loris.answer().status for loris in lorises] == [408] * 200
    for loris in lorises:
        loris.close()


@pytest.mark.quick
def test_a_small_body_that_stops_is_answered_408_without_a_replica(connection, gate):
    connection.ask(f"/puppet?{gate.query}", method="POST", fields=[("Content-Length", "10")])
    connection.send(b"12345")
    answer = connection.answer()
    assert answer.status == 408 and answer.closes
    assert connection.rest() == b""
    assert gate.stays_empty()


def test_a_large_body_that_stops_is_answered_408_and_cancelled(connection, gate):
    connection.ask(f"/reader?{gate.query}", method="POST", fields=[("Content-Length", str(10 * MIB))])
    inside = gate.next()
    connection.send(bytes(300_000))
    inside.tell("r")
    assert connection.answer().status == 408
    assert connection.rest() == b""
    lines = {inside.line(), inside.line().split()[0]}
    assert lines == {"cancelled", "broken"}


def test_a_body_that_drips_is_patience_well_spent(connection):
    """The limit of a body is from byte to byte: who goes on sending is served, however slowly."""
    connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
    assert drip(connection, b"x" * 100) == 100
    assert connection.answer().body == b"x" * 100


@pytest.mark.quick
def test_an_idle_connection_is_closed_without_a_word(connection):
    assert connection.get("/").status == 200
    assert connection.rest() == b""


# ---- clients that stop reading


def test_a_client_that_stops_reading_is_closed_and_its_request_cancelled(service, gate):
    with Connection(service.port, receive_buffer=4096) as connection:
        connection.ask(f"/puppet?{gate.query}")
        inside = gate.next()
        inside.tell("sW")
        lines = [inside.line(), inside.line()]
        assert "cancelled" in lines and any(line.startswith("full ") for line in lines)
    assert get(service.port, "/").status == 200


def test_clients_that_never_read_their_answers_cost_bounded_memory(service):
    """Pipelined requests whose answers nobody fetches: reading stops when enough is unsent."""
    proxy = service.processes("manta-proxy")[0]
    before = memory_bytes(proxy)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + bytes(60_000)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(Connection(service.port, receive_buffer=4096))
            connection.socket.settimeout(0.2)
            with contextlib.suppress(TimeoutError, ConnectionError):
                for _ in range(400):
                    connection.send(request)
        assert get(service.port, "/").status == 200
        assert memory_bytes(proxy) - before < 64 * MIB


# ---- clients that leave


@pytest.mark.quick
@pytest.mark.parametrize("way", ["close", "reset", "end_sending"])
def test_a_client_that_leaves_cancels_its_request(service, gate, way):
    connection = Connection(service.port)
    connection.ask(f"/puppet?{gate.query}")
    inside = gate.next()
    getattr(connection, way)()
    assert inside.line() == "cancelled"
    inside.tell("a")  # an answer to nobody is dropped
    connection.close()
    assert get(service.port, "/puppet").status == 200


def test_a_client_that_leaves_while_its_request_waits_frees_the_place_in_the_queue(manta_service):
    with manta_service() as service, Gate(service.world.directory) as gate:
        service.deploy("puppet", "/", "tests/objects/libpuppet.so:puppet", "max_ongoing_requests=1", "max_queued_requests=1")
        first, one, other = (Connection(service.port) for _ in range(3))
        first.ask(f"/?{gate.query}")
        inside = gate.next()
        one.ask(f"/?{gate.query}")
        other.ask(f"/?{gate.query}")
        wait_until(lambda: one.is_readable() or other.is_readable(), "one of them is refused")
        refused, waiting = (one, other) if one.is_readable() else (other, one)
        assert refused.answer().status == 503
        waiting.reset()

        def is_queued():
            refused.ask(f"/?{gate.query}")
            return not refused.is_readable(0.5) or refused.answer().status != 503

        wait_until(is_queued, "there is room in the queue again")
        inside.tell("a")
        assert first.answer().status == 200
        gate.next().tell("a")
        assert refused.answer().status == 200
        first.close()
        refused.close()


def test_clients_that_leave_in_the_middle_of_everything_leave_nothing_behind(service):
    proxy = service.processes("manta-proxy")[0]
    wait_until(lambda: get(service.port, "/").status == 200, "the service answers")
    before = descriptor_count(proxy)
    beginnings = [
        b"",
        b"GET",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET /puppet HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(70_000),
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + bytes(30_000),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 40,
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    ]
    for turn in range(10):
        for beginning in beginnings:
            connection = Connection(service.port)
            connection.send(beginning)
            (connection.reset if turn % 2 else connection.close)()
    wait_until(lambda: descriptor_count(proxy) <= before, "the proxy has closed every connection")
    assert get(service.port, "/").status == 200
    assert get(service.port, "/puppet").status == 200


# ---- clients in number


def test_two_thousand_idle_connections_disturb_nobody(manta_house):
    proxy = manta_house.processes("manta-proxy")[0]
    before, count = memory_bytes(proxy), descriptor_count(proxy)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Connection(manta_house.port)) for _ in range(2000)]
        wait_until(lambda: descriptor_count(proxy) >= count + 2000, "all are accepted")
        for _ in range(100):
            assert get(manta_house.port, "/").status == 200
        assert memory_bytes(proxy) - before < 2000 * 4096
        used = cpu_s(proxy)
        assert [connection.get("/").status for connection in idle[::100]] == [200] * 20
        assert cpu_s(proxy) - used < 1  # they cost nothing as long as they are idle
        for connection in idle[1::2]:
            connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [connection.answer().status for connection in idle[1::2]] == [200] * 1000
    wait_until(lambda: descriptor_count(proxy) <= count, "all are closed")


def test_past_the_limit_of_connections_the_next_one_waits_for_a_place(manta_service):
    with manta_service(environment={"MANTA_HTTP_CONNECTION_LIMIT": "20"}) as service:
        service.deploy("mirror", "/", "tests/objects/libmirror.so:mirror")
        proxy = service.processes("manta-proxy")[0]
        held = [Connection(service.port) for _ in range(20)]
        assert [connection.get("/").status for connection in held] == [200] * 20
        waiting = [Connection(service.port) for _ in range(5)]
        for connection in waiting:
            connection.ask("/waited")
        used = cpu_s(proxy)
        # Those inside go on; those outside are neither refused nor served.
        assert [connection.get("/").status for connection in held * 10] == [200] * 200
        assert not any(connection.is_readable() for connection in waiting)
        assert cpu_s(proxy) - used < 2
        for connection in held[:5]:
            connection.close()
        assert [connection.answer().field("x-path") for connection in waiting] == ["/waited"] * 5
        for connection in held + waiting:
            connection.close()
