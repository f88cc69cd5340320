# SPDX-License-Identifier: Apache-2.0
"""What the programs ask with: a few lines over the standard library's HTTP client."""

import http.client
import json
import os

PORT = int(os.environ.get("PORT", "8000"))


class Answer:
    """Status, headers and body of one answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    @property
    def type(self):
        return self.headers.get("content-type")


def ask(method, path, body=None, headers=None):
    """One request on a connection of its own; a body that is no bytes goes as JSON."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("content-type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    try:
        connection.request(method, path, body, headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def get(path, headers=None):
    return ask("GET", path, None, headers)


def post(path, body=None, headers=None):
    return ask("POST", path, body, headers)


def pieces(path, headers=None):
    """The parts of an answer as they come, split at empty lines."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    try:
        connection.request("GET", path, None, headers or {})
        response = connection.getresponse()
        block = []
        for line in response:
            line = line.rstrip(b"\r\n").decode()
            if line:
                block.append(line)
            elif block:
                yield block
                block = []
        if block:
            yield block
    finally:
        connection.close()
