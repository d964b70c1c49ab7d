"""Forward differences: one loss an element, and a truncation error that has to be looked for."""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.bars import floor, gradient_noise, noise_at
from fastcheck.verdict.measurement import Measurement, assemble
from fastcheck.verdict.probing import Probe, Progress, reacts
from fastcheck.verdict.stencil import Z, three_point
from fastcheck.verdict.tolerances import Tolerance

_SAMPLE = 24


def forward(
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
    """Measure (J(θ+h) − J(θ))/h; its error h·J''/2 is known from a sample taken centrally."""
    exact = probe.engine.exact
    count = len(indices)
    steps = np.full(count, step)
    ahead = probe.differences(indices, steps, central=False, progress=progress)
    with np.errstate(all="ignore"):
        values = ahead.plus / ahead.step_plus
    gaps, positions = _sampled_gaps(probe, indices, steps, values, rng)
    bend = float(np.max(gaps, initial=0.0))
    spread = np.full(count, bend)
    spread[positions] = gaps
    sigma = np.zeros(count) if exact else noise_at(ahead, probe.engine.loss, noise)
    # Half of the noise is that of J(θ), the same in every element: it does not average out.
    rounding = Z * sigma / steps
    return assemble(
        values=values,
        roundoff=np.maximum(rounding, floor(values, probe.engine.unit_roundoff)),
        truncation=rounding + 2 * bend,
        gradient_noise=gradient_noise(tensor, indices, spread, steps, tolerance.unit),
        steps=steps,
        loss_calls=probe.loss_calls,
        reacts=reacts(ahead),
        exact=exact,
    )


def _sampled_gaps(
    probe: Probe,
    indices: IndexArray,
    steps: FloatArray,
    values: FloatArray,
    rng: np.random.Generator,
) -> tuple[FloatArray, IndexArray]:
    """Return E of the largest derivatives and of random ones, and their positions."""
    count = len(indices)
    sizes = np.where(np.isfinite(values), np.abs(values), 0.0)
    top = np.argsort(-sizes, kind="stable")[: _SAMPLE // 3]
    drawn = rng.choice(count, min(_SAMPLE - len(top), count), replace=False)
    positions = np.unique(np.concatenate([top, drawn]))
    both = probe.differences(indices[positions], steps[positions])
    gaps = three_point(both)[1]
    usable = np.isfinite(gaps) & ~both.kinked
    return gaps[usable], positions[usable]
