"""The numerical gradient from differences that are propagated without cancellation.

The step may be tiny, so truncation and kinks all but vanish. What is left is looked for: elements
on a kink are measured nearer to θ, and the most curved ones with a second step.
"""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import BoolArray, Differences, Engine, FloatArray, IndexArray
from fastcheck.verdict.bars import U
from fastcheck.verdict.measurement import Measurement, assemble
from fastcheck.verdict.probing import Probe, Progress, finite, put, reacts, take
from fastcheck.verdict.reading import FLAT, Reading, Site
from fastcheck.verdict.stencil import derivatives, half_gap
from fastcheck.verdict.tolerances import Tolerance

_DIVISORS = (16, 256, 4096)
_ROUNDS = 3
_SAMPLE = 8
_BLOCK = 64
_FEW, _FEW_FOR_KERNELS = 32, 128
"""So few elements are measured with the second step right away: asking once is quicker."""
# Not a power of two: rounding errors scale with those, and would not show.
_OTHER_STEP = 3.0
PEAKED = 1e-3
"""Beside their size, curvature keeps the one-sided derivatives closer together than this."""
SAME = 1e-2
"""To within this they do not change with the step at the tip of a cone."""
_CLOSER = (11, 4096)
_CANCELLED = 1024
_FADES = 8


