"""Choosing among hypotheses: the fewest and simplest that explain every failing tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastcheck.verdict.diagnosis.evidence import TensorFacts, Tensors
from fastcheck.verdict.diagnosis.hypothesis import Fit, Hypothesis, fit

_TIED = 0.3
_A_MISTAKE = 0.5
"""One mistake that explains two tensors is likelier than two, even where these are simpler."""
_A_TENSOR = 0.05
_SPARE = 2
_DIGITS = 5
"""So many digits must agree in all: fewer do so by chance, as many hypotheses are tried."""
_DESCRIPTIVE = ("one-element", "one-row")
_OF_FLOW = (
    *("missing-mask", "activation-derivative", "constant-left-out"),
    *("missing-path", "path-twice", "weights-not-transposed"),
)
_OF_NOTHING = ("zero", "unused", "perturbation-lost", "aliased-buffer")
"""Causes that zeros show, or arrays equal to the last digit: of all others something is seen."""
_SAID = {
    **dict.fromkeys(("missing-l2", "missing-l1", "zero"), ("missing-path",)),
    "conjugate": ("sign", "scale"),
    "extra-l2": ("path-twice",),
    "clipped": ("scale", "missing-mean", "constant-left-out"),
    "sign": ("constant-left-out", "activation-derivative"),
    **dict.fromkeys(("scale", "missing-mean"), ("constant-left-out", "missing-path", "path-twice")),
}
"""Causes that say no more than another one that fits does, and less clearly."""

Tried = list[tuple[TensorFacts, Hypothesis, Fit]]


@dataclass(frozen=True, eq=False)
class Group:
    """One mistake: the same hypothesis on one tensor or several.

    Attributes
    ----------
    members : tuple of (TensorFacts, Hypothesis)
    alternatives : tuple of Group
        Other mistakes that explain the same tensors as well.
    alike : tuple of Group
        The same mistake with another sample, of which no figure tells which one it is.
    """

    members: tuple[tuple[TensorFacts, Hypothesis], ...]
    alternatives: tuple[Group, ...] = ()
    alike: tuple[Group, ...] = ()

    def in_order(self, tensors: Tensors) -> Group:
        """Return the same mistake with its tensors in the order of others."""
        members = sorted(self.members, key=lambda member: tensors.index(member[0]))
        return replace(self, members=tuple(members))

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

    @property
    def of_flow(self) -> bool:
        """Whether it spoils what flows back to a layer, and so everything in it."""
        return self.cause in _OF_FLOW

    @property
    def unnamed(self) -> bool:
        """Whether it is a constant factor that tells no cause: whatever follows has one too."""
        return any(hypothesis.plain and hypothesis.free for _, hypothesis in self.members)

    @property
    def thin(self) -> bool:
        """Whether it is shown by zeros that elements left out would show as well."""
        return all(hypothesis.figures.get("thin", False) for _, hypothesis in self.members)

    @property
    def telling(self) -> bool:
        """Whether it says more than where the gradient is wrong, and takes one mistake for it."""
        factor = self.first.figures.get("factor")
        if self.descriptive:
            return factor is not None
        return self.first.plain or factor is None or factor.value == 1


def try_all(tensors: Tensors, hypotheses: Mapping[str, list[Hypothesis]]) -> Tried:
    """Hold hypotheses against their tensors."""
    return [
        (facts, hypothesis, fit(facts, hypothesis))
        for facts in tensors
        for hypothesis in hypotheses.get(facts.name, [])
    ]


def without_disguised(tried: Tried) -> Tried:
    """Return what was tried, less certain of fitted mistakes that look like a constant factor.

    Late in training the step before, say, is nearly parallel to this one's gradient: what is added
    of it is then no other thing, within the error, than a factor. One that fits all tensors of a
    mistake takes no more fitted numbers than that does.
    """
    factors: dict[TensorFacts, set[Any]] = {}
    for facts, hypothesis, result in tried:
        if result.inside and hypothesis.plain and hypothesis.free:
            factors.setdefault(facts, set()).add(hypothesis.key)
    disguised: set[Any] = set()
    for members in _by_key([one for one in tried if one[1].free and one[2].possible]):
        shared = set.intersection(*(factors.get(facts, set()) for facts, _, _ in members))
        if shared and not members[0][1].plain:
            disguised.add(members[0][1].key)
    return [
        (f, h, replace(result, exact=False, possible=False) if h.key in disguised else result)
        for f, h, result in tried
    ]


def groups_of(tried: Tried) -> list[Group]:
    """Return the mistakes that explain at least one tensor exactly.

    Numbers that were fitted need elements to spare, or they would explain anything.
    """
    groups = []
    for members in _by_key([one for one in tried if one[2].exact]):
        known = sum(result.telling for _, _, result in members)
        free = max(hypothesis.free for _, hypothesis, _ in members)
        digits = sum(result.digits[0] for _, _, result in members)
        used = free * max(result.digits[1] for _, _, result in members)
        visible = any(h.cause in _OF_NOTHING or result.visible for _, h, result in members)
        if visible and known >= (free + _SPARE if free else 1) and digits - used >= _DIGITS:
            groups.append(_group(members))
    return groups


def possible_groups(tried: Tried) -> list[Group]:
    """Return the mistakes that no figure contradicts, though none may prove them."""
    possible = [one for one in tried if one[2].possible]
    return [_group(members) for members in _by_key(possible)]


def _by_key(tried: Tried) -> list[Tried]:
    by_key: dict[Any, dict[str, tuple[TensorFacts, Hypothesis, Fit]]] = {}
    for facts, hypothesis, result in tried:
        by_key.setdefault(hypothesis.key, {})[facts.name] = (facts, hypothesis, result)
    return [list(members.values()) for members in by_key.values()]


def _group(members: Tried) -> Group:
    return Group(tuple((facts, hypothesis) for facts, hypothesis, _ in members))


def cover(groups: list[Group], possible: list[Group]) -> list[Group]:
    """Return mistakes that together explain all that any explains, the widest and simplest first.

    Of two that explain the same, the simpler comes first, and the other is named beside it; so is
    what explains it no less simply, and is only not proven.
    """
    chosen: list[Group] = []
    covered: set[TensorFacts] = set()
    while True:
        best, best_cost = None, float("inf")
        for group in groups:
            new = [facts for facts in group.facts if facts not in covered]
            if new and (cost := _cost(group, len(new))) < best_cost:
                best, best_cost = group, cost
        if best is None:
            return chosen
        new_facts = [facts for facts in best.facts if facts not in covered]
        rivals = [
            group
            for group in (*groups, *(other for other in possible if _may_be(other, best)))
            if _is_rival(group, best) and set(new_facts) <= set(group.facts)
        ]
        members = tuple((facts, hyp) for facts, hyp in best.members if facts not in covered)
        alike = [
            group
            for group in groups
            if group is not best and _is_alike(group, best) and set(new_facts) <= set(group.facts)
        ]
        chosen.append(Group(members, _one_of_each(rivals), tuple(alike)))
        covered.update(new_facts)


def _is_rival(group: Group, best: Group) -> bool:
    said = (best.cause, *_SAID.get(best.cause, ()))
    return group.telling and group.cause not in said


def _is_alike(group: Group, best: Group) -> bool:
    """Whether two mistakes differ in the sample only."""
    one, other = group.first.figures, best.first.figures
    return (
        group.cause == best.cause
        and "sample" in one
        and "sample" in other
        and {**one, "sample": other["sample"]} == other
    )


def _may_be(group: Group, best: Group) -> bool:
    """Whether what is not proven is to be named beside a mistake, which it may be as well."""
    fitted = any(hypothesis.free for _, hypothesis in group.members)
    return tied(best, group) and (best.descriptive or not fitted)


def _cost(group: Group, explained: int) -> float:
    return (_A_MISTAKE + group.complexity) / explained + _A_TENSOR


def tied(best: Group, other: Group) -> bool:
    """Whether neither of two mistakes is much simpler than the other."""
    return other.complexity <= best.complexity + _TIED


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
