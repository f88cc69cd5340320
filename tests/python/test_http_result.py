# SPDX-License-Identifier: Apache-2.0
"""What handlers return, as bodies and content types."""

import datetime
import decimal
import enum
import json
import uuid
from dataclasses import dataclass

import pytest
from manta._private import http_result
from manta.serve.exceptions import BackPressureError, DeploymentUnavailableError


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


@pytest.mark.parametrize(
    ("value", "body", "content_type"),
    [
        (None, b"", "text/plain"),
        (b"\x00\xff", b"\x00\xff", "text/plain"),
        ("grün", "grün".encode(), "text/plain; charset=utf-8"),
        ("", b"", "text/plain; charset=utf-8"),
        (3, b"3", "application/json"),
        (True, b"true", "application/json"),
        (1.5, b"1.5", "application/json"),
        ([1, "a", None], b'[1,"a",null]', "application/json"),
        ({"a": {"b": [1, 2]}}, b'{"a":{"b":[1,2]}}', "application/json"),
        ((1, 2), b"[1,2]", "application/json"),
        ({"ü": 1}, b'{"\\u00fc":1}', "application/json"),
    ],
)
def test_plain_values(value, body, content_type):
    answer = http_result.encode(value)
    assert (answer.body, answer.content_type, answer.status) == (body, content_type, 200)


RICH = [
    ({1}, [1]),
    ({"c": Colour.RED}, {"c": "red"}),
    ([Point(1, 2.5)], [{"x": 1, "y": 2.5}]),
    ({"d": datetime.date(2026, 1, 2)}, {"d": "2026-01-02"}),
    (datetime.timedelta(seconds=3), 3.0),
    (uuid.UUID(int=5), str(uuid.UUID(int=5))),
    ([decimal.Decimal("1.5"), decimal.Decimal("2")], [1.5, 2]),
    (ValueError("no"), "no"),
    ({"b": b"text"}, {"b": "text"}),
]


@pytest.mark.parametrize(("value", "plain"), RICH)
def test_values_that_json_does_not_have(value, plain):
    assert json.loads(http_result.encode(value).body) == plain


@pytest.mark.parametrize(("value", "plain"), RICH)
def test_they_are_the_same_without_fastapi(value, plain):
    assert http_result._plain(value) == plain


def test_pydantic_models():
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        when: datetime.date = datetime.date(2026, 1, 2)

    assert json.loads(http_result.encode([Model()]).body) == [{"when": "2026-01-02"}]
    assert http_result._plain(Model()) == {"when": "2026-01-02"}


def test_arrays():
    numpy = pytest.importorskip("numpy")
    value = {"a": numpy.arange(4, dtype="int32").reshape(2, 2), "s": numpy.float32(0.5)}
    assert json.loads(http_result.encode(value).body) == {"a": [[0, 1], [2, 3]], "s": 0.5}
    assert http_result._plain(value) == {"a": [[0, 1], [2, 3]], "s": 0.5}


def test_what_cannot_be_json_is_an_error():
    class Nothing:
        __slots__ = ()

    with pytest.raises((TypeError, ValueError)):
        http_result.encode([Nothing()])


def test_errors_tell_the_client_nothing():
    answer = http_result.encode_error(KeyError("secret"))
    assert (answer.status, answer.body) == (500, b"Internal Server Error")


def test_back_pressure_has_its_status_and_header():
    answer = http_result.encode_error(BackPressureError(3, 2, 429, 1.2))
    assert answer.status == 429
    assert answer.headers == (("retry-after", "2"),)
    assert answer.body.startswith(b"Request dropped due to backpressure")
    assert http_result.encode_error(BackPressureError(3, 2)).headers == ()


def test_unavailable_is_503():
    answer = http_result.encode_error(DeploymentUnavailableError("D"))
    assert answer.status == 503 and b"is unavailable" in answer.body


def test_messages_of_asgi():
    start, body = http_result.asgi_messages(http_result.encode("x"))
    assert start["status"] == 200
    assert start["headers"] == [[b"content-type", b"text/plain; charset=utf-8"]]
    assert body == {"type": "http.response.body", "body": b"x"}


def test_starlette_responses_answer_themselves():
    responses = pytest.importorskip("starlette.responses")
    assert http_result.is_asgi_response(responses.PlainTextResponse("x"))
    assert not http_result.is_asgi_response("x")
