"""Gradients of complex tensors by the other convention: the complex conjugate, or half of it."""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import ALL, Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis

_FACTORS = (1.0, 0.5)
"""2·∂J/∂z, the conjugate of 2·∂J/∂z̄; and ∂J/∂z itself."""


def conjugates(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for both parts of each complex tensor: g = α·conj(n).

    The real part shows that it is no change of sign.
    """
    parts = {facts.name: facts for facts in evidence.tensors if facts.owner}
    found: dict[str, list[Hypothesis]] = {}
    for facts in tensors:
        real = parts.get(f"{facts.owner}.real")
        imag = parts.get(f"{facts.owner}.imag")
        if real is None or imag is None or facts not in (real, imag):
            continue
        sign = 1.0 if facts is real else -1.0
        found[facts.name] = [
            _conjugate(facts, sign * factor, factor)
            for factor in _FACTORS
            if real.alive and _fits(real, factor) and _fits(imag, -factor)
        ]
    return found


def _conjugate(facts: TensorFacts, factor: float, of_both: float) -> Hypothesis:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        return factor * facts.numeric[places], facts.bars[places]

    return Hypothesis(
        "conjugate",
        ("conjugate", of_both),
        0.4 if of_both == 1 else 0.5,
        predict,
        figures={"times": of_both},
    )


def _fits(facts: TensorFacts, factor: float) -> bool:
    """Whether a part is everywhere so many times the numerical one."""
    predicted = factor * facts.numeric
    room = facts.allowed(ALL, predicted, facts.bars)
    return bool(np.all(np.abs(facts.analytic - predicted)[facts.usable] <= room[facts.usable]))
