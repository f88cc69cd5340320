# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 end to end: a client, the proxy, a replica, and back."""

import json
import re
import uuid

import pytest
from gate import Gate
from plain_http import Broken, Connection, get, in_chunks, pattern
from processes import memory_bytes

MIB = 1 << 20


@pytest.fixture
def connection(manta_house):
    with Connection(manta_house.port) as connection:
        yield connection


@pytest.fixture
def gate(manta_house):
    with Gate(manta_house.world.directory) as gate:
        yield gate


# ---- one request and its answer


@pytest.mark.quick
def test_a_deployment_sees_method_path_query_and_prefix(connection):
    answer = connection.get("/a/b%20c?x=1&y=%41", method="PATCH")
    assert answer.status == 200
    assert answer.field("x-method") == "PATCH"
    assert answer.field("x-path") == "/a/b%20c"
    assert answer.field("x-query") == "x=1&y=%41"
    assert answer.field("x-prefix") == "/"


@pytest.mark.quick
@pytest.mark.parametrize(
    "name, content_type, body",
    [
        ("nil", "text/plain", b""),
        ("bool", "application/json", b"true"),
        ("int", "application/json", b"-9223372036854775808"),
        ("float", "application/json", b"0.1"),
        ("string", "text/plain; charset=utf-8", "grüß dich".encode()),
        ("binary", "text/plain", b"\0\xff\r\n\0"),
    ],
)
def test_a_value_becomes_the_body_that_ray_serve_makes_of_it(connection, name, content_type, body):
    answer = connection.get(f"/replies/{name}")
    assert (answer.status, answer.field("content-type"), answer.body) == (200, content_type, body)
    assert answer.framing == "length"


@pytest.mark.quick
def test_a_composite_value_becomes_json(connection):
    answer = connection.get("/replies/map")
    assert answer.field("content-type") == "application/json"
    assert json.loads(answer.body) == {"name": 'mänta "ray"\n', "values": [-1, 0.5, None]}


@pytest.mark.quick
def test_status_and_fields_of_user_code_arrive_once_each(connection):
    answer = connection.get("/replies/http?status=418")
    assert answer.status == 418
    assert answer.all("x-colour") == ["blue", "green"]
    assert answer.field("content-type") == "text/html"
    assert answer.body == b"<p>"
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", answer.field("date"))


def test_an_answer_of_204_or_304_has_no_body(connection):
    for status in (204, 304):
        assert connection.get(f"/replies/http?status={status}").status == status
    assert connection.get("/replies/int").status == 200  # the connection is still in step


def test_a_status_that_is_none_is_an_error_of_the_deployment(connection):
    assert connection.get("/replies/http?status=99").status in (400, 500)
    assert connection.get("/replies/int").status == 200


@pytest.mark.quick
def test_a_failure_tells_the_client_nothing_but_its_status(connection):
    answer = connection.get("/replies/fail")
    assert (answer.status, answer.body) == (500, b"Internal Server Error")


