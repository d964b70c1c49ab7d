"""Gradients that lack the derivative of a penalty on the parameters, or have it twice."""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import ALL, Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.factors import Estimate, Factor, pooled, recognise
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis

_NEAR = 1e-3
_A_SIGN, _A_NUMBER = 0.3, 16.0
"""Digits that an element tells: λ·sign(θ) fits whatever has these signs by chance."""
_NONE = Factor(1.0, "1")


def penalties(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: g = n + λθ, g = n + λ·sign(θ), and multiples of the first."""
    found: dict[str, list[Hypothesis]] = {facts.name: [] for facts in tensors}
    for kind in ("l2", "l1"):
        estimates = {f.name: _strength(f, kind) for f in tensors if f.alive}
        if not estimates:
            continue
        factors = pooled(estimates, evidence, tensors[0].tolerance)
        for facts in tensors:
            if facts.name in factors and factors[facts.name].value != 0:
                # λ is no number that counts anything: take the estimate, not what it is near to.
                strength = _shared(facts.name, factors, estimates)
                found[facts.name].append(_with_penalty(facts, kind, strength, _NONE))
    both = [(f, *fitted) for f in tensors if (fitted := _with_factor(f, evidence))]
    for facts, factor, strength in both:
        # One λ for all that agree, or they would not be one mistake.
        alike = [s for _, other, s in both if other == factor and abs(s / strength - 1) < _NEAR]
        found[facts.name].append(_with_penalty(facts, "l2", float(np.median(alike)), factor))
    return found


def _shared(name: str, factors: dict[str, Factor], estimates: dict[str, Estimate]) -> float:
    """Return the most certain of the estimates that agree with a tensor's."""
    alike = [other for other in factors if factors[other] == factors[name]]
    return estimates[min(alike, key=lambda other: estimates[other].error)].value


def _direction(facts: TensorFacts, kind: str, places: Places) -> FloatArray:
    theta = facts.theta[places]
    return theta if kind == "l2" else np.sign(theta)


def _strength(facts: TensorFacts, kind: str) -> Estimate:
    """Return λ of g − n ≈ λ·direction."""
    use = ALL if facts.finite else np.flatnonzero(facts.usable)
    along = _direction(facts, kind, use)
    square = float(along @ along)
    if square == 0:
        return Estimate(math.nan, math.inf)
    rest = facts.analytic[use] - facts.numeric[use]
    off = float(np.abs(along) @ facts.bars[use]) / square
    slack = facts.tolerance.rtol * float(np.abs(along) @ np.abs(facts.numeric[use])) / square
    return Estimate(float(along @ rest) / square, off + slack)


def _with_penalty(facts: TensorFacts, kind: str, strength: float, factor: Factor) -> Hypothesis:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        values = factor.value * facts.numeric[places]
        bars = max(1.0, abs(factor.value)) * facts.bars[places]
        return values + strength * _direction(facts, kind, places), bars

    return Hypothesis(
        cause=f"missing-{kind}" if strength < 0 else f"extra-{kind}",
        key=(kind, factor.value, strength),
        complexity=0.9 if factor is _NONE else 2.0,
        predict=predict,
        free=1,
        worth=_A_SIGN if kind == "l1" else _A_NUMBER,
        figures={"strength": strength, "factor": factor},
    )


def _with_factor(facts: TensorFacts, evidence: Evidence) -> tuple[Factor, float] | None:
    """Return α and λ of g ≈ α·n + λθ where α is a telling constant other than 1."""
    if facts.size < 4 or not facts.finite or not facts.alive:
        return None
    g, n, theta = facts.analytic, facts.numeric, facts.theta
    nn, nt, tt = float(n @ n), float(n @ theta), float(theta @ theta)
    determinant = nn * tt - nt * nt
    if not determinant > _NEAR * nn * tt:
        return None
    gn, gt = float(g @ n), float(g @ theta)
    alpha = (gn * tt - gt * nt) / determinant
    off = float(np.abs(n) @ facts.bars) / nn
    factor = recognise(Estimate(alpha, max(1.0, abs(alpha)) * off), evidence, facts.tolerance)
    if not factor.named or factor.value in (0.0, 1.0):
        return None
    strength = (gt - factor.value * nt) / tt
    return (factor, strength) if strength else None
