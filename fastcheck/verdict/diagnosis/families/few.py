"""Gradients that are right except in a few elements, or in a few rows or columns.

These say where the gradient is wrong and not why, so they come after all that say why.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray, IndexArray
from fastcheck.verdict.diagnosis.evidence import ALL, Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.factors import Factor, ratio, recognise
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis

_MOST_ELEMENTS = 8
_SHARE_OF_ELEMENTS = 0.125
_SHARE_OF_ROWS = 0.35
_DENSE = 0.6
_MOST = 0.5


def few(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: up to 8 elements, and few rows or columns."""
    found: dict[str, list[Hypothesis]] = {}
    for facts in tensors:
        if np.mean(facts.wrong_at(facts.sample)) > _MOST:
            continue
        wrong = facts.wrong
        count = int(np.count_nonzero(wrong))
        if not 0 < count < len(wrong):
            continue
        found[facts.name] = []
        if count == 1 or count <= min(_MOST_ELEMENTS, _SHARE_OF_ELEMENTS * len(wrong)):
            found[facts.name].append(_elements(facts, wrong, evidence))
        if facts.complete:
            found[facts.name] += _lines(facts, wrong, evidence)
    return found


def _elements(facts: TensorFacts, wrong: BoolArray, evidence: Evidence) -> Hypothesis:
    places = np.flatnonzero(wrong)
    named = [
        tuple(int(i) for i in np.unravel_index(int(facts.indices[place]), facts.shape))
        for place in places
    ]
    figures = {"elements": named, "factor": _common_factor(facts, places, evidence)}
    return _only(
        facts,
        wrong,
        "one-element",
        ("elements", facts.name),
        1.0 + 0.4 * len(places),
        figures,
    )


def _lines(facts: TensorFacts, wrong: BoolArray, evidence: Evidence) -> list[Hypothesis]:
    mask = wrong.reshape(facts.shape)
    found = []
    for axis, length in enumerate(facts.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        lines = np.flatnonzero(mask.any(axis=others))
        if length < 2 or not 0 < len(lines) <= max(1.0, _SHARE_OF_ROWS * length):
            continue
        inside = np.zeros(facts.shape, dtype=bool)
        inside[(slice(None),) * axis + (lines,)] = True
        flat = inside.reshape(-1)
        if flat.all():
            continue
        live = _live(facts)
        if np.count_nonzero(wrong) < _DENSE * np.count_nonzero(flat & live):
            continue  # a scattered few are elements, not lines
        if not np.any(live & ~flat):
            continue  # nothing else has a gradient that could be right
        places = np.flatnonzero(flat & facts.usable)
        factor = _common_factor(facts, places, evidence)
        if factor is not None and not factor.named:
            factor = None
        figures = {"axis": axis, "lines": tuple(int(i) for i in lines), "factor": factor}
        key = ("lines", figures["lines"], factor if factor is None else factor.value)
        hypothesis = _only(facts, flat, "one-row", key, 1.8 + 0.1 * len(lines), figures)
        found.append(hypothesis)
    return found


def _live(facts: TensorFacts) -> BoolArray:
    """Elements that are known to be other than zero in one of the gradients."""
    sizes = np.maximum(np.abs(facts.analytic), np.abs(facts.numeric))
    live: BoolArray = sizes > facts.allowed(ALL, facts.numeric, facts.bars)
    return live


def _only(
    facts: TensorFacts,
    where: BoolArray,
    cause: str,
    key: tuple[Any, ...],
    complexity: float,
    figures: dict[str, Any],
) -> Hypothesis:
    """Return that the gradient is wrong in these places, in whatever way, and right elsewhere."""

    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        values = np.where(where[places], facts.analytic[places], facts.numeric[places])
        return values, facts.bars[places]

    support = np.flatnonzero(where)
    # Beside a mistake that is seen there may be elements of which nothing is.
    seen = _live(facts) | ((facts.analytic == 0) & (facts.numeric == 0))
    figures = {**figures, "dim": not seen[~where].all()}
    return Hypothesis(cause, key, complexity, predict, figures=figures, support=support)


def _common_factor(facts: TensorFacts, places: IndexArray, evidence: Evidence) -> Factor | None:
    """Return by what n is multiplied in these places, if by one telling constant."""
    g, n, bars = facts.analytic[places], facts.numeric[places], facts.bars[places]
    if not g.any():
        return Factor(0.0, "0") if n.any() else None
    factor = recognise(ratio(g, n, bars + facts.grain), evidence, facts.tolerance)
    if not factor.named and len(places) > 1:
        return None
    room = facts.allowed(places, factor.value * n, bars * max(1.0, abs(factor.value)))
    return factor if bool(np.all(np.abs(g - factor.value * n) <= room)) else None
