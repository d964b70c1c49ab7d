"""One sample in place of the sum over all, or a sum that one sample is missing from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray
from fastcheck.trace.primitives import CONTRACT
from fastcheck.verdict.diagnosis.batch_axis import is_batch_axis
from fastcheck.verdict.diagnosis.evidence import ALL, TensorFacts
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, fit
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass, given
from fastcheck.verdict.diagnosis.uses import Slices, slices_of

_TRIED = 3
"""Samples that are alike in one tensor may differ in another: the best few are looked at."""
_ALIKE, _MOST_ALIKE = 1e-5, 64
"""Samples that add the same are all looked at: one of them may be the one in all tensors."""
_MOST_OTHERS = 64
_LEFT_OUT = 2
"""That one sample was left out beside it may be another mistake, which all tensors show."""


def of_samples(passed: RightPass, found: Found) -> None:
    """One sample is missing, is in it twice, or stands for all."""
    for facts in passed.unexplained:
        if not facts.complete or not facts.finite:
            continue
        for slices in slices_of(passed, facts.name):
            of_g, of_n = (
                slices.products(values.reshape(facts.shape))
                for values in (facts.analytic, passed.base(facts))
            )
            hypotheses = _alone(facts, slices, of_g)
            if len(slices.axes) == 1:
                hypotheses += _one_too_few(passed, facts, slices, (of_g, of_n))
            fitting = [h for h in hypotheses if fit(facts, h).exact]
            along = _along(passed, slices) if fitting else {}
            fitting = [replace(h, figures={**h.figures, **along}) for h in fitting]
            found[facts.name] += [
                marked(h, facts, slices.part, slices.count) if "alone" in h.figures else h
                for h in fitting
            ]


def _along(passed: RightPass, slices: Slices) -> dict[str, Any]:
    """Return what sentences say of the axes: whose they are, and whether they count the samples."""
    node = slices.uses[0].node
    lengths = [node.shape[axis] for use in slices.uses for axis in use.summed]
    alone = len(slices.axes) == 1
    return {
        "axes": slices.axes,
        "lengths": slices.lengths,
        "operation": f"`{node.primitive.name}` ({node.source})",
        "batch": alone and all(is_batch_axis(passed, u.node, slices.axes[0]) for u in slices.uses),
        "only": alone and lengths.count(slices.count) == len(slices.uses),
    }


def marked(
    hypothesis: Hypothesis, facts: TensorFacts, part: Callable[[int], FloatArray], count: int
) -> Hypothesis:
    """Return the hypothesis that a sample stands alone, with a mark if mostly zeros show it.

    Where it adds nothing, neither does g, and nobody knows why. That other samples are left out is
    seen where they would add to what is there.
    """
    sample = hypothesis.figures["sample"]
    there = hypothesis.predict(ALL)[0] != 0
    others = (part(number) for number in range(min(count, _MOST_OTHERS)) if number != sample)
    if (
        count > _LEFT_OUT
        and there.any()
        and not there.all()
        and not _are_seen(others, facts, there)
    ):
        return replace(hypothesis, figures={**hypothesis.figures, "thin": True})
    return hypothesis


def _are_seen(others: Iterable[FloatArray], facts: TensorFacts, there: BoolArray) -> bool:
    """Whether enough of them add to these elements, or none adds anything elsewhere."""
    room = facts.allowed(ALL, facts.numeric, facts.bars)
    seen, hidden = 0, 0
    for other in others:
        adds = np.abs(other) > room
        seen += bool(np.any(adds & there))
        hidden += bool(np.any(adds) and not np.any(adds & there))
        if seen >= _LEFT_OUT:
            return True
    return not hidden


def _one_too_few(
    passed: RightPass, facts: TensorFacts, slices: Slices, both: tuple[FloatArray, FloatArray]
) -> list[Hypothesis]:
    g, n, count = facts.analytic, passed.base(facts), slices.count
    ways = [("sample-dropped", -1.0, 1.0), ("sample-repeated", 1.0, 1.0)]
    if count > 1:
        ways.append(("sample-dropped", -1.0, count / (count - 1)))
    made = []
    for cause, times, factor in ways:
        wanted, products = ((x / factor - y) / times for x, y in ((g, n), both))
        for sample, alone in _nearest(slices, wanted, products):
            figures = {"sample": sample, "of": count, "mean": factor != 1}
            key = (cause, sample, count, factor)
            change = factor * (n + times * alone) - n
            complexity = 0.9 if factor == 1 else 1.2
            made.append(
                Hypothesis(cause, key, complexity, passed.changed(facts, change), figures=figures)
            )
    return made


def _alone(facts: TensorFacts, slices: Slices, products: FloatArray) -> list[Hypothesis]:
    # A column of weights is no bias, though it has the shape of one.
    weights = any(use.node.primitive is CONTRACT for use in slices.uses)
    cause = "missing-bias-sum" if facts.is_bias and not weights else "one-sample"
    return [
        Hypothesis(
            cause,
            (cause, slices.axes, sample),
            0.9,
            given(facts, alone),
            figures={"sample": sample, "of": slices.count, "alone": True},
        )
        for sample, alone in _nearest(slices, facts.analytic, products)
    ]


def _nearest(
    slices: Slices, wanted: FloatArray, products: FloatArray
) -> list[tuple[int, FloatArray]]:
    """Return the slices that may add just what is wanted: their numbers and what they add.

    The product of two equal vectors is their square, so the products of all with it tell.
    """
    square = float(wanted @ wanted)
    if not 0 < square < np.inf:
        return []
    apart = np.abs(products - square)
    alike = int(np.count_nonzero(apart <= _ALIKE * square))
    best = np.argsort(apart, kind="stable")[: min(max(_TRIED, alike), _MOST_ALIKE)]
    return [(int(sample), slices.part(int(sample))) for sample in best]
