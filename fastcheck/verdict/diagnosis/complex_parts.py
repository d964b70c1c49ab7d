"""A complex tensor, taken apart into its real and imaginary parts.

Each part has a gradient of the user's shape, as two real tensors would have: rows, columns and
transposes mean what they mean there, and elements have names that the user can type, W.imag[3, 17].
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.params.complex_parts import PARTS
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts


def by_parts(evidence: Evidence, names: Collection[str]) -> Evidence:
    """Return the evidence with two tensors in place of each of the complex ones, by name."""
    tensors: list[TensorFacts] = []
    previous: dict[str, FloatArray] = dict(evidence.previous or {})
    samples: dict[str, FloatArray] = dict(evidence.samples or {})
    for facts in evidence.tensors:
        if facts.name not in names:
            tensors.append(facts)
            continue
        for number, part in enumerate(PARTS):
            places = np.flatnonzero(facts.indices % len(PARTS) == number)
            if not len(places):
                continue
            one = _part(facts, f"{facts.name}.{part}", places)
            tensors.append(one)
            if evidence.previous is not None:
                previous[one.name] = previous[facts.name][places]
            if evidence.samples is not None:
                samples[one.name] = samples[facts.name][:, places]
    return replace(
        evidence,
        tensors=tuple(tensors),
        previous=None if evidence.previous is None else previous,
        samples=None if evidence.samples is None else samples,
    )


def _part(facts: TensorFacts, name: str, places: IndexArray) -> TensorFacts:
    part = replace(
        facts,
        name=name,
        owner=facts.name,
        shape=facts.shape[:-1],
        analytic=facts.analytic[places],
        numeric=facts.numeric[places],
        bars=facts.bars[places],
        theta=facts.theta[places],
        indices=facts.indices[places] // len(PARTS),
        size=facts.size // len(PARTS),
    )
    # Where no element stands out, the whole is what is wrong, and so is each of its parts.
    local = bool(facts.wrong.any() or not facts.finite)
    wrong = bool(part.wrong.any() or not np.isfinite(part.analytic).all()) if local else part.alive
    failed = facts.failed and wrong
    return replace(part, failed=failed, passed=facts.passed or (facts.failed and not wrong))
