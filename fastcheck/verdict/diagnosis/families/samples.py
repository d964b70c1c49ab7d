"""Gradients from which one sample is missing, or which hold one twice."""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import Arrays, Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.families.batch import marked
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, Predict

_LOOKED_AT = 4096
_ALIKE, _MOST_ALIKE = 1e-5, 64


def samples(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: without sample s, with it twice, and nothing but it."""
    given = evidence.samples
    if given is None:
        return {}
    share = _share(evidence, given)
    if share is None:
        return {}
    found = {}
    for facts in tensors:
        if facts.alive and facts.finite:
            each = given[facts.name]
            found[facts.name] = [*_one_too_few(facts, each, share), *_alone(facts, each, share)]
    return found


def _share(evidence: Evidence, given: Arrays) -> float | None:
    """Return what of a sample's gradient goes into n: all of it where n is a sum, or 1/M."""
    count = len(next(iter(given.values())))
    for facts in sorted(evidence.tensors, key=lambda f: len(f.indices)):
        total = given[facts.name].sum(axis=0)
        square = float(total @ total)
        if not facts.finite or square == 0 or facts.sizes[1] == 0:
            continue
        measured = float(total @ facts.numeric) / square
        # One sample may have gone wrong in them too: the nearer of the two is meant.
        return 1.0 if abs(measured - 1) < abs(measured * count - 1) else 1 / count
    return None


def _one_too_few(facts: TensorFacts, each: FloatArray, share: float) -> list[Hypothesis]:
    """Return that one sample is missing from the sum, from the mean, or is in it twice."""
    g, n, count = facts.analytic, facts.numeric, len(each)
    ways = [("sample-dropped", -1.0, 1.0), ("sample-repeated", 1.0, 1.0)]
    if share != 1 and count > 1:
        ways.append(("sample-dropped", -1.0, count / (count - 1)))
    found = []
    for cause, times, factor in ways:
        for sample in _nearest((g / factor - n) / (times * share), each):
            figures = {"sample": sample, "of": count, "mean": factor != 1}
            predict = _changed(facts, times * share * each[sample], factor)
            found.append(Hypothesis(cause, (cause, sample, factor), 0.75, predict, figures=figures))
    return found


def _changed(facts: TensorFacts, change: FloatArray, factor: float) -> Predict:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return factor * (facts.numeric[places] + change[places]), factor * facts.bars[places]

    return predict


def _alone(facts: TensorFacts, each: FloatArray, share: float) -> list[Hypothesis]:
    """Return that g is one sample's own gradient: the sum over the samples was not taken."""
    cause = "missing-bias-sum" if facts.is_bias else "one-sample"
    found = []
    for size in dict.fromkeys((share, 1.0)):
        for sample in _nearest(facts.analytic / size, each):
            figures = {"sample": sample, "of": len(each)}
            predict = _equal_to(size * each[sample])
            alone = Hypothesis(cause, (cause, sample), 0.75, predict, figures=figures, given=True)
            found.append(marked(alone, facts, lambda other: share * each[other], len(each)))
    return found


def _equal_to(values: FloatArray) -> Predict:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return values[places], np.zeros(1)

    return predict


def _nearest(wanted: FloatArray, each: FloatArray) -> list[int]:
    """Return the sample whose gradient is nearest to what is wanted, and those that are like it.

    They are compared where that is largest.
    """
    if len(wanted) > _LOOKED_AT:
        heaviest = np.argpartition(-np.abs(wanted), _LOOKED_AT)[:_LOOKED_AT]
        wanted, each = wanted[heaviest], each[:, heaviest]
    apart = np.linalg.norm(each - wanted, axis=1)
    best = np.argsort(apart, kind="stable")[:_MOST_ALIKE]
    return [int(s) for s in best if apart[s] <= apart[best[0]] + _ALIKE * np.linalg.norm(wanted)]
