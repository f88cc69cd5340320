# SPDX-License-Identifier: Apache-2.0
"""An HTTP/1.1 client that can misbehave: it sends the bytes that it is given and believes nothing.

`Connection` is one socket.  `send` sends bytes as they are, `ask` writes a plain request, `answer` reads the
next answer and checks its framing as it goes: anything that RFC 9112 does not allow is a BadAnswer.  Nothing
is retried and nothing is repaired.  A read that stands still for PATIENCE_S is a hang and fails the test.
"""

import re
import select
import socket

PATIENCE_S = 30  # only something that hangs takes so long

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) ([^\r\n]*)")
FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)[ \t]*")
CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})")


class Broken(Exception):
    """The connection ended before the answer was whole; `got` is what came of it."""

    def __init__(self, got, reason="the connection ended"):
        super().__init__(f"{reason} after {bytes(got[:200])!r}")
        self.got = bytes(got)


class BadAnswer(AssertionError):
    """The peer broke the protocol."""


class Answer:
    """One whole answer: status, reason, fields [(name, text)], body, trailers and the interim statuses before it."""

    def __init__(self, status, reason, fields, interim):
        self.status, self.reason, self.fields, self.interim = status, reason, fields, interim
        self.body, self.trailers, self.framing = b"", [], ""

    def all(self, name):
        return [text for own, text in self.fields if own.lower() == name]

    def field(self, name):
        """The field's only value, or None."""
        values = self.all(name)
        if len(values) > 1:
            raise BadAnswer(f"{name} is there {len(values)} times: {values}")
        return values[0] if values else None

    @property
    def text(self):
        return self.body.decode()

    @property
    def closes(self):
        return "close" in (self.field("connection") or "").lower()

    def __repr__(self):
        return f"<{self.status} {self.body[:120]!r}>"


class Connection:
    def __init__(self, port, host="127.0.0.1", patience_s=PATIENCE_S, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(patience_s)
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.at_hand = bytearray()  # received and not used

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends it with a reset instead of a proper end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    # ---- out

    def send(self, data):
        self.socket.sendall(data)

    def end_sending(self):
        self.socket.shutdown(socket.SHUT_WR)

    def ask(self, path, method="GET", fields=(), body=None, version="1.1"):
        """Sends a whole request; the answer is fetched by `answer`."""
        lines = [f"{method} {path} HTTP/{version}", "host: test", *(f"{name}: {text}" for name, text in fields)]
        if body is not None:
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + (body or b""))

    # ---- in

    def is_readable(self, within_s=0):
        return bool(self.at_hand) or bool(select.select([self.socket], [], [], within_s)[0])

    def _receive(self):
        """More bytes; False at the end of the peer's half, also when it came as a reset."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            return False
        self.at_hand += data
        return bool(data)

    def _line(self, consumed):
        """The next line without its CR LF."""
        while (end := self.at_hand.find(b"\r\n")) < 0:
            if b"\n" in self.at_hand:
                raise BadAnswer(f"a bare LF in {bytes(self.at_hand[:100])!r}")
            if not self._receive():
                raise Broken(consumed + self.at_hand)
        line = bytes(self.at_hand[:end])
        del self.at_hand[: end + 2]
        consumed += line + b"\r\n"
        return line

    def _bytes(self, size):
        while len(self.at_hand) < size:
            if not self._receive():
                raise Broken(self.at_hand, f"{size} bytes were announced; the connection ended")
        data = bytes(self.at_hand[:size])
        del self.at_hand[:size]
        return data

    def _fields(self, consumed):
        fields = []
        while line := self._line(consumed):
            match = FIELD_LINE.fullmatch(line)
            if not match:
                raise BadAnswer(f"{line!r} is no field line")
            fields.append((match[1].decode(), match[2].decode("latin-1")))
        return fields

    def _head(self):
        consumed = bytearray()
        line = self._line(consumed)
        match = STATUS_LINE.fullmatch(line)
        if not match:
            raise BadAnswer(f"{line!r} is no status line")
        return int(match[1]), match[2].decode(), self._fields(consumed)

    def answer(self, method="GET"):
        """The next final answer.  Broken: the connection ended first."""
        interim = []
        status, reason, fields = self._head()
        while status < 200:
            interim.append(status)
            status, reason, fields = self._head()
        answer = Answer(status, reason, fields, interim)
        self._body(answer, method)
        return answer

    def _body(self, answer, method):
        length, coding = answer.field("content-length"), answer.field("transfer-encoding")
        if length is not None and coding is not None:
            raise BadAnswer("content-length and transfer-encoding in one answer")
        if answer.status in (204, 304) and (coding or length not in (None, "0")):
            raise BadAnswer(f"a {answer.status} with a body")
        if method == "HEAD" or answer.status in (204, 304):
            answer.framing = "none"
        elif coding is not None:
            if coding.lower() != "chunked":
                raise BadAnswer(f"transfer-encoding: {coding}")
            answer.framing = "chunked"
            self._chunks(answer)
        elif length is not None:
            if not length.isdigit():
                raise BadAnswer(f"content-length: {length}")
            answer.framing = "length"
            answer.body = self._bytes(int(length))
        else:
            if not answer.closes:
                raise BadAnswer("neither length nor chunks, and the connection stays open")
            answer.framing = "close"
            answer.body = self.rest()

    def _chunks(self, answer):
        parts = []
        while True:
            line = self._line(bytearray())
            match = CHUNK_LINE.fullmatch(line)
            if not match:
                raise BadAnswer(f"{line!r} is no chunk size")
            size = int(match[1], 16)
            if size == 0:
                break
            parts.append(self._bytes(size))
            if self._bytes(2) != b"\r\n":
                raise BadAnswer("a chunk that is longer than it says")
        answer.body = b"".join(parts)
        answer.trailers = self._fields(bytearray())

    def rest(self):
        """Everything up to the end of the connection."""
        while self._receive():
            pass
        data = bytes(self.at_hand)
        self.at_hand.clear()
        return data

    def get(self, path, **options):
        self.ask(path, **options)
        return self.answer(options.get("method", "GET"))


def get(port, path, **options):
    """One request on a connection of its own."""
    with Connection(port) as connection:
        return connection.get(path, **options)


def in_chunks(data, size):
    """The body framed as chunks of `size` bytes."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def pattern(size):
    """What replies.c sends."""
    period = bytes(offset * 31 // 7 % 251 for offset in range(7 * 251))
    return (period * (size // len(period) + 1))[:size]
