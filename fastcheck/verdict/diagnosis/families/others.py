"""Gradients that are another array's: another tensor's, the parameter itself, an earlier step's."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import (
    ALL,
    Arrays,
    Evidence,
    Places,
    TensorFacts,
    Tensors,
)
from fastcheck.verdict.diagnosis.factors import Estimate, pooled
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, Predict

_ALL_OF_IT = 1 + 1e-6


def other_arrays(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: another tensor's gradient, θ, the step before, and its sum.

    Only what is equal to the last digits in the first place costs more than a glance.
    """
    found: dict[str, list[Hypothesis]] = {}
    decayed = {} if evidence.previous is None else _decayed(evidence, evidence.previous, tensors)
    for facts in tensors:
        if not facts.alive:
            continue
        hypotheses = [_of(facts, other, evidence) for other in _alike(facts, evidence)]
        if facts.theta.any():
            same = _exactly(facts, facts.theta)
            hypotheses.append(Hypothesis("parameters", ("parameters",), 1.0, same, given=True))
        if evidence.previous is not None:
            hypotheses += _earlier(facts, evidence.previous[facts.name])
            if facts.name in decayed:
                factor = decayed[facts.name]
                hypotheses.append(_part_of(facts, evidence.previous[facts.name], factor))
        found[facts.name] = hypotheses
    return found


def _alike(facts: TensorFacts, evidence: Evidence) -> list[TensorFacts]:
    return [
        other
        for other in evidence.tensors
        if other is not facts
        and other.shape == facts.shape
        and np.array_equal(other.indices, facts.indices)
        and not np.array_equal(other.numeric, facts.numeric)
    ]


def _of(facts: TensorFacts, other: TensorFacts, evidence: Evidence) -> Hypothesis:
    """Return that g is the gradient of another tensor of the same shape."""
    names = tuple(sorted((facts.name, other.name)))
    if np.array_equal(facts.analytic, other.analytic):
        cause = "aliased-buffer"
    else:
        cause = "swapped" if other in evidence.failing else "other-tensor"
    figures: dict[str, Any] = {"other": other.name, "pair": names}

    if not (other.failed or other.passed):
        # What that one should be nobody knows, but it is what this one is, or should be.
        if cause != "aliased-buffer" and _holds(other, facts):
            cause = "swapped"
        if cause in ("aliased-buffer", "swapped"):
            return Hypothesis(cause, (cause, *names), 1.0, _itself(facts), figures=figures)

    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return other.numeric[places], np.maximum(other.bars[places], facts.bars[places])

    return Hypothesis(cause, (cause, *names), 1.0, predict, figures=figures)


def _holds(other: TensorFacts, facts: TensorFacts) -> bool:
    """Whether the analytic gradient of one tensor is the numerical gradient of another."""
    apart = np.abs(other.analytic - facts.numeric)
    room = facts.allowed(ALL, other.analytic, facts.bars)
    return bool(np.all(apart <= room) and np.any(np.abs(facts.numeric) > room))


def _itself(facts: TensorFacts) -> Predict:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return facts.analytic[places], facts.bars[places]

    return predict


def _exactly(facts: TensorFacts, array: FloatArray) -> Predict:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return array[places], np.zeros(1)

    return predict


def _earlier(facts: TensorFacts, previous: FloatArray) -> list[Hypothesis]:
    def added(places: Places) -> tuple[FloatArray, FloatArray]:
        return facts.numeric[places] + previous[places], facts.bars[places]

    return [
        Hypothesis("stale", ("stale",), 0.4, _exactly(facts, previous), given=True),
        Hypothesis("accumulated", ("accumulated",), 0.4, added),
    ]


def _decayed(evidence: Evidence, previous: Arrays, tensors: Tensors) -> dict[str, float]:
    """Return β of g = n + β·previous where 0 < |β| ≤ 1, one for all tensors that agree.

    A β of 1 needs no fitting: that is all of it.
    """
    estimates = {f.name: _share(f, previous[f.name]) for f in tensors if f.alive}
    factors = pooled(estimates, evidence, tensors[0].tolerance) if estimates else {}
    shared: dict[str, float] = {}
    for name, factor in factors.items():
        alike = [other for other in factors if factors[other] == factor]
        value = estimates[min(alike, key=lambda other: estimates[other].error)].value
        if factor.value not in (0.0, 1.0) and 0 < abs(value) <= _ALL_OF_IT:
            shared[name] = value
    return shared


def _share(facts: TensorFacts, previous: FloatArray) -> Estimate:
    """Return β of g − n ≈ β·previous."""
    use = ALL if facts.finite else np.flatnonzero(facts.usable)
    along = previous[use]
    square = float(along @ along)
    if not 0 < square < np.inf:
        return Estimate(np.nan, np.inf)
    g, n, size = facts.analytic[use], facts.numeric[use], np.abs(along)
    off = float(size @ facts.bars[use]) / square
    slack = facts.tolerance.rtol * float(size @ np.abs(n)) / square
    return Estimate(float(along @ (g - n)) / square, off + slack)


def _part_of(facts: TensorFacts, previous: FloatArray, factor: float) -> Hypothesis:
    def added(places: Places) -> tuple[FloatArray, FloatArray]:
        return facts.numeric[places] + factor * previous[places], facts.bars[places]

    key = ("accumulated", factor)
    return Hypothesis("accumulated", key, 1.0, added, free=1, figures={"times": factor})
