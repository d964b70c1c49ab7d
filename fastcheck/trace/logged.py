"""Numbers that leave a trace and never come back: a loss that is logged, an accuracy.

Python does with a plain number what it likes, so a number that has left the trace may have come
back as a constant, or may have decided a branch. Whether it did is seen by tracing again with other
numbers handed out: if each operation and each value is the same to the last bit, it did not. Then
the graph holds for all copies whose numbers stay between those that were tried, and a guard sends
the others to the user's function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import numpy as np

from fastcheck.trace.graph import CONSTANT, Graph, Guard, Node, Primitive
from fastcheck.trace.primitives import elementwise
from fastcheck.trace.tape import identical

_RADIUS = 2.0**-10
"""How far from its value at θ a number is tried, relative to it."""
_SIGNS = ((1, 1), (-1, -1), (1, -1), (-1, 1))
"""All numbers larger, all smaller, and neighbours apart from each other: they may be compared."""


def trials() -> list[Callable[[float], float]]:
    """Return what hands out other numbers, for one trace each."""
    return [_trial(signs) for signs in _SIGNS]


def _trial(signs: tuple[int, int]) -> Callable[[float], float]:
    numbers = count()

    def other(number: float) -> float:
        return number + signs[next(numbers) % 2] * _radius(number)

    return other


def _radius(number: float) -> float:
    return _RADIUS * abs(number) if number else _RADIUS


def bounded(graph: Graph) -> Graph:
    """Return the graph with guards that let the numbers move as far as they were tried."""
    new = Graph(list(graph.nodes), graph.parameters, [], graph.output)
    new.guards = [guard if guard.discrete else _within(new, guard) for guard in graph.guards]
    return new


def _within(graph: Graph, guard: Guard) -> Guard:
    """Add |x - x0| <= radius to the graph, and return the guard of that."""
    node = guard.node

    def add(primitive: Primitive, value: Any, *operands: Node) -> Node:
        tensors: frozenset[str] = frozenset().union(*[operand.tensors for operand in operands])
        made = Node(len(graph.nodes), primitive, operands, {}, value, tensors, guard.source)
        graph.nodes.append(made)
        return made

    centre = add(CONSTANT, node.value)
    radius = add(CONSTANT, np.float64(_radius(float(node.value))))
    move = add(elementwise(np.subtract), np.subtract(node.value, centre.value), node, centre)
    size = add(elementwise(np.absolute), np.absolute(move.value), move)
    inside = add(elementwise(np.less_equal), np.less_equal(size.value, radius.value), size, radius)
    return Guard(inside, guard.action, guard.source)


def same(graph: Graph, other: Graph) -> bool:
    """Whether two traces of one loss have the same operations, with the same values."""
    return (
        len(graph) == len(other)
        and len(graph.guards) == len(other.guards)
        and _index(graph.output) == _index(other.output)
        and all(map(_same_guard, graph.guards, other.guards))
        and all(map(_same_node, graph.nodes, other.nodes))
    )


def _index(node: Node | None) -> int | None:
    return None if node is None else node.index


def _same_guard(one: Guard, other: Guard) -> bool:
    return (one.node.index, one.action) == (other.node.index, other.action)


def _same_node(one: Node, other: Node) -> bool:
    return (
        one.primitive.name == other.primitive.name
        and [operand.index for operand in one.operands] == [each.index for each in other.operands]
        and _alike(one.params, other.params)
        and _alike(one.value, other.value)
    )


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_alike(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, (np.ndarray, np.generic)):
        return identical(np.asarray(one), np.asarray(other))
    return type(one) is type(other) and bool(one == other)
