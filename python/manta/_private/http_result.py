# SPDX-License-Identifier: Apache-2.0
"""What a plain deployment returned, as an HTTP answer.

None is an empty text, bytes and text are themselves, everything else is JSON with numpy, pandas,
dataclasses, pydantic models and the like understood.  A Starlette response is not converted: it is
an ASGI application and is called.  The replica run time asks ``encode`` and writes what it gets;
``asgi_messages`` is the same for those who speak ASGI.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import sys
from dataclasses import asdict, is_dataclass
from typing import Any, NamedTuple, Optional

from manta.serve.exceptions import BackPressureError, DeploymentUnavailableError

TEXT = "text/plain"
UTF8_TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


class Answer(NamedTuple):
    """An HTTP answer that is complete."""

    body: bytes
    content_type: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


def is_asgi_response(value: Any) -> bool:
    """Whether the value answers by itself; nobody has a response who has not imported its class."""
    responses = sys.modules.get("starlette.responses")
    return responses is not None and isinstance(value, responses.Response)


def encode(value: Any) -> Answer:
    """The answer for a handler's plain result."""
    if value is None:
        return Answer(b"", TEXT)
    if isinstance(value, bytes):
        return Answer(value, TEXT)
    if isinstance(value, str):
        return Answer(value.encode("utf-8"), UTF8_TEXT)
    return Answer(_json(value), JSON)


def encode_error(error: BaseException) -> Answer:
    """The answer for an error of a handler; its trace is for the log, not for the client."""
    if isinstance(error, BackPressureError):
        seconds = error.retry_after_s
        headers = () if seconds is None else (("retry-after", str(max(0, math.ceil(seconds)))),)
        return Answer(error.message.encode(), UTF8_TEXT, error.status_code, headers)
    if isinstance(error, DeploymentUnavailableError):
        return Answer(error.message.encode(), UTF8_TEXT, 503)
    return Answer(b"Internal Server Error", UTF8_TEXT, 500)


def asgi_messages(answer: Answer) -> list[dict[str, Any]]:
    """The answer as the two messages of ASGI."""
    headers = [[b"content-type", answer.content_type.encode()]]
    headers += [[name.encode(), value.encode()] for name, value in answer.headers]
    return [
        {"type": "http.response.start", "status": answer.status, "headers": headers},
        {"type": "http.response.body", "body": answer.body},
    ]


def response_to_error(error: Exception) -> Any:
    """The answer as a Starlette response, for the exception handlers of an application."""
    from starlette.responses import Response

    answer = encode_error(error)
    return Response(
        answer.body, answer.status, headers=dict(answer.headers), media_type="text/plain"
    )


def _json(value: Any) -> bytes:
    """Plain values straight; FastAPI's encoder for others when it is there, ours when it is not."""
    try:
        return _dump(value)
    except (TypeError, ValueError):
        return _dump(_encodable(value))


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def _encodable(value: Any) -> Any:
    try:
        from fastapi.encoders import jsonable_encoder
    except ImportError:
        return _plain(value)
    return jsonable_encoder(value, custom_encoder=_foreign_encoders())


def _foreign_encoders() -> dict[Any, Any]:
    """Encoders for what people return from models, as far as it is loaded."""
    encoders: dict[Any, Any] = {Exception: str}
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None:
        encoders[numpy.ndarray] = lambda array: array.tolist()
        encoders[numpy.generic] = lambda scalar: scalar.item()
    if pandas is not None:
        encoders[pandas.DataFrame] = lambda frame: frame.to_dict(orient="records")
    return encoders


def _plain(value: Any) -> Any:
    """The value made of what JSON has."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    found = _known(value)
    if found is not None:
        return _plain(found[0])
    attributes: Optional[dict[str, Any]] = getattr(value, "__dict__", None)
    if attributes is not None:
        return _plain({name: v for name, v in attributes.items() if not name.startswith("_")})
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _known(value: Any) -> Optional[tuple[Any]]:
    """The plain form of a type that is known, in a tuple, because it may be None."""
    for kind, encode_it in _foreign_encoders().items():
        if isinstance(value, kind):
            return (encode_it(value),)
    if hasattr(value, "model_dump"):
        return (value.model_dump(mode="json"),)
    if is_dataclass(value) and not isinstance(value, type):
        return (asdict(value),)
    if isinstance(value, enum.Enum):
        return (value.value,)
    if isinstance(value, (datetime.date, datetime.time)):
        return (value.isoformat(),)
    if isinstance(value, datetime.timedelta):
        return (value.total_seconds(),)
    if isinstance(value, decimal.Decimal):
        return (int(value) if value == value.to_integral_value() else float(value),)
    if isinstance(value, bytes):
        return (value.decode(),)
    if hasattr(value, "hex") and hasattr(value, "int"):  # UUID
        return (str(value),)
    return None
