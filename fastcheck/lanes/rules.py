"""How each primitive is written down: the register, and the frame of elementwise operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcheck.lanes.delta import Delta, expanded
from fastcheck.lanes.opcodes import Op
from fastcheck.lanes.writer import Constants, NoProgram, Room, Writer
from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.primitives import elementwise as primitive_of

Deltas = list[Delta | None]
Rule = Callable[[Writer, Node, Deltas], Delta | None]
RULES: dict[Primitive, Rule] = {}
"""None is for a node that no copy changes."""


def rule(*primitives: Primitive) -> Callable[[Rule], Rule]:
    """Register the rule of one or more primitives."""

    def register(function: Rule) -> Rule:
        for primitive in primitives:
            RULES[primitive] = function
        return function

    return register


def real(value: Any) -> Any:
    """Return an array as float64; NoProgram for one that has no such values."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise NoProgram(f"an array of {array.dtype} takes part")
    return array.astype(np.float64, copy=False)


class Site:
    """An elementwise node: its operands' differences in its shape, and constants."""

    def __init__(self, writer: Writer, node: Node, deltas: Deltas) -> None:
        self.writer = writer
        self.node = node
        self.deltas = deltas
        self._temporary: list[Delta] = []

    def delta(self, operand: int) -> Delta | None:
        """Return an operand's difference in the node's shape."""
        delta = self.deltas[operand]
        if delta is None:
            return None
        if delta.shape == self.node.shape:
            return delta
        found = expanded(self.writer, delta, self.node.shape)
        self._temporary.append(found)
        return found

    def room(self, operand: int) -> Room:
        """Return an operand's difference as an array of the node's size."""
        delta = self.delta(operand)
        assert delta is not None
        return delta.dense(self.writer)

    def value(self, operand: int) -> Any:
        """Return an operand's value at θ."""
        return real(self.node.operands[operand].value)

    def constants(self, name: Any, make: Callable[[], Sequence[Any]]) -> list[Constants]:
        """Return constants of an instruction: arrays in the node's shape, or single numbers."""

        def made() -> list[Constants]:
            with np.errstate(all="ignore"):
                arrays = [np.asarray(array, dtype=np.float64) for array in make()]
            if all(array.size == 1 for array in arrays):
                return [array.reshape(1).copy() for array in arrays]
            shape = self.node.shape
            return [np.ascontiguousarray(np.broadcast_to(array, shape)) for array in arrays]

        found: list[Constants] = self.writer.hoisted.once((self.node, name), made)
        return found

    def write(self, op: Op, operands: Sequence[Room], *constants: Constants) -> Room:
        """Write an instruction for each number of the node."""
        return self.writer.elementwise(op, max(self.node.value.size, 1), operands, *constants)

    def scaled(self, operand: int, name: str, make: Callable[[], Any]) -> Room:
        """Write an operand's difference times a constant."""
        (factor,) = self.constants(name, lambda: [make()])
        return self.write(Op.SCALE, [self.room(operand)], factor)

    def series(self, room: Room, name: str, make: Callable[[], tuple[Any, Sequence[Any]]]) -> Room:
        """Write Σ factorₖ·aᵏ⁺¹ with what `make` gives: how near a has to be, and four factors."""
        with np.errstate(all="ignore"):
            (nearness,) = self.constants((name, "nearness"), lambda: [make()[0]])
            factors = self.constants(name, lambda: make()[1])
        return self.writer.series(room, nearness, factors)

    def result(self, room: Room) -> Delta:
        """Return the node's difference, what was made on the way being released."""
        self.close()
        return Delta(self.node.shape, room)

    def close(self) -> None:
        """Release what was made on the way."""
        for delta in self._temporary:
            delta.release(self.writer)
        self._temporary = []


Formula = Callable[[Site], Delta | None]


def elementwise_rule(formula: Formula) -> Rule:
    """Turn a formula on sites into a rule."""
    return lambda writer, node, deltas: formula(Site(writer, node, deltas))


def formula(*ufuncs: np.ufunc) -> Callable[[Formula], Formula]:
    """Register a formula as the rule of NumPy ufuncs."""

    def register(function: Formula) -> Formula:
        for ufunc in ufuncs:
            RULES[primitive_of(ufunc)] = elementwise_rule(function)
        return function

    return register
