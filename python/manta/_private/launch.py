# SPDX-License-Identifier: Apache-2.0
"""A program that has imported an application gives its private instance a copy of itself.

``manta run`` imports the application to build its graph; a zygote would import it a second time.
Instead the command forks, and the fork forks once more and then becomes the node: so the second fork
is the node's child, warm from the start, and the application is imported once.

    the command --fork--> the node-to-be --fork--> the zygote
         |                       |
         |                       '--exec--> manta-node, which finds the zygote as its child
         '--- goes on as the driver

This is done for the command alone, whose process holds what the import made and nothing else.  A
program that calls ``serve.run`` may hold anything, sockets and changed globals too, which are no
business of its replicas.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any, Optional

from manta._private import surroundings, zygote_main

if TYPE_CHECKING:
    from manta._private.graph import BuiltApplication

_THREADS = "OMP_NUM_THREADS"
_ENDS = (signal.SIGINT, signal.SIGTERM)
_OOM_SCORE = b"500"  # As replicas have it: when memory is short, user code goes first.
_OFF = ("0",)  # of MANTA_ZYGOTE


class Launch:
    """What starts the node's process; called once, by the extension."""

    def __init__(self, key: str, without: tuple[str, ...]) -> None:
        self._key = key
        self._without = without

    def __call__(self, path: str, arguments: list[str], parent_descriptor: int) -> int:
        """Start the node.  The process id; only in the calling process does it return."""
        zygote_main.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        node = os.fork()
        if node == 0:
            try:
                self._become_node(path, arguments, parent_descriptor)
            finally:
                os._exit(127)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return node

    def _become_node(self, path: str, arguments: list[str], parent_descriptor: int) -> None:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        zygote = os.fork()
        if zygote == 0:
            try:
                ours.close()
                os.close(parent_descriptor)
                self._be_zygote(theirs.detach())
            finally:
                os._exit(0)
        for number in map(int, os.listdir("/proc/self/fd")):
            if number > 2:
                _keep_open(number, number in (parent_descriptor, ours.fileno()))
        _reset_signals()
        more = [
            "--zygote", self._key,
            "--zygote-descriptor", str(ours.fileno()),
            "--zygote-process", str(zygote),
        ]  # fmt: skip
        environment = {name: os.environ[name] for name in os.environ if name not in self._without}
        os.execve(path, [*arguments, *more], environment)

    def _be_zygote(self, descriptor: int) -> None:
        os.setsid()
        _reset_signals()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        try:
            with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
                file.write(_OOM_SCORE)
        except OSError:
            pass  # A wish: some containers forbid it.
        gc.freeze()  # Without a collection: the first replica is waited for.
        zygote_main.Zygote(descriptor, self._key).serve()


def _keep_open(number: int, wanted: bool) -> None:
    try:
        os.set_inheritable(number, wanted)
    except OSError:
        pass  # It was the list's own.


def _reset_signals() -> None:
    """As a process begins; the interpreter ignores some, and an exec would keep that."""
    for number in (*_ENDS, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


class Preparation:
    """Before the application is imported: what a zygote must have then, and its environment."""

    def __init__(self) -> None:
        self._chosen = _THREADS in os.environ  # by the user, who is heard
        self._threads = os.environ.setdefault(_THREADS, "1")

    def launch(self, app: BuiltApplication) -> Optional[Launch]:
        """How to start the node with this process as a zygote; None when it cannot be one.

        Why not is said by the zygote that the node then makes.
        """
        if os.environ.get("MANTA_ZYGOTE") in _OFF:
            return None
        for name in zygote_main.BASE:
            importlib.import_module(name)
        keys: Counter[str] = Counter()
        for entered, key in surroundings.keys_of(app):
            if self._has(entered):
                keys[key] += 1
        if not keys or zygote_main.why_not():
            return None
        # Deployments with other numbers of processors choose for themselves.
        without = () if self._chosen else (_THREADS,)
        return Launch(keys.most_common(1)[0][0], without)

    def _has(self, entered: dict[str, Any]) -> bool:
        """Whether this process is what a replica with these surroundings would enter."""
        threads = entered["environment_defaults"].get(_THREADS)
        return (
            not entered["environment"]
            and entered["directory"] == os.getcwd()
            and entered["path"] == surroundings.search_path()
            and (self._chosen or threads == self._threads)
        )
