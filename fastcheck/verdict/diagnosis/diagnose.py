"""From failing gradients to findings: what fits exactly is named, the rest is located."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np

from fastcheck.report.data import Diagnosis, Finding
from fastcheck.trace.patience import at_most, is_lost
from fastcheck.verdict.diagnosis.cleared import cleared
from fastcheck.verdict.diagnosis.cover import (
    Group,
    Tried,
    cover,
    groups_of,
    nearest_miss,
    possible_groups,
    try_all,
    without_disguised,
)
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts, Tensors, in_report
from fastcheck.verdict.diagnosis.families.clipped import clipped
from fastcheck.verdict.diagnosis.families.conjugate import conjugates
from fastcheck.verdict.diagnosis.families.few import few
from fastcheck.verdict.diagnosis.families.forward_pass import forward_pass
from fastcheck.verdict.diagnosis.families.layout import layouts
from fastcheck.verdict.diagnosis.families.others import other_arrays
from fastcheck.verdict.diagnosis.families.penalty import penalties
from fastcheck.verdict.diagnosis.families.samples import samples
from fastcheck.verdict.diagnosis.families.scale import scales
from fastcheck.verdict.diagnosis.families.tied import tied
from fastcheck.verdict.diagnosis.naming import subject_is
from fastcheck.verdict.diagnosis.parts import take_apart
from fastcheck.verdict.diagnosis.rounding import is_rough, with_rounding
from fastcheck.verdict.diagnosis.sentences import doubtful_finding, exact_finding, partly_finding
from fastcheck.verdict.diagnosis.textbook import beside_guards, said_of, without_guards
from fastcheck.verdict.diagnosis.where_sentences import where_finding

_FAMILIES = (
    scales,
    clipped,
    tied,
    conjugates,
    other_arrays,
    penalties,
    layouts,
    samples,
    few,
    forward_pass,
)
"""Families, from the quick to the costly."""

_NOT_ALL_TRIED = (
    "Other mistakes may fit as well or better: the loss is made of so many operations that to try "
    "them all would have taken much longer than the check."
)
_GUARD = "epsilon"
_MOSTLY = 0.1
_MOST_DESCRIPTIVE = 2


def diagnose(evidence: Evidence, seconds: float = math.inf) -> Diagnosis | None:
    """Return what is wrong with the failing gradients; None if there is nothing to explain.

    A mistake is named only if it predicts every element of the tensors that it is said of. Where
    none does, the finding says which layer goes wrong first, seen from the loss. What is not known
    after so many `seconds` is given up, and then nothing is certain.
    """
    # Gradients may be as large or small as floats go; what overflows fits nothing.
    with np.errstate(all="ignore"), at_most(seconds) as patience:
        evidence, allowed_for = take_apart(evidence), False
        with suppress(Exception):  # a trace may hold anything
            if is_rough(evidence):
                evidence, allowed_for = with_rounding(evidence), True
        found = _diagnosis(evidence)
        if found is None or _is_exact(found) or patience.lost:
            return found
        with suppress(Exception):  # what is known already must not be lost for it
            again = None if allowed_for else _diagnosis(with_rounding(evidence))
            if again is not None and _is_exact(again):
                return again
        with suppress(Exception):
            for other, held_against in without_guards(evidence):
                again = _diagnosis(held_against)
                if again is not None and _is_exact(again):
                    return said_of(again, other)
            return _beside(found, evidence)
        return found


def _beside(found: Diagnosis, evidence: Evidence) -> Diagnosis:
    """Return what is wrong besides a small constant left out, if that is known then."""
    known = tuple(f for f in found.findings if f.cause == _GUARD and f.certainty == "exact")
    if not known:
        return found
    for other, held_against in beside_guards(evidence):
        again = _diagnosis(held_against)
        if again is not None and _is_exact(again):
            rest = said_of(again, other).findings
            named = {name for finding in (*known, *rest) for name in finding.tensors}
            if named >= set(in_report(evidence.failing)):
                return Diagnosis((*known, *rest))
    return found


def _is_exact(diagnosis: Diagnosis) -> bool:
    return all(finding.certainty == "exact" for finding in diagnosis.findings)


def _diagnosis(evidence: Evidence) -> Diagnosis | None:
    not_finite = tuple(f for f in evidence.failing if not np.isfinite(f.analytic).all())
    if not_finite:
        return Diagnosis((_not_finite(not_finite),))
    if not evidence.failing:
        return None
    tried: Tried = []
    # All are asked, also of what one explains: what fits as well must be said beside it.
    for family in _FAMILIES:
        tried += try_all(evidence.failing, family(evidence, evidence.failing))
    tried = without_disguised(tried)
    rest = _without_reason(evidence, groups_of(tried))
    if rest and len(rest) < len(evidence.failing):
        # Two mistakes: what one does not explain may come from one place of the backward pass.
        tried += try_all(rest, forward_pass(evidence, rest))
    chosen = _trusted(cover(groups_of(tried), possible_groups(tried)), evidence)
    explained = {facts for group in chosen for facts in group.facts}
    rest = tuple(facts for facts in evidence.failing if facts not in explained)
    findings = []
    if rest:
        near, left = _nearly(rest, tried)
        if near is None:
            findings.append((_depth(rest), where_finding(evidence, rest)))
        else:
            # What is exact in some tensors and nearly so in others is one thing, and not exact.
            alike = [group for group in chosen if group.first.key == near.first.key]
            chosen = [group for group in chosen if group not in alike]
            whole = Group((*(m for group in alike for m in group.members), *near.members))
            findings.append((_depth(whole.facts), partly_finding(whole, left, evidence)))
    doubtful = _doubtful(rest, evidence)
    for group in chosen:
        depth = _depth(group.facts)
        others = [other for other in chosen if other is not group]
        sure = depth < doubtful and not _is_contradicted(group, others, evidence)
        said = exact_finding if sure else doubtful_finding
        findings.append((depth, said(group.in_order(evidence.tensors), evidence)))
    in_order = (finding for _, finding in sorted(findings, key=lambda found: found[0]))
    return Diagnosis(tuple(map(_unsure, in_order) if is_lost() else in_order))


def _unsure(finding: Finding) -> Finding:
    """Return a finding that nothing else was held against, as there was no time for it."""
    certainty = "partly" if finding.certainty == "exact" else finding.certainty
    said = f"{finding.explanation} {_NOT_ALL_TRIED}".lstrip()
    return replace(finding, certainty=certainty, explanation=said)


def _depth(tensors: tuple[TensorFacts, ...]) -> int:
    return min(facts.depth for facts in tensors)


def _is_contradicted(group: Group, others: list[Group], evidence: Evidence) -> bool:
    """Whether what else is wrong may be the reason for what a mistake seems to be.

    A factor that tells no cause, nearer to the loss, has one that reaches further. And a bias sums
    up what flows back to its layer: where that is said to be wrong, the bias is so in the same way.
    """
    depth = _depth(group.facts)
    if any(_doubtful(other.facts, evidence) < depth for other in others if other.unnamed):
        return True
    beside = (f for f in evidence.failing if f.depth == depth and f not in group.facts)
    return group.of_flow and any(facts.is_bias for facts in beside)


def _without_reason(evidence: Evidence, groups: list[Group]) -> Tensors:
    """Return the failing tensors for which nothing yet says why."""
    known = {facts for group in groups if not group.descriptive for facts in group.facts}
    return tuple(facts for facts in evidence.failing if facts not in known)


def _doubtful(rest: Tensors, evidence: Evidence) -> float:
    """Return the depth from which on mistakes may be no more than what follows from another.

    Where something is wrong that nothing explains, so may be what flows back from there: a bias
    that is right shows that it is not.
    """
    return min((f.depth for f in rest if not _flow_is_right(evidence, f)), default=math.inf)


def _flow_is_right(evidence: Evidence, facts: TensorFacts) -> bool:
    if evidence.graph is None:
        return any(f.is_bias and f.depth == facts.depth for f in evidence.right)
    shown = cleared(evidence, (facts,))
    return shown is not None and shown.direct and any(f.is_bias for f in shown.by)


def _trusted(chosen: list[Group], evidence: Evidence) -> list[Group]:
    """Return the mistakes without those that only say where, unless these are all that is wrong.

    What is wrong in few places only may follow from what is wrong elsewhere, and so may zeros.
    """
    if any(not group.descriptive and not group.thin for group in chosen):
        chosen = [group for group in chosen if not group.thin]
    explained = {facts for group in chosen for facts in group.facts}
    descriptive = [group for group in chosen if group.descriptive]
    if len(explained) == len(evidence.failing) and len(descriptive) <= _MOST_DESCRIPTIVE:
        return chosen
    return [group for group in chosen if not group.descriptive]


def _nearly(rest: Tensors, tried: Tried) -> tuple[Group | None, float]:
    """Return the one mistake that nearly explains all of the rest, and what it leaves, if any."""
    misses = [nearest_miss(tried, facts) for facts in rest]
    near = [miss for miss in misses if miss is not None and miss[1] < _MOSTLY]
    if len(near) < len(rest) or len({hypothesis.cause for hypothesis, _ in near}) > 1:
        return None, 1.0
    members = tuple((f, hypothesis) for f, (hypothesis, _) in zip(rest, near, strict=True))
    return Group(members), max(residual for _, residual in near)


def _not_finite(tensors: tuple[TensorFacts, ...]) -> Finding:
    depth = _depth(tensors)
    nearest = [facts.name for facts in tensors if facts.depth == depth]
    return Finding(
        cause="not-finite",
        certainty="exact",
        tensors=in_report(tensors),
        evidence=f"{subject_is(nearest)} NaN or infinite in places, "
        "and nothing nearer to the loss is.",
        explanation="Look for 0/0, log(0) or an overflow where that layer's gradient is computed.",
    )
