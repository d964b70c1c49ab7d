"""Measuring a few elements again, with several steps, before anything is called wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fastcheck.engines.base import BoolArray, Differences, FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.bars import floor, largest, noise_at, sizes_at
from fastcheck.verdict.exact import SAME, peak
from fastcheck.verdict.measurement import Measurement, assemble
from fastcheck.verdict.probing import Probe, finite, reacts
from fastcheck.verdict.stairs import Ladder, height, stands_on_stairs
from fastcheck.verdict.stencil import Z, five_point, mean_step, three_point
from fastcheck.verdict.steps import smallest_step

_DIVISORS = (1, 8, 64)
# Rounding shows in steps that are no powers of two of one another, kinks in smaller ones.
_EXACT_FACTORS = (1 / 8, 3.0, 40.0, 2.0**-12, 3 * 2.0**-16)
_LAST_RESORT = 3
_COMPARED = 2


def look_black_box(
    probe: Probe,
    tensor: Tensor,
    indices: IndexArray,
    steps: FloatArray,
    own_noise: FloatArray,
    noise: float,
    stairs: float = 0.0,
) -> Measurement:
    """Measure with five points at steps/1, /8 and /64; the narrowest error bar is kept.

    Longer steps must not tell anything else; if they show that the loss moves in stairs, all error
    bars are widened by the height of these.
    """
    smallest = smallest_step(tensor)
    looks = []
    for divisor in _DIVISORS:
        h = np.maximum(steps / divisor, smallest)
        near, far = probe.at_each(indices, [h, 2 * h])
        looks.append(_five(near, far, probe.engine.loss, noise))
    values, roundoff, truncation, gaps, middles = (
        np.array(part) for part in zip(*looks, strict=True)
    )
    bars = np.where(np.isfinite(values), roundoff + truncation, math.inf)
    best = np.argmin(bars, axis=0)
    across = np.arange(len(indices))
    # A kink on θ itself keeps its gap when the step shrinks; curvature does not, noise grows.
    above_noise = np.all(gaps[:2] > 2 * roundoff[:2], axis=0) & np.isfinite(gaps[0])
    kinked: BoolArray = np.asarray(above_noise & (gaps[1] > gaps[0] / 2))
    best = np.where(kinked, 1, best)
    value = np.where(kinked, middles[1], values[best, across])
    systematic = truncation[best, across] + _disagreement(values, bars, value, bars[best, across])
    jump = np.where(kinked, gaps[1], 0.0)
    chosen = np.maximum(steps / np.array(_DIVISORS)[best], smallest)
    ladder = Ladder.climb(probe, tensor, indices, np.maximum(steps, smallest))
    leaps = ladder.leaps(bars[0], noise)
    systematic = systematic + 2 * ladder.scatter()
    hidden = 2 * height(probe, indices, ladder, leaps, noise)
    measured = assemble(
        values=value,
        roundoff=np.maximum(roundoff[best, across], Z * hidden / chosen),
        truncation=np.maximum(systematic - jump, 0.0) + Z * stairs / ladder.steps[-1],
        gradient_noise=own_noise,
        steps=chosen,
        loss_calls=probe.loss_calls,
        reacts=bool(np.any(values != 0)),
        exact=False,
        kinked=kinked,
        jump=jump,
    )
    return replace(measured, noise=max(noise, hidden), stairs=hidden > 0)


def look_exact(
    probe: Probe,
    tensor: Tensor,
    indices: IndexArray,
    steps: FloatArray,
    own_noise: FloatArray,
) -> Measurement:
    """Measure with other steps; how far these are apart is the error bar.

    Two very small ones count only where kinks, or the edge of the loss's domain, spoil the others:
    one alone would have nothing to be compared with. Where the loss is a staircase (its result is
    rounded, say), its derivative between two stairs proves nothing; jumps that are no stairs (where
    a threshold drops a sample, say) leave it what it is.
    """
    looks = probe.at_each(indices, [factor * steps for factor in _EXACT_FACTORS])
    values = np.array([three_point(look)[0] for look in looks])
    usable = np.array([finite(look) & ~look.kinked for look in looks])
    usable[_LAST_RESORT:] &= usable[:_LAST_RESORT].sum(axis=0) < _COMPARED
    usable[:_LAST_RESORT] &= ~usable[_LAST_RESORT]
    first = np.argmax(usable, axis=0)
    value = values[first, np.arange(len(indices))]
    apart: BoolArray = np.asarray(~usable.any(axis=0))
    with np.errstate(invalid="ignore"):
        spread = np.where(usable, np.abs(values - value), 0.0).max(axis=0)
    spread = np.where(usable.sum(axis=0) == 1, math.inf, spread)
    gap, *others = (three_point(look)[1] for look in looks)
    with np.errstate(invalid="ignore"):
        same = np.all([np.abs(other - gap) <= SAME * gap for other in others], axis=0)
    least = peak(value, largest(value), probe.engine, sizes_at(tensor, indices))
    apart |= same & (gap > least)  # the tip of a cone
    rounding = floor(values.ravel(), probe.engine.unit_roundoff)
    ladder = Ladder.climb(probe, tensor, indices, steps)
    leaps = ladder.leaps(np.abs(ladder.values[0] - value) + spread, 0.0, rounding)
    if stands_on_stairs(probe, tensor, indices, ladder, leaps):
        spread = np.full(len(indices), math.inf)
    return assemble(
        values=value,
        roundoff=np.full(len(indices), rounding),
        truncation=2 * spread,
        gradient_noise=own_noise,
        steps=steps * np.array(_EXACT_FACTORS)[first],
        loss_calls=probe.loss_calls,
        reacts=any(reacts(look) for look in looks),
        exact=True,
        kinked=apart,
        jump=np.where(apart & np.isfinite(gap), gap, 0.0),
    )


def _five(
    near: Differences, far: Differences, loss: float, noise: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return n*, R, 2(T + K), E and the three-point n."""
    value, truncation, kink = five_point(near, far)
    middle, gap = three_point(near)
    roundoff = Z * 0.95 * noise_at(near, loss, noise) / mean_step(near)
    return value, roundoff, 2 * (truncation + kink), gap, middle


def _disagreement(
    values: FloatArray, bars: FloatArray, value: FloatArray, bar: FloatArray
) -> FloatArray:
    """Return how far the chosen value lies outside the intervals of the other looks."""
    with np.errstate(invalid="ignore"):
        outside = np.abs(values - value) - bars - bar
    outside = np.where(np.isfinite(outside), outside, 0.0)
    apart: FloatArray = np.maximum(outside, 0.0).max(axis=0)
    return apart
