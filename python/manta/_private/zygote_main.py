# SPDX-License-Identifier: Apache-2.0
"""A warm interpreter: ``python -m manta._private.zygote_main``, started by the node.

It imports what the replicas of one environment need, once, and forks them.  It obeys the node alone,
over a socket that it inherited; the words are those of ``src/role/node/node_zygote_link.c``.

A fork has one thread, the one that forked: so nothing here starts one, and a zygote in which
somebody else did, or in which a device is open that does not survive a fork, says so and ends; its
replicas then get interpreters of their own.  Each replica is forked twice, which makes it a child
of the node, and says itself that it is there: if the node does not hear it any more, it ends.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn, Optional

from manta._private import log

# What every replica needs.
BASE = (
    "asyncio",
    "manta._native",
    "manta._private.native_instance",
    "manta._private.replica_main",
    "manta._private.replica_requests",
    "manta._private.user_code",
    "manta.serve",
)
_MESSAGE = 1 << 20
_DESCRIPTORS = 8
_PARENT = "MANTA_PARENT_DESCRIPTOR"
_WORDS = "MANTA_WORDS_DESCRIPTOR"


class Unfit(Exception):
    """Why this interpreter must not fork."""


# ---- what is loaded


def load(wanted: dict[str, Any]) -> None:
    """Import what replicas need.  Raises Unfit with the reason when that cannot be done."""
    from manta._private import surroundings

    surroundings.enter(wanted)
    for name in BASE:
        importlib.import_module(name)
    try:
        importlib.import_module("uvloop")
    except ImportError:
        pass  # asyncio's own loop, then.
    for name in wanted["modules"]:
        try:
            importlib.import_module(name)
        except BaseException as error:
            raise Unfit(f"module {name} cannot be imported: {type(error).__name__}: {error}") from None
    for name in wanted["perhaps"]:
        try:
            importlib.import_module(name)
        except Exception:
            pass  # A text that only looked like a module's name, or one that its replica will miss.


def settle() -> None:
    """What was imported will not be collected: its pages stay shared with the replicas."""
    gc.collect()
    gc.freeze()


def flush() -> None:
    """What is buffered would be written by every fork once more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # Nobody reads it, or somebody has closed it.


def why_not() -> Optional[str]:
    """Why a fork of this process is not safe; None when it is."""
    if _threads() > 1:
        # The pool of OpenBLAS ends by itself when a process forks, and comes back when it is used.
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        names = _thread_names()
        if len(names) > 1:
            return f"{len(names) - 1} other threads run in it: {', '.join(sorted(set(names[1:])))}"
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is not None and cuda.is_initialized():
        return "CUDA is initialised in it"
    device = _open_device()
    return f"{device} is open in it" if device else None


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _thread_names() -> list[str]:
    """The main thread's first."""
    names = []
    for number in sorted(os.listdir("/proc/self/task"), key=int):
        try:
            with open(f"/proc/self/task/{number}/comm") as file:
                names.append(file.read().strip())
        except OSError:
            pass  # It has just ended.
    return names


def _open_device() -> Optional[str]:
    """A graphics processor's driver does not survive a fork."""
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if path.startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri/")):
            return path
    return None


# ---- the conversation


class Zygote:
    """This process, from its first word to the node's end."""

    def __init__(self, descriptor: int, key: str) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._socket.setblocking(True)
        self._key = key

    def load(self) -> bool:
        """The first word, and its answer; False: the end of this process."""
        word, _, text = self._socket.recv(_MESSAGE).partition(b"\0")
        self._end_with_node(True)
        try:
            if word != b"load":
                raise Unfit(f"the node said {word!r}")
            load(json.loads(text))
            reason = why_not()
            if reason:
                raise Unfit(reason)
        except Unfit as error:
            self._say(f"unfit {error}")
            return False
        self._end_with_node(False)
        settle()
        return True

    def _end_with_node(self, wanted: bool) -> None:
        """While modules are imported nobody reads the socket: its end ends this process by signal.

        The node says nothing in that time, so that the signal means just that.
        """
        flags = fcntl.fcntl(self._socket, fcntl.F_GETFL)
        fcntl.fcntl(self._socket, fcntl.F_SETOWN, os.getpid())
        changed = flags | os.O_ASYNC if wanted else flags & ~os.O_ASYNC
        fcntl.fcntl(self._socket, fcntl.F_SETFL, changed)

    def _say(self, text: str) -> None:
        try:
            self._socket.send(text.encode("utf-8", "replace")[:400])
        except OSError:
            os._exit(1)  # The node is gone.

    def serve(self) -> None:
        """Until the node hangs up."""
        self._say("warm")
        while True:
            try:
                message, descriptors, _flags, _address = socket.recv_fds(
                    self._socket, _MESSAGE, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return
            if not message:
                return
            word, *arguments = message.rstrip(b"\0").split(b"\0")
            if word == b"fork":
                self._fork([argument.decode() for argument in arguments], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork(self, arguments: list[str], descriptors: list[int]) -> None:
        number = arguments[arguments.index("--replica") + 1]
        reason = why_not()
        if reason:
            self._say(f"failed {number} {reason}")
            return
        flush()
        try:
            middle = os.fork()
        except OSError as error:
            self._say(f"failed {number} {error.strerror}")
            return
        if middle == 0:
            self._fork_again(number, arguments, descriptors)
        status = os.waitpid(middle, 0)[1]
        if status:
            self._say(f"failed {number} the second fork failed")

    def _fork_again(self, number: str, arguments: list[str], descriptors: list[int]) -> NoReturn:
        try:
            if os.fork():
                os._exit(0)
        except OSError:
            os._exit(1)
        status = 1
        try:
            self._become(number, arguments, descriptors)
            from manta._private import replica_main

            status = replica_main.main(arguments[3:])
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)

    def _become(self, number: str, arguments: list[str], descriptors: list[int]) -> None:
        """The process of a replica, as the node would have started it."""
        os.setsid()
        document, lifeline, words, *rest = descriptors
        os.dup2(words, 2)
        os.close(words)
        self._say(f"here {number} {os.getpid()}")
        self._socket.close()
        arguments[arguments.index("--document-descriptor") + 1] = str(document)
        # By putenv: what the replica itself starts shall not find them in os.environ.
        os.putenv(_PARENT, str(lifeline))
        if rest:
            os.putenv(_WORDS, str(rest[0]))
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.default_int_handler if name == signal.SIGINT else signal.SIG_DFL)
        sys.argv = ["manta-replica"]
        show_arguments(arguments)
        log.start_anew()
        reseed()


# ---- a fresh fork


def reseed() -> None:
    """Generators of random numbers whose state was copied begin anew.

    Python's own reseeds itself at a fork; objects that the application made are its own affair.
    """
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.seed()


def show_arguments(arguments: list[str]) -> None:
    """Writes over this process's arguments, by which a later node finds its replicas.

    There is room where the node made some; else the arguments stay as they are.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    text = b"\0".join(argument.encode() for argument in arguments) + b"\0"
    if not 0 < start < end or len(text) > end - start:
        return
    memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(memory, text.ljust(end - start, b"\0"), start)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EACCES, errno.EPERM):
            raise
    finally:
        os.close(memory)


def _argument(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def main(arguments: list[str]) -> int:
    """The whole life of the process."""
    for name in (_PARENT, _WORDS):
        os.environ.pop(name, None)
    zygote = Zygote(int(_argument(arguments, "--descriptor")), _argument(arguments, "--zygote"))
    if zygote.load():
        zygote.serve()
    return 0


if __name__ == "__main__":
    _status = main(sys.argv[1:])
    os._exit(_status)
