"""Which arrays of a tree are views of the same memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]
_MOST_WORK: Any = 1000  # NumPy takes any number; its type stubs know only -1 and 0.


def overlapping(arrays: Sequence[_Array]) -> list[tuple[int, int]]:
    """The pairs of positions whose arrays share at least one element, in order.

    Sorted by their first byte, only neighbours need a closer look, so that thousands of
    disjoint arrays (slices of one flat vector, say) cost a sort and nothing more.
    """
    bounds = sorted((*_byte_bounds(array), i) for i, array in enumerate(arrays) if array.size)
    pairs = []
    for place, (_, high, i) in enumerate(bounds):
        for low, _, j in bounds[place + 1 :]:
            if low >= high:
                break
            if _share(arrays[i], arrays[j]):
                pairs.append((min(i, j), max(i, j)))
    return sorted(pairs)


def _share(a: _Array, b: _Array) -> bool:
    try:
        return bool(np.shares_memory(a, b, max_work=_MOST_WORK))
    except np.exceptions.TooHardError:
        return False


def _byte_bounds(array: _Array) -> tuple[int, int]:
    spans = [
        stride * (length - 1) for stride, length in zip(array.strides, array.shape, strict=True)
    ]
    low = int(array.__array_interface__["data"][0]) + sum(span for span in spans if span < 0)
    return low, low + sum(abs(span) for span in spans) + array.itemsize
