"""Gradients that were clipped: each element to an interval, or all together to a norm."""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, fit

_SEEN = 2
"""So many elements at the very same limit are no accident."""
_SEEN_ALONE = 5
"""So many where other tensors go beyond it: most people clip all of them alike."""
_DIGITS = 2
"""Limits that people choose have no more digits than this."""
_KEPT_FROM_ZERO = (0.0, 1e-6, 1e-8, 1e-12)
"""What is added to a norm before it is divided by."""
_EQUAL = 1e-9
_ROUNDINGS = 64


def clipped(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: g = clip(n, −c, c), and g = c·n / ‖all n‖."""
    found: dict[str, list[Hypothesis]] = {facts.name: [] for facts in tensors}
    tried = [(f, _to_interval(f, limit)) for f in tensors if f.finite and (limit := _limit(f))]
    shown = {
        hypothesis.key
        for facts, hypothesis in tried
        if _is_shown(facts, evidence) and fit(facts, hypothesis).exact
    }
    for facts, hypothesis in tried:
        if hypothesis.key in shown:
            found[facts.name].append(hypothesis)
    by_norm = _norms(evidence, tensors)
    if by_norm is not None:
        scaled = [(facts, _to_norm(facts, *by_norm)) for facts in tensors if facts.alive]
        if all(fit(facts, hypothesis).possible for facts, hypothesis in scaled):
            for facts, hypothesis in scaled:
                found[facts.name].append(hypothesis)
    return found


def _limit(facts: TensorFacts) -> float:
    return float(np.max(np.abs(facts.analytic), initial=0.0))


def _is_shown(facts: TensorFacts, evidence: Evidence) -> bool:
    """Whether elements lie at a limit that may be one, and others below it that are not zero."""
    sizes, limit = np.abs(facts.analytic), _limit(facts)
    if int(np.count_nonzero((sizes < limit) & (sizes > 0))) < _SEEN:
        return False
    at_limit = int(np.count_nonzero(sizes == limit))
    if any(_limit(other) > limit for other in evidence.tensors if other.finite):
        return at_limit >= _SEEN_ALONE
    return at_limit >= _SEEN or _is_round(limit * evidence.unit, _EQUAL)


def _is_round(value: float, equal: float) -> bool:
    """Whether a number has few digits, but for rounding."""
    if not 0 < value < math.inf:
        return False
    near = float(f"{value:.{_DIGITS - 1}e}")
    return abs(value - near) <= equal * near


def _to_interval(facts: TensorFacts, limit: float) -> Hypothesis:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return np.clip(facts.numeric[places], -limit, limit), facts.bars[places]

    at_limit = int(np.count_nonzero(np.abs(facts.analytic) == limit))
    return Hypothesis(
        "clipped",
        ("clipped", limit),
        0.8,
        predict,
        figures={"limit": limit, "at_limit": at_limit, "by": "element"},
    )


def _norms(evidence: Evidence, tensors: Tensors) -> tuple[float, float] | None:
    """Return the factor by which all gradients are too small and their norm, if that is round."""
    alive = [facts for facts in evidence.tensors if facts.alive]
    whole = all(f.finite and len(f.indices) == f.size for f in evidence.tensors)
    if not whole or len(alive) != sum(facts.alive for facts in tensors):
        return None
    of_g, of_n = (math.hypot(*(facts.sizes[i] for facts in alive)) for i in (0, 1))
    unit = evidence.unit
    if not 0 < of_g < of_n < math.inf:
        return None
    equal = max(_EQUAL, *(_ROUNDINGS * facts.tolerance.unit for facts in alive))
    for kept in _KEPT_FROM_ZERO:
        limit = of_g * (1 + kept / (of_n * unit))
        if _is_round(limit * unit, equal):
            return of_g / of_n, limit
    return None


def _to_norm(facts: TensorFacts, factor: float, norm: float) -> Hypothesis:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return factor * facts.numeric[places], facts.bars[places]

    return Hypothesis(
        "clipped",
        ("clipped", "norm"),
        0.6,
        predict,
        figures={"limit": norm, "times": factor, "by": "norm"},
    )
