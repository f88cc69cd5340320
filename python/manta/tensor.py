# SPDX-License-Identifier: Apache-2.0
"""Arrays in memory that the processes of one machine share.

Arrays of numpy travel between deployments by reference: the sender copies one into shared memory, the
receiver reads it there, read-only, for as long as it keeps it.  What is made by ``empty`` lies in
such memory from the start, so that not even that copy is made::

    frame = manta.tensor.empty((1080, 1920, 3), "uint8")
    camera.read_into(frame)
    boxes = await self.detector.remote(frame)  # From here on `frame` is read-only.

Deployments in C get arrays as ``struct manta_tensor`` and give such; tensors whose elements numpy has
no type for (bfloat16) arrive as objects with ``__dlpack__``, which PyTorch and others take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex, Union

if TYPE_CHECKING:
    import numpy

__all__ = ["empty", "from_dlpack"]

_Shape = Union[SupportsIndex, "tuple[SupportsIndex, ...]", "list[SupportsIndex]"]


def empty(shape: _Shape, dtype: Any = float) -> numpy.ndarray[Any, Any]:
    """An array of undefined elements, to be filled and then sent without a copy.

    Sending it makes it read-only, as its receiver may look at it at any time from then on.

    Args:
        shape: Elements along each dimension, as for ``numpy.empty``.
        dtype: Anything that ``numpy.dtype`` takes, except objects.

    Raises:
        ValueError: A negative dimension, or objects as elements.
        MemoryError: There is no memory for it.
    """
    import numpy

    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise ValueError(f"an array of {kind} cannot lie in shared memory")
    lengths = [int(n) for n in (shape if isinstance(shape, (tuple, list)) else (shape,))]  # type: ignore[union-attr]
    if any(n < 0 for n in lengths):
        raise ValueError(f"negative dimensions are not allowed: {tuple(lengths)}")
    size = kind.itemsize
    for length in lengths:
        size *= length
    return numpy.ndarray(lengths, kind, _memory(size))


def _memory(size: int) -> Any:
    try:
        from manta import _native
    except ImportError:  # Local testing mode works without the extension.
        return bytearray(max(1, size))
    try:
        return _native.Buffer(max(1, size))
    except _native.Error as error:
        if error.args[0] == _native.EMEMORY:
            raise MemoryError(error.args[1]) from None
        raise ValueError(error.args[1]) from None


def from_dlpack(tensor: Any) -> Any:
    """A tensor of another library, as a value that may be sent.

    Args:
        tensor: An object with ``__dlpack__`` in the memory of the CPU.  It is held, not copied, until
            it is sent; nobody may write to it meanwhile.

    Raises:
        manta._native.Error: It lies on another device, or has an impossible shape.
    """
    from manta import _native

    return _native.Buffer.from_dlpack(tensor)
