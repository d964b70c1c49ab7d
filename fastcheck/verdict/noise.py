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
from fastcheck.params import ParamTree, Tensor

_POINTS = 9
_FIRST = 3
_SPACING = 2.0**-38
_GROWTH = 64.0
_ROUNDS = 7
# A stair's height is √12 times the standard deviation of rounding to stairs.
_OF_A_STAIR = 0.3
_ALIKE = 2.0
_COARSE = 16
_SMALLEST = 5e-324


def estimate_noise(
    loss: LossFunction, tree: ParamTree, rng: np.random.Generator, tensor: str | None = None
) -> float:
    """Return σ of the loss at θ, in units of the loss.

    Parameters
    ----------
    loss : LossFunction
        Called 9 times; up to 63 times if it moves in stairs (float32 inside, say).
    tree : ParamTree
        The parameters θ.
    rng : numpy.random.Generator
        Draws the direction.
    tensor : str, optional
        The one tensor that is moved; by default all are. A smooth part of the loss that depends on
        other tensors would hide that it moves in stairs with this one.
    """
    along = _line(loss, tree, rng, tensor)
    spacing, sigma, level = _SPACING, 0.0, 0.0
    stairs = was_uneven = False
    for _ in range(_ROUNDS):
        values = _losses(along, spacing)
        finite = values[np.isfinite(values)]
        level = loss.unit_roundoff * float(np.max(np.abs(finite), initial=0.0))
        if len(finite) < len(values):
            # The loss is not finite right beside θ; nothing can be learned from gaps.
            sigma = max(sigma, 16 * level, 16 * loss.unit_roundoff * abs(loss.base()))
            break
        changes = np.abs(np.diff(values))
        flat = bool(2 * np.count_nonzero(changes == 0) >= len(changes))
        stair = changes.max() if flat else lattice(values, 4 * level)
        seen = max(level, difference_table_noise(values), _OF_A_STAIR * stair)
        before, sigma = sigma, max(sigma, seen)
        # Stairs show their full height only at a spacing wider than they are, and not always then.
        if not (flat or stairs) or (was_uneven and sigma <= 2 * before):
            break
        stairs, was_uneven = stairs or flat, not flat
        spacing *= _GROWTH
    if stairs and sigma > _COARSE * level:
        # The errors of stairs are not independent: many elements of an array are rounded alike.
        sigma *= _ALIKE
    return max(sigma, _SMALLEST)


def _losses(along: Callable[[float], float], spacing: float) -> FloatArray:
    """Return the losses at equally spaced points; fewer of them if they are all the same."""
    # All on one side: a kink on θ itself would pass for noise.
    values = [along(k * spacing) for k in range(1, _FIRST + 1)]
    if len(set(values)) > 1:
        values += [along(k * spacing) for k in range(_FIRST + 1, _POINTS + 1)]
    return np.array(values)


def lattice(values: FloatArray, rounding: float) -> float:
    """Return the largest power of two of which all differences are multiples; 0 if there is none.

    A loss that was rounded to float32 once moves on such a lattice, and may move on it so evenly
    that a difference table shows nothing.

    Parameters
    ----------
    values : (n,) float64
        Losses, at least nine of them: fewer could lie on a lattice by chance.
    rounding : float
        How far from a multiple a difference may be, in units of the loss.
    """
    changes = values - values[0]
    top = float(np.max(np.abs(changes)))
    if len(values) < _POINTS or not top > 0:
        return 0.0
    width = 2.0 ** math.floor(math.log2(top))
    while width > _COARSE * rounding:
        if np.all(np.abs(changes - np.round(changes / width) * width) <= rounding):
            return width
        width /= 2
    return 0.0


def difference_table_noise(values: FloatArray) -> float:
    """Return σ from equally spaced losses: that of the first level where noise is all there is.

    σₖ² = (k!)²/(2k)! · mean((Δᵏ J)²). The first k whose σₖ agrees with the next two within a factor
    of four, and whose differences change sign; σ₆ if there is none.
    """
    # Squares of losses may leave the range of floats.
    peak = float(np.max(np.abs(values - values[0]))) or 1.0
    differences = (values - values[0]) / peak
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
            return peak * levels[k]
    return peak * levels[max(min(len(levels) - 2, 5), 0)]


def _line(
    loss: LossFunction, tree: ParamTree, rng: np.random.Generator, tensor: str | None
) -> Callable[[float], float]:
    """Return t ↦ J(θ + t·d) with d of the size of the parameters and random signs."""
    moving = [t for t in tree if tensor in (None, t.name)]
    directions = _directions(moving, rng)

    def along(t: float) -> float:
        moved = {
            x.name: np.asarray(x.value + t * directions[x.name])
            if x.name in directions
            else x.value.copy(order="K")
            for x in tree
        }
        leaves = {x.name: moved[x.name][()] if x.scalar else moved[x.name] for x in tree}
        with np.errstate(all="ignore"):
            return loss.evaluate(tree.build(leaves))

    return along


def _directions(tensors: list[Tensor], rng: np.random.Generator) -> dict[str, FloatArray]:
    peak = max((float(np.max(np.abs(t.value), initial=0.0)) for t in tensors), default=0.0) or 1.0
    squares = sum(float(np.sum((t.value / peak) ** 2)) for t in tensors)
    rms = peak * math.sqrt(squares / max(sum(t.size for t in tensors), 1))
    # A floor, so that parameters that are exactly zero move as well.
    floor = 1e-3 * rms or 1.0
    # Signs alone could cancel in a sum of parameters, and the loss would seem to stand still.
    return {
        t.name: rng.choice((-1.0, 1.0), t.shape)
        * rng.uniform(0.5, 1.5, t.shape)
        * (np.abs(t.value) + floor)
        for t in tensors
    }