def test_fields_of_the_request_reach_the_deployment_without_those_of_the_hop(connection):
    fields = [
        ("X-Upper", "Value, as it is"),
        ("Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ]
    seen = json.loads(connection.get("/replies/headers", fields=fields).body)
    names = [name for name, _ in seen]
    assert ["x-upper", "Value, as it is"] in seen
    assert [text for name, text in seen if name == "x-twice"] == ["1", "2"]
    assert not {"connection", "keep-alive", "upgrade", "transfer-encoding"} & set(names)


@pytest.mark.quick
def test_head_is_answered_like_get_without_the_body(connection):
    known = connection.get("/replies/large?size=100000")
    asked = connection.get("/replies/large?size=100000", method="HEAD")
    assert asked.status == 200 and asked.field("content-length") == known.field("content-length") == "100000"
    connection.get("/replies/stream?size=500000", method="HEAD")
    assert connection.get("/replies/int").body == b"-9223372036854775808"


# ---- bodies


@pytest.mark.parametrize("size", [0, 1, 100, 16384, 65536, 65537, 300_000, MIB, 20 * MIB])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_comes_back_intact(connection, size, framing):
    body = pattern(size)
    if framing == "length":
        connection.ask("/body", method="POST", body=body)
    else:
        connection.ask("/body", method="POST", fields=[("Transfer-Encoding", "chunked")])
        connection.send(in_chunks(body, 70_000))
    assert connection.answer().body == body
    assert connection.get("/replies/int").status == 200


@pytest.mark.quick
def test_a_chunked_body_with_extensions_and_trailers_is_joined(connection):
    connection.ask("/", method="PUT", fields=[("Transfer-Encoding", "chunked"), ("Trailer", "x-sum")])
    connection.send(b'3;note="a b"\r\nabc\r\n04\r\ndefg\r\n0\r\nx-sum: 7\r\nx-other: y\r\n\r\n')
    assert connection.answer().body == b"abcdefg"
    assert connection.get("/next").field("x-path") == "/next"


@pytest.mark.parametrize("size", [0, 1, 49_999, 3 * MIB])
def test_a_streamed_answer_comes_in_chunks_and_whole(connection, size):
    answer = connection.get(f"/replies/stream?size={size}")
    assert answer.framing == "chunked" and answer.body == pattern(size)
    assert connection.get("/replies/int").status == 200


def test_an_answer_of_20_mb_is_whole_while_small_ones_pass_it(connection, manta_house):
    connection.ask(f"/replies/large?size={20 * MIB}")
    for _ in range(20):
        assert get(manta_house.port, "/replies/int").status == 200
    assert connection.answer().body == pattern(20 * MIB)


def test_a_body_byte_by_byte_is_the_same_body(connection):
    for byte in b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello":
        connection.send(bytes([byte]))
    assert connection.answer().body == b"hello"
    for byte in b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n":
        connection.send(bytes([byte]))
    assert connection.answer().body == b"abcde"


# ---- Expect: 100-continue


@pytest.mark.quick
@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_a_client_that_asks_is_told_to_continue(connection, size):
    connection.ask("/", method="POST", fields=[("Expect", "100-continue"), ("Content-Length", str(size))])
    assert connection.is_readable(30)  # before any byte of the body was sent
    connection.send(pattern(size))
    answer = connection.answer()
    assert answer.interim == [100]
    assert answer.body == pattern(size)


def test_a_client_that_does_not_wait_for_100_needs_none(connection):
    connection.ask("/", method="POST", fields=[("Expect", "100-continue")], body=b"here it is")
    answer = connection.answer()
    assert answer.body == b"here it is" and answer.interim in ([], [100])
    assert connection.get("/next").interim == []


def test_a_body_that_nobody_wants_is_not_asked_for(manta_service):
    with manta_service() as service:  # no application: 404
        with Connection(service.port) as connection:
            connection.ask("/", method="POST", fields=[("Expect", "100-continue"), ("Content-Length", "100000")])
            answer = connection.answer()
            assert (answer.status, answer.interim) == (404, [])


# ---- connections


@pytest.mark.quick
def test_a_connection_is_kept_for_the_next_request(connection):
    seen = {connection.get(f"/{n}").field("x-path") for n in range(200)}
    assert len(seen) == 200


@pytest.mark.quick
def test_a_client_that_says_close_is_closed(connection):
    answer = connection.get("/", fields=[("Connection", "close")])
    assert answer.status == 200 and answer.closes
    assert connection.rest() == b""


def test_what_follows_a_request_that_says_close_is_not_processed(connection, manta_house):
    """RFC 9112 9.6."""
    before = int(get(manta_house.port, "/count").body)
    connection.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    connection.send(b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
    assert [connection.answer().field("x-path") for _ in range(2)] == ["/1", "/2"]
    assert connection.rest() == b""
    assert int(get(manta_house.port, "/count").body) == before + 2


def test_a_refused_request_takes_nothing_from_those_before_it(connection, gate):
    connection.send(f"GET /puppet?{gate.query} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 2 + b"GET / HTTP/9.9\r\n\r\n")
    for inside in [gate.next(), gate.next()]:
        inside.tell("a")
    assert [connection.answer().status for _ in range(3)] == [200, 200, 505]
    assert connection.rest() == b""


def test_http_1_0_ends_the_connection_unless_asked_to_keep_it(manta_house):
    with Connection(manta_house.port) as connection:
        answer = connection.get("/", version="1.0")
        assert answer.status == 200 and connection.rest() == b""
    with Connection(manta_house.port) as connection:
        for _ in range(2):
            answer = connection.get("/", version="1.0", fields=[("Connection", "keep-alive")])
            assert answer.status == 200 and "keep-alive" in answer.field("connection").lower()


def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_the_connection(connection):
    connection.ask("/replies/stream?size=200000", version="1.0", fields=[("Connection", "keep-alive")])
    answer = connection.answer()
    assert answer.framing == "close" and answer.body == pattern(200_000)


def test_absolute_form_is_routed_by_its_path(connection):
    connection.send(b"GET http://elsewhere.example:81/replies/int?q HTTP/1.1\r\nHost: a\r\n\r\n")
    assert connection.answer().body == b"-9223372036854775808"
    connection.send(b"GET http://elsewhere.example HTTP/1.1\r\nHost: a\r\n\r\n")
    assert connection.answer().field("x-path") == "/"


@pytest.mark.quick
def test_pipelined_requests_are_answered_in_their_order(connection):
    connection.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(500)))
    assert [connection.answer().field("x-path") for _ in range(500)] == [f"/{n}" for n in range(500)]


def test_pipelined_safe_requests_run_side_by_side(connection, gate):
    connection.send(b"".join(b"GET /puppet/%d?%s HTTP/1.1\r\nHost: a\r\n\r\n" % (n, gate.query.encode()) for n in range(3)))
    inside = [gate.next() for _ in range(3)]  # all three are inside, none is answered
    inside[1].tell("a")
    inside[2].tell("a")
    inside[0].tell("a")
    assert [connection.answer().status for _ in range(3)] == [200] * 3


def test_a_pipelined_answer_waits_for_those_before_it(connection, gate):
    connection.send(f"GET /puppet?{gate.query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    first = gate.next()
    connection.send(b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n" + b"GET /replies/stream?size=300000 HTTP/1.1\r\nHost: a\r\n\r\n")
    first.tell("sw")
    assert first.line() == "wrote"
    first.tell("e")
    assert len(connection.answer().body) == 65536
    assert connection.answer().field("x-path") == "/behind"
    assert connection.answer().body == pattern(300_000)


def test_a_pipelined_request_that_changes_something_waits_for_its_turn(connection, gate):
    query = gate.query
    connection.send(
        f"POST /puppet/first?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        f"POST /puppet/second?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nx-request-id: second\r\n\r\n".encode()
    )
    first = gate.next()
    # Somebody else, later, is inside at once; the second one still waits outside.
    with Connection(connection.socket.getpeername()[1]) as other:
        other.ask(f"/puppet?{query}", fields=[("x-request-id", "other")])
        assert gate.next().request_id == "other"
        gate.insides[-1].tell("a")
        assert other.answer().status == 200
    first.tell("a")
    second = gate.next()
    assert second.request_id == "second"
    second.tell("a")
    assert [connection.answer().status for _ in range(2)] == [200, 200]


# ---- identity, routes, health


@pytest.mark.quick
def test_a_request_id_is_echoed_or_made(connection):
    assert connection.get("/", fields=[("X-Request-ID", "mine-1")]).field("x-request-id") == "mine-1"
    made = [connection.get("/").field("x-request-id") for _ in range(2)]
    assert made[0] != made[1]
    assert all(uuid.UUID(text).version == 4 and text == str(uuid.UUID(text)) for text in made)


def test_the_deployment_gets_the_request_id(connection, gate):
    connection.ask(f"/puppet?{gate.query}", fields=[("x-request-id", "from-outside")])
    inside = gate.next()
    assert inside.request_id == "from-outside"
    inside.tell("a")
    assert connection.answer().field("x-request-id") == "from-outside"


@pytest.mark.quick
def test_health_and_routes_are_answered_by_the_proxy(connection):
    assert connection.get("/-/healthz").text == "success"
    answer = connection.get("/-/routes")
    assert answer.field("content-type") == "application/json"
    assert json.loads(answer.body) == {"/": "mirror", "/replies": "replies", "/puppet": "puppet", "/reader": "reader"}


@pytest.mark.quick
@pytest.mark.parametrize(
    "path, prefix",
    [("/replies", "/replies"), ("/replies/", "/replies"), ("/replies/nil", "/replies"), ("/repliesx", "/"), ("/answer", "/"), ("/", "/")],
)
def test_the_longest_prefix_that_ends_at_a_slash_is_chosen(connection, path, prefix):
    answer = connection.get(path)
    # Only the echo says which prefix it was reached by.
    assert (answer.field("x-prefix") or "/replies") == prefix


@pytest.mark.quick
def test_without_applications_the_proxy_says_so(manta_service):
    with manta_service() as service:
        for path in ("/-/healthz", "/-/routes"):
            answer = get(service.port, path)
            assert (answer.status, answer.text) == (503, "Route table is not populated yet.")
        service.deploy("only", "/only", "tests/objects/libmirror.so:mirror")
        assert get(service.port, "/-/healthz").status == 200
        answer = get(service.port, "/other%20path")
        assert answer.status == 404
        assert answer.text == "Path '/other%20path' not found. Ping http://.../-/routes for available routes."
        assert answer.field("content-type").startswith("text/plain")


def test_an_application_can_move_to_another_route(manta_service):
    with manta_service() as service:
        service.deploy("one", "/one", "tests/objects/libmirror.so:mirror")
        service.deploy("two", "/one/two", "tests/objects/libreplies.so:replies")
        assert get(service.port, "/one/two/int").field("x-prefix") is None
        service.deploy("one", "/elsewhere", "tests/objects/libmirror.so:mirror")
        assert service.routes() == {"/elsewhere": "one", "/one/two": "two"}
        assert get(service.port, "/one").status == 404
        assert get(service.port, "/elsewhere/a").field("x-prefix") == "/elsewhere"


# ---- limits


def test_a_request_that_takes_too_long_is_answered_408_and_cancelled(manta_service):
    with manta_service(options=["--request-timeout-ms", "300"]) as service, Gate(service.world.directory) as gate:
        service.deploy("puppet", "/", "tests/objects/libpuppet.so:puppet")
        with Connection(service.port) as connection:
            connection.ask(f"/?{gate.query}", fields=[("x-request-id", "slow")])
            inside = gate.next()
            answer = connection.answer()
            assert answer.status == 408
            assert answer.text == "Request slow timed out after 0.3s."
            assert inside.line() == "cancelled"
            inside.tell("a")
            assert connection.get("/").status == 200


def test_a_full_queue_refuses_at_once(manta_service):
    with manta_service() as service, Gate(service.world.directory) as gate:
        service.deploy("puppet", "/", "tests/objects/libpuppet.so:puppet", "max_ongoing_requests=1", "max_queued_requests=1")
        connections = [Connection(service.port) for _ in range(4)]
        connections[0].ask(f"/?{gate.query}")
        inside = gate.next()
        # One waits, the others are refused while the replica is as busy as before.
        for connection in connections[1:]:
            connection.ask(f"/?{gate.query}")
        refused = []
        while len(refused) < 2:
            refused += [one for one in connections[1:] if one not in refused and one.is_readable(0.01)]
        for connection in refused:
            answer = connection.answer()
            assert answer.status == 503
            assert "backpressure" in answer.text
        waiting = next(one for one in connections[1:] if one not in refused)
        inside.tell("a")
        assert connections[0].answer().status == 200
        gate.next().tell("a")
        assert waiting.answer().status == 200
        for connection in connections:
            connection.close()


def test_a_replica_never_has_more_requests_than_it_may(manta_service):
    """R2: whatever comes, at most max_ongoing_requests are inside; the next one enters when one leaves."""
    with manta_service() as service, Gate(service.world.directory) as gate:
        service.deploy("puppet", "/", "tests/objects/libpuppet.so:puppet", "max_ongoing_requests=3", "threads=8")
        connections = [Connection(service.port) for _ in range(20)]
        for connection in connections:
            connection.ask(f"/?{gate.query}")
        inside = [gate.next() for _ in range(3)]
        assert gate.stays_empty()
        for _ in range(17):
            inside.pop(0).tell("a")
            inside.append(gate.next())
        for last in inside:
            last.tell("a")
        assert [connection.answer().status for connection in connections] == [200] * 20
        for connection in connections:
            connection.close()


def test_batches_are_full_under_load_and_never_larger(manta_service):
    with manta_service() as service:
        service.deploy("batches", "/", "tests/objects/libanswer.so:batch", "max_batch_size=4", "batch_wait_timeout_s=5")
        connections = [Connection(service.port) for _ in range(12)]
        for connection in connections:
            connection.ask("/")
        sizes = [connection.answer().text.split()[-1] for connection in connections]
        assert sizes == ["4"] * 12  # each waits for four, and no batch takes a fifth
        for connection in connections:
            connection.close()


# ---- back-pressure


def test_a_client_that_reads_slowly_holds_the_writer_back(manta_house, gate):
    """What the deployment may run ahead is bounded by the windows between them, not by its own speed."""
    proxy, replica = manta_house.processes("manta-proxy")[0], None
    with Connection(manta_house.port, receive_buffer=65536) as connection:
        connection.ask(f"/puppet?{gate.query}")
        inside = gate.next()
        replica = inside.pid
        before = {pid: memory_bytes(pid) for pid in (proxy, replica)}
        inside.tell("sW")
        word, written = inside.line().split()
        assert word == "full" and int(written) < 32 * MIB
        for pid in (proxy, replica):
            assert memory_bytes(pid) - before[pid] < 32 * MIB
        inside.tell("e")
        assert len(connection.answer().body) == int(written)


def test_a_deployment_that_reads_slowly_holds_the_client_back(manta_house, gate):
    size, sent = 100 * MIB, 0
    body = bytes(range(256)) * 4096
    proxy = manta_house.processes("manta-proxy")[0]
    with Connection(manta_house.port) as connection:
        connection.ask(f"/reader?{gate.query}", method="POST", fields=[("Content-Length", str(size))])
        inside = gate.next()
        before = {pid: memory_bytes(pid) for pid in (proxy, inside.pid)}
        connection.socket.settimeout(0.5)
        try:
            while sent < size:
                sent += connection.socket.send(body[sent % MIB :])
        except TimeoutError:
            pass  # it is held back
        assert sent < 32 * MIB
        for pid in before:
            assert memory_bytes(pid) - before[pid] < 32 * MIB
        connection.socket.settimeout(30)
        inside.tell("r")
        while sent < size:
            sent += connection.socket.send(body[sent % MIB : sent % MIB + size - sent])
        assert inside.line() == f"read {size} {sum(range(256)) * 4096 * 100 % (1 << 32)}"
        inside.tell("a")
        assert connection.answer().status == 200
        for pid in before:
            assert memory_bytes(pid, "VmHWM") - before[pid] < 64 * MIB


def test_an_answer_that_breaks_off_is_seen_as_broken(connection, gate):
    """A streamed answer cannot turn into an error any more: the connection ends without the last chunk."""
    connection.ask(f"/puppet?{gate.query}")
    inside = gate.next()
    inside.tell("sw")
    assert inside.line() == "wrote"
    inside.tell("f")
    with pytest.raises(Broken):
        connection.answer()
