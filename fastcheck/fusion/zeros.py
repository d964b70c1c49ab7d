"""Where everything is zero: samples past the last one, and inputs that are exactly zero.

A difference is zero where the factor is zero that every path from the perturbed element goes
through, such as the input pixel of a weight. Padding that factor with zeros adds nothing to a sum,
and where it is zero for a whole block of samples, the kernel leaves the block out.
"""

from __future__ import annotations

from fastcheck.fusion.expression import (
    ADD,
    ANY,
    DIVIDE,
    EXCEEDS,
    LOAD,
    MULTIPLY,
    OR,
    SUBTRACT,
    SUM,
    Expression,
)
from fastcheck.fusion.hoisted import Hoisted
from fastcheck.fusion.schedule import Schedule


class Zeros:
    """What is known of zeros in a schedule.

    Attributes
    ----------
    padded : set of Hoisted
        Constants to be zero past the last sample.
    skipping : Hoisted or None
        A constant of one pin and of the samples alone that makes every sum over samples zero.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._vector = schedule.vector
        self._carriers = _carriers(schedule)
        sums = [node for node in schedule.level if node.payload is schedule.vector]
        self.padded: set[Hoisted] = set()
        for node in sums:
            carrying = self._carrying(node)
            if carrying and not self.padded & set(carrying):
                self.padded.add(carrying[0])
        self.skipping = self._shared_by(sums)

    def vanishes(self, node: Expression) -> bool:
        """Whether what is summed over samples is zero past the last one."""
        return bool(self.padded & set(self._carrying(node)))

    def _carrying(self, node: Expression) -> list[Hoisted]:
        """Return the constants, varying with the samples, that make a sum's operand zero."""
        loads = sorted(self._carriers[node.operands[0]], key=lambda load: load.number)
        return [load.payload for load in loads if self._vector in load.labels]

    def _shared_by(self, sums: list[Expression]) -> Hoisted | None:
        for hoisted in self._carrying(sums[0]) if sums else []:
            plain = len(hoisted.pins) == 1 and len(hoisted.labels) == 1
            if plain and all(hoisted in self._carrying(node) for node in sums):
                return hoisted
        return None


def _carriers(schedule: Schedule) -> dict[Expression, frozenset[Expression]]:
    """Return for every expression the loads that make it zero (or false) wherever they are zero."""
    zero: dict[Expression, frozenset[Expression]] = {}
    for node in schedule.order:
        below = [zero[operand] for operand in node.operands]
        if node.op == LOAD:
            zero[node] = frozenset({node})
        elif node.op == MULTIPLY:
            zero[node] = below[0] | below[1]
        elif node.op in (ADD, SUBTRACT, OR):
            zero[node] = below[0] & below[1]
        elif node.op in (DIVIDE, EXCEEDS):
            zero[node] = below[0]
        elif node.op in (SUM, ANY):
            # A sum over samples is not zero where one sample's term is.
            zero[node] = frozenset(load for load in below[0] if node.payload not in load.labels)
        else:
            zero[node] = frozenset()
    return zero
