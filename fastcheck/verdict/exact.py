"""The numerical gradient from differences that are propagated without cancellation.

The step may be tiny, so truncation and kinks all but vanish. What is left is looked for: elements
on a kink are measured nearer to θ, and the most curved ones with a second step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import BoolArray, Differences, FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.bars import FLOOR, U, gradient_noise, largest_size
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
        self._first = step
        self._further: Differences | None = None

    def measure(self, progress: Progress | None = None) -> Measurement:
        """Return the measurement; the user's calls are counted by the probe."""
        near = self._near(progress)
        reacted = reacts(near)
        apart = self._leave_kinks(near)
        spread, found = self._leave_curvature(near, apart)
        count = len(found.values)
        return assemble(
            values=found.values,
            roundoff=np.full(count, FLOOR * self._unit * found.top),
            truncation=np.full(count, spread),
            gradient_noise=self._gradient_noise(found, apart),
            steps=self.steps,
            kinked=apart,
            jump=np.where(apart, found.gap, 0.0) if apart.any() else None,
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
        kinked = _kinked(near)
        if not kinked.any():
            return kinked
        first = self.steps.copy()
        for divisor in _DIVISORS:
            places = np.flatnonzero(kinked)
            if not len(places):
                break
            self.steps[places] = first[places] / divisor
            put(near, places, self._probe.differences(self._indices[places], self.steps[places]))
            kinked = _kinked(near)
        return kinked

    def _leave_curvature(self, near: Differences, apart: BoolArray) -> tuple[float, _Found]:
        """Shrink the steps of curved elements, in place.

        Returns
        -------
        truncation : float
            What is left of it: the largest change of a sampled derivative when its step is
            tripled, which is eight times the truncation, and all of the rounding.
        found : _Found
            The derivatives at the steps that are left.
        """
        usable = np.flatnonzero(~apart) if apart.any() else None
        found = self._found(near)
        if usable is not None and not len(usable):
            return 0.0, found
        for _ in range(_ROUNDS):
            bends = found.bends()
            places = self._sample(bends, usable)
            changes, offending = self._changes(found, places)
            spread = float(changes.max(initial=0.0))
            if not offending.any():
                return spread, found
            least = float(np.min(bends[places][offending]))
            curved = bends >= least
            curved &= ~apart
            if not self._shrink(near, places[offending], np.flatnonzero(curved), spread):
                return spread, found
            found = self._found(near)
        changes, _ = self._changes(found, self._sample(found.bends(), usable))
        return float(changes.max(initial=0.0)), found

    def _sample(self, bends: FloatArray, usable: IndexArray | None) -> IndexArray:
        """Return the most curved of the usable elements, and random ones; None for all.

        Of a few elements all are known at the second step already.
        """
        if self._further is not None:
            return np.arange(len(bends)) if usable is None else usable
        if usable is None:
            most = _largest_first(bends, _SAMPLE)
            drawn = self._rng.choice(len(bends), min(_SAMPLE, len(bends)), replace=False)
        else:
            most = usable[_largest_first(bends[usable], _SAMPLE)]
            drawn = self._rng.choice(usable, min(_SAMPLE, len(usable)), replace=False)
        return np.array(sorted({*most.tolist(), *drawn.tolist()}), dtype=np.int64)

    def _changes(self, found: _Found, places: IndexArray) -> tuple[FloatArray, BoolArray]:
        """Return the change of n at three times the step, and where it does matter."""
        other = self._at_the_other_step(places)
        values = found.values[places]
        with np.errstate(all="ignore"):
            changes = np.abs(three_point(other)[0] - values)
        changes[other.kinked | ~np.isfinite(changes)] = 0.0
        relative = 1e-3 * self._tolerance.rtol * np.maximum(np.abs(values), 1e-3 * found.top)
        offending: BoolArray = changes > np.maximum(relative, FLOOR * self._unit * found.top)
        if offending.any():
            # This one takes all elements to compute, and is seldom needed.
            offending &= changes > self._gradient_noise(found, None)[places]
        return changes, offending

    def _at_the_other_step(self, places: IndexArray) -> Differences:
        known, self._further = self._further, None  # it is for the first steps only
        if known is not None and np.all(self.steps[places] == self._first):
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

    def _found(self, near: Differences) -> _Found:
        """Return n and E; what may be the rounding of float32 does not count as curvature."""
        values, gap = three_point(near)
        sizes = np.abs(values)
        found = _Found(values, gap, sizes, largest_size(sizes))
        if self._unit > U:
            np.maximum(gap - FLOOR * self._unit * found.top, 0.0, out=gap)
        return found

    def _gradient_noise(self, found: _Found, apart: BoolArray | None) -> FloatArray:
        return gradient_noise(
            self._tensor, self._indices, found.gap, self.steps, self._tolerance.unit, apart
        )


@dataclass(frozen=True)
class _Found:
    """Derivatives at some steps.

    Attributes
    ----------
    values, gap : (k,) float64
        n and E.
    sizes : (k,) float64
        |n|.
    top : float
        S, the largest of these that is finite.
    """

    values: FloatArray
    gap: FloatArray
    sizes: FloatArray
    top: float

    def bends(self) -> FloatArray:
        """Return how curved the loss is in each element."""
        bends = self.sizes + 1e-3 * self.top
        with np.errstate(all="ignore"):
            np.divide(self.gap, bends, out=bends)
        if not math.isfinite(bends.max(initial=0.0)):
            bends[~np.isfinite(bends)] = 0.0
        return bends


def _kinked(near: Differences) -> BoolArray:
    """Return where a kink was met, or the loss is not finite."""
    kinked = finite(near)
    np.logical_not(kinked, out=kinked)
    kinked |= near.kinked
    return kinked


def _largest_first(values: FloatArray, count: int) -> IndexArray:
    """Return the positions of the largest values; of equal ones those that come first."""
    if len(values) <= _BLOCK:
        return np.argsort(-values, kind="stable")[:count]
    places = np.flatnonzero(values >= _at_most_the(values, count))
    return places[np.argsort(-values[places], kind="stable")][:count]


def _at_most_the(values: FloatArray, count: int) -> float:
    """Return a number that at least `count` values reach, and hardly more of many."""
    rows = len(values) // _BLOCK
    if rows < count:
        return float(np.partition(values, -count)[-count])
    # In as many blocks as are asked for, one element each reaches it.
    largest_of = values[: rows * _BLOCK].reshape(rows, _BLOCK).max(axis=1)
    return float(np.partition(largest_of, -count)[-count])
