# SPDX-License-Identifier: Apache-2.0
"""Websockets of C deployments from end to end, with a client that says every frame by hand.

The deployment is tests/objects/talker.c.  What Python applications see stands in test_websockets_python.py, the
proxy's own stories in tests/unit/proxy/proxy_websockets_test.c.
"""

import concurrent.futures
import http.client
import os
import select
import signal
import socket
import struct
import zlib

import pytest
from conftest import wait_until
from websocket_client import BINARY, CLOSE, FIN, PING, TEXT, Refused, Websocket, frame

TALKER = "tests/objects/libtalker.so:talker"


@pytest.fixture(scope="module")
def talker(manta_start):
    with manta_start(TALKER) as running:
        yield running


def open_count(running):
    return int(running.get("/last").body.split()[1])


def last_code(running):
    return int(running.get("/last").body.split()[0])


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


# ---- messages


@pytest.mark.quick
def test_messages_of_every_size_come_back(talker):
    with Websocket(talker.port, "/?echo") as echo:
        for size in (0, 1, 125, 126, 65535, 65536, 300_000, 5_000_000):
            message = os.urandom(size)
            echo.send(message)
            assert echo.receive() == message
        echo.send("hällo")
        assert echo.receive() == "hällo"
        assert echo.close(4001, "enough") == (4001, "")
        assert echo.ended()
    wait_until(lambda: last_code(talker) == 4001, "user code is told")


def test_fragments_are_one_message_and_pings_come_between(talker):
    with Websocket(talker.port, "/?echo") as echo:
        echo.say(frame(TEXT, b"a"), frame(FIN | PING, b"p"), frame(0, b"b"), frame(FIN, b"c"))
        assert echo.read_frame() == (0x8A, b"p")
        assert echo.receive() == "abc"


def test_many_messages_in_one_go_come_back_in_order(talker):
    with Websocket(talker.port, "/?echo") as echo:
        echo.say(*[frame(FIN | TEXT, str(i).encode()) for i in range(5000)])
        assert [echo.receive() for i in range(5000)] == [str(i) for i in range(5000)]


def test_two_hundred_clients_at_once(talker):
    def converse(number):
        with Websocket(talker.port, "/?echo") as echo:
            for i in range(20):
                echo.send(f"{number}/{i}")
                assert echo.receive() == f"{number}/{i}"
            return echo.close()

    with concurrent.futures.ThreadPoolExecutor(200) as threads:
        assert set(threads.map(converse, range(200))) == {(1000, "")}
    wait_until(lambda: open_count(talker) == 0, "all conversations end")


def test_compressed_messages_come_back_compressed(talker):
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
    with Websocket(talker.port, "/?echo", headers=offer) as echo:
        agreed = echo.headers["sec-websocket-extensions"]
        assert agreed == "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
        squeeze, inflate = zlib.compressobj(wbits=-12), zlib.decompressobj(wbits=-12)
        for round_ in range(3):
            text = (f"round {round_} " * 500).encode()
            squeezed = squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            echo.say(frame(FIN | 0x40 | TEXT, squeezed[:-4]))
            first, payload = echo.read_frame()
            assert first == FIN | 0x40 | TEXT and len(payload) < len(text) / 10
            assert inflate.decompress(payload + b"\0\0\xff\xff") == text
        echo.send("short")
        assert echo.read_frame() == (FIN | TEXT, b"short")


# ---- the handshake


def test_user_code_may_refuse(talker):
    with pytest.raises(Refused) as refused:
        Websocket(talker.port, "/?status=401")
    assert (refused.value.status, refused.value.body) == (401, b"refused")


def test_a_deployment_without_websockets_says_so(manta_run):
    with manta_run("examples/libnoop.so:noop") as noop:
        with pytest.raises(Refused) as refused:
            Websocket(noop.port, "/")
        assert refused.value.status == 501
        assert noop.get("/").status == 200


