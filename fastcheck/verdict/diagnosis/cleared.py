"""What right gradients show of what flows back to wrong ones, by the ways of the forward pass.

A right gradient of b in ``z = W @ x + b`` shows that what flows back to z is right, as far as its
sum over the samples tells. That says something of W only because all that W does to the loss goes
through z, and only if nothing but sums lies between: behind a norm, or on another branch, it shows
nothing of what flows back there.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.primitives import (
    BROADCAST,
    CAST,
    CONCATENATE,
    INDEX,
    RESHAPE,
    TRANSPOSE,
    elementwise,
)
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.terms import without_data
from fastcheck.verdict.diagnosis.uses import is_layer

_SHAPING = (RESHAPE, TRANSPOSE, CAST, INDEX, BROADCAST)
_ADDING = (*_SHAPING, CONCATENATE, *map(elementwise, (np.add, np.subtract, np.negative)))

Users = dict[Node, list[tuple[Node, int]]]


@dataclass(frozen=True, eq=False)
class Cleared:
    """Right tensors that all ways from wrong ones to the loss lead past.

    Attributes
    ----------
    by : tuple of TensorFacts
        The right ones that are nearest.
    between : tuple of Node
        The operations other than sums that lie between, in order; none where what flows back to
        both is the same.
    """

    by: Tensors
    between: tuple[Node, ...]

    @property
    def direct(self) -> bool:
        """Whether nothing but sums lies between."""
        return not self.between


def cleared(evidence: Evidence, wrong: Tensors) -> Cleared | None:
    """Return which right tensors show what flows back to wrong ones; None where none does."""
    if evidence.graph is None or evidence.graph.output is None or not wrong:
        return None
    with suppress(Exception):  # a trace may hold anything
        return _cleared(evidence, evidence.graph, wrong)
    return None


def _cleared(evidence: Evidence, graph: Graph, wrong: Tensors) -> Cleared | None:
    users, free = _users(graph), without_data(graph)
    each = {
        facts: _entries(graph.parameters[facts.name], users, free)
        for facts in (*wrong, *evidence.right)
    }
    if not all(each[facts] for facts in wrong):
        return None
    starts = {node for facts in wrong for node in each[facts]}
    found: list[tuple[TensorFacts, tuple[Node, ...]]] = []
    for facts in evidence.right:
        between = _between(graph, users, starts, each[facts])
        if between is not None:
            found.append((facts, between))
    if not found:
        return None
    nearest = min((between for _, between in found), key=len)
    return Cleared(tuple(facts for facts, between in found if between == nearest), nearest)


def _users(graph: Graph) -> Users:
    users: Users = {}
    for node in graph:
        for place, operand in enumerate(node.operands):
            if not operand.constant:
                users.setdefault(operand, []).append((node, place))
    return users


def _entries(tensor: Node, users: Users, free: set[Node]) -> set[Node]:
    """Return the operations that take a tensor, or what is made of it alone, together with data.

    A penalty comes to the loss without any.
    """
    found: set[Node] = set()
    seen, ahead = {tensor}, [tensor]
    while ahead:
        for user, place in users.get(ahead.pop(), []):
            if user in seen:
                continue
            seen.add(user)
            if user.primitive in _SHAPING or user in free:
                ahead.append(user)
            elif is_layer(user, place) and (user.value.size > 1 or user.primitive not in _ADDING):
                found.add(user)
    return found


def _between(
    graph: Graph, users: Users, starts: set[Node], entries: set[Node]
) -> tuple[Node, ...] | None:
    """Return what lies between some operations and others; None where a way leads past these."""
    same = _of_same_flow(users, entries)
    passed: set[Node] = set()
    ahead = list(starts)
    while ahead:
        node = ahead.pop()
        if node in passed:
            continue
        passed.add(node)
        if node in same:
            continue
        if node is graph.output:
            return None
        ahead += [user for user, _ in users.get(node, [])]
    if not passed & same:
        return None
    inner = (node for node in passed if node not in starts and node.primitive not in _ADDING)
    return tuple(sorted(inner, key=lambda node: node.index))


def _of_same_flow(users: Users, entries: Iterable[Node]) -> set[Node]:
    """Return operations, and what is no more than their results with something added."""
    same = set(entries)
    ahead = list(same)
    while ahead:
        onward = users.get(ahead.pop(), [])
        if len(onward) == 1 and onward[0][0].primitive in _ADDING and onward[0][0] not in same:
            same.add(onward[0][0])
            ahead.append(onward[0][0])
    return same
