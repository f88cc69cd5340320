# SPDX-License-Identifier: Apache-2.0
"""tests/conform/http1_cases.txt against a running proxy: each case over a socket of its own.

The unit tests ask the parser what it makes of the bytes; here the question is what becomes of the connection
and of the requests behind it.  Behind every case that is to be refused another request follows, in the same
bytes: it must not be answered, and must not reach the deployment, whatever the case does to the framing.
"""

import json
import pathlib
import re

import pytest
from plain_http import Broken, Connection

TABLE = pathlib.Path(__file__).resolve().parent.parent / "conform" / "http1_cases.txt"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def unescape(text, at=0, inside=False):
    """The bytes of a case, and where it ended."""
    out = bytearray()
    while at < len(text) and not (inside and text[at] == ")"):
        if text[at] != "\\":
            out += text[at].encode("latin-1")
            at += 1
        elif text[at + 1] == "x":
            out.append(int(text[at + 2 : at + 4], 16))
            at += 4
        elif text[at + 1] == "(":
            count, _, _ = text[at + 2 :].partition(":")
            repeated, at = unescape(text, at + 3 + len(count), True)
            out += repeated * int(count)
            at += 1
        else:
            out += ESCAPES[text[at + 1]]
            at += 2
    return bytes(out), at


def read_table():
    for line in TABLE.read_text(encoding="latin-1").splitlines():
        if line and not line.startswith("#"):
            name, section, expected, data = re.fullmatch(r"(\S+) +(\S+) +(\S+) *(.*)", line).groups()
            yield name, section, expected, unescape(data)[0]


CASES = list(read_table())


def cases(chosen):
    return pytest.mark.parametrize(
        "section, expected, data",
        [pytest.param(*case[1:], id=case[0]) for case in CASES if chosen(case[2])],
    )


@pytest.fixture(scope="module")
def counter(manta_house):
    """How many requests have reached the deployment's code so far."""
    with Connection(manta_house.port) as connection:
        yield lambda: json.loads(connection.get("/count").body)


def methods_of(data):
    """The method of each request in the bytes of an accepted case, for HEAD."""
    return "HEAD" if data.startswith(b"HEAD ") else "GET"


def all_answers(connection, method):
    answers = []
    while True:
        try:
            answers.append(connection.answer(method))
        except Broken as end:
            assert end.got == b"", "the connection ended inside an answer"
            return answers


def reached_by(answers):
    return sum(1 for answer in answers if answer.field("x-reached"))


@cases(lambda expected: expected.isdigit())
def test_refused_with_its_status_and_nothing_behind_it_is_served(manta_house, counter, section, expected, data):
    before = counter()
    with Connection(manta_house.port) as connection:
        connection.send(data + SMUGGLED)
        answers = all_answers(connection, "GET")
    assert [answer.status for answer in answers[:-1]] == [200] * (len(answers) - 1)
    assert answers[-1].status == int(expected), section
    assert answers[-1].closes
    assert "/smuggled" not in [answer.field("x-path") for answer in answers]
    assert counter() - before == reached_by(answers)


def status_of(data):
    """What a request that is good HTTP is answered with."""
    if data.startswith(b"CONNECT"):
        return 501
    # A websocket's handshake without its key (RFC 6455 4.2.1).
    return 400 if b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in data else 200


@cases(lambda expected: expected.startswith("ok"))
def test_accepted_and_answered(manta_house, counter, section, expected, data):
    count = int(expected.partition("*")[2] or 1)
    before = counter()
    with Connection(manta_house.port) as connection:
        connection.send(data)
        answers = [connection.answer(methods_of(data)) for _ in range(count)]
        assert not connection.at_hand
        if answers[-1].closes:
            assert connection.rest() == b""
        else:
            assert connection.get("/behind").field("x-path") == "/behind"
            answers.append(None)
    statuses = {answer.status for answer in answers if answer}
    assert statuses == {status_of(data)}, section
    assert counter() - before == reached_by(answers[:count]) + len(answers) - count


@cases(lambda expected: expected == "more")
def test_unfinished_is_waited_for_and_then_forgotten(manta_house, counter, section, expected, data):
    """Nothing is answered but 100 Continue, and when the client leaves nothing has reached the deployment.

    A gibibyte is not too much for the proxy, but for the mirror, which collects bodies: it may say so at once.
    """
    before = counter()
    with Connection(manta_house.port) as connection:
        connection.send(data)
        connection.end_sending()
        said = connection.rest()
    if b"1073741824" not in data or not said.startswith(b"HTTP/1.1 413 "):
        assert said in (b"", b"HTTP/1.1 100 Continue\r\n\r\n"), section
    assert counter() == before


@pytest.mark.quick
def test_the_whole_table_is_read():
    assert len(CASES) > 400
    assert {expected for _, _, expected, _ in CASES} >= {"400", "413", "414", "417", "431", "501", "505", "ok", "more"}
    by_name = {name: data for name, _, _, data in CASES}
    assert by_name["plain_get"] == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert by_name["nothing_yet"] == b""
    assert by_name["bare_cr_first"].startswith(b"\rGET")
    assert len(by_name["pipeline_of_many"]) == 50 * len(by_name["plain_get"])
