# SPDX-License-Identifier: Apache-2.0
"""``manta run --reload``: the application again, whenever one of its files has changed.

A module cannot be imported a second time in the process that has imported it.  So another process
imports the application, builds its graph and sends what should run back over a pipe; it is then
deployed as any change is: new replicas stand before the old ones go.  An application that fails to
import says so, and the former one serves on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Optional

POLL_S = 0.25
_MOST_FILES = 10_000
_LOOK_S = 0.02
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})
State = dict[str, tuple[int, int]]


class Watch:
    """The application's files: those it has loaded, and every Python file below its directory."""

    def __init__(self, folder: str, files: Iterable[str]) -> None:
        self._folder = os.path.abspath(folder)
        self._files = set(files)
        self._last = self._look()

    def see(self, files: Iterable[str]) -> None:
        """These are the application's files by now; new ones are taken as they are."""
        self._files = set(files)
        self._last = {**self._look(), **self._last}

    def changed(self) -> list[str]:
        """What has changed since the last call and is the same for one look: a save has two halves."""
        now = self._look()
        if now == self._last:
            return []
        settled = self._look()
        if settled != now:
            return []  # Still being written: the next call sees all of it.
        names = now.keys() ^ self._last.keys()
        names |= {name for name in now.keys() & self._last.keys() if now[name] != self._last[name]}
        self._last = now
        return sorted(names)

    def _look(self) -> State:
        found: State = {}
        for name in {*self._files, *self._below()}:
            try:
                facts = os.stat(name)
            except OSError:
                continue
            found[name] = (facts.st_mtime_ns, facts.st_size)
        return found

    def _below(self) -> Iterator[str]:
        count = 0
        for place, folders, files in os.walk(self._folder):
            folders[:] = [f for f in folders if f not in _SKIPPED and not _is_foreign(place, f)]
            for name in files:
                if name.endswith(".py"):
                    count += 1
                    yield os.path.join(place, name)
            if count >= _MOST_FILES:
                return


def _is_foreign(place: str, folder: str) -> bool:
    """Hidden, or a virtual environment."""
    return folder.startswith(".") or os.path.exists(os.path.join(place, folder, "pyvenv.cfg"))


def send(descriptor: int, files: Iterable[str], document: bytes) -> None:
    """In the process that has imported: one line with the files, then the document."""
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(json.dumps(sorted(files)).encode() + b"\n" + document)


def build(words: list[str], wait: Callable[[float], bool]) -> Optional[tuple[list[str], bytes]]:
    """Import and build in a process of its own: files and document; None when that failed.

    What it has to say it says on standard error, the traces of the user's modules too.

    Args:
        words: Those of the command.
        wait: As ``watch`` has it; when it says that all is over the process is ended.
    """
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "manta._private.run_main", "--build-only", str(writer), *words],
        stdin=subprocess.DEVNULL,
        pass_fds=(writer,),
        start_new_session=True,  # Ctrl-C is ours to act upon.
    )
    os.close(writer)
    made: list[bytes] = []
    thread = threading.Thread(target=_read, args=(reader, made), name="manta-reload", daemon=True)
    thread.start()
    try:
        while thread.is_alive() or child.poll() is None:
            if wait(_LOOK_S):
                return None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    line, _, document = made[0].partition(b"\n")
    return (json.loads(line), document) if child.returncode == 0 and line else None


def _read(reader: int, made: list[bytes]) -> None:
    with os.fdopen(reader, "rb") as pipe:
        made.append(pipe.read())


def watch(
    given: Watch, wait: Callable[[float], bool], again: Callable[[list[str]], None]
) -> None:
    """``again(changed files)`` at each change, until ``wait(seconds)`` says that it is over."""
    while not wait(POLL_S):
        changed = given.changed()
        if changed:
            again(changed)
