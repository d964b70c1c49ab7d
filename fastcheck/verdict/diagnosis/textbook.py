"""Mistakes beside a small constant left out: seen from the gradient that the textbook has.

Where a backward pass leaves out the ε of a logarithm, nothing else that is wrong with it is exact
to the last digits, unless it is held against the gradient of the loss without ε.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from fastcheck.report.data import Diagnosis
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts
from fastcheck.verdict.diagnosis.unguarded import Unguarded, unguarded

_LITTLE = 1e-4
"""Of the gradient: where ε counts for more, it is a mistake itself."""
_MOST_TRIED = 3


def without_guards(evidence: Evidence) -> Iterator[tuple[Unguarded, Evidence]]:
    """Yield the same evidence with the gradient of the loss without its guards, of all first."""
    yield from _held_against(evidence, lambda share: share <= _LITTLE)


def beside_guards(evidence: Evidence) -> Iterator[tuple[Unguarded, Evidence]]:
    """Yield it where these guards are a mistake themselves, and some tensors have no other."""
    for other, again in _held_against(evidence, lambda share: share > 0):
        tensors = tuple(_judged_again(facts, before) for facts, before in _pairs(again, evidence))
        failing = [facts for facts in tensors if facts.failed]
        if failing and len(failing) < len(evidence.failing):
            yield other, replace(again, tensors=tensors)


def _pairs(again: Evidence, evidence: Evidence) -> Iterator[tuple[TensorFacts, TensorFacts]]:
    return zip(again.tensors, evidence.tensors, strict=True)


def _judged_again(facts: TensorFacts, before: TensorFacts) -> TensorFacts:
    """Return a tensor that fails only if it differs from what it is now held against."""
    wrong = bool(facts.wrong.any() or not facts.finite)
    if wrong or not before.failed:
        return facts
    return replace(facts, failed=False, passed=True)


def _held_against(
    evidence: Evidence, is_meant: Callable[[float], bool]
) -> Iterator[tuple[Unguarded, Evidence]]:
    if evidence.graph is None:
        return
    found = [one for one in unguarded(evidence.graph) if one.way == 0 and is_meant(one.whole())]
    for other in sorted(found, key=lambda one: -len(one.lines))[:_MOST_TRIED]:
        tensors = []
        for facts in evidence.tensors:
            shift = other.shift.get(facts.name)
            if shift is None:
                tensors.append(facts)
                continue
            values = facts.numeric + shift[facts.indices] / evidence.unit
            tensors.append(replace(facts, numeric=values))
        before = [np.isfinite(facts.numeric) for facts in evidence.tensors]
        after = [np.isfinite(facts.numeric) for facts in tensors]
        if all(map(np.array_equal, before, after)):
            yield other, replace(evidence, tensors=tuple(tensors), graph=other.graph)


def said_of(diagnosis: Diagnosis, other: Unguarded) -> Diagnosis:
    """Return a diagnosis that says which gradient it was held against."""
    beside = (
        f"(Held against the gradient of the loss without {other.said}, {other.whole():.1e} from "
        "that of the loss as it is.)"
    )
    findings = (replace(f, explanation=f"{f.explanation} {beside}") for f in diagnosis.findings)
    return Diagnosis(tuple(findings))
