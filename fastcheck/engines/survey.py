"""How large the stacks of a replay are: watched during a run of a few copies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastcheck.differences import Delta
from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT, LOG_SOFTMAX, LOGSUMEXP

_SOFTMAX = 8  # so often a softmax goes over its stack


@dataclass(frozen=True, eq=False)
class Survey:
    """How large the stacks of a replay are, for each parameter (both signs of a step).

    Attributes
    ----------
    peak, largest : int
        Bytes of all stacks that live at the same time, and of the largest one.
    elements : int
        How many numbers are computed, those of a softmax counted several times.
    products : int
        How many products are added up in sums of products.
    probes : (k,) int64
        The elements by which this was found.
    up, down : (k,) float64
        J(θ ± PROBE_STEP) − J(θ) of them.
    """

    peak: int
    largest: int
    elements: int
    products: int
    probes: IndexArray
    up: FloatArray
    down: FloatArray

    def slope(self, step: float) -> float:
        """Return the root mean square of their derivatives, by J(θ + step) − J(θ)."""
        slopes = self.up[np.isfinite(self.up)] / step
        top = float(np.abs(slopes).max(initial=0.0))
        return top * math.sqrt(float(np.mean((slopes / top) ** 2))) if top else 0.0


class Sizes:
    """Watches the stacks of a run."""

    def __init__(self) -> None:
        self._live = 0
        self._peak = self._largest = 1
        self._sizes: dict[Node, int] = {}  # elements

    def made(self, node: Node, delta: Delta) -> None:
        """Note a stack that is kept from now on."""
        size = delta.values.nbytes
        self._live += size
        self._sizes[node] = delta.values.size
        self._peak, self._largest = max(self._peak, self._live), max(self._largest, size)

    def dropped(self, delta: Delta) -> None:
        """Note that one of them is not needed any more."""
        self._live -= delta.values.nbytes

    def survey(self, copies: int, probes: IndexArray, up: FloatArray, down: FloatArray) -> Survey:
        elements = sum(
            size * (_SOFTMAX if node.primitive in (LOG_SOFTMAX, LOGSUMEXP) else 1)
            for node, size in self._sizes.items()
        )

        def each(total: int) -> int:
            return -(-2 * total // copies)

        products = sum(
            self._sizes.get(operand, 0) * _columns(node, place)
            for node in self._sizes
            if node.primitive is CONTRACT
            for place, operand in enumerate(node.operands)
        )
        return Survey(
            each(self._peak),
            each(self._largest),
            each(elements),
            each(products),
            probes,
            up,
            down,
        )


def _columns(node: Node, place: int) -> int:
    """Return how many products each element of an operand takes part in."""
    labels = node.params["labels"]
    mine, other, out = labels[place], labels[1 - place], labels[2]
    shape = node.operands[1 - place].shape
    sizes = [n for n, label in zip(shape, other, strict=True) if label in out and label not in mine]
    return math.prod(sizes)
