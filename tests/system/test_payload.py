# SPDX-License-Identifier: Apache-2.0
"""Large bodies through a whole instance: by reference where that can be, byte for byte in any case.

Whether memory is shared shows in the maps of the processes.  Memory and descriptors are judged after a
warm-up, with room for what is kept for reuse.
"""

import os
import pathlib
import random
import resource
import signal
import socket
import threading

import pytest
from conftest import wait_until
from plain_http import Connection, pattern
from processes import descriptor_count, memory_bytes

MIRROR = "tests/objects/libmirror.so:mirror"
REPLIES = "tests/objects/libreplies.so:replies"
KIB, MIB = 1 << 10, 1 << 20
ROLES = ["manta-proxy", "manta-replica"]


def shares_memory(pid):
    return "memfd:manta-payload" in pathlib.Path(f"/proc/{pid}/maps").read_text()


def pids(service):
    return {name: service.processes(name) for name in ROLES}


def echo(connection, body, path="/", **options):
    connection.ask(path, "POST", body=body, **options)
    answer = connection.answer("POST")
    assert answer.status == 200, answer
    assert answer.body == body, f"{len(answer.body)} bytes for {len(body)}, or others"
    return answer


SIZES = [64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 100_000, MIB, MIB + 1, 3 * MIB + 17, 40 * MIB]


@pytest.mark.quick
def test_large_bodies_come_back_byte_for_byte_and_are_not_copied_through_the_socket(manta_service):
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        with Connection(service.port) as connection:
            echo(connection, b"small")
            assert not any(shares_memory(pid) for name in ROLES for pid in service.processes(name))
            for size in SIZES:
                echo(connection, pattern(size))
            for size in reversed(SIZES):
                echo(connection, pattern(size))
        for name, found in pids(service).items():
            assert all(shares_memory(pid) for pid in found), name


def test_without_shared_memory_it_is_the_same(manta_service):
    with manta_service(environment={"MANTA_PAYLOAD_BYTE_LIMIT": "0"}) as service:
        service.deploy("mirror", "/", MIRROR)
        with Connection(service.port) as connection:
            for size in SIZES:
                echo(connection, pattern(size))
        assert not any(shares_memory(pid) for name in ROLES for pid in service.processes(name))


def test_old_clients_and_those_that_ask_first(manta_service):
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        with Connection(service.port) as connection:
            answer = echo(connection, pattern(MIB), version="1.0")
            assert answer.closes
        with Connection(service.port) as connection:
            connection.ask("/", "POST", [("expect", "100-continue"), ("content-length", str(MIB))])
            assert connection.is_readable(5)
            connection.send(pattern(MIB))
            answer = connection.answer("POST")
            assert answer.interim == [100] and answer.body == pattern(MIB)


def test_memory_that_nobody_uses_any_more_is_given_back(manta_service):
    with manta_service(environment={"MANTA_PAYLOAD_IDLE_MS": "100"}) as service:
        service.deploy("mirror", "/", MIRROR)
        with Connection(service.port) as connection:
            echo(connection, b"first")
            before = {pid: descriptor_count(pid) for name in ROLES for pid in service.processes(name)}
            for _ in range(3):
                echo(connection, pattern(2 * MIB))
                for pid in before:
                    wait_until(lambda pid=pid: not shares_memory(pid), "it is unmapped")
            for pid, count in before.items():
                wait_until(lambda pid=pid, count=count: descriptor_count(pid) <= count, "descriptors are as before")


def test_thousands_of_bodies_of_many_sizes_leave_memory_and_descriptors_as_they_were(manta_service):
    chance = random.Random(1)

    def some(connection, count):
        for _ in range(count):
            size = chance.choice([70_000, 130_000, 300_000, MIB, chance.randrange(64 * KIB, 2 * MIB)])
            echo(connection, pattern(size))

    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        with Connection(service.port) as connection:
            some(connection, 300)
            processes = [pid for name in ROLES for pid in service.processes(name)]
            before = {pid: (memory_bytes(pid), descriptor_count(pid)) for pid in processes}
            some(connection, 1500)
            for pid, (memory, descriptors) in before.items():
                assert memory_bytes(pid) < memory + 24 * MIB
                assert descriptor_count(pid) <= descriptors + 6


def test_many_clients_at_once_with_large_bodies(manta_service):
    with manta_service(options=["--proxies", "2"]) as service:
        service.deploy("mirror", "/", MIRROR, "num_replicas=2")
        failures = []

        def client(seed):
            chance = random.Random(seed)
            try:
                with Connection(service.port) as connection:
                    for _ in range(30):
                        echo(connection, bytes([seed]) + pattern(chance.randrange(60 * KIB, 2 * MIB)))
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]


