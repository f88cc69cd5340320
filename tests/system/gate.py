# SPDX-License-Identifier: Apache-2.0
"""The test's end of the strings of tests/objects/puppet.c: it knows which requests are inside, and leads them.

    gate = Gate(directory)
    connection.ask(f"/?{gate.query}")
    inside = gate.next()            # the request is in the deployment's code now, in process inside.pid
    inside.tell("a")                # let it answer
"""

import os
import pathlib
import socket

PATIENCE_S = 30  # only something that hangs takes so long


class Inside:
    """A request inside the deployment's code."""

    def __init__(self, accepted):
        self.socket = accepted
        self.socket.settimeout(PATIENCE_S)
        self.at_hand = b""
        word, self.replica, pid, self.request_id = self.line().split(" ")
        assert word == "entered"
        self.pid = int(pid)

    def tell(self, words):
        self.socket.sendall(words.encode())

    def line(self):
        """What it says next; "" when its process is gone."""
        while b"\n" not in self.at_hand:
            try:
                data = self.socket.recv(4096)
            except ConnectionResetError:
                data = b""
            if not data:
                return ""
            self.at_hand += data
        line, self.at_hand = self.at_hand.split(b"\n", 1)
        return line.decode()

    def close(self):
        self.socket.close()


class Gate:
    def __init__(self, directory):
        self.path = pathlib.Path(directory) / f"gate-{os.urandom(4).hex()}"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        self.socket.listen(256)
        self.socket.settimeout(PATIENCE_S)
        self.query = f"gate={self.path}"
        self.insides = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # A request whose gate closes fails and ends, so that no test leaves one behind.
        for inside in self.insides:
            inside.close()
        self.socket.close()
        self.path.unlink()

    def next(self):
        """The next request that enters."""
        accepted, _ = self.socket.accept()
        inside = Inside(accepted)
        self.insides.append(inside)
        return inside


    def stays_empty(self):
        """Nobody else enters.  The wait decides nothing when all is well; it gives a mistake the time to show."""
        self.socket.settimeout(0.2)
        try:
            self.insides.append(Inside(self.socket.accept()[0]))
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE_S)
        return False
