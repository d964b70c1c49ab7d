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
_ONLY_THE_POOL = 3  # its list, the loop variable, and getrefcount's own argument


class Pool:
    """Float64 buffers of one array namespace.

    Only NumPy's are pooled here: CuPy keeps a pool of its own.
    """

    def __init__(self, xp: Any = np) -> None:
        self._xp = xp
        self._buffers: dict[int, list[Array]] = {}

    def empty(self, shape: Shape) -> Array:
        """Return an uninitialised float64 array."""
        size = math.prod(shape)
        if self._xp is not np or size * 8 < _SMALLEST:
            return self._xp.empty(shape)
        buffers = self._buffers.setdefault(size, [])
        for buffer in buffers:
            if sys.getrefcount(buffer) == _ONLY_THE_POOL:
                return buffer.reshape(shape)
        buffer = np.empty(size)
        buffers.append(buffer)
        return buffer.reshape(shape)

    def clear(self) -> None:
        """Give the memory back."""
        self._buffers.clear()