def test_a_handshake_that_is_none_is_refused(talker):
    with pytest.raises(Refused) as refused:
        Websocket(talker.port, "/?echo", version="7")
    assert refused.value.status == 426
    assert refused.value.headers["sec-websocket-version"] == "13"
    assert refused.value.headers["upgrade"] == "websocket"


def test_a_subprotocol_must_have_been_offered(talker):
    with Websocket(talker.port, "/?protocol", headers=[("Sec-WebSocket-Protocol", "news, chat")]) as chat:
        assert chat.headers["sec-websocket-protocol"] == "chat"
    with pytest.raises(Refused) as refused:
        Websocket(talker.port, "/?protocol", headers=[("Sec-WebSocket-Protocol", "news")])
    assert refused.value.body == b"the client did not offer the subprotocol 'chat'"


# ---- breaches


BREACHES = {
    "no mask": (b"\x81\x01a", 1002),
    "a reserved bit": (frame(FIN | 0x20 | TEXT, b"a"), 1002),
    "compression that was not agreed": (frame(FIN | 0x40 | TEXT, b"a"), 1002),
    "a reserved opcode": (frame(FIN | 3, b"a"), 1002),
    "a reserved control opcode": (frame(FIN | 0xB, b"a"), 1002),
    "a ping of 126 bytes": (frame(FIN | PING, b"a" * 126), 1002),
    "a ping in fragments": (frame(PING, b"a"), 1002),
    "a continuation of nothing": (frame(FIN, b"a"), 1002),
    "a message inside a message": (frame(TEXT, b"a") + frame(FIN | TEXT, b"b"), 1002),
    "text that is not UTF-8": (frame(FIN | TEXT, b"\xc0\xaf"), 1007),
    "text that is not, in fragments": (frame(TEXT, b"\xe2\x82") + frame(FIN, b"\x28"), 1007),
    "a reason that is not UTF-8": (frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007),
    "half a close code": (frame(FIN | CLOSE, b"\x03"), 1002),
    "a close code that is never sent": (frame(FIN | CLOSE, struct.pack(">H", 1006)), 1002),
    "a message of 16 MiB and one": (b"\x82\xff" + struct.pack(">Q", (16 << 20) + 1) + b"\0\0\0\0x", 1009),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_ends_the_connection_with_the_right_code(talker, name):
    said, code = BREACHES[name]
    with Websocket(talker.port, "/?echo") as echo:
        echo.say(said)
        assert echo.receive()[0] == code
        assert echo.ended()
    wait_until(lambda: last_code(talker) == code, "user code is told")


# ---- ends


def test_user_code_closes(talker):
    with Websocket(talker.port, "/?close=3999") as closing:
        closing.send("now")
        assert closing.receive() == (3999, "")
        closing.say(frame(FIN | CLOSE, struct.pack(">H", 3999)))
        assert closing.ended()


def test_user_code_that_fails_is_1011(talker):
    with Websocket(talker.port, "/?fail") as failing:
        assert failing.receive()[0] == 1011


def test_a_client_that_vanishes_is_1006(talker):
    with Websocket(talker.port, "/?echo") as echo:
        echo.send("x")
        echo.receive()
        # A reset, as when a machine goes away.
        echo.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: last_code(talker) == 1006, "user code is told")
    wait_until(lambda: open_count(talker) == 0, "the conversation ends")


def test_a_replica_that_is_killed_is_1011_and_the_next_one_serves(manta_run):
    with manta_run(TALKER) as talker:
        with Websocket(talker.port, "/?echo") as echo:
            echo.send("x")
            assert echo.receive() == "x"
            (replica,) = talker.processes("manta-replica")
            os.kill(replica, signal.SIGKILL)
            assert echo.receive()[0] == 1011
        with Websocket(talker.port, "/?echo") as echo:
            echo.send("y")
            assert echo.receive() == "y"
        assert talker.end() == 0


def test_the_end_of_the_instance_is_1012(manta_run):
    with manta_run(TALKER) as talker, Websocket(talker.port, "/?echo") as echo:
        talker.process.send_signal(signal.SIGINT)
        assert echo.receive() == (1012, "service restart")
        echo.say(frame(FIN | CLOSE, struct.pack(">H", 1012)))
        assert talker.wait() == 0
        assert talker.leftovers() == []


