"""A kernel against the replay engine, before it is trusted.

The replay engine is cross-checked against the user's function. A few of the kernel's differences
are compared with the replay's one by one; then all of its derivatives at once, added up along a
random direction: the replay moves the whole tensor in that direction. One wrong element shows.
Where the derivatives by a backward pass are known, those are compared with instead.
"""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import U64, BoolArray, FloatArray, IndexArray
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.replay import PROBE_STEP, ReplayEngine, Survey, spread_over
from fastcheck.engines.trust import Trust, structure
from fastcheck.params import Tensor

_RELATIVE, _RELATIVE_FLOAT32 = 1e-9, 1e-4
_STEP = 2.0**-31
"""The step, in units of the tensor's largest element: about the one that exact engines take."""
# Differences are exact for any step, and with one as small as this nothing crosses over, however
# many elements are moved together.
_TOGETHER = 2.0**-60
_MOST_REFUSED = 0.5
_SAMPLES = 64


def unlike_replay(
    fused: FusedEngine, tensor: Tensor, count: int, rng: np.random.Generator, trust: Trust
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
    trust : Trust
        Kernels that have agreed before are not looked at again.
    """
    texts = tuple(kernel.source.text for kernel in fused.kernels())
    what = (fused.device, fused.unit_roundoff, structure(fused.slice), texts)
    if trust.has(*what, tensor.size) or trust.has(*what, count):
        return None
    look = _first_look if fused.expected is None else _at_samples
    obstacle = look(fused, tensor, count, rng)
    if obstacle is None:
        trust.add(*what, count)
    return obstacle


def _first_look(
    fused: FusedEngine, tensor: Tensor, count: int, rng: np.random.Generator
) -> str | None:
    indices: IndexArray = np.arange(tensor.size)
    if count < tensor.size:
        indices = np.sort(rng.choice(tensor.size, count, replace=False))
    survey, scale = fused.replay.survey, tensor.peak or 1.0
    few = len(survey.probes)
    steps = np.full(few + len(indices), _STEP * scale)
    steps[:few] = PROBE_STEP
    plus, minus, refused = fused.computed(np.concatenate([survey.probes, indices]), steps)
    if refused.mean() > _MOST_REFUSED:
        return "most copies would cross a kink"
    with np.errstate(invalid="ignore"):  # of refused copies
        derivatives = (plus + minus)[few:] / (2.0 * _STEP * scale)
    relative = _RELATIVE if fused.unit_roundoff == U64 else _RELATIVE_FLOAT32
    return one_by_one(survey, plus[:few], minus[:few], refused[:few], relative) or all_together(
        fused.replay,
        tensor,
        indices,
        np.where(refused[few:], 0.0, derivatives),
        refused[few:],
        rng,
        relative,
    )


def _at_samples(
    fused: FusedEngine, tensor: Tensor, count: int, rng: np.random.Generator
) -> str | None:
    """Hold some elements against a backward pass; all others will be when they are computed."""
    indices = spread_over(tensor.size, min(count, _SAMPLES))
    assert fused.expected is not None
    steps = np.full(len(indices), fused.expected.tiny)
    plus, minus, refused = fused.computed(indices, steps)
    if refused.mean() > _MOST_REFUSED:
        return "most copies would cross a kink"
    return fused.expected.unlike(indices, steps, plus + minus, refused)


def one_by_one(
    survey: Survey, plus: FloatArray, minus: FloatArray, refused: BoolArray, relative: float
) -> str | None:
    for ours, theirs in ((plus, survey.up), (minus, -survey.down)):
        known = np.isfinite(theirs)
        allowed = relative * (np.abs(theirs) + np.max(np.abs(theirs[known]), initial=0.0))
        wrong = ~(np.abs(ours - theirs) <= allowed) & known & ~refused
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            return (
                f"it changes the loss by {ours[place]:.9g} at element {survey.probes[place]}, and "
                f"the replay by {theirs[place]:.9g}"
            )
    return None


def all_together(
    replay: ReplayEngine,
    tensor: Tensor,
    indices: IndexArray,
    derivatives: FloatArray,
    left_out: BoolArray,
    rng: np.random.Generator,
    relative: float,
) -> str | None:
    weights = rng.uniform(0.5, 1.5, len(indices)) * rng.choice((-1.0, 1.0), len(indices))
    weights[left_out] = 0.0
    terms = weights * derivatives
    slope = _slope(replay, tensor, indices, weights)
    if slope is None or abs(slope - terms.sum()) <= relative * np.abs(terms).sum():
        return None
    return (
        f"its derivatives add up to {terms.sum():.12g} in a direction, and the replay's to "
        f"{slope:.12g}"
    )


def _slope(
    replay: ReplayEngine, tensor: Tensor, indices: IndexArray, weights: FloatArray
) -> float | None:
    """Return the derivative along a direction, by the replay engine; None if it has none."""
    step = _TOGETHER * (tensor.peak or 1.0)
    direction = np.zeros(tensor.size)
    direction[indices] = weights * step
    direction = direction.reshape(tensor.shape)
    up, down = replay.directional(direction, -direction)
    if up is None or down is None or not np.isfinite(up - down):
        return None
    return (up - down) / (2.0 * step)
