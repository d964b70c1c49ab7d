"""Gradients that are the right ones times a constant: −1, 2, ½, the number of samples, zero."""

from __future__ import annotations

from dataclasses import replace

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.factors import (
    Factor,
    estimate,
    is_parallel,
    pooled,
    roughly,
)
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis

_SIMPLE = ("1", "-1", "2", "1/2")


def scales(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: g = α·n, and what follows where either is zero."""
    found: dict[str, list[Hypothesis]] = {}
    estimates = {}
    for facts in tensors:
        g, n = facts.sizes
        if n == 0 < g:
            if not evidence.uses(facts) or facts.hidden:
                found[facts.name] = [_unused(facts, evidence)]
        elif g == 0 < n:
            found[facts.name] = [_zero(facts)]
        elif g > 0:
            estimates[facts.name] = estimate(facts)
    if not tensors:
        return found
    factors = pooled(estimates, evidence, tensors[0].tolerance)
    for facts in tensors:
        factor = factors.get(facts.name)
        if factor is not None:
            sure = factor.named or _is_sure(facts, factor)
            near = factor if sure else roughly(factor, evidence.batch_size)
            found[facts.name] = [replace(scaled(facts, near), hint=not sure and not near.named)]
    return found


def scaled(facts: TensorFacts, factor: Factor) -> Hypothesis:
    """Return g = α·n."""

    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        values, bars = facts.numeric[places], facts.bars[places]
        return factor.value * values, max(1.0, abs(factor.value)) * bars

    return Hypothesis(
        cause=_cause(factor),
        key=("scale", factor.value),
        complexity=0.5 if factor.label in _SIMPLE else 0.6 if factor.named else 1.0,
        predict=predict,
        free=0 if factor.named else 1,
        figures={"factor": factor},
        plain=True,
    )


def _cause(factor: Factor) -> str:
    if factor.value == -1:
        return "sign"
    if factor.count and factor.label in ("M", "N", "2M", "M/2"):
        return "missing-mean"
    return "scale"


def _is_sure(facts: TensorFacts, factor: Factor) -> bool:
    """Whether a factor that tells nothing by itself is at least no accident."""
    g, n = facts.both()
    bars = facts.bars if facts.finite else facts.bars[facts.usable]
    return factor.known and is_parallel(g, n, bars)


def _zero(facts: TensorFacts) -> Hypothesis:
    """Return g = 0: never filled, zeroed, or detached."""

    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return 0 * facts.numeric[places], facts.bars[places]

    return Hypothesis("zero", ("zero",), 0.25, predict)


def _unused(facts: TensorFacts, evidence: Evidence) -> Hypothesis:
    """Return the hypothesis that the loss does not depend on the tensor, whatever g is.

    Where a trace shows that it does, the derivative is zero only here: of dead units, say.
    """

    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return facts.analytic[places], facts.bars[places]

    cause = "perturbation-lost" if facts.hidden else "unused"
    figures = {"traced": evidence.graph is not None}
    return Hypothesis(cause, (cause,), 0.25, predict, figures=figures)
