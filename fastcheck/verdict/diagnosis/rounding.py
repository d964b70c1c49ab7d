"""What rounding leaves of gradients that are right but for a mistake.

p − y of an all but certain softmax is rounding and little else, in float32 above all, and so is all
that flows back from it. A verdict needs to know that only where rounding may be what is wrong; a
diagnosis needs it in every tensor, or a mistake that is plain to see fits none to the last digit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts

_SEED = 0
"""The same gradients get the same diagnosis."""


def is_rough(evidence: Evidence) -> bool:
    """Whether error bars are wider than the tolerance, as they are where rounding is in them."""
    return any(
        float(np.linalg.norm(facts.bars)) > facts.tolerance.rtol * max(facts.sizes)
        for facts in evidence.failing
    )


def with_rounding(evidence: Evidence) -> Evidence:
    """Return the evidence with error bars that allow for it in all that fails.

    It is tried out on the traced loss; without a trace nobody knows.
    """
    if evidence.graph is None:
        return evidence
    # Most diagnoses do not need it.
    from fastcheck.verdict.gradient_rounding import gradient_rounding

    unit = max(facts.tolerance.unit for facts in evidence.tensors)
    found = gradient_rounding(evidence.graph, unit, np.random.default_rng(_SEED))
    failing = set(evidence.failing)
    return replace(
        evidence,
        tensors=tuple(
            _widened(facts, found[facts.name] / evidence.unit)
            if facts in failing and facts.name in found
            else facts
            for facts in evidence.tensors
        ),
    )


def _widened(facts: TensorFacts, moved: FloatArray) -> TensorFacts:
    rounding = moved[facts.indices]
    if not np.isfinite(rounding).all():
        return facts
    # Bars that the verdict widened have it in them.
    return replace(facts, bars=np.maximum(facts.bars, rounding), rounding=rounding)