# ---- somebody goes


def test_replicas_that_are_killed_with_bodies_in_hand(manta_service):
    """Each request ends, with its body or an error; the others go on; nothing piles up."""
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR, "num_replicas=2")
        stop, failures, answered, failed = threading.Event(), [], [0], [0]

        def client(seed):
            body = bytes([seed]) + pattern(2 * MIB)
            try:
                with Connection(service.port) as connection:
                    while not stop.is_set():
                        connection.ask("/", "POST", body=body)
                        answer = connection.answer("POST")
                        assert answer.status in (200, 500, 503), answer
                        assert answer.status != 200 or answer.body == body
                        (answered if answer.status == 200 else failed)[0] += 1
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(6):
            seen = answered[0]
            wait_until(lambda seen=seen: answered[0] > seen + 10 or failures, "requests are answered")
            for pid in service.processes("manta-replica")[:1]:
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(service.processes("manta-replica")) == 2 or failures, "two replicas run again")
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        assert failed[0] <= 6 * 4
        proxy = service.processes("manta-proxy")[0]
        with Connection(service.port) as connection:
            echo(connection, pattern(MIB))
        assert descriptor_count(proxy) < 100


def test_a_proxy_that_is_killed_leaves_its_replica_as_it_was(manta_service):
    with manta_service(environment={"MANTA_PAYLOAD_IDLE_MS": "200"}) as service:
        service.deploy("mirror", "/", MIRROR)
        replica = service.processes("manta-replica")[0]
        with Connection(service.port) as connection:
            echo(connection, b"first")
        before = descriptor_count(replica)
        for _ in range(5):
            with Connection(service.port) as connection:
                echo(connection, pattern(2 * MIB))
                connection.ask("/", "POST", body=pattern(30 * MIB))
            os.kill(service.processes("manta-proxy")[0], signal.SIGKILL)
            wait_until(lambda: service.routes(), "another proxy serves")
        wait_until(lambda: descriptor_count(replica) <= before + 1, "what was lent and borrowed is closed")


