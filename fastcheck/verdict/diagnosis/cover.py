"""Choosing among hypotheses: the fewest and simplest that explain every failing tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastcheck.verdict.diagnosis.evidence import TensorFacts, Tensors
from fastcheck.verdict.diagnosis.hypothesis import Fit, Hypothesis, fit

_TIED = 0.3
_A_TENSOR = 0.05
_SPARE = 2
_DESCRIPTIVE = ("one-element", "one-row")

Tried = list[tuple[TensorFacts, Hypothesis, Fit]]


@dataclass(frozen=True, eq=False)
class Group:
    """One mistake: the same hypothesis on one tensor or several.

    Attributes
    ----------
    members : tuple of (TensorFacts, Hypothesis)
    alternatives : tuple of Group
        Other mistakes that explain the same tensors as well.
    """

    members: tuple[tuple[TensorFacts, Hypothesis], ...]
    alternatives: tuple[Group, ...] = ()

    @property
    def facts(self) -> tuple[TensorFacts, ...]:
        return tuple(facts for facts, _ in self.members)

    @property
    def first(self) -> Hypothesis:
        return self.members[0][1]

    @property
    def cause(self) -> str:
        return self.first.cause

    @property
    def complexity(self) -> float:
        return max(hypothesis.complexity for _, hypothesis in self.members)

    @property
    def descriptive(self) -> bool:
        """Whether it says where the gradient is wrong, but not why."""
        return self.cause in _DESCRIPTIVE


def try_all(tensors: Tensors, hypotheses: Mapping[str, list[Hypothesis]]) -> Tried:
    """Hold hypotheses against their tensors; none that is less simple than one that fits."""
    tried: Tried = []
    for facts in tensors:
        simplest = math.inf
        for hypothesis in hypotheses.get(facts.name, []):
            if hypothesis.complexity > simplest + _TIED and hypothesis.cause not in _DESCRIPTIVE:
                continue
            result = fit(facts, hypothesis)
            tried.append((facts, hypothesis, result))
            if result.exact and not hypothesis.free:
                simplest = min(simplest, hypothesis.complexity)
    return tried


def groups_of(tried: Tried) -> list[Group]:
    """Return the mistakes that explain at least one tensor exactly.

    Numbers that were fitted need elements to spare, or they would explain anything.
    """
    by_key: dict[Any, Tried] = {}
    for facts, hypothesis, result in tried:
        if result.exact:
            by_key.setdefault(hypothesis.key, []).append((facts, hypothesis, result))
    groups = []
    for members in by_key.values():
        once = {facts.name: (facts, hypothesis, result) for facts, hypothesis, result in members}
        known = sum(result.telling for _, _, result in once.values())
        free = max(hypothesis.free for _, hypothesis, _ in once.values())
        if known >= (free + _SPARE if free else 1):
            groups.append(Group(tuple((facts, hyp) for facts, hyp, _ in once.values())))
    return groups


def cover(groups: list[Group]) -> list[Group]:
    """Return mistakes that together explain all that any explains, the widest and simplest first.

    Of two that explain the same, the simpler; where neither is much simpler, both are named.
    """
    chosen: list[Group] = []
    covered: set[TensorFacts] = set()
    while True:
        best, best_cost = None, float("inf")
        for group in groups:
            new = [facts for facts in group.facts if facts not in covered]
            if new and (cost := group.complexity / len(new) + _A_TENSOR) < best_cost:
                best, best_cost = group, cost
        if best is None:
            return chosen
        new_facts = [facts for facts in best.facts if facts not in covered]
        rivals = [
            group
            for group in groups
            if group is not best
            and group.cause != best.cause
            and not group.descriptive
            and set(new_facts) <= set(group.facts)
            and group.complexity <= best.complexity + _TIED
        ]
        members = tuple((facts, hyp) for facts, hyp in best.members if facts not in covered)
        chosen.append(Group(members, _one_of_each(rivals)))
        covered.update(new_facts)


def _one_of_each(rivals: list[Group]) -> tuple[Group, ...]:
    first: dict[str, Group] = {}
    for group in sorted(rivals, key=lambda group: group.complexity):
        first.setdefault(group.cause, group)
    return tuple(first.values())


def nearest_miss(tried: Tried, facts: TensorFacts) -> tuple[Hypothesis, float] | None:
    """Return the hypothesis that leaves least of a tensor's error unexplained, and how much."""
    misses = [
        (hypothesis, result.residual)
        for candidate, hypothesis, result in tried
        if candidate is facts
        and not result.exact
        and hypothesis.cause not in _DESCRIPTIVE
        and result.telling > hypothesis.free + _SPARE
    ]
    # Two fitted numbers always leave a little less than one.
    return min(misses, key=lambda miss: miss[1] * 10 ** miss[0].complexity, default=None)
