"""Gradients of the loss without a small constant that keeps a logarithm or division from zero."""

from __future__ import annotations

import numpy as np

from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, fit
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass
from fastcheck.verdict.diagnosis.unguarded import unguarded

_ONE_LINE, _EACH_MORE = 0.9, 0.1


def guards(passed: RightPass, found: Found) -> None:
    """The ε inside a logarithm, root or division is left out of its derivative."""
    unit = passed.evidence.unit
    for other in unguarded(passed.graph):
        complexity = _ONE_LINE + _EACH_MORE * (len(other.lines) - 1)
        for facts in passed.unexplained:
            change = other.shift[facts.name][facts.indices] / unit
            if not np.isfinite(change).all() or not change.any():
                continue
            share = float(np.linalg.norm(change)) / max(facts.sizes)
            hypothesis = Hypothesis(
                "epsilon",
                ("epsilon", other.lines, other.way),
                complexity,
                passed.changed(facts, change),
                figures={"said": other.said, "share": share, "way": other.way},
            )
            if fit(facts, hypothesis).exact:
                found[facts.name].append(hypothesis)