def test_clients_that_leave_inside_of_bodies(manta_service):
    with manta_service(environment={"MANTA_PAYLOAD_IDLE_MS": "100"}) as service:
        service.deploy("mirror", "/", MIRROR)
        for size in (MIB, 8 * MIB):
            for at in (0, 1000, MIB // 2, size):  # sent of the request
                with Connection(service.port) as connection:
                    head = f"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {size}\r\n\r\n".encode()
                    connection.send(head + pattern(size)[:at])
                    if at == 1000:
                        connection.reset()
            with Connection(service.port, receive_buffer=4096) as connection:
                connection.ask("/", "POST", body=pattern(size))
                assert connection.is_readable(10)
                connection.reset()
        with Connection(service.port) as connection:
            echo(connection, pattern(MIB))
        for name in ROLES:
            for pid in service.processes(name):
                wait_until(lambda pid=pid: not shares_memory(pid), f"{name} holds nothing any more")


def test_a_client_that_reads_slowly_gets_all_of_it_though_the_replica_dies(manta_service):
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        with Connection(service.port, receive_buffer=65536) as connection:
            body = pattern(30 * MIB)
            connection.ask("/", "POST", body=body)
            assert connection.is_readable(10)
            os.kill(service.processes("manta-replica")[0], signal.SIGKILL)
            answer = connection.answer("POST")
            assert answer.status == 200 and answer.body == body


# ---- answers in parts


PARTS = [64 * KIB - 1, 64 * KIB, 200_000, MIB, 5 * MIB + 3]


def stream(connection, size, part, version="1.1"):
    connection.ask(f"/stream?size={size}&part={part}", version=version)
    answer = connection.answer()
    assert answer.status == 200 and answer.body == pattern(size), f"{len(answer.body)} bytes for {size}"


def test_large_parts_of_a_streamed_answer_are_lent(manta_service):
    with manta_service() as service:
        service.deploy("replies", "/", REPLIES)
        with Connection(service.port) as connection:
            stream(connection, 3 * MIB, 60 * KIB)  # too small to be worth it
            assert not any(shares_memory(pid) for name in ROLES for pid in service.processes(name))
            for part in PARTS:
                stream(connection, 20 * MIB + 1, part)
        for name, found in pids(service).items():
            assert all(shares_memory(pid) for pid in found), name
        for part in PARTS:
            with Connection(service.port) as connection:
                stream(connection, 7 * MIB, part, version="1.0")


def test_a_slow_reader_of_large_parts_holds_a_few_of_them(manta_service):
    """Of 400 MiB in parts of 1 MiB the replica makes as few as the reader's credit allows."""
    with manta_service() as service:
        service.deploy("replies", "/", REPLIES)
        (replica,) = service.processes("manta-replica")
        with Connection(service.port) as connection:
            stream(connection, 20 * MIB, MIB)
        before = memory_bytes(replica)
        with Connection(service.port, receive_buffer=65536) as connection:
            connection.ask(f"/stream?size={400 * MIB}&part={MIB}")
            assert connection.is_readable(10)
            wait_until(lambda: idles(replica), "the replica waits for its reader")
            assert memory_bytes(replica) < before + 40 * MIB
            answer = connection.answer()
            assert len(answer.body) == 400 * MIB and answer.body == pattern(400 * MIB)


def idles(pid):
    """It used no processor while we looked away."""
    look = lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    before = look()
    threading.Event().wait(0.3)
    return look() == before


def test_clients_that_leave_inside_of_large_parts(manta_service):
    with manta_service(environment={"MANTA_PAYLOAD_IDLE_MS": "50"}) as service:
        service.deploy("replies", "/", REPLIES)
        for _ in range(20):
            with Connection(service.port, receive_buffer=4096) as connection:
                connection.ask(f"/stream?size={50 * MIB}&part={2 * MIB}")
                assert connection.is_readable(10)
                connection.reset()
        with Connection(service.port) as connection:
            stream(connection, 20 * MIB, MIB)
        for name in ROLES:
            for pid in service.processes(name):
                wait_until(lambda pid=pid: not shares_memory(pid), f"{name} holds nothing any more")


# ---- something lacks


@pytest.mark.parametrize("name", ROLES)
def test_without_descriptors_bodies_go_through_the_socket(manta_service, name):
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        with Connection(service.port) as connection:
            echo(connection, b"small")
            pid = service.processes(name)[0]
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
            for size in SIZES[:-1]:
                echo(connection, pattern(size))
            assert not shares_memory(pid)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            echo(connection, pattern(5 * MIB))
            wait_until(lambda: echo(connection, pattern(2 * MIB)) and shares_memory(pid), "it shares memory again")


@pytest.mark.parametrize(
    "limits",
    [
        {"MANTA_PAYLOAD_BYTE_LIMIT": str(5 * MIB)},
        {"MANTA_PAYLOAD_REGION_LIMIT": "1"},
        {"MANTA_PAYLOAD_PEER_LIMIT": str(MIB)},
        {"MANTA_PAYLOAD_MAP_LIMIT": str(4 * MIB)},
        {"MANTA_PROCESS_BYTE_BUDGET": str(60 * MIB)},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_past_a_limit_bodies_go_through_the_socket(manta_service, limits):
    with manta_service(environment=limits) as service:
        service.deploy("mirror", "/", MIRROR)
        failures = []

        def client(seed):
            try:
                with Connection(service.port) as connection:
                    for size in SIZES[:-1] * 2:
                        echo(connection, bytes([seed]) + pattern(size))
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]


def test_a_stranger_cannot_lend_anything(manta_service):
    """Bytes that are no frames, on a replica's socket, end that connection and nothing else."""
    with manta_service() as service:
        service.deploy("mirror", "/", MIRROR)
        path = service.world.directory / "manta" / service.NAME / "replica-1.sock"
        for kind in (34, 35, 36, 37):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(str(path))
                stranger.send(b"\x0c\0\0\0" + bytes([kind, 4]) + bytes(10) + b"\xff" * 12)
                stranger.settimeout(10)
                while stranger.recv(65536):
                    pass
        with Connection(service.port) as connection:
            echo(connection, pattern(MIB))


# ---- what user code sees


def test_a_deployment_answers_with_the_body_that_it_was_sent(manta_run):
    """Bodies of 64 KiB and more reach user code by reference, and go back so."""
    with manta_run("tests/unit/handle/libreference_object.so:references") as running:
        for size in (0, 1, 4096, 65535, 65536, 1 << 20, 5_000_000):
            body = os.urandom(size)
            answer = running.request("POST", "/", body)
            assert answer.status == 200 and answer.body == body, size
            assert answer.headers["x-way"] == ("reference" if size >= 65536 else "copy"), size
