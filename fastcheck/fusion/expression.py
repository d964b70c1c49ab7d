"""What a kernel computes for one perturbed copy, as a graph of arithmetic on numbers.

Leaves are the step h and hoisted constants; `SUM` and `ANY` run over a label. There are no loops
and no arrays here: which loop an expression is computed in follows from its labels. A printer turns
expressions into the code of a machine.

Every expression is computed at +h and at −h. Its parity says how the two are related, so that what
is even or odd in h is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import numpy as np

from fastcheck.fusion.dims import Label
from fastcheck.fusion.hoisted import Hoisted, Places, gathered, known, renamed

STEP, NUMBER, LOAD = "step", "number", "load"
ADD, SUBTRACT, MULTIPLY, DIVIDE = "fadd", "fsub", "fmul", "fdiv"
SQRT = "sqrt"
SUM, ANY, EXCEEDS, OR = "sum", "any", "exceeds", "or"


class Parity(Enum):
    """How the value at −h follows from the value at +h."""

    EVEN = "the same"
    ODD = "its negative"
    MIXED = "no rule"

    def times(self, other: Parity) -> Parity:
        if Parity.MIXED in (self, other):
            return Parity.MIXED
        return Parity.EVEN if self is other else Parity.ODD


class Expression:
    """One operation. Equal expressions are the same object; see `Table`.

    `renamed` says which expression it was made from by giving a label another name: (expression,
    its label, the label here).
    """

    __slots__ = ("_table", "labels", "number", "op", "operands", "parity", "payload", "renamed")

    def __init__(
        self, table: Table, op: str, operands: tuple[Expression, ...], payload: Any
    ) -> None:
        self._table = table
        self.number = len(table)
        self.op = op
        self.operands = operands
        self.payload = payload
        self.labels = _labels(op, operands, payload)
        self.parity = _parity(op, operands)
        self.renamed: tuple[Expression, Label, Label] | None = None

    def of(self, label: Label) -> Expression:
        """Return the expression that this one is, but for the name of a label."""
        if self.renamed is None or self.renamed[2] is not label:
            return self
        other, old, _ = self.renamed
        return other.of(old)

    def __repr__(self) -> str:
        inner = ", ".join(f"%{operand.number}" for operand in self.operands)
        return f"%{self.number} = {self.op}({inner}) {self.payload or ''}"

    def __add__(self, other: Expression | float) -> Expression:
        return self._table.add(self, other)

    def __radd__(self, other: float) -> Expression:
        return self._table.add(self, other)

    def __sub__(self, other: Expression | float) -> Expression:
        return self._table.subtract(self, other)

    def __rsub__(self, other: float) -> Expression:
        return self._table.subtract(other, self)

    def __mul__(self, other: Expression | float) -> Expression:
        return self._table.multiply(self, other)

    def __rmul__(self, other: float) -> Expression:
        return self._table.multiply(self, other)

    def __truediv__(self, other: Expression | float) -> Expression:
        return self._table.divide(self, other)

    def __neg__(self) -> Expression:
        return self._table.multiply(self, -1.0)

    def constant(self, value: float) -> Expression:
        """Return a number, to go with this expression."""
        return self._table.constant(value)

    def sqrt(self) -> Expression:
        """Return the square root."""
        return self._table.make(SQRT, self)

    def sum(self, label: Label) -> Expression:
        """Return the sum over a label."""
        return self._table.make(SUM, self, payload=label)

    def any(self, label: Label) -> Expression:
        """Return whether a condition holds anywhere along a label."""
        return self._table.make(ANY, self, payload=label)

    def exceeds(self, bound: Expression) -> Expression:
        """Return the condition that |self| is not at most `bound` (NaN is not)."""
        return self._table.make(EXCEEDS, self, bound)

    def either(self, other: Expression) -> Expression:
        """Return the condition that one of two holds."""
        return self._table.make(OR, self, other)

    def is_number(self, value: float) -> bool:
        return self.op == NUMBER and self.payload == value


class Table:
    """Makes expressions, each only once."""

    def __init__(self) -> None:
        self._made: dict[Any, Expression] = {}

    def __len__(self) -> int:
        return len(self._made)

    def make(self, op: str, *operands: Expression, payload: Any = None) -> Expression:
        """Return the expression, made before or now."""
        key = (op, *[operand.number for operand in operands], payload)
        found = self._made.get(key)
        if found is None:
            found = Expression(self, op, operands, payload)
            self._made[key] = found
        return found

    def step(self) -> Expression:
        """Return h, which is odd."""
        return self.make(STEP)

    def constant(self, value: float) -> Expression:
        """Return a number that is the same for all copies."""
        return self.make(NUMBER, payload=float(value))

    def load(self, hoisted: Hoisted) -> Expression:
        """Return an element of a hoisted constant."""
        return self.make(LOAD, payload=hoisted)

    def _own(self, value: Expression | float) -> Expression:
        return value if isinstance(value, Expression) else self.constant(value)

    def add(self, a: Expression | float, b: Expression | float) -> Expression:
        a, b = self._own(a), self._own(b)
        if b.is_number(0.0):
            return a
        return b if a.is_number(0.0) else self.make(ADD, a, b)

    def subtract(self, a: Expression | float, b: Expression | float) -> Expression:
        a, b = self._own(a), self._own(b)
        return a if b.is_number(0.0) else self.make(SUBTRACT, a, b)

    def multiply(self, a: Expression | float, b: Expression | float) -> Expression:
        a, b = self._own(a), self._own(b)
        if b.is_number(1.0):
            return a
        return b if a.is_number(1.0) else self.make(MULTIPLY, a, b)

    def divide(self, a: Expression | float, b: Expression | float) -> Expression:
        a, b = self._own(a), self._own(b)
        return a if b.is_number(1.0) else self.make(DIVIDE, a, b)

    def substitute(
        self, root: Expression, old: Label, new: Label, fresh: Callable[[int], Label]
    ) -> Expression:
        """Return an expression with a free label renamed.

        A sum over `new` inside is given a fresh label first, so that it does not capture it.
        """
        done: dict[Expression, Expression] = {}

        def captures(node: Expression) -> bool:
            return node.op in (SUM, ANY) and node.payload is new

        for node in in_order(root, below=lambda node: old in node.labels and not captures(node)):
            if old not in node.labels:
                done[node] = node
                continue
            payload = node.payload
            if node.op == LOAD:
                made = self.load(renamed(payload, old, new))
            elif captures(node):
                payload = fresh(new.size)
                inner = self.substitute(node.operands[0], new, payload, fresh)
                made = self.make(node.op, self.substitute(inner, old, new, fresh), payload=payload)
            else:
                made = self.make(node.op, *[done[o] for o in node.operands], payload=payload)
            done[node] = made
            if made.renamed is None and made.number > node.number:
                made.renamed = (node, old, new)
        return done[root]

    def gather(self, root: Expression, places: Places, fresh: Callable[[int], Label]) -> Expression:
        """Return what an expression is at `places` along its free labels.

        A sum over a label that is looked along, or that the places depend on, gets another label
        inside.
        """
        new = {dim for where in places.values() for dim in where.dims}
        done: dict[Expression, Expression] = {}

        def captures(node: Expression) -> bool:
            return node.op in (SUM, ANY) and (node.payload in new or node.payload in places)

        def is_moved(node: Expression) -> bool:
            return bool(node.labels & places.keys())

        for node in in_order(root, below=lambda node: is_moved(node) and not captures(node)):
            if not is_moved(node):
                done[node] = node
            elif node.op == LOAD:
                done[node] = self.load(gathered(node.payload, places))
            elif captures(node):
                label = fresh(node.payload.size)
                inner = {**places, node.payload: known(np.arange(label.size), (label,))}
                body = self.gather(node.operands[0], inner, fresh)
                done[node] = self.make(node.op, body, payload=label)
            else:
                operands = [done[operand] for operand in node.operands]
                done[node] = self.make(node.op, *operands, payload=node.payload)
        return done[root]


def _everywhere(_: Expression) -> bool:
    return True


def in_order(
    *roots: Expression, below: Callable[[Expression], bool] = _everywhere
) -> Iterator[Expression]:
    """Yield every expression below the roots, operands first; only `below` those that say so."""
    seen: set[Expression] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if below(node):
                stack.extend((operand, False) for operand in reversed(node.operands))


def _labels(op: str, operands: tuple[Expression, ...], payload: Any) -> frozenset[Label]:
    if op == LOAD:
        labels: frozenset[Label] = payload.labels
        return labels
    free: frozenset[Label] = frozenset().union(*[operand.labels for operand in operands])
    return free - {payload} if op in (SUM, ANY) else free


def _parity(op: str, operands: tuple[Expression, ...]) -> Parity:
    if op == STEP:
        return Parity.ODD
    if op in (NUMBER, LOAD):
        return Parity.EVEN
    parities = [operand.parity for operand in operands]
    if op in (MULTIPLY, DIVIDE):
        return parities[0].times(parities[1])
    if op in (ADD, SUBTRACT):
        return parities[0] if parities[0] is parities[1] else Parity.MIXED
    if op == SUM:
        return parities[0]
    if op == SQRT:
        return Parity.EVEN if parities[0] is Parity.EVEN else Parity.MIXED
    return Parity.EVEN  # a condition covers both signs
