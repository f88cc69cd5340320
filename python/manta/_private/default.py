# SPDX-License-Identifier: Apache-2.0
"""The mark for "not given", which is another thing than None wherever None is a value."""

from __future__ import annotations

import enum
from typing import Any, TypeVar, Union

T = TypeVar("T")


class DEFAULT(enum.Enum):
    """Its only member stands for an option that the caller did not write down."""

    VALUE = 1


Default = Union[DEFAULT, T]


def is_given(value: Any) -> bool:
    """Whether the caller wrote a value, None included."""
    return value is not DEFAULT.VALUE


def is_set(value: Any) -> bool:
    """Whether the caller wrote a value other than None."""
    return value is not DEFAULT.VALUE and value is not None
