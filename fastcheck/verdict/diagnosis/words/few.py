"""Gradients that are wrong in few places."""

from __future__ import annotations

import math

from fastcheck.verdict.diagnosis.cover import Group
from fastcheck.verdict.diagnosis.evidence import Evidence
from fastcheck.verdict.diagnosis.factors import Factor
from fastcheck.verdict.diagnosis.naming import Words, axis_word, listed
from fastcheck.verdict.reasons import place

_SHOWN = 3


def elements(group: Group, evidence: Evidence) -> Words:
    """Say which elements are wrong."""
    facts, figures = group.facts[0], group.first.figures
    named = [facts.name + place(index) for index in figures["elements"]]
    shown = listed(named[:_SHOWN]) + (f" and {len(named) - _SHOWN} more" if named[_SHOWN:] else "")
    ratios = _ratio_text(figures["factor"])
    verb = "is" if len(named) == 1 else "are"
    return (
        f"Only {len(named)} of the {len(facts.indices):,} checked elements of {facts.name} "
        f"{verb} wrong, {shown}{ratios}; the others are right{_as_far(group)}.",
        "Look for what writes to single elements of the gradient, or for a special case there.",
    )


def lines(group: Group, evidence: Evidence) -> Words:
    """Say which rows or columns are wrong."""
    figures = group.first.figures
    parts = [
        f"{_numbered(axis_word(f.shape, h.figures['axis']), h.figures['lines'])} of {f.name}"
        for f, h in group.members
    ]
    factor: Factor | None = figures["factor"]
    how = "wrong"
    if factor is not None:
        how = f"{factor.value:#.4g} × the numerical gradient" if factor.value else "zero"
    single = len(parts) == 1 and len(figures["lines"]) == 1
    only = f"Only {listed(parts)} {'is' if single else 'are'} {how}"
    seen = f"{only}; the rest is right{_as_far(group)}."
    if factor is not None and factor.value == 0:
        return seen, (
            "Nothing flows back there: a mask is too large (dead units or dropout that the forward "
            f"pass does not have), or {'it is' if single else 'they are'} never filled."
        )
    return (
        seen,
        "Look for what treats these differently: a mask, a slice, or a loop that ends early.",
    )


def _as_far(group: Group) -> str:
    """Say that nothing is known of some of the rest, where that is so."""
    dim = any(hypothesis.figures["dim"] for _, hypothesis in group.members)
    return ", where it can be told from zero" if dim else ""


def _ratio_text(factor: Factor | None) -> str:
    if factor is None or not math.isfinite(factor.value):
        return ""
    if factor.value == 0:
        return " (zero)"
    return f" ({factor.value:#.4g} × the numerical gradient)"


def _numbered(line: str, numbers: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, numbers[:6])) + (", …" if len(numbers) > 6 else "")
    return f"{line}{'s' if len(numbers) > 1 else ''} {shown}"