class Exact:
    """One measurement of elements of one tensor; `measure` runs it.

    Parameters
    ----------
    probe : Probe
        The engine on this tensor.
    indices : (k,) int64
        Flat C-order indices.
    site : Site
        How differences of these are read.
    step : float
        The first step of every element.
    tolerance : Tolerance
    rng : numpy.random.Generator
        Draws the sample that is measured with a second step.
    """

    def __init__(
        self,
        probe: Probe,
        indices: IndexArray,
        site: Site,
        *,
        step: float,
        tolerance: Tolerance,
        rng: np.random.Generator,
    ) -> None:
        self._probe, self._indices, self._site = probe, indices, site
        self._tolerance, self._rng = tolerance, rng
        self.steps = np.empty(len(indices))
        self.steps.fill(step)
        self._first, self._moved = step, False
        self._further: Differences | None = None

    def measure(self, progress: Progress | None = None) -> Measurement:
        """Return the measurement; the user's calls are counted by the probe."""
        near = self._near(progress)
        found = self._site.read(near, self.steps)
        reacted = found.top > 0 or reacts(near)
        apart = None
        if not found.ordinary:
            apart = self._leave_kinks(near)
            found = self._site.read(near, self.steps)
        tips = self._tips(found, apart)
        if tips is not None:
            apart = tips if apart is None else apart | tips
        spread, found = self._leave_curvature(near, found, apart)
        values, truncation = found.values, spread
        zero = self._vanish(found, spread, apart)
        if zero:
            values, truncation = np.zeros(len(values)), 0.0
        return assemble(
            values=values,
            roundoff=self._site.floor * found.top,
            truncation=truncation,
            gradient_noise=found.noise(apart),
            steps=self.steps,
            kinked=apart,
            jump=None if apart is None else np.where(apart, found.gap, 0.0),
            loss_calls=self._probe.loss_calls,
            reacts=reacted,
            exact=True,
            finite=found.ordinary,
            plain=found.ordinary and self._site.machine and apart is None and not zero,
        )

    def _near(self, progress: Progress | None) -> Differences:
        """Return the differences at the first step; of a few elements at the second one too."""
        count = len(self._indices)
        if count > (_FEW_FOR_KERNELS if self._probe.engine.name == "fused" else _FEW):
            return self._probe.differences(self._indices, self.steps, progress=progress)
        near, self._further = self._probe.at_each(
            self._indices, [self.steps, _OTHER_STEP * self.steps]
        )
        if progress is not None:
            progress(count)
        return near

    def _leave_kinks(self, near: Differences) -> BoolArray | None:
        """Measure kinked elements nearer to θ, in place; return those that stay on a kink, if any.

        An element whose loss is not finite is taken for kinked.
        """
        kinked = _kinked(near)
        first = self.steps.copy()
        for divisor in _DIVISORS:
            places = np.flatnonzero(kinked)
            if not len(places):
                return None
            self._moved = True
            self.steps[places] = first[places] / divisor
            put(near, places, self._probe.differences(self._indices[places], self.steps[places]))
            kinked = _kinked(near)
        return kinked if kinked.any() else None

    def _tips(self, found: Reading, apart: BoolArray | None) -> BoolArray | None:
        """Return the elements at the tip of a cone, such as a norm has where it is zero, if any.

        No comparison shows that kink. But the one-sided derivatives stay apart when the step
        shrinks, and those of a curved loss do not.
        """
        bends = found.bends if apart is None else found.bends[~apart]
        if found.top > 0 and not bends.max(initial=0.0) > PEAKED:
            return None  # as most often
        there = np.ones(len(self._indices), dtype=bool) if apart is None else ~apart
        peaked = found.gap > peak(found.values, found.top, self._probe.engine, self._site.sizes)
        places = np.flatnonzero(peaked & there & np.isfinite(found.gap))
        places = places[np.argsort(-found.gap[places], kind="stable")]
        tips = np.zeros(len(there), dtype=bool)
        for batch in (places[:_BLOCK], places[_BLOCK:]):
            if not len(batch):
                break
            steps = [self.steps[batch] / divisor for divisor in _CLOSER]
            closer = self._probe.at_each(self._indices[batch], steps)
            gap = found.gap[batch]
            stays = np.all([np.abs(half_gap(look) - gap) <= SAME * gap for look in closer], axis=0)
            tips[batch] = stays
            if not stays.all():
                break
        return tips if tips.any() else None

    def _vanish(self, found: Reading, spread: float, apart: BoolArray | None) -> bool:
        """Whether all derivatives are zero, to all digits that moving the parameters could show.

        Those of x³ at 0 are truncation alone: a third of the step leaves a ninth of them, and they
        are nothing beside the slope that the loss has further off.
        """
        if not 0 < found.top <= spread or apart is not None or not found.ordinary:
            return False
        reach = self._site.sizes / 4
        shorter, far = self._probe.at_each(self._indices, [self.steps / _OTHER_STEP, reach])
        with np.errstate(all="ignore"):
            change = np.abs(far.plus) + np.abs(far.minus)
            fades = np.abs(derivatives(shorter)) <= np.abs(found.values) / _FADES
        nothing = np.abs(found.values) * reach <= U * float(np.max(change, initial=0.0))
        return bool(np.all(fades & nothing & np.isfinite(change)))

    def _leave_curvature(
        self, near: Differences, found: Reading, apart: BoolArray | None
    ) -> tuple[float, Reading]:
        """Shrink the steps of curved elements, in place.

        Returns
        -------
        truncation : float
            What is left of it: the largest change of a sampled derivative when its step is
            tripled, which is eight times the truncation, and all of the rounding.
        found : Reading
            The derivatives at the steps that are left.
        """
        usable = None if apart is None else np.flatnonzero(~apart)
        if usable is not None and not len(usable):
            return 0.0, found
        for _ in range(_ROUNDS):
            places = self._sample(found, usable)
            spread, offending = self._changes(found, places)
            if offending is None:
                return spread, found
            bends = found.bends
            curved = bends >= float(np.min(bends[places][offending]))
            if apart is not None:
                curved &= ~apart
            if not self._shrink(near, places[offending], np.flatnonzero(curved), spread):
                return spread, found
            found = self._site.read(near, self.steps)
        return self._changes(found, self._sample(found, usable))[0], found

    def _sample(self, found: Reading, usable: IndexArray | None) -> IndexArray:
        """Return the most curved of the usable elements, and random ones.

        Of a few elements all are known at the second step already.
        """
        count = len(self._indices)
        if self._further is not None:
            return np.arange(count) if usable is None else usable
        bends = found.bends
        if usable is None:
            most = _largest_first(bends, _SAMPLE, found.bent)
            drawn = self._rng.choice(count, min(_SAMPLE, count), replace=False)
        else:
            most = usable[_largest_first(bends[usable], _SAMPLE)]
            drawn = self._rng.choice(usable, min(_SAMPLE, len(usable)), replace=False)
        return np.array(sorted({*most.tolist(), *drawn.tolist()}), dtype=np.int64)

    def _changes(self, found: Reading, places: IndexArray) -> tuple[float, BoolArray | None]:
        """Return the largest change of n at three times the step, and where one matters, if any."""
        other = self._at_the_other_step(places)
        values = found.values
        if len(places) < len(values):
            values = values[places]
        changes = derivatives(other)
        changes -= values
        np.abs(changes, out=changes)
        if np.count_nonzero(other.kinked):
            changes[other.kinked] = 0.0
        spread = float(changes.max(initial=0.0))
        if not math.isfinite(spread):
            changes[~np.isfinite(changes)] = 0.0
            spread = float(changes.max(initial=0.0))
        floor = self._site.floor * found.top
        if spread <= floor:
            return spread, None
        relative = 1e-3 * self._tolerance.rtol * np.maximum(np.abs(values), 1e-3 * found.top)
        offending: BoolArray = changes > np.maximum(relative, floor)
        if offending.any():
            # This one takes all elements to compute, and is seldom needed.
            offending &= changes > found.noise()[places]
        return spread, offending if offending.any() else None

    def _at_the_other_step(self, places: IndexArray) -> Differences:
        known, self._further = self._further, None  # it is for the first steps only
        if known is not None and (not self._moved or np.all(self.steps[places] == self._first)):
            return known if len(places) == len(self._indices) else take(known, places)
        return self._probe.differences(self._indices[places], _OTHER_STEP * self.steps[places])

    def _shrink(
        self, near: Differences, judged: IndexArray, curved: IndexArray, spread: float
    ) -> bool:
        """Take smaller steps at `curved` if that helps at `judged`: rounding would only grow."""
        shorter = self.steps[judged] / 16
        trial, other = self._probe.at_each(self._indices[judged], [shorter, _OTHER_STEP * shorter])
        changes = np.abs(derivatives(other) - derivatives(trial))
        if not np.max(np.where(other.kinked, 0.0, changes), initial=0.0) < spread / 8:
            return False
        self._moved = True
        self.steps[curved] /= 16
        put(near, curved, self._probe.differences(self._indices[curved], self.steps[curved]))
        return True


def peak(values: FloatArray, top: float, engine: Engine, sizes: FloatArray) -> FloatArray:
    """Return how far apart curvature, or terms that cancel, may keep one-sided derivatives."""
    rounding = _CANCELLED * engine.unit_roundoff * engine.magnitude
    least: FloatArray = PEAKED * (np.abs(values) + FLAT * top) + rounding / sizes
    return least


def _kinked(near: Differences) -> BoolArray:
    """Return where a kink was met, or the loss is not finite."""
    kinked = finite(near)
    np.logical_not(kinked, out=kinked)
    kinked |= near.kinked
    return kinked


def _largest_first(values: FloatArray, count: int, about: float = math.inf) -> IndexArray:
    """Return the positions of the largest values; of equal ones those that come first.

    `about` may say how large the last of these is, roughly.
    """
    if len(values) <= _BLOCK:
        return np.argsort(-values, kind="stable")[:count]
    places = np.flatnonzero(values >= about)
    if not count <= len(places) <= _BLOCK:
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
