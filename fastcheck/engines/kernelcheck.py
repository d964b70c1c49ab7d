"""A kernel against the replay engine, before it is trusted.

The replay engine is cross-checked against the user's function. A few of the kernel's differences
are compared with the replay's one by one; then all of its derivatives at once, added up along a
random direction: the replay moves the whole tensor in that direction. One wrong element shows.
"""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.replay import PROBE_STEP
from fastcheck.params import Tensor

_RELATIVE = 1e-9
_STEP = 2.0**-31
"""The step, in units of the tensor's largest element: about the one that exact engines take."""
# Differences are exact for any step, and with one as small as this nothing crosses over, however
# many elements are moved together.
_TOGETHER = 2.0**-60
_MOST_REFUSED = 0.5


def unlike_replay(
    fused: FusedEngine, tensor: Tensor, count: int, rng: np.random.Generator
) -> str | None:
    """Say why a kernel is not to be trusted, or not worth it; None if it is.

    Parameters
    ----------
    fused : FusedEngine
        The kernels, and the replay engine behind them.
    tensor : Tensor
        The one that they perturb.
    count : int
        How many elements are to be perturbed: as many are looked at.
    rng : numpy.random.Generator
        Draws the direction.
    """
    return _one_by_one(fused) or _all_together(fused, tensor, count, rng)


def _one_by_one(fused: FusedEngine) -> str | None:
    survey = fused.replay.survey
    steps = np.full(len(survey.probes), PROBE_STEP)
    plus, minus, refused = fused.computed(survey.probes, steps)
    for ours, theirs in ((plus, survey.up), (minus, -survey.down)):
        allowed = _RELATIVE * (np.abs(theirs) + np.max(np.abs(theirs), initial=0.0))
        wrong = ~(np.abs(ours - theirs) <= allowed) & np.isfinite(theirs) & ~refused
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            return (
                f"it changes the loss by {ours[place]:.9g} at element {survey.probes[place]}, and "
                f"the replay by {theirs[place]:.9g}"
            )
    return None


def _all_together(
    fused: FusedEngine, tensor: Tensor, count: int, rng: np.random.Generator
) -> str | None:
    indices: IndexArray = np.arange(tensor.size)
    if count < tensor.size:
        indices = np.sort(rng.choice(tensor.size, count, replace=False))
    scale = tensor.peak or 1.0
    step = _STEP * scale
    plus, minus, refused = fused.computed(indices, np.full(len(indices), step))
    if refused.mean() > _MOST_REFUSED:
        return "most copies would cross a kink"
    weights = rng.uniform(0.5, 1.5, len(indices)) * rng.choice((-1.0, 1.0), len(indices))
    weights[refused] = 0.0
    terms = weights * np.where(refused, 0.0, plus + minus) / (2.0 * step)
    slope = _slope(fused, tensor, indices, weights, _TOGETHER * scale)
    if slope is None or abs(slope - terms.sum()) <= _RELATIVE * np.abs(terms).sum():
        return None
    return (
        f"its derivatives add up to {terms.sum():.12g} in a direction, the replay's to {slope:.12g}"
    )


def _slope(
    fused: FusedEngine, tensor: Tensor, indices: IndexArray, weights: FloatArray, step: float
) -> float | None:
    """Return the derivative along a direction, by the replay engine; None if it has none."""
    direction = np.zeros(tensor.size)
    direction[indices] = weights * step
    direction = direction.reshape(tensor.shape)
    up, down = fused.replay.directional(direction, -direction)
    if up is None or down is None or not np.isfinite(up - down):
        return None
    return (up - down) / (2.0 * step)
