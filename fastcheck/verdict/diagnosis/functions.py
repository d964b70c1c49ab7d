"""Elementwise functions in the trace, such as activations, however many operations they take.

``np.maximum(0, z)``, ``z * (z > 0)``, ``np.where(z > 0, z, 0.01 * z)`` and a mask with ``/= keep``
behind it are each one function of z, with a slope for every element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward import pull_back
from fastcheck.trace.backward_rules import is_elementwise
from fastcheck.trace.graph import Node, SourceLine

_MOST_OPERATIONS = 12


@dataclass(frozen=True, eq=False)
class Function:
    """Operations that make `result` from `start`, each element from the one in its place.

    Attributes
    ----------
    start, result : Node
    operations : tuple of Node
        In the order in which they are computed; the last is `result`.
    slope : array
        d result / d start.
    """

    start: Node
    result: Node
    operations: tuple[Node, ...]
    slope: FloatArray

    @property
    def name(self) -> str:
        """The operations by name: ``maximum``, or ``multiply, divide``."""
        return ", ".join(dict.fromkeys(node.primitive.name for node in self.operations))

    @property
    def source(self) -> SourceLine:
        """The user's line that makes the result."""
        return self.result.source


def functions_of(nodes: Sequence[Node], start: Node) -> list[Function]:
    """Return the elementwise functions of a node, the longest last."""
    inside: dict[Node, None] = {start: None}
    found = []
    for node in nodes:
        if node.index <= start.index or not _continues(node, inside):
            continue
        inside[node] = None
        if len(inside) > _MOST_OPERATIONS:
            break
        found.append(_function(start, node, list(inside)[1:]))
    return found


def _continues(node: Node, inside: dict[Node, None]) -> bool:
    """Whether a node is made, element by element, from nodes inside and constants alone."""
    first = next(iter(inside))
    if node.constant or node.shape != first.shape:
        return False
    if not (is_elementwise(node) or node.primitive.discrete):
        return False
    return all(operand in inside for operand in node.operands if not operand.constant)


def _function(start: Node, result: Node, inside: list[Node]) -> Function:
    flows = pull_back(inside, {result: np.ones(result.shape)})
    needed = tuple(node for node in inside if node in flows)
    slope = np.array(np.broadcast_to(flows.get(start, np.zeros(())), start.shape))
    return Function(start, result, needed, slope)


def slopes_at(function: Function, x: FloatArray) -> FloatArray:
    """Return the slope of the same function at another input."""
    moved = _with_value(function.start, (), x)
    new: dict[Node, Node] = {function.start: moved}
    for node in function.operations:
        operands = tuple(new.get(operand, operand) for operand in node.operands)
        value = np.asarray(node.primitive.evaluate(*(o.value for o in operands), **node.params))
        new[node] = _with_value(node, operands, value)
    again = [new[node] for node in function.operations]
    return pull_back(again, {again[-1]: np.ones(x.shape)}).get(moved, np.zeros(x.shape))


def _with_value(node: Node, operands: tuple[Node, ...], value: FloatArray) -> Node:
    return Node(node.index, node.primitive, operands, node.params, value, node.tensors, node.source)
