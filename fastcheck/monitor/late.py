"""A monitor that is called too late: the parameters have been updated by the gradient already.

After an update θ ← θ − t·g the gradient belongs to θ + t·g. The t for which the loss rises along g
as g says, J'(t) = ‖g‖², is found by the secant method, and random directions then have to agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.engines.loss import LossFunction
from fastcheck.monitor.directions import Moves, directions
from fastcheck.params import ParamTree

_STEP = 2.0**-18
"""Of the size of the parameters, for a derivative along a line."""
_ROUNDS = 12
_CLOSE = 1e-7
_LOOKS = 3
_LEFT = 0.01
"""The part of each deviation that may be left where the gradient belongs."""


def learning_rate(
    loss: LossFunction,
    tree: ParamTree,
    gradients: Mapping[str, FloatArray],
    rng: np.random.Generator,
) -> float | None:
    """Return t > 0 if the gradient is that at θ + t·g, and not that at θ; else None.

    Parameters
    ----------
    loss : LossFunction
        Called some fifty times at most.
    tree : ParamTree
        The parameters θ.
    gradients : mapping
        The analytic gradient g, in the shapes of the tensors.
    rng : numpy.random.Generator
        Draws the directions.
    """
    size = math.sqrt(sum(float(np.sum(tensor.value**2)) for tensor in tree))
    square = sum(float(np.sum(gradients[tensor.name] ** 2)) for tensor in tree)
    if not (0 < square < math.inf and 0 < size < math.inf):
        return None
    line = _Line(loss, tree, gradients)
    with np.errstate(all="ignore"):
        t = _root(line, square, _STEP * size / math.sqrt(square))
        if t is None:
            return None
        for _ in range(_LOOKS):
            moves = directions(tree, rng)
            wanted = sum(float(np.sum(gradients[name] * move)) for name, move in moves.items())
            here, there = (abs(line.slope(moves, at, _STEP) - wanted) for at in (0.0, t))
            if not there <= _LEFT * here:
                return None
    return t


def _root(line: _Line, square: float, step: float) -> float | None:
    """Return the t > 0 at which the slope along g is ‖g‖²; None where it is not found."""

    def excess(t: float) -> float:
        return line.slope(line.gradients, t, step) / square - 1

    last, t = 0.0, 8 * step
    before, now = excess(last), excess(t)
    for _ in range(_ROUNDS):
        if not math.isfinite(now) or now == before:
            return None
        last, t, before = t, t - now * (t - last) / (now - before), now
        now = excess(t)
        if abs(now) < _CLOSE:
            return t if t > 0 else None
    return None


class _Line:
    """The loss at θ + t·g + s·v."""

    def __init__(
        self, loss: LossFunction, tree: ParamTree, gradients: Mapping[str, FloatArray]
    ) -> None:
        self.gradients = gradients
        self._loss, self._tree = loss, tree

    def slope(self, moves: Moves, t: float, step: float) -> float:
        """Return the derivative along `moves` at θ + t·g."""
        ahead, behind = (self._at(t, moves, s) for s in (step, -step))
        return (ahead - behind) / (2 * step)

    def _at(self, t: float, moves: Moves, s: float) -> float:
        leaves: dict[str, Any] = {}
        for tensor in self._tree:
            name = tensor.name
            value = np.asarray(tensor.value + t * self.gradients[name] + s * moves[name])
            leaves[name] = value[()] if tensor.scalar else value
        return self._loss.evaluate(self._tree.build(leaves))
