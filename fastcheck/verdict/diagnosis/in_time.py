"""Whether operations of a forward pass are steps in time: the same tensor goes in at every step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT
from fastcheck.verdict.diagnosis.right_pass import RightPass
from fastcheck.verdict.diagnosis.uses import Use, uses_of


def is_through_time(passed: RightPass, states: Sequence[Node]) -> bool:
    """Whether between each of these and the next one a tensor goes in, each time in the same way.

    Operations of one line may well lead to each other in a network without time, where every layer
    has tensors of its own.
    """
    order = sorted(set(states), key=lambda node: node.index)
    if len(order) < 2:
        return False
    above = [_leading_to(node) for node in order]
    if any(one not in leads for one, leads in zip(order[:-1], above[1:], strict=True)):
        return False
    between = [then - before for before, then in pairwise(above)]
    for name in sorted(passed.reused):
        ways: dict[Any, set[Node]] = {}
        for use in uses_of(passed, name):
            ways.setdefault(_manner(use), set()).add(use.node)
        if any(
            len(nodes) > 1 and nodes & above[0] and all(nodes & step for step in between)
            for nodes in ways.values()
        ):
            return True
    return False


def _manner(use: Use) -> tuple[Any, ...]:
    """Return how a tensor goes into an operation: W and its transpose go in in two ways."""
    labels = use.node.params.get("labels") if use.node.primitive is CONTRACT else None
    turned = tuple(node.primitive for node in use.chain)
    return use.node.primitive, use.node.source, use.place, labels, turned


def _leading_to(last: Node) -> set[Node]:
    """Return a node and all that it is made of."""
    found, ahead = {last}, [last]
    while ahead:
        for operand in ahead.pop().operands:
            if not operand.constant and operand not in found:
                found.add(operand)
                ahead.append(operand)
    return found
