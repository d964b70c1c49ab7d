"""Stairs: losses that are rounded inside, to float32 say, and stand still between two steps.

A step h shorter than the stairs finds the derivative of what is left: zero, or that of a smooth
part. Nothing at h tells. Longer steps do: the difference quotient of a smooth loss changes by the
square of the step, stairs come into sight at once. So do kinks; but the loss is continuous there,
and bisection tells a bend from a jump.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import BoolArray, Differences, FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.jumps import isolated
from fastcheck.verdict.probing import Probe
from fastcheck.verdict.stencil import Z, three_point
from fastcheck.verdict.steps import scale_of

_RATIO = 16.0
_LEVELS = 3
_MOST = 8
# Truncation grows by the square of the ratio; four times that is beyond it.
_SMOOTH = 4 * _RATIO**2
_BISECTIONS = 12
# A bend is left with 2⁻¹² of its height, a jump with the share of one stair among those in sight.
_JUMP = 2.0**-7
# A bend close to the end of the interval has all of its height there, and takes longer to find.
_MOST_BISECTIONS = 30
_BISECTED = 2
_LOOKED_AT = 16


@dataclass(frozen=True)
class Ladder:
    """Central differences of some elements at h and at ever longer steps.

    Attributes
    ----------
    steps : (levels, n) float64
    values : (levels, n) float64
        The central differences.
    looks : list of Differences
    """

    steps: FloatArray
    values: FloatArray
    looks: list[Differences]

    @classmethod
    def climb(cls, probe: Probe, tensor: Tensor, indices: IndexArray, h: FloatArray) -> Ladder:
        """Measure at h, 16h, 256h and so on, as far as the parameters' size allows.

        A black box that answers the same up to 4096h has been asked enough.
        """
        most = _MOST if probe.engine.exact else _LEVELS
        rungs = _rungs(float(np.max(h)), tensor, most)
        steps = [h * _RATIO**level for level in range(rungs + 1)]
        looks = probe.at_each(indices, steps)
        return cls(np.array(steps), np.array([three_point(look)[0] for look in looks]), looks)

    def changes(self) -> FloatArray:
        """Return |nₖ₊₁ − nₖ|; 0 where the loss is not finite."""
        with np.errstate(invalid="ignore"):
            changes = np.abs(np.diff(self.values, axis=0))
        return np.where(np.isfinite(changes), changes, 0.0)

    def scatter(self) -> FloatArray:
        """Return how far n at h is off by what is no truncation: it does not grow with the step."""
        changes = self.changes()
        if len(changes) < 2:
            return np.zeros(self.steps.shape[1])
        return np.where(changes[1] < _RATIO * changes[0], changes[0], 0.0)

    def fades(self, error: float) -> bool:
        """Whether the error seen at h is noise: neither truncation, which would be 256 times as
        large at the next step, nor kinks, of which the second differences would keep their share.
        """
        bends = self.bends()
        if len(bends) < 2 or not float(np.median(self.changes()[0])) < _RATIO * error:
            return False
        return float(np.median(bends[1])) < float(np.median(bends[0])) / 4

    def bends(self) -> FloatArray:
        """Return what second differences at each step and the next have beyond curvature."""
        second = np.array([look.plus - look.minus for look in self.looks])
        with np.errstate(invalid="ignore"):
            beyond = np.abs(second[1:] - _RATIO**2 * second[:-1]) / (_RATIO**2 * self.steps[:-1])
        return np.where(np.isfinite(beyond), beyond, 0.0)

    def leaps(
        self, error: FloatArray | float, noise: float, least: FloatArray | float = 0.0
    ) -> BoolArray:
        """Return where n changes from one step to the next by more than a smooth loss's would.

        Parameters
        ----------
        error : float or (n,) float64
            What n at h is known to be off by.
        noise : float
            σ of the loss.
        least : float or (n,) float64
            What n is off by through rounding at any step.
        """
        changes = self.changes()
        rounding = Z * noise / (math.sqrt(2) * self.steps[:-1])
        before = np.vstack([np.broadcast_to(error, changes[:1].shape), changes[:-1]])
        leaps: BoolArray = changes > _SMOOTH * np.maximum(np.maximum(before, least), rounding)
        return leaps


def top_of(h: float, tensor: Tensor) -> float:
    """Return the longest step of a ladder that starts at h."""
    return h * _RATIO ** _rungs(h, tensor, _LEVELS)


def _rungs(h: float, tensor: Tensor, most: int) -> int:
    rungs = 0
    while rungs < most and h * _RATIO ** (rungs + 1) <= longest_step(tensor):
        rungs += 1
    return rungs


def hides(
    probe: Probe, tensor: Tensor, indices: IndexArray, steps: FloatArray, noise: float
) -> bool:
    """Whether the loss depends on elements that did not move it at `steps`.

    In a black box a much larger step then moves it, though by less than its slope over `steps`
    would have to be to show. Exact differences see any slope, but not over the edge of a stair.
    """
    places = np.linspace(0, len(indices) - 1, min(_LOOKED_AT, len(indices))).astype(int)
    if probe.engine.exact:
        ladder = Ladder.climb(probe, tensor, indices[places], steps[places])
        return stands_on_stairs(probe, tensor, indices[places], ladder, ladder.leaps(0.0, 0.0))
    longer = np.maximum(4096 * steps[places], 16 * scale_of(tensor))
    far = probe.differences(indices[places], longer)
    change = np.maximum(np.abs(far.plus), np.abs(far.minus))
    visible = 2 * noise * longer / steps[places]
    return bool(np.any((change > 0) & (change < visible)))


def longest_step(tensor: Tensor) -> float:
    """Return how far a parameter may be moved to look for stairs."""
    return max(scale_of(tensor) / 4, 2.0**-6)


def height(
    probe: Probe, indices: IndexArray, ladder: Ladder, leaps: BoolArray, noise: float
) -> float:
    """Return by how much stairs change the loss, in its units; 0 if the leaps are but kinks.

    Parameters
    ----------
    probe : Probe
        The engine on the tensor.
    indices : (n,) int64
        The elements of the ladder, the most telling first.
    ladder : Ladder
        What was measured.
    leaps : (levels - 1, n) bool
        From `Ladder.leaps`.
    noise : float
        σ of the loss, as far as it is known.
    """
    found = 0.0
    for place in np.flatnonzero(leaps.any(axis=0))[:_BISECTED]:
        level = int(np.argmax(leaps[:, place]))
        if _jumps(probe, int(indices[place]), ladder, level, int(place), noise):
            found = max(found, float(ladder.changes()[level, place] * ladder.steps[level, place]))
    return found


def stands_on_stairs(
    probe: Probe, tensor: Tensor, indices: IndexArray, ladder: Ladder, leaps: BoolArray
) -> bool:
    """Whether exact differences have come upon stairs: jumps that a derivative does not outlast.

    The parameters are those of `height`.
    """
    if not height(probe, indices, ladder, leaps, 0.0) > 0:
        return False
    telling = np.argsort(-leaps.sum(axis=0), kind="stable")
    first = int(np.argmax(leaps.any(axis=1)))
    reaches = [*ladder.steps[first + 1 :].max(axis=1).tolist(), longest_step(tensor)]
    return not isolated(probe, indices[telling], reaches, flat=not ladder.values[0].any())


def _jumps(probe: Probe, index: int, ladder: Ladder, level: int, place: int, noise: float) -> bool:
    """Whether the loss jumps between two steps of the ladder, on the side where it is further off.

    The half of the interval over which the loss strays further is bisected again and again.
    """
    near, far = ladder.looks[level], ladder.looks[level + 1]
    n = float(ladder.values[level, place])
    h = float(ladder.steps[level, place])

    def astray(x: float, change: float) -> float:
        return change - n * x

    short, long = h, float(ladder.steps[level + 1, place])
    strays = {
        1.0: (astray(short, near.plus[place]), astray(long, far.plus[place])),
        -1.0: (astray(-short, -near.minus[place]), astray(-long, -far.minus[place])),
    }
    side = max(strays, key=lambda s: abs(strays[s][1] - strays[s][0]))
    first, last = strays[side]
    least = max(_JUMP * abs(last - first), 8 * noise)
    for done in range(_MOST_BISECTIONS):
        if done >= _BISECTIONS and abs(last - first) <= least:
            return False
        middle = (short + long) / 2
        at = np.array([index], dtype=np.int64)
        look = probe.differences(at, np.array([side * middle]), central=False)
        stray = astray(side * middle, float(look.plus[0]))
        if not math.isfinite(stray):
            return False
        if abs(stray - first) > abs(last - stray):
            long, last = middle, stray
        else:
            short, first = middle, stray
    return abs(last - first) > least
