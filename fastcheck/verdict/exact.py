"""The numerical gradient from differences that are propagated without cancellation.

The step may be tiny, so truncation and kinks all but vanish. What is left is looked for: elements
on a kink are measured nearer to θ, and the most curved ones with a second step.
"""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import BoolArray, Differences, FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.bars import U, floor, gradient_noise, largest
from fastcheck.verdict.measurement import Measurement, assemble
from fastcheck.verdict.probing import Probe, Progress, finite, put, reacts, take
from fastcheck.verdict.stencil import three_point
from fastcheck.verdict.tolerances import Tolerance

_DIVISORS = (16, 256, 4096)
_ROUNDS = 3
_SAMPLE = 8
_BLOCK = 64
_FEW = 32
"""So few elements are measured with the second step right away: asking once is quicker."""
# Not a power of two: rounding errors scale with those, and would not show.
_OTHER_STEP = 3.0


class Exact:
    """One measurement of elements of one tensor; `measure` runs it.

    Parameters
    ----------
    probe : Probe
        The engine on this tensor.
    tensor : Tensor
    indices : (k,) int64
        Flat C-order indices.
    step : float
        The first step of every element.
    tolerance : Tolerance
    rng : numpy.random.Generator
        Draws the sample that is measured with a second step.
    """

    def __init__(
        self,
        probe: Probe,
        tensor: Tensor,
        indices: IndexArray,
        *,
        step: float,
        tolerance: Tolerance,
        rng: np.random.Generator,
    ) -> None:
        self._probe, self._tensor, self._indices = probe, tensor, indices
        self._tolerance, self._rng = tolerance, rng
        self._unit = probe.engine.unit_roundoff
        self.steps = np.full(len(indices), step)
        self._first = self.steps.copy()
        self._further: Differences | None = None

    def measure(self, progress: Progress | None = None) -> Measurement:
        """Return the measurement; the user's calls are counted by the probe."""
        near = self._near(progress)
        reacted = reacts(near)
        apart = self._leave_kinks(near)
        spread = self._leave_curvature(near, apart)
        values, gap = self._three_point(near)
        count = len(values)
        return assemble(
            values=values,
            roundoff=np.full(count, floor(values, self._unit)),
            truncation=np.full(count, spread),
            gradient_noise=self._gradient_noise(gap, apart),
            steps=self.steps,
            kinked=apart,
            jump=np.where(apart, gap, 0.0),
            loss_calls=self._probe.loss_calls,
            reacts=reacted,
            exact=True,
        )

    def _near(self, progress: Progress | None) -> Differences:
        """Return the differences at the first step; of a few elements at the second one too."""
        if len(self._indices) > _FEW:
            return self._probe.differences(self._indices, self.steps, progress=progress)
        near, self._further = self._probe.at_each(
            self._indices, [self.steps, _OTHER_STEP * self.steps]
        )
        if progress is not None:
            progress(len(self._indices))
        return near

    def _leave_kinks(self, near: Differences) -> BoolArray:
        """Measure kinked elements nearer to θ, in place; return those that stay on a kink."""
        first = self.steps.copy()
        kinked: BoolArray = near.kinked | ~finite(near)
        for divisor in _DIVISORS:
            places = np.flatnonzero(kinked)
            if not len(places):
                break
            self.steps[places] = first[places] / divisor
            put(near, places, self._probe.differences(self._indices[places], self.steps[places]))
            kinked = near.kinked | ~finite(near)
        return kinked

    def _leave_curvature(self, near: Differences, apart: BoolArray) -> float:
        """Shrink the steps of curved elements, in place; return the truncation that is left.

        It is the largest change of a sampled derivative when its step is tripled: eight times
        the truncation, and all of the rounding.
        """
        usable = np.flatnonzero(~apart)
        spread = 0.0
        for _ in range(_ROUNDS):
            if not len(usable):
                return 0.0
            values, gap = self._three_point(near)
            bends = _bends(values, gap)
            places = self._sample(bends, usable)
            changes, offending = self._changes(values, gap, places)
            spread = float(np.max(changes, initial=0.0))
            if not offending.any():
                return spread
            least = float(np.min(bends[places][offending]))
            curved = usable[bends[usable] >= least]
            if not self._shrink(near, places[offending], curved, spread):
                return spread
        values, gap = self._three_point(near)
        changes, _ = self._changes(values, gap, self._sample(_bends(values, gap), usable))
        return float(np.max(changes, initial=0.0))

    def _sample(self, bends: FloatArray, usable: IndexArray) -> IndexArray:
        """Return the most curved elements and random ones."""
        most = usable[_largest_first(bends[usable], _SAMPLE)]
        drawn = self._rng.choice(usable, min(_SAMPLE, len(usable)), replace=False)
        return np.unique(np.concatenate([most, drawn]))

    def _changes(
        self, values: FloatArray, gap: FloatArray, places: IndexArray
    ) -> tuple[FloatArray, BoolArray]:
        """Return the change of n at three times the step, and where it does matter."""
        other = self._at_the_other_step(places)
        with np.errstate(all="ignore"):
            changes = np.abs(three_point(other)[0] - values[places])
        changes = np.where(other.kinked | ~np.isfinite(changes), 0.0, changes)
        size = largest(values)
        relative = 1e-3 * self._tolerance.rtol * np.maximum(np.abs(values[places]), 1e-3 * size)
        offending: BoolArray = changes > np.maximum(relative, floor(values, self._unit))
        if offending.any():
            # This one takes all elements to compute, and is seldom needed.
            rounding = self._gradient_noise(gap, np.zeros(len(values), dtype=bool))
            offending &= changes > rounding[places]
        return changes, offending

    def _at_the_other_step(self, places: IndexArray) -> Differences:
        known, self._further = self._further, None  # it is for the first steps only
        if known is not None and np.all(self.steps[places] == self._first[places]):
            return take(known, places)
        return self._probe.differences(self._indices[places], _OTHER_STEP * self.steps[places])

    def _shrink(
        self, near: Differences, judged: IndexArray, curved: IndexArray, spread: float
    ) -> bool:
        """Take smaller steps at `curved` if that helps at `judged`: rounding would only grow."""
        self.steps[judged] /= 16
        shorter = self.steps[judged]
        trial, other = self._probe.at_each(self._indices[judged], [shorter, _OTHER_STEP * shorter])
        with np.errstate(all="ignore"):
            changes = np.abs(three_point(other)[0] - three_point(trial)[0])
        self.steps[judged] *= 16
        if not np.max(np.where(other.kinked, 0.0, changes), initial=0.0) < spread / 8:
            return False
        self.steps[curved] /= 16
        put(near, curved, self._probe.differences(self._indices[curved], self.steps[curved]))
        return True

    def _three_point(self, near: Differences) -> tuple[FloatArray, FloatArray]:
        """Return n and E; what may be the rounding of float32 does not count as curvature."""
        values, gap = three_point(near)
        if self._unit > U:
            gap = np.maximum(gap - floor(values, self._unit), 0.0)
        return values, gap

    def _gradient_noise(self, gap: FloatArray, apart: BoolArray) -> FloatArray:
        return gradient_noise(
            self._tensor, self._indices, gap, self.steps, self._tolerance.unit, apart
        )


def _bends(values: FloatArray, gap: FloatArray) -> FloatArray:
    """Return how curved the loss is in each element."""
    with np.errstate(all="ignore"):
        bends = gap / (np.abs(values) + 1e-3 * largest(values))
    return np.where(np.isfinite(bends), bends, 0.0)


def _largest_first(values: FloatArray, count: int) -> IndexArray:
    """Return the positions of the largest values; of equal ones those that come first."""
    places = np.arange(len(values))
    if count < len(values):
        places = np.flatnonzero(values >= _at_most_the(values, count))
    return places[np.argsort(-values[places], kind="stable")][:count]


def _at_most_the(values: FloatArray, count: int) -> float:
    """Return a number that at least `count` values reach, and hardly more of many."""
    rows = len(values) // _BLOCK
    if rows < _BLOCK:
        return float(np.partition(values, -count)[-count])
    # In as many blocks as are asked for, one element each reaches it.
    largest_of = values[: rows * _BLOCK].reshape(rows, _BLOCK).max(axis=1)
    return float(np.partition(largest_of, -count)[-count])
