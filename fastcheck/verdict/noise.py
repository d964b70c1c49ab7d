"""The noise σ of a black-box loss: how much J jitters from rounding alone.

Differences of J over equally spaced points along one direction: the smooth part of J dies out with
the order of the difference, rounding does not (Moré and Wild, "Estimating computational noise",
SIAM J. Sci. Comput. 33, 2011). u·|J| alone would be too little: 20 to 60 times that was measured
on trained softmax networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.engines.loss import LossFunction
from fastcheck.params import ParamTree

_POINTS = 9
_SPACING = 2.0**-38
_GROWTH = 64.0
_ROUNDS = 5
_SMALLEST = 5e-324


def estimate_noise(loss: LossFunction, tree: ParamTree, rng: np.random.Generator) -> float:
    """Return σ of the loss at θ, in units of the loss.

    Parameters
    ----------
    loss : LossFunction
        Called 9 times, up to 45 times for a loss that moves in stairs (float32 inside, say).
    tree : ParamTree
        The parameters θ, all of which are moved.
    rng : numpy.random.Generator
        Draws the direction.
    """
    along = _line(loss, tree, rng)
    spacing, sigma = _SPACING, 0.0
    for _ in range(_ROUNDS):
        # All on one side: a kink on θ itself would pass for noise.
        values = np.array([along(k * spacing) for k in range(1, _POINTS + 1)])
        finite = values[np.isfinite(values)]
        level = loss.unit_roundoff * float(np.max(np.abs(finite), initial=0.0))
        if len(finite) < len(values):
            # The loss is not finite right beside θ; nothing can be learned from gaps.
            sigma = max(sigma, 16 * level, 16 * loss.unit_roundoff * abs(loss.base()))
            break
        sigma = max(sigma, level, difference_table_noise(values))
        if 2 * np.count_nonzero(np.diff(values) == 0) < _POINTS - 1:
            break
        spacing *= _GROWTH
    return max(sigma, _SMALLEST)


def difference_table_noise(values: FloatArray) -> float:
    """Return σ from equally spaced losses: that of the first level where noise is all there is.

    σₖ² = (k!)²/(2k)! · mean((Δᵏ J)²). The first k whose σₖ agrees with the next two within a factor
    of four, and whose differences change sign; σ₆ if there is none.
    """
    differences = values
    levels: list[float] = []
    changes_sign: list[bool] = []
    factor = 1.0
    for k in range(1, len(values)):
        differences = np.diff(differences)
        factor *= k / (2 * (2 * k - 1))
        levels.append(math.sqrt(factor * float(np.mean(differences**2))))
        changes_sign.append(float(differences.min()) < 0 < float(differences.max()))
    for k in range(len(levels) - 3):
        three = levels[k : k + 3]
        if changes_sign[k] and max(three) <= 4 * min(three):
            return levels[k]
    return levels[min(len(levels) - 2, 5)]


def _line(
    loss: LossFunction, tree: ParamTree, rng: np.random.Generator
) -> Callable[[float], float]:
    """Return t ↦ J(θ + t·d) with d of the size of the parameters and random signs."""
    peak = max((float(np.max(np.abs(t.value), initial=0.0)) for t in tree), default=0.0) or 1.0
    squares = sum(float(np.sum((t.value / peak) ** 2)) for t in tree)
    # A floor, so that parameters that are exactly zero move as well.
    floor = 1e-3 * (peak * math.sqrt(squares / max(tree.size, 1)) or 1.0)
    # Signs alone could cancel in a sum of parameters, and the loss would seem to stand still.
    directions = {
        t.name: rng.choice((-1.0, 1.0), t.shape)
        * rng.uniform(0.5, 1.5, t.shape)
        * (np.abs(t.value) + floor)
        for t in tree
    }

    def along(t: float) -> float:
        moved = {x.name: np.asarray(x.value + t * directions[x.name]) for x in tree}
        leaves = {x.name: moved[x.name][()] if x.scalar else moved[x.name] for x in tree}
        return loss.evaluate(tree.build(leaves))

    return along
