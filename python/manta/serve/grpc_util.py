# SPDX-License-Identifier: Apache-2.0
"""What a handler of a gRPC call may use: the call's context, and the stream of its requests.

Neither needs the ``grpc`` package: codes and compressions are kept as they were given.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar

if TYPE_CHECKING:
    import grpc

__all__ = ["RayServegRPCContext", "gRPCInputStream"]

T = TypeVar("T")


class gRPCInputStream(Generic[T]):
    """The messages of a call whose client streams, one after the other."""

    def __init__(
        self,
        request_iterator: AsyncIterator[T],
        *,
        cancel_event: Optional[asyncio.Event] = None,
    ) -> None:
        self._request_iterator = request_iterator
        self._cancel_event = cancel_event or asyncio.Event()
        self._exhausted = False

    def __aiter__(self) -> gRPCInputStream[T]:
        return self

    async def __anext__(self) -> T:
        if self._exhausted or self._cancel_event.is_set():
            self._exhausted = True
            raise StopAsyncIteration
        try:
            return await self._request_iterator.__anext__()
        except StopAsyncIteration:
            self._exhausted = True
            raise

    def is_cancelled(self) -> bool:
        return self._cancel_event.is_set()

    def cancel(self) -> None:
        self._cancel_event.set()

    @property
    def is_exhausted(self) -> bool:
        return self._exhausted


class RayServegRPCContext:
    """A call's context as it was when the call arrived, and what the handler wants answered.

    It is made from a servicer's context, or from anything with its methods, and can be pickled.
    """

    def __init__(self, grpc_context: Any) -> None:
        self._auth_context = grpc_context.auth_context()
        self._code = grpc_context.code()
        self._details = grpc_context.details()
        self._invocation_metadata = [(k, v) for k, v in grpc_context.invocation_metadata()]
        self._peer = grpc_context.peer()
        self._peer_identities = grpc_context.peer_identities()
        self._peer_identity_key = grpc_context.peer_identity_key()
        self._trailing_metadata = [(k, v) for k, v in grpc_context.trailing_metadata()]
        self._compression: Optional[grpc.Compression] = None

    def auth_context(self) -> dict[str, Any]:
        return self._auth_context

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._invocation_metadata

    def peer(self) -> str:
        return self._peer

    def peer_identities(self) -> Optional[bytes]:
        return self._peer_identities

    def peer_identity_key(self) -> Optional[str]:
        return self._peer_identity_key

    def trailing_metadata(self) -> list[tuple[str, str]]:
        return self._trailing_metadata

    def request_id(self) -> Optional[str]:
        return self._sent("request_id")

    def application(self) -> Optional[str]:
        return self._sent("application")

    def multiplexed_model_id(self) -> Optional[str]:
        return self._sent("multiplexed_model_id")

    def traceparent(self) -> Optional[str]:
        return self._sent("traceparent")

    def tracestate(self) -> Optional[str]:
        return self._sent("tracestate")

    def _sent(self, key: str) -> Optional[str]:
        """The last value that the client sent under a key."""
        return dict(self._invocation_metadata).get(key)

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def set_compression(self, compression: grpc.Compression) -> None:
        self._compression = compression

    def set_details(self, details: str) -> None:
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, str]]) -> None:
        """Replace the trailing metadata; the request's id always stays."""
        own = [pair for pair in self._trailing_metadata if pair[0] == "request_id"][:1]
        self._trailing_metadata = own + trailing_metadata

    def _set_on_grpc_context(self, grpc_context: Any) -> None:
        """Write what the handler wanted into the servicer's context."""
        for name in ("code", "compression", "details", "trailing_metadata"):
            value = getattr(self, f"_{name}")
            if value:
                getattr(grpc_context, f"set_{name}")(value)
