"""Gradients of one array that is listed twice: each is a part, and only their sum is right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.verdict.diagnosis.evidence import Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis

_FEWEST = 4
"""Of fewer values it is no wonder that they are equal."""


def tied(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for pairs of tensors of the same values: g and the other's g together are n."""
    found: dict[str, list[Hypothesis]] = {}
    for facts in tensors:
        for other in evidence.tensors:
            order = _order(facts, other) if other is not facts else None
            if order is not None:
                found.setdefault(facts.name, []).append(_part_of(facts, other, order))
    return found


def _order(facts: TensorFacts, other: TensorFacts) -> IndexArray | None:
    """Return where the elements of one tensor are in another that has the same values."""
    if not (facts.complete and other.complete and facts.finite and other.finite):
        return None
    if facts.size != other.size or len(np.unique(facts.theta)) < _FEWEST:
        return None
    return next((o for o in _orders(facts) if np.array_equal(facts.theta[o], other.theta)), None)


def _orders(facts: TensorFacts) -> Iterator[IndexArray]:
    places = np.arange(facts.size)
    yield places
    if len(facts.shape) > 1:
        yield places.reshape(facts.shape).T.reshape(-1)


def _part_of(facts: TensorFacts, other: TensorFacts, order: IndexArray) -> Hypothesis:
    """Return that the gradient lacks just what the other one has.

    A loss may write one over the other: the numerical gradient is then that of the last one.
    """
    back = np.argsort(order)
    theirs = other.numeric[back], other.bars[back]
    whole, bars = max((facts.numeric, facts.bars), theirs, key=lambda both: np.linalg.norm(both[0]))
    rest = other.analytic[back]

    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return whole[places] - rest[places], bars[places]

    names = tuple(sorted((facts.name, other.name)))
    return Hypothesis("tied-weights", ("tied-weights", *names), 0.7, predict)
