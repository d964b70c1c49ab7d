"""Gradients that lack the derivative of a penalty on the parameters, or have it twice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import ALL, Arrays, Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.factors import Estimate, Factor, pooled, recognise
from fastcheck.verdict.diagnosis.families.scale import scales
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, fit
from fastcheck.verdict.diagnosis.terms import own_penalties

_NEAR = 1e-3
_CANCELLED = 1e-2
_LEEWAY = 2.0
_TELLING = 10.0
_A_SIGN, _A_NUMBER = 0.3, 16.0
"""Digits that an element tells: λ·sign(θ) fits whatever has these signs by chance."""
_NONE = Factor(1.0, "1")


def penalties(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: g = n + λθ, g = n + λ·sign(θ), and multiples of the first."""
    found: dict[str, list[Hypothesis]] = {facts.name: [] for facts in tensors}
    own = own_penalties(evidence, tensors)
    for kind in ("l2", "l1"):
        estimates = {f.name: _strength(f, kind) for f in tensors if f.alive}
        if not estimates:
            continue
        factors = pooled(estimates, evidence, tensors[0].tolerance)
        for facts in tensors:
            if facts.name in factors and factors[facts.name].value != 0:
                # λ is no number that counts anything: take the estimate, not what it is near to.
                strength = _shared(facts.name, factors, estimates)
                found[facts.name].append(_with_penalty(facts, kind, strength, _NONE, own))
    both = [(f, *fitted) for f in tensors if (fitted := _with_factor(f, evidence))]
    for facts, factor, strength in both:
        # One λ for all that agree, or they would not be one mistake.
        alike = [s for _, other, s in both if other == factor and abs(s / strength - 1) < _NEAR]
        added = _with_penalty(facts, "l2", float(np.median(alike)), factor, own)
        # A factor may spare a penalty of the loss, and only a trace tells whether there is one.
        spared = strength / (1 - factor.value) > 0
        found[facts.name].append(replace(added, hint=spared and facts.name not in own))
    for facts, hypothesis in _beside_own(evidence, tensors, own):
        found[facts.name].append(hypothesis)
    return found


def _beside_own(
    evidence: Evidence, tensors: Tensors, own: Arrays
) -> Iterator[tuple[TensorFacts, Hypothesis]]:
    """Yield that all of g has a factor but what the loss's own penalties add, which is right."""
    by_name = {facts.name: facts for facts in tensors}
    rest = tuple(
        replace(f, analytic=f.analytic - own[f.name], numeric=f.numeric - own[f.name])
        for f in tensors
        if f.name in own and _is_more(f, own[f.name])
    )
    by_rest = {facts.name: facts for facts in rest}
    for name, hypotheses in scales(evidence, rest).items():
        for hypothesis in hypotheses:
            factor = hypothesis.figures.get("factor")
            if factor is not None and factor.value != 1:
                figures = {**hypothesis.figures, "spared": True}
                made = _moved(hypothesis, own[name])
                # What is large beside the rest leaves it no more room than it has by itself.
                sure = fit(by_rest[name], hypothesis).exact
                sure = sure and (factor.named or not _cancels(by_name[name], own))
                yield by_name[name], replace(made, figures=figures, hint=not sure)


def _is_more(facts: TensorFacts, added: FloatArray) -> bool:
    """Whether penalties are some of a gradient, and not all of it."""
    room = facts.allowed(ALL, facts.numeric, facts.bars)
    return bool(added.any() and np.any(np.abs(facts.numeric - added) > _TELLING * room))


def _cancels(facts: TensorFacts, own: Arrays) -> bool:
    """Whether the data's gradient is that of the penalties the other way round.

    At a minimum it is, and any factor of the one is as good as another factor of the other.
    """
    whole, added = (float(np.linalg.norm(x)) for x in (facts.numeric, own[facts.name]))
    return whole <= _CANCELLED * added


def _moved(hypothesis: Hypothesis, added: FloatArray) -> Hypothesis:
    """Return what a hypothesis on the rest predicts of the whole."""

    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        values, bars = hypothesis.predict(places)
        return values + added[places], bars

    return replace(hypothesis, predict=predict, beside=lambda places: added[places])


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


def _with_penalty(
    facts: TensorFacts, kind: str, strength: float, factor: Factor, own: Arrays
) -> Hypothesis:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        values = factor.value * facts.numeric[places]
        bars = max(1.0, abs(factor.value)) * facts.bars[places]
        return values + strength * _direction(facts, kind, places), bars

    def without(places: Places) -> FloatArray:
        return factor.value * facts.numeric[places]

    times = _times(facts, strength / factor.value, kind, own)
    return Hypothesis(
        cause=f"missing-{kind}" if strength < 0 else f"extra-{kind}",
        key=(kind, factor.value, strength),
        complexity=0.9 if factor is _NONE else 2.0,
        predict=predict,
        free=1,
        beside=None if factor is _NONE else without,
        worth=_A_SIGN if kind == "l1" else _A_NUMBER,
        figures={"strength": strength, "factor": factor, "times": times},
        hint=_is_lost_in(facts, strength, kind, own),
    )


def _is_lost_in(facts: TensorFacts, strength: float, kind: str, own: Arrays) -> bool:
    """Whether a penalty is less than what may be wrong with the loss's own.

    Near a minimum the data's gradient is that of the penalty the other way round: a little too much
    of one is then a little too little of the other, and nobody knows which.
    """
    added = float(np.linalg.norm(own[facts.name])) if facts.name in own else 0.0
    size = abs(strength) * float(np.linalg.norm(_direction(facts, kind, ALL)))
    return size <= _LEEWAY * facts.tolerance.rtol * added


def _times(facts: TensorFacts, strength: float, kind: str, own: Arrays) -> float | None:
    """Return by what the loss's own penalty is multiplied then; None where nobody knows."""
    if facts.name not in own:
        return None
    added, along = own[facts.name], _direction(facts, kind, ALL)
    if not added.any():
        return math.inf  # there is none
    square = float(along @ along)
    held = float(along @ added) / square if square else 0.0
    if float(np.linalg.norm(added - held * along)) > _NEAR * float(np.linalg.norm(added)):
        return None  # it is another one
    return 1 + strength / held


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
    if factor.label in ("N", "1/N") and factor.count not in evidence.data_lengths:
        return None  # two numbers are fitted: some integer is near by chance
    strength = (gt - factor.value * nt) / tt
    return (factor, strength) if strength else None
