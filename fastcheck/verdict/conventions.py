"""Elements on a kink, where more than one derivative is right by convention."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray
from fastcheck.verdict.bars import any_of, largest, largest_size
from fastcheck.verdict.measurement import Measurement
from fastcheck.verdict.tolerances import Tolerance


def slack(
    analytic: FloatArray, values: FloatArray, tolerance: Tolerance, top: float | None = None
) -> FloatArray:
    """Return rtol·max(|g|, |n|) + γS; S is `top`, or the largest of the values."""
    sizes = np.abs(values)
    scale = largest_size(sizes) if top is None else top
    allowed: FloatArray = np.maximum(np.abs(analytic), sizes, out=sizes)
    allowed *= tolerance.rtol
    allowed += tolerance.gamma * scale
    return allowed


@dataclass(frozen=True)
class OnKinks:
    """Elements on a kink, held against g: how they are measured now, and which are what."""

    measured: Measurement
    weak: BoolArray
    open: BoolArray


def on_kinks(
    analytic: FloatArray, measured: Measurement, tolerance: Tolerance, top: float | None = None
) -> OnKinks:
    """Replace n on a kink by the one-sided derivative, or the mean of both, that g equals.

    Frameworks and people take one of these by convention (ReLU'(0) = 0, 1 or ½). Where g is one of
    them to the last digits, nothing is left open, and the jump leaves the error bar.

    Where the one-sided derivatives are equal the kinks do not matter (the maximum that a softmax
    subtracts, say) and the element is like any other. They may also cancel, between samples
    below a ReLU whose weights are all zero; then 0 and 2n are right by convention, and left open.
    """
    m = measured
    none = np.zeros(len(m.values), dtype=bool)
    if not any_of(m.kinked):
        return OnKinks(m, none, none)
    top = largest(m.values) if top is None else top
    choices = m.values + np.array([[-1.0], [0.0], [1.0]]) * m.jump
    distance = np.abs(analytic - choices)
    best = choices[np.argmin(distance, axis=0), np.arange(len(analytic))]
    bar = 2 * m.roundoff + m.gradient_noise
    near = bar + slack(analytic, best, tolerance, top)
    equal = m.kinked & (distance.min(axis=0) <= near)
    smooth = m.kinked & (m.jump <= bar + slack(m.values, m.values, tolerance, top))
    by_convention = (np.abs(analytic) <= near) | (np.abs(analytic - 2 * m.values) <= near)
    ordinary = smooth & (equal | ~by_convention)
    settled = replace(
        m,
        values=np.where(equal, best, m.values),
        error_bar=np.where(equal | ordinary, bar, m.error_bar),
        truncation=np.where(equal | ordinary, 0.0, m.truncation),
        jump=np.where(equal | ordinary, 0.0, m.jump),
        kinked=m.kinked & ~ordinary,
    )
    weak = equal & ~ordinary & (np.abs(best) <= bar) & (m.jump > bar)
    return OnKinks(settled, weak, settled.kinked & ~equal)
