"""Samples that rotate: every tensor each time, every parameter in the end."""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import IndexArray
from fastcheck.params import ParamTree

_GOLDEN = (math.sqrt(5) - 1) / 2


class Rotation:
    """Takes the next elements of every tensor, spread over all of it.

    Element k of a tensor's sequence is k·stride + start modulo its size, with a stride near the
    golden section of the size and coprime to it: any run of it is spread evenly, and each element
    comes up exactly once a round. Nothing has to be stored.

    Parameters
    ----------
    count : int
        How many elements at a time, of all tensors together; at least one of each.
    rng : numpy.random.Generator
        Draws where to start.
    """

    def __init__(self, count: int, rng: np.random.Generator) -> None:
        self.count = count
        self._rng = rng
        self._next: dict[tuple[str, int], int] = {}

    def take(self, tree: ParamTree) -> dict[str, IndexArray]:
        """Return flat indices by tensor, sorted; the next call returns the ones after these."""
        return {tensor.name: self._of(tensor.name, tensor.size, tree.size) for tensor in tree}

    def _of(self, name: str, size: int, whole: int) -> IndexArray:
        if not size:
            return np.zeros(0, dtype=np.int64)
        many = min(size, max(1, round(self.count * size / whole)))
        key = (name, size)
        first = self._next.get(key)
        if first is None:
            first = int(self._rng.integers(size))
        self._next[key] = (first + many) % size
        places = (first + np.arange(many, dtype=np.int64)) % size
        return np.sort(places * _stride(size) % size)


def _stride(size: int) -> int:
    """Return a number near the golden section of `size` that has no divisor in common with it."""
    wanted = max(1, round(_GOLDEN * size))
    apart = 0
    while True:
        for candidate in (wanted + apart, wanted - apart):
            if 1 <= candidate <= max(size - 1, 1) and math.gcd(candidate, size) == 1:
                return candidate
        apart += 1
