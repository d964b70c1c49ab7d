"""Gradients that are another array's: another tensor's, the parameter itself, an earlier step's."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import ALL, Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, Predict


def other_arrays(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: another tensor's gradient, θ, the step before, and its sum.

    Only what is equal to the last digits in the first place costs more than a glance.
    """
    found: dict[str, list[Hypothesis]] = {}
    for facts in tensors:
        if not facts.alive:
            continue
        hypotheses = [_of(facts, other, evidence) for other in _alike(facts, evidence)]
        if facts.theta.any():
            same = _exactly(facts, facts.theta)
            hypotheses.append(Hypothesis("parameters", ("parameters",), 1.0, same, given=True))
        if evidence.previous is not None:
            hypotheses += _earlier(facts, evidence.previous[facts.name])
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
