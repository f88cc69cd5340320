# SPDX-License-Identifier: Apache-2.0
"""Load in which every request is accounted for.

A Crowd is some threads with one keep-alive connection each.  A thread asks, waits for the answer, asks again,
and opens a new connection when the old one ended.  What became of every request is kept:

    200, 500 ...   an answer with that status, whole and (for 200) with the right body
    "broken"       the connection ended before the answer was whole
    "refused"      no connection could be made
    "wrong"        an answer that is not to this request
    "hung"         nothing came for PATIENCE_S

`stop` returns the counts; together they are all requests that were ever begun.
"""

import collections
import threading
import time

import plain_http


class Crowd:
    def __init__(self, port, path="/echo", threads=8, body_size=64, fields=()):
        self.port, self.path, self.fields = port, path, list(fields)
        self.body_size = body_size
        self.outcomes = []  # (begun, ended, outcome); list.append is atomic
        self.begun = [0] * threads
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(i,), daemon=True) for i in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, number):
        connection = None
        while not self._stopping.is_set():
            body = f"{number}.{self.begun[number]} ".encode().ljust(self.body_size, b".")
            self.begun[number] += 1
            started = time.monotonic()
            outcome, connection = self._ask(connection, body)
            self.outcomes.append((started, time.monotonic(), outcome))
        if connection:
            connection.close()

    def _ask(self, connection, body):
        """One request: its outcome, and the connection for the next one."""
        try:
            connection = connection or plain_http.Connection(self.port)
        except OSError:
            return "refused", None
        try:
            connection.ask(self.path, method="POST", fields=self.fields, body=body)
            answer = connection.answer()
        except (plain_http.Broken, ConnectionError):
            connection.close()
            return "broken", None
        except TimeoutError:
            connection.close()
            return "hung", None
        outcome = answer.status
        if outcome == 200 and answer.body != body:
            outcome = "wrong"
        if answer.closes:
            connection.close()
            connection = None
        return outcome, connection

    def count(self, outcome=None):
        outcomes = list(self.outcomes)
        return len(outcomes) if outcome is None else sum(1 for one in outcomes if one[2] == outcome)

    def stop(self):
        """Ends it; {outcome: count}, checked to be complete."""
        self.__exit__()
        counts = collections.Counter(outcome for _, _, outcome in self.outcomes)
        assert sum(counts.values()) == sum(self.begun), "a request is not accounted for"
        return dict(counts)
