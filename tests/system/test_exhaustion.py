# SPDX-License-Identifier: Apache-2.0
"""What runs out: descriptors, connections' and requests' places, memory for bodies.

Each time the same three questions: is the refusal clear and at once, do those inside go on, and is everything
back to normal when there is room again?  And nothing may spin meanwhile: the processor time that is used while
a process is full is bounded.
"""

import contextlib
import os
import resource
import signal
import socket
import time

import pytest
from conftest import wait_until
from crowd import Crowd
from gate import Gate
from plain_http import Broken, Connection, get, in_chunks, pattern
from processes import cpu_s, descriptor_count, memory_bytes

MIRROR = "tests/objects/libmirror.so:mirror"
PUPPET = "tests/objects/libpuppet.so:puppet"
MIB = 1 << 20


def limit_descriptors(pid, further):
    """Lets a running process open so many more descriptors; returns how to take that back."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptor_count(pid) + further, before[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def was_closed(connection):
    """The peer ended it without a word."""
    try:
        connection.answer()
    except (Broken, ConnectionError) as end:
        return getattr(end, "got", b"") == b""
    return False


# ---- descriptors


def test_a_proxy_without_descriptors_refuses_keeps_and_recovers(manta_service):
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        proxy = service.processes("manta-proxy")[0]
        restore = limit_descriptors(proxy, 20)
        with contextlib.ExitStack() as stack:
            held, refused = [], 0
            used = cpu_s(proxy)
            for _ in range(60):
                connection = stack.enter_context(Connection(service.port))
                # A client that is refused may find that out while it still writes.
                with contextlib.suppress(ConnectionError):
                    connection.ask("/")
                if was_closed(connection):
                    refused += 1
                else:
                    held.append(connection)
            assert refused >= 30 and len(held) >= 15
            # Those inside are served on, and being full costs no processor.
            for _ in range(20):
                assert {connection.get("/").status for connection in held} == {200}
            assert cpu_s(proxy) - used < 2
            # One leaves, one may come.
            held.pop().close()

            def comes_in():
                with Connection(service.port) as connection, contextlib.suppress(Broken, ConnectionError):
                    return connection.get("/").status == 200

            wait_until(comes_in, "somebody comes in again")
            restore()
            wait_until(comes_in, "with descriptors everybody comes in")
            assert [get(service.port, "/").status for _ in range(100)] == [200] * 100


def test_a_full_proxy_at_rest_costs_no_processor(manta_service):
    """Connections knock at a proxy that cannot take them: it looks now and then, it does not spin."""
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        proxy = service.processes("manta-proxy")[0]
        limit_descriptors(proxy, 0)
        with contextlib.ExitStack() as stack:
            # The first of them fill what holes there are; behind them nobody comes in.
            knocking = [stack.enter_context(Connection(service.port)) for _ in range(200)]
            used, closed = cpu_s(proxy), 0
            while closed < 20:
                ended = [connection for connection in knocking if connection.is_readable()]
                assert all(was_closed(connection) for connection in ended)
                knocking = [connection for connection in knocking if connection not in ended]
                closed += len(ended)
            assert cpu_s(proxy) - used < 0.5  # twenty pauses take a second


@pytest.mark.parametrize("name", ["manta-replica", "manta-node", "manta-controller"])
def test_a_process_without_descriptors_waits_for_them_and_recovers(manta_service, name):
    """Connections knock at its Unix socket; requests go on, it does not spin, and later all is as before."""
    with manta_service() as service, contextlib.ExitStack() as stack:
        service.deploy("mirror", "/", MIRROR)
        pid = service.processes(name)[0]
        directory = service.world.directory / "manta" / service.NAME
        path = {"manta-node": "node.sock", "manta-controller": "controller.sock"}.get(name, "replica-1.sock")
        restore = limit_descriptors(pid, 0)
        for _ in range(30):
            knocking = stack.enter_context(socket.socket(socket.AF_UNIX))
            knocking.connect(str(directory / path))
        used, until = cpu_s(pid), time.monotonic() + 0.5
        while time.monotonic() < until:
            assert get(service.port, "/").status == 200
        assert cpu_s(pid) - used < 0.4
        restore()
        stack.close()
        service.deploy("replies", "/replies", "tests/objects/libreplies.so:replies")
        os.kill(service.processes("manta-proxy")[0], signal.SIGKILL)
        assert get(service.port, "/").status == 200
        assert get(service.port, "/replies/int").status == 200


def test_a_new_proxy_waits_for_the_descriptor_of_a_full_replica(manta_service):
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        assert get(service.port, "/").status == 200
        restore = limit_descriptors(service.processes("manta-replica")[0], 0)
        os.kill(service.processes("manta-proxy")[0], signal.SIGKILL)
        with Connection(service.port) as connection:
            connection.ask("/")
            # Whether it fits into what the dead proxy left free depends on the holes; what counts is the end.
            connection.is_readable(0.2)
            restore()
            assert connection.answer().status == 200


# ---- requests


def test_past_the_limit_of_requests_the_next_one_is_refused(manta_service):
    with manta_service(environment={"MANTA_REQUEST_LIMIT": "8"}) as service, Gate(service.world.directory) as gate:
        service.deploy("puppet", "/", PUPPET, "max_ongoing_requests=4")
        connections = [Connection(service.port) for _ in range(20)]
        for connection in connections:
            connection.ask(f"/?{gate.query}")
        inside = [gate.next() for _ in range(4)]
        refused = []
        while len(refused) < 12:
            refused += [one for one in connections if one not in refused and one.is_readable(0.01)]
        assert {connection.answer().status for connection in refused} == {503}
        for one in inside:
            one.tell("a")
        for _ in range(4):
            gate.next().tell("a")
        assert [one.answer().status for one in connections if one not in refused] == [200] * 8
        assert refused[0].get("/").status == 200  # a refusal leaves the connection as it was
        for connection in connections:
            connection.close()


# ---- memory


def test_bodies_past_the_byte_budget_are_refused_and_memory_stays_bounded(manta_service):
    """A budget of 8 MiB, and twenty bodies of 1 MiB at once, each of them in and out."""
    with manta_service(environment={"MANTA_PROCESS_BYTE_BUDGET": str(8 * MIB)}) as service:
        service.deploy("mirror", "/", MIRROR, "max_ongoing_requests=100")
        pids = [service.processes(name)[0] for name in ("manta-proxy", "manta-replica")]
        before = {pid: memory_bytes(pid) for pid in pids}
        with Crowd(service.port, "/", threads=20, body_size=MIB) as crowd:
            wait_until(lambda: crowd.count() >= 200 and crowd.count(200) >= 5, "two hundred of them are over")
            counts = crowd.stop()
        assert set(counts) <= {200, 503}
        for pid in pids:
            assert memory_bytes(pid, "VmHWM") - before[pid] < 32 * MIB
        with Connection(service.port) as connection:
            for _ in range(10):
                connection.ask("/", method="POST", body=pattern(MIB))
                assert connection.answer().body == pattern(MIB)


def test_small_requests_pass_while_large_bodies_fill_the_budget(manta_service):
    with manta_service(environment={"MANTA_PROCESS_BYTE_BUDGET": str(2 * MIB)}) as service:
        with Gate(service.world.directory) as gate, contextlib.ExitStack() as stack:
            service.deploy("reader", "/reader", PUPPET, "stream_body=1", "max_ongoing_requests=64", "threads=64")
            service.deploy("mirror", "/", MIRROR)
            stuck = []
            for _ in range(20):
                connection = stack.enter_context(Connection(service.port))
                connection.ask(f"/reader?{gate.query}", method="POST", fields=[("Content-Length", str(8 * MIB))])
                connection.socket.settimeout(0.05)
                sent = 0
                with contextlib.suppress(TimeoutError):
                    while sent < 8 * MIB:
                        sent += connection.socket.send(bytes(min(65536, 8 * MIB - sent)))
                stuck.append((connection, sent))
                connection.socket.settimeout(30)
            # Whoever reads nothing of what came holds the budget; a small request still needs little of it.
            with Connection(service.port) as small:
                assert small.get("/").status in (200, 503)
            for _ in stuck:
                gate.next().tell("r")
            for connection, sent in stuck:
                while sent < 8 * MIB:
                    sent += connection.socket.send(bytes(min(65536, 8 * MIB - sent)))
            for inside in gate.insides:
                assert inside.line() == f"read {8 * MIB} 0"
                inside.tell("a")
            assert [connection.answer().status for connection, _ in stuck] == [200] * 20
            assert get(service.port, "/").status == 200


def test_an_answer_larger_than_the_replicas_budget_is_an_error_and_no_end(manta_service):
    with manta_service(environment={"MANTA_PROCESS_BYTE_BUDGET": str(2 * MIB)}) as service:
        service.deploy("replies", "/", "tests/objects/libreplies.so:replies")
        with Connection(service.port) as connection:
            answer = connection.get(f"/large?size={20 * MIB}")
            assert answer.status in (500, 503)
            assert connection.get(f"/large?size={MIB}").body == pattern(MIB)
            assert connection.get(f"/stream?size={20 * MIB}").body == pattern(20 * MIB)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_larger_than_a_replica_collects_is_refused_with_413(manta_service, framing):
    with manta_service(environment={"MANTA_BODY_COLLECT_LIMIT": str(MIB)}) as service:
        service.deploy("mirror", "/", MIRROR)
        body = pattern(3 * MIB)
        with Connection(service.port) as connection:
            with contextlib.suppress(ConnectionError):
                if framing == "length":
                    connection.ask("/", method="POST", body=body)
                else:
                    connection.ask("/", method="POST", fields=[("Transfer-Encoding", "chunked")])
                    connection.send(in_chunks(body, 50_000))
            assert connection.answer().status == 413
        with Connection(service.port) as connection:
            connection.ask("/", method="POST", body=body[:MIB])
            assert connection.answer().body == body[:MIB]


def test_headers_that_do_not_fit_the_requests_memory_are_refused(manta_service):
    with manta_service(environment={"MANTA_REQUEST_ARENA_LIMIT": "8192"}) as service:
        service.deploy("replies", "/", "tests/objects/libreplies.so:replies")
        with Connection(service.port) as connection:
            answer = connection.get("/headers", fields=[(f"x-{n}", "y" * 200) for n in range(90)])
            assert answer.status in (200, 431, 500, 503)
            assert connection.get("/int").status == 200
