"""Gradients that are too large, too small, or lack a term."""

from __future__ import annotations

import math

from fastcheck.verdict.diagnosis.cover import Group
from fastcheck.verdict.diagnosis.evidence import Evidence
from fastcheck.verdict.diagnosis.factor_sentences import (
    factor_evidence,
    factor_explanation,
    only_biases,
)
from fastcheck.verdict.diagnosis.factors import Factor
from fastcheck.verdict.diagnosis.naming import Words, listed, subject_is

_ROUNDED = 1e-4


def scale(group: Group, evidence: Evidence) -> Words:
    """Say by which factor, and what that comes from."""
    factor: Factor = group.first.figures["factor"]
    biases = only_biases(group, evidence)
    return factor_evidence(group, factor), factor_explanation(group, factor, evidence, biases)


def zero(group: Group, evidence: Evidence) -> Words:
    """Say that the gradient is zero where it is not."""
    names = [facts.name for facts in group.facts]
    seen = f"{subject_is(names)} exactly zero, the numerical one is not."
    if len(group.facts) == len([f for f in evidence.tensors if f.alive]):
        return seen, (
            "The arrays are never filled, were set to zero before the check, or nothing flows "
            "back from the loss."
        )
    return seen, "It is never filled, is set to zero afterwards, or nothing flows back to it."


def unused(group: Group, evidence: Evidence) -> Words:
    """Say that the loss does not depend on a tensor that has a gradient."""
    names = [facts.name for facts in group.facts]
    return (
        f"The loss does not change at all with {listed(names)}, but the analytic gradient is not "
        "zero.",
        "The forward pass reads other arrays than those it is given (a copy, or attributes set "
        "before), or does not use them."
        + (
            ""
            if group.first.figures["traced"]
            else " Or, as likely: all that it goes into is dead here, and the mask for that is "
            "missing in the backward pass."
        ),
    )


def lost(group: Group, evidence: Evidence) -> Words:
    """Say that the loss is too coarse for the perturbation."""
    names = [facts.name for facts in group.facts]
    return (
        f"The loss changes with {listed(names)} under large steps only, so the numerical gradient "
        "is zero.",
        "The perturbation is lost in the rounding of the loss: look for float32 or rounding in the "
        "forward pass.",
    )


def clipped(group: Group, evidence: Evidence) -> Words:
    """Say to what the gradient was clipped."""
    names, figures = [facts.name for facts in group.facts], group.first.figures
    limit = figures["limit"] * evidence.unit
    if figures["by"] == "norm":
        return (
            f"{subject_is(names)} {figures['times']:#.4g} × the numerical one in every element, "
            f"and the norm of all together is {limit:.6g}.",
            f"They were clipped to a norm of {limit:.6g}. That belongs to the update: check the "
            "gradient before it is clipped.",
        )
    at_limit = sum(hypothesis.figures["at_limit"] for _, hypothesis in group.members)
    many = f"{at_limit} elements lie" if at_limit > 1 else "one element lies"
    return (
        f"{subject_is(names)} the numerical one clipped to ±{limit:.6g}: {many} at the limit, and "
        "all others are right.",
        "Clipping belongs to the update: check the gradient before np.clip.",
    )


def penalty(group: Group, evidence: Evidence) -> Words:
    """Say what of a penalty is missing or too much."""
    names = [facts.name for facts in group.facts]
    strength, factor = group.first.figures["strength"], group.first.figures["factor"]
    kind = group.cause[-2:].upper()
    along = "the sign of the parameters" if kind == "L1" else "the parameters"
    rest = f"the numerical one {_signed(strength / factor.value * evidence.unit)} × {along}"
    what = rest if factor.value == 1 else f"{factor.value:.6g} × ({rest})"
    seen = f"{subject_is(names)} {what}."
    why = _why_penalty(kind, strength / factor.value, group.first.figures["times"])
    if factor.value != 1:
        why = f"{why}; and a constant factor of {factor.value:.6g} does not belong there"
    return seen, f"{why}: look for λ·{names[0]} in both passes."


def _why_penalty(kind: str, strength: float, times: float | None) -> str:
    """Say what happened to a penalty, as far as is known how much of it the loss has."""
    if times is None and strength < 0:
        return f"The derivative of the {kind} penalty is missing, or counted too little"
    if times is None:
        return f"The derivative of an {kind} penalty is counted twice, or the loss has no such term"
    if math.isinf(times):
        return f"The derivative of an {kind} penalty is in it, and the loss has no such term"
    if abs(times) <= _ROUNDED:
        return f"The derivative of the {kind} penalty is missing"
    if abs(times - 2) <= _ROUNDED:
        return f"The derivative of the {kind} penalty is counted twice"
    digits = max(4, 1 - math.floor(math.log10(abs(times - 1))) + 1)
    return f"The derivative of the {kind} penalty is {times:.{digits}g} × what it is in the loss"


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'} {abs(value):.4g}"
