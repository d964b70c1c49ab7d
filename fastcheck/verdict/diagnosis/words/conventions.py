"""Gradients that are right by another convention."""

from __future__ import annotations

from fastcheck.verdict.diagnosis.cover import Group
from fastcheck.verdict.diagnosis.evidence import Evidence, in_report
from fastcheck.verdict.diagnosis.naming import Words, subject_is


def conjugate(group: Group, evidence: Evidence) -> Words:
    """Say that the gradient is the complex conjugate, and which conventions there are."""
    half = group.first.figures["times"] != 1
    return (
        f"{subject_is(in_report(group.facts))} {'half ' if half else ''}the complex conjugate of "
        "the numerical one in every element: conventions.",
        "Here a gradient is ∂J/∂Re + i·∂J/∂Im, the direction of steepest ascent (`.grad` in "
        "PyTorch, 2·∂J/∂z̄); "
        + (
            "this one is ∂J/∂z. Conjugate and double it."
            if half
            else "this one is 2·∂J/∂z, which `jax.grad` returns. Conjugate it (np.conj)."
        ),
    )
