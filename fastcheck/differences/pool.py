"""Memory for the stacks of a chunk, used again for the next.

Fresh memory costs a page fault for every 4 KiB, several times what the arithmetic on it costs. An
array keeps the buffer that it views alive, so a buffer that nothing but the pool refers to is free.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from fastcheck.differences.delta import Array, Shape

_SMALLEST = 16 * 1024  # bytes; below this malloc is quick


def _references(buffers: list[Array]) -> list[int]:
    """Return how many references each buffer has, those of this loop included."""
    return [sys.getrefcount(buffer) for buffer in buffers]


def _count_unused() -> int | None:
    """Return what `_references` says of a buffer that only a list holds; None if it cannot tell.

    Interpreters differ in how many references a loop holds, so it is measured.
    """
    buffers = [np.empty(1)]
    (unused,) = _references(buffers)
    view = buffers[0].reshape(1, 1)
    (viewed,) = _references(buffers)
    return unused if view.base is buffers[0] and viewed == unused + 1 else None


_UNUSED = _count_unused()


class Pool:
    """Buffers of one array namespace and one floating-point type.

    Only NumPy's are pooled here: CuPy keeps a pool of its own.

    Attributes
    ----------
    most : float
        Bytes that all buffers may take before those that nobody uses are given back.
    """

    def __init__(self, xp: Any = np, dtype: Any = np.float64) -> None:
        self._xp = xp
        self._dtype = np.dtype(dtype)
        self._buffers: dict[int, list[Array]] = {}
        self._held = 0
        self.most = math.inf

    def empty(self, shape: Shape) -> Array:
        """Return an uninitialised array."""
        size = math.prod(shape)
        if self._xp is not np or size * self._dtype.itemsize < _SMALLEST or _UNUSED is None:
            return self._xp.empty(shape, self._dtype)
        buffers = self._buffers.setdefault(size, [])
        for buffer, references in zip(buffers, _references(buffers), strict=True):
            if references == _UNUSED:
                return buffer.reshape(shape)
        wanted = size * self._dtype.itemsize
        if self._held + wanted > self.most:
            self._give_back_unused()
        buffer = np.empty(size, self._dtype)
        self._buffers.setdefault(size, []).append(buffer)
        self._held += wanted
        return buffer.reshape(shape)

    def _give_back_unused(self) -> None:
        """Keep the buffers that are in use only: layers of different widths share none."""
        for size, buffers in list(self._buffers.items()):
            counted = zip(buffers, _references(buffers), strict=True)
            self._buffers[size] = [each for each, references in counted if references != _UNUSED]
        self._held = sum(each.nbytes for buffers in self._buffers.values() for each in buffers)

    def clear(self) -> None:
        """Give the memory back."""
        self._buffers.clear()
        self._held = 0
