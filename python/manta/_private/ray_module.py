# SPDX-License-Identifier: Apache-2.0
"""What ``import ray`` gives a program that runs on Manta: the few functions that Serve programs call.

The finder of ``manta._private.ray_names`` puts these names into a module that is called ``ray``.
There is no cluster to start or to end, so ``init`` and ``shutdown`` only keep the promises that
programs rely on.  Everything else of Ray is refused with words that name what to do instead.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Optional

from manta._private.absent import advice
from manta._private.constants import logger

__version__ = "2.60.0"  # whose interface this is
_PARTS = {"serve": "manta.serve", "exceptions": "manta.exceptions"}
_initialized = False
_told: set[str] = set()


def _tell_once(what: str) -> None:
    if what not in _told:
        _told.add(what)
        logger.warning(what)


class RayContext:
    """What ``ray.init`` returns; as a ``with`` block it ends what it began."""

    dashboard_url: Optional[str] = None
    python_version: str = ".".join(map(str, sys.version_info[:3]))
    ray_version: str = __version__
    ray_commit: str = ""

    def __init__(self) -> None:
        self.address_info: dict[str, Any] = {"address": "local", "webui_url": None}

    def __enter__(self) -> RayContext:
        return self

    def __exit__(self, *error: Any) -> None:
        shutdown()

    def disconnect(self) -> None:
        """Nothing is connected."""

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]


def init(address: Optional[str] = None, **options: Any) -> RayContext:
    """Remembers that it was called: there is no cluster to start or to connect to.

    Args:
        address: Ignored.
        **options: Ignored, except that ``ignore_reinit_error=False`` (the default) makes a second
            call an error, as it is in Ray.
    """
    global _initialized
    if _initialized and not options.get("ignore_reinit_error"):
        raise RuntimeError(
            "Maybe you called ray.init twice by accident? This error can be suppressed by passing "
            "in 'ignore_reinit_error=True' or by calling 'ray.shutdown()' prior to 'ray.init()'."
        )
    _tell_once(
        "ray.init() starts nothing: this program runs on Manta (as-ray-serve), its arguments are "
        "ignored."
    )
    _initialized = True
    return RayContext()


def is_initialized() -> bool:
    """Whether ``init`` was called, or an instance runs that ``serve`` has started or joined."""
    from manta._private import instance

    return _initialized or instance.is_joined()


def shutdown(_exiting_interpreter: bool = False) -> None:
    """Ends what this process has started, as Ray's ends a cluster of its own.

    A private instance ends with its applications; one that others started goes on.
    """
    global _initialized
    from manta._private import instance

    found = instance._joined
    _initialized = False
    if found is None:
        return
    if found.is_private:
        _tell_once("ray.shutdown() ends the private instance of this program and its applications.")
        from manta import serve

        serve.shutdown()
    else:
        _tell_once("ray.shutdown() ends nothing: the instance was not started by this program.")


def get(object_refs: Any, *, timeout: Optional[float] = None, **options: Any) -> Any:
    """The result of a response, or of each response of a list.

    Raises ``ray.exceptions.GetTimeoutError`` when ``timeout`` seconds pass first.
    """
    if isinstance(object_refs, (list, tuple)):
        return [get(one, timeout=timeout) for one in object_refs]
    from manta.exceptions import GetTimeoutError
    from manta.serve.handle import DeploymentResponse

    if not isinstance(object_refs, DeploymentResponse):
        raise TypeError(
            f"ray.get() takes responses of deployment handles here, got {type(object_refs)}. "
            + advice("ray.put")
        )
    try:
        return object_refs.result(timeout_s=timeout)
    except TimeoutError as error:
        if not object_refs._reply.done:
            raise GetTimeoutError(str(error)) from None
        raise


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(_PARTS[name])
    if name.startswith("__"):
        raise AttributeError(f"module 'ray' has no attribute {name!r}")
    raise AttributeError(advice(f"ray.{name}"))


NAMES = {
    name: globals()[name]
    for name in ("__version__", "__getattr__", "get", "init", "is_initialized", "shutdown")
}
