"""The numerical gradient of a black-box loss, in two tiers and a ladder for kinks.

Tier 1 spends two losses on an element; where its error bar is not good enough, tier 2 spends two
more; where these show a kink, smaller steps follow.
"""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import Differences, FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.bars import gradient_noise, largest, noise_at
from fastcheck.verdict.measurement import Measurement, assemble
from fastcheck.verdict.probing import Probe, Progress, finite, put, reacts, take
from fastcheck.verdict.stencil import Z, five_point, fourth_difference, mean_step, three_point
from fastcheck.verdict.steps import smallest_step
from fastcheck.verdict.tolerances import Tolerance

_LADDER = 3
_DIVISOR = 16
_POOL = 20
# Noise alone lifts 2E + R above 1.5R for a third of the elements, above 2.5R for one in a hundred.
_NOISY = 2.5


class BlackBox:
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
    pooled : float
        Truncation seen when the step was chosen, added to every error bar of tier 1.
    tolerance : Tolerance
    noise : float
        σ of the loss.
    """

    def __init__(
        self,
        probe: Probe,
        tensor: Tensor,
        indices: IndexArray,
        *,
        step: float,
        pooled: float,
        tolerance: Tolerance,
        noise: float,
    ) -> None:
        self._probe, self._tensor, self._indices = probe, tensor, indices
        self._pooled, self._tolerance, self._noise = pooled, tolerance, noise
        self._floor = smallest_step(tensor)
        count = len(indices)
        self.steps = np.full(count, step)
        self.values, self.roundoff = np.zeros(count), np.zeros(count)
        self.truncation, self.jump = np.zeros(count), np.zeros(count)
        self.kinked = np.zeros(count, dtype=bool)

    def measure(self, progress: Progress | None = None) -> Measurement:
        """Return the measurement; the user's calls are counted by the probe."""
        near = self._first_tier(progress)
        reacted = reacts(near)
        self._second_tier(near)
        _, gap = three_point(near)
        return assemble(
            values=self.values,
            roundoff=self.roundoff,
            truncation=self.truncation,
            gradient_noise=gradient_noise(
                self._tensor,
                self._indices,
                gap,
                self.steps,
                self._tolerance.unit,
                self.kinked,
            ),
            steps=self.steps,
            kinked=self.kinked,
            jump=self.jump,
            loss_calls=self._probe.loss_calls,
            reacts=reacted,
            exact=False,
        )

    def _first_tier(self, progress: Progress | None) -> Differences:
        near = self._probe.differences(self._indices, self.steps, progress=progress)
        for _ in range(_LADDER):
            # The loss may be finite nearer to θ.
            places = np.flatnonzero(~finite(near))
            if not len(places):
                break
            self._shrink(places)
            put(near, places, self._probe.differences(self._indices[places], self.steps[places]))
        self.values, gap = three_point(near)
        self.roundoff = Z * self._sigma(near) / (math.sqrt(2) * self.steps)
        self.truncation = 2 * gap + self._pooled
        return near

    def _second_tier(self, near: Differences) -> None:
        """Measure again with five points where the bar is too wide; overwrites `near` there."""
        places = self._too_wide()
        errors = np.zeros(0)
        for rung in range(_LADDER):
            if not len(places):
                return
            if rung:
                self._shrink(places)
                again = self._probe.differences(self._indices[places], self.steps[places])
                put(near, places, again)
            errors, flagged = self._five_points(places, take(near, places), pool=rung == 0)
            places, errors = places[flagged], errors[flagged]
        self._set_apart(places, errors, take(near, places))

    def _five_points(
        self, places: IndexArray, near: Differences, *, pool: bool
    ) -> tuple[FloatArray, np.ndarray]:
        """Store the five-point results; return T + K and where it still looks like a kink."""
        h = mean_step(near)
        far = self._probe.differences(self._indices[places], 2 * self.steps[places])
        value, truncation, kink = five_point(near, far)
        sigma = self._sigma(near)
        if pool and len(places) >= _POOL:
            sigma = np.maximum(sigma, self._pooled_noise(near, far))
        roundoff = Z * 0.95 * sigma / h
        error = truncation + kink
        self.values[places] = value
        self.roundoff[places] = roundoff
        self.truncation[places] = 2 * error
        with np.errstate(invalid="ignore"):
            size = np.maximum(np.abs(value), 1e-3 * largest(self.values))
            kinky = np.maximum(kink, truncation) > roundoff
            return error, kinky & (error > 100 * self._tolerance.rtol * size)

    def _set_apart(self, places: IndexArray, errors: FloatArray, near: Differences) -> None:
        """Give up on a derivative at `places`: report the one-sided ones."""
        if not len(places):
            return
        value, gap = three_point(near)
        whole = 2 * errors + 3 * math.sqrt(float(np.mean(errors**2)))
        self.kinked[places] = True
        self.values[places] = value
        self.jump[places] = gap
        self.truncation[places] = np.maximum(whole - gap, 0.0)

    def _too_wide(self) -> IndexArray:
        size = np.maximum(np.abs(self.values), 1e-2 * largest(self.values))
        target = np.maximum(10 * self._tolerance.rtol * size, _NOISY * self.roundoff)
        wide = ~(self.truncation + self.roundoff <= target) & np.isfinite(self.values)
        return np.flatnonzero(wide)

    def _sigma(self, near: Differences) -> FloatArray:
        return noise_at(near, self._probe.engine.loss, self._noise)

    def _pooled_noise(self, near: Differences, far: Differences) -> float:
        """Return σ from the fourth differences, if most elements are smooth; else 0."""
        outer = fourth_difference(near, far)
        outer = outer[np.isfinite(outer)]
        # 70 = 1 + 16 + 36 + 16 + 1, the variance of δ⁴ in units of σ².
        pooled = 1.4826 * float(np.median(np.abs(outer))) / math.sqrt(70) if len(outer) else 0.0
        return pooled if pooled < 8 * self._noise else 0.0

    def _shrink(self, places: IndexArray) -> None:
        self.steps[places] = np.maximum(self.steps[places] / _DIVISOR, self._floor)
