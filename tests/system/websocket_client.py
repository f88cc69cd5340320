# SPDX-License-Identifier: Apache-2.0
"""A client of websockets that says every frame by hand, and may say wrong ones."""

import base64
import os
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN = 0x80


class Refused(Exception):
    """The handshake was answered with something else than 101."""

    def __init__(self, status, headers, body):
        super().__init__(f"{status} {body[:200]!r}")
        self.status, self.headers, self.body = status, headers, body


def masked(payload, mask):
    if not payload:
        return b""
    pattern = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(len(payload), "big")


def frame(first, payload=b"", mask=b"\x12\x34\x56\x78"):
    """One frame of a client; `first` is its first byte."""
    size = len(payload)
    if size < 126:
        head = bytes([first, 0x80 | size])
    elif size < 65536:
        head = bytes([first, 0x80 | 126]) + struct.pack(">H", size)
    else:
        head = bytes([first, 0x80 | 127]) + struct.pack(">Q", size)
    return head + mask + masked(payload, mask)


class Websocket:
    """`with Websocket(port, "/chat?room=1") as chat: chat.send("hello"); chat.receive() == "hello"`."""

    def __init__(self, port, path="/", *, headers=(), patience_s=60, version="13"):
        self.socket = socket.create_connection(("127.0.0.1", port), patience_s)
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: 127.0.0.1",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            f"Sec-WebSocket-Version: {version}",
            *[f"{name}: {value}" for name, value in headers],
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        head = self._read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if self.status != 101:
            body = self._read(int(self.headers.get("content-length", 0)))
            self.socket.close()
            raise Refused(self.status, self.headers, body)

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.socket.close()

    def _more(self):
        piece = self.socket.recv(1 << 20)
        if not piece:
            raise EOFError(f"the connection ended; {len(self.buffer)} bytes are left")
        self.buffer += piece

    def _read_until(self, mark):
        while mark not in self.buffer:
            self._more()
        end = self.buffer.index(mark) + len(mark)
        found, self.buffer = self.buffer[:end], self.buffer[end:]
        return found

    def _read(self, size):
        while len(self.buffer) < size:
            self._more()
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def say(self, *frames):
        self.socket.sendall(b"".join(frames))

    def send(self, message):
        if isinstance(message, str):
            self.say(frame(FIN | TEXT, message.encode()))
        else:
            self.say(frame(FIN | BINARY, message))

    def read_frame(self):
        """The next frame: (first byte, payload)."""
        first, size = self._read(2)
        assert not size & 0x80, "a server's frame has no mask"
        if size == 126:
            (size,) = struct.unpack(">H", self._read(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self._read(8))
        return first, self._read(size)

    def receive(self):
        """The next message, str or bytes; a close is the pair (code, reason)."""
        kind, pieces = None, []
        while True:
            first, payload = self.read_frame()
            opcode = first & 15
            if opcode == PING:
                self.say(frame(FIN | PONG, payload))
            elif opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                return code, payload[2:].decode()
            elif opcode != PONG:
                kind = opcode or kind
                pieces.append(payload)
                if first & FIN:
                    whole = b"".join(pieces)
                    return whole.decode() if kind == TEXT else whole

    def close(self, code=1000, reason=""):
        """Closes, and returns what the server's close says."""
        self.say(frame(FIN | CLOSE, struct.pack(">H", code) + reason.encode()))
        while not isinstance(told := self.receive(), tuple):
            pass
        return told

    def ended(self):
        """The server has ended the connection, and said nothing before that."""
        try:
            return self.socket.recv(1) == b"" and not self.buffer
        except ConnectionResetError:
            return True
