"""Central differences at the step that the user asked for: never another, but an honest bar."""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import Differences, FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.bars import floor, gradient_noise, largest, noise_at
from fastcheck.verdict.measurement import Measurement, assemble
from fastcheck.verdict.probing import Probe, Progress, reacts, take
from fastcheck.verdict.stencil import Z, five_point, three_point
from fastcheck.verdict.tolerances import Tolerance

_SAMPLE = 16


def central_at(
    probe: Probe,
    tensor: Tensor,
    indices: IndexArray,
    *,
    step: float,
    tolerance: Tolerance,
    noise: float,
    rng: np.random.Generator,
    progress: Progress | None,
) -> Measurement:
    """Measure (J(θ+h) − J(θ−h))/2h; half the step shows the truncation, if it matters."""
    exact = probe.engine.exact
    steps = np.full(len(indices), step)
    near = probe.differences(indices, steps, progress=progress)
    values, gap = three_point(near)
    sigma = np.zeros(len(values)) if exact else noise_at(near, probe.engine.loss, noise)
    # The noise of three points and of five; the larger, as it is not known yet which it will be.
    roundoff = np.maximum(2 * Z * 0.95 * sigma / steps, floor(values, probe.engine.unit_roundoff))
    truncation = 2 * gap + _sampled_error(probe, indices, steps, near, roundoff, rng)
    size = np.maximum(np.abs(values), 1e-2 * largest(values))
    wide = ~(truncation + roundoff <= np.maximum(10 * tolerance.rtol * size, 1.5 * roundoff))
    places = np.flatnonzero(wide & np.isfinite(values))
    truncation[places] = 2 * _errors(probe, indices[places], steps[places], take(near, places))
    return assemble(
        values=values,
        roundoff=roundoff,
        truncation=truncation,
        gradient_noise=gradient_noise(tensor, indices, gap, steps, tolerance.unit, near.kinked),
        steps=steps,
        loss_calls=probe.loss_calls,
        reacts=reacts(near),
        exact=exact,
    )


def _sampled_error(
    probe: Probe,
    indices: IndexArray,
    steps: FloatArray,
    near: Differences,
    roundoff: FloatArray,
    rng: np.random.Generator,
) -> float:
    """Return the largest T + K beyond the noise: a symmetric loss hides it from E."""
    values, _ = three_point(near)
    sizes = np.where(np.isfinite(values), np.abs(values), 0.0)
    top = np.argsort(-sizes, kind="stable")[: _SAMPLE // 2]
    drawn = rng.choice(len(values), min(_SAMPLE // 2, len(values)), replace=False)
    places = np.unique(np.concatenate([top, drawn]))
    errors = _errors(probe, indices[places], steps[places], take(near, places))
    errors = np.maximum(errors - roundoff[places], 0.0)
    return float(np.max(errors[np.isfinite(errors)], initial=0.0))


def _errors(probe: Probe, indices: IndexArray, steps: FloatArray, whole: Differences) -> FloatArray:
    """Return T + K of the three-point value at `steps`, with a second look at half of them."""
    half = probe.differences(indices, steps / 2)
    _, truncation, kink = five_point(half, whole)
    # five_point's T is ⅔ of the change from one step to its half; the truncation is 4/3 of it.
    errors: FloatArray = 2 * truncation + kink
    return np.where(np.isfinite(errors), errors, math.inf)
