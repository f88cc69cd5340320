# SPDX-License-Identifier: Apache-2.0
"""The trace of the current request, for those who start spans of their own."""

from __future__ import annotations

from typing import Optional

from manta.serve import context

__all__ = ["get_trace_context"]


def get_trace_context() -> Optional[dict[str, str]]:
    """The headers of the W3C trace context of this request; None when it is not traced."""
    return context._get_serve_request_context()._ray_trace_ctx