def test_a_rollout_sends_clients_to_the_new_replica_with_1012(manta_service):
    with manta_service() as service:
        service.deploy("talk", "/", TALKER, "version=1")
        with Websocket(service.port, "/?echo") as echo:
            echo.send("x")
            assert echo.receive() == "x"
            (old,) = service.processes("manta-replica")
            service.deploy("talk", "/", TALKER, "version=2")
            assert echo.receive() == (1012, "service restart")
        with Websocket(service.port, "/?echo") as echo:
            echo.send("y")
            assert echo.receive() == "y"
        wait_until(lambda: old not in service.processes("manta-replica"), "the old replica ends at once")


def test_a_proxy_that_is_killed_is_1006_to_user_code(manta_service):
    with manta_service() as service:
        service.deploy("talk", "/", TALKER)
        with Websocket(service.port, "/?echo") as echo:
            echo.send("x")
            echo.receive()
            (proxy,) = service.processes("manta-proxy")
            os.kill(proxy, signal.SIGKILL)
            assert echo.ended()

        def told():
            with Websocket(service.port, "/?echo"):
                pass
            return ask(service.port, "/last").startswith("1006")

        wait_until(told, "user code is told")


def ask(port, path):

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse().read().decode()
    connection.close()
    return answer


# ---- limits


def test_one_that_is_open_counts_as_ongoing(manta_run):
    with manta_run(TALKER, "max_ongoing_requests=1") as talker, Websocket(talker.port, "/?echo") as echo:
        with socket.create_connection(("127.0.0.1", talker.port), 60) as other:
            other.sendall(b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n")
            for _ in range(200):  # time for an answer, if there were to be one
                echo.send("x")
                assert echo.receive() == "x"
            assert select.select([other], [], [], 0)[0] == []
            echo.close()
            assert other.recv(12) == b"HTTP/1.1 200"


def test_user_code_that_does_not_receive_stops_its_client(talker):
    with Websocket(talker.port, "/?hold") as hold:
        hold.socket.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                hold.send(b"x" * 100_000)
                sent += 100_000
        assert sent < 50_000_000
    with Websocket(talker.port, "/?echo") as echo:
        echo.send("others go on")
        assert echo.receive() == "others go on"


def test_a_client_that_does_not_read_stops_user_code(talker):
    (replica,) = talker.processes("manta-replica")
    (proxy, *_) = talker.processes("manta-proxy")
    with Websocket(talker.port, "/?flood=200000") as flood:
        before = resident_kib(replica), resident_kib(proxy)
        for _ in range(20):
            talker.get("/last")
        assert resident_kib(replica) - before[0] < 20_000
        assert resident_kib(proxy) - before[1] < 20_000
        assert flood.receive() == b"flood" + bytes(995)


def test_a_hundred_thousand_messages_leave_memory_as_it_was(talker):
    pids = talker.processes("manta-replica") + talker.processes("manta-proxy")

    def converse(count):
        with Websocket(talker.port, "/?echo") as echo:
            for _ in range(count // 500):
                echo.say(*[frame(FIN | BINARY, b"x" * 100)] * 500)
                for _ in range(500):
                    assert echo.read_frame() == (FIN | BINARY, b"x" * 100)

    converse(20_000)
    before = {pid: resident_kib(pid) for pid in pids}
    converse(100_000)
    for pid in pids:
        assert resident_kib(pid) - before[pid] < 1000, f"{pid} grew"


# ---- the example


def test_shout_answers_in_capitals(manta_run):
    with manta_run("examples/libshout.so:shout") as shout:
        assert shout.get("/").text == "This is for websockets.\n"
        with Websocket(shout.port) as talk:
            talk.send("hello")
            assert talk.receive() == "HELLO"
            talk.send(b"\0\xff")
            assert talk.receive() == b"\0\xff"
            talk.send("bye")
            assert talk.receive() == (1000, "good bye")
        assert shout.end() == 0
        assert shout.leftovers() == []
