"""A Python loop over samples, rolled up into one pass over all of them.

`for x, y in data: total += loss_of(x, y)` makes a graph with the same few operations for every
sample. Operations that are alike, at the same depth and with operands that are alike, become one
with a leading axis: its operands are stacked data, what all of them share, or other such stacks. A
long chain of additions becomes a sum. The values at θ are the ones that the user's code gave.

Only what has an exact counterpart with a leading axis is rolled up; the rest is copied as it is.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from fastcheck.trace.graph import CONSTANT, Graph, Guard, Node, Primitive
from fastcheck.trace.primitives import (
    BROADCAST,
    CAST,
    CONCATENATE,
    CONTRACT,
    CUMPROD,
    CUMSUM,
    ELEMENTWISE,
    INDEX,
    LOG_SOFTMAX,
    LOGSUMEXP,
    MAX,
    MIN,
    PROD,
    RESHAPE,
    SIGMOID,
    SPECIAL,
    SUM,
    TRANSPOSE,
    WHERE,
    elementwise,
)

LEAST = 8
"""Operations that are alike, or terms of a sum, from which they are rolled up."""
_SMALLEST = 64
"""Nodes of a graph in which they are looked for."""
_ADD, _SUBTRACT = elementwise(np.add), elementwise(np.subtract)
_ELEMENTWISE = {*ELEMENTWISE.values(), *SPECIAL.values(), SIGMOID, WHERE, CAST}
_REDUCTIONS = {SUM, PROD, MAX, MIN, LOG_SOFTMAX, LOGSUMEXP}
_OTHERS = {CONTRACT, CUMSUM, CUMPROD, RESHAPE, TRANSPOSE, BROADCAST, INDEX, CONCATENATE}
_ROLLED = _ELEMENTWISE | _REDUCTIONS | _OTHERS

Term = tuple[bool, Node]
"""Whether it is subtracted, and what."""


def rolled(graph: Graph) -> Graph:
    """Return an equal graph with operations that are alike rolled up; the same one if none are."""
    if len(graph) < _SMALLEST or graph.output is None:
        return graph
    chains = _chains(graph)
    roller = _Roller(chains)
    for level in _levels(graph, chains):
        roller.take(level)
    if not roller.stacks:
        return graph
    guards = [Guard(roller.member(g.node), g.action, g.source) for g in graph.guards]
    parameters = {name: roller.member(node) for name, node in graph.parameters.items()}
    output = roller.member(graph.output)
    return Graph(roller.graph.nodes, parameters, guards, output)


def _chains(graph: Graph) -> dict[Node, list[Term]]:
    """Return the terms of every long sum that is written as one addition after the other."""
    uses = Counter(operand for node in graph for operand in node.operands)
    uses.update(guard.node for guard in graph.guards)
    uses.update([graph.output] if graph.output is not None else [])
    found: dict[Node, list[Term]] = {}
    for node in graph:
        if node.constant or node.primitive not in (_ADD, _SUBTRACT):
            continue
        first, last = node.operands
        if first.shape != node.shape or last.shape != node.shape:
            continue
        # What nothing else uses goes on as a part of this one.
        so_far = found.pop(first) if first in found and uses[first] == 1 else [(False, first)]
        so_far.append((node.primitive is _SUBTRACT, last))
        found[node] = so_far
    return {node: terms for node, terms in found.items() if len(terms) >= LEAST}


def _levels(graph: Graph, chains: dict[Node, list[Term]]) -> list[list[Node]]:
    """Return the nodes by depth: each level needs only those before it."""
    wanted = {graph.output, *(guard.node for guard in graph.guards), *graph.parameters.values()}
    for node in reversed(graph.nodes):
        if node in wanted:
            wanted.update(_operands(node, chains))
    depth: dict[Node, int] = {}
    levels: defaultdict[int, list[Node]] = defaultdict(list)
    for node in graph:
        if node in wanted:
            operands = _operands(node, chains)
            own = 1 + max((depth[operand] for operand in operands), default=-1)
            depth[node] = own
            levels[own].append(node)
    return [levels[own] for own in sorted(levels)]


def _operands(node: Node, chains: dict[Node, list[Term]]) -> list[Node]:
    return [term for _, term in chains[node]] if node in chains else list(node.operands)


class _Roller:
    """Builds the new graph level by level.

    Attributes
    ----------
    graph : Graph
        What has been built.
    stacks : list of Node
        The operations with a leading axis.
    """

    def __init__(self, chains: dict[Node, list[Term]]) -> None:
        self.graph = Graph()
        self.stacks: list[Node] = []
        self._chains = chains
        self._places: dict[Node, tuple[int, int]] = {}  # of an old node: its stack, where in it
        self._sizes: list[int] = []
        self._new: dict[Node, Node] = {}
        self._picked: dict[tuple[int, bytes], Node] = {}

    def take(self, level: list[Node]) -> None:
        """Add the nodes of a level, those that are alike as one."""
        alike: defaultdict[Hashable, list[Node]] = defaultdict(list)
        for node in level:
            alike[self._likeness(node)].append(node)
        for likeness, members in alike.items():
            stack = None
            if likeness is not None and len(members) >= LEAST:
                stack = self._stacked(members)
            if stack is None:
                for node in members:
                    self._copy(node)
                continue
            self._places.update({node: (len(self.stacks), k) for k, node in enumerate(members)})
            self._sizes.append(len(members))
            self.stacks.append(stack)

    def member(self, node: Node) -> Node:
        """Return the new node for an old one, taken from its stack if it is in one."""
        if node not in self._new:
            stack, place = self._places[node]
            self._new[node] = self._add(
                INDEX, (self.stacks[stack],), {"index": place}, node.value, node
            )
        return self._new[node]

    def _likeness(self, node: Node) -> Hashable:
        """Return what operations have in common that can be rolled up; None if this one cannot."""
        if node.constant or node.primitive not in _ROLLED or node in self._chains:
            return None
        params = _frozen(node.primitive, node.params)
        operands = tuple(
            ("data", operand.shape, operand.value.dtype)
            if operand.constant
            else self._places[operand][0]
            if operand in self._places
            else operand
            for operand in node.operands
        )
        if params is None:
            return None
        shapes = tuple(operand.shape for operand in node.operands)
        return node.primitive, params, operands, shapes, node.shape, node.value.dtype

    def _copy(self, node: Node) -> None:
        if node in self._chains:
            self._new[node] = self._total(node)
        elif node.primitive is CONCATENATE:
            self._new[node] = self._joined(node)
        else:
            operands = tuple(map(self.member, node.operands))
            self._new[node] = self._add(node.primitive, operands, node.params, node.value, node)

    # -- stacks -----------------------------------------------------------------------------------

    def _stacked(self, members: list[Node]) -> Node | None:
        """Return one operation with a leading axis for all members; None if there is none."""
        first, count = members[0], len(members)
        value = np.stack([node.value for node in members])
        if first.primitive is INDEX:
            return self._indexed(members, value)
        operands = [
            self._operand([node.operands[k] for node in members])
            for k in range(len(first.operands))
        ]
        over = [self._is_stack(members, k) for k in range(len(first.operands))]
        if not any(over):
            return None
        params = dict(first.params)
        if first.primitive in _ELEMENTWISE or first.primitive is BROADCAST:
            operands = [
                self._with_axes(x, first.ndim) if stacked else x
                for x, stacked in zip(operands, over, strict=True)
            ]
        if first.primitive in (BROADCAST, RESHAPE):
            params["shape"] = value.shape
        elif first.primitive in _REDUCTIONS:
            params["axes"] = tuple(axis + 1 for axis in params["axes"])
        elif first.primitive is TRANSPOSE:
            params["axes"] = (0, *[axis + 1 for axis in params["axes"]])
        elif first.primitive in (CUMSUM, CUMPROD, CONCATENATE):
            params["axis"] += 1
        elif first.primitive is CONTRACT:
            params["labels"] = _with_label(params["labels"], over)
        if first.primitive is CONCATENATE:
            operands = [
                x if stacked else self._repeated(x, count, first)
                for x, stacked in zip(operands, over, strict=True)
            ]
        return self._add(first.primitive, tuple(operands), params, value, *members)

    def _operand(self, nodes: list[Node]) -> Node:
        """Return what one operand of all members is: shared, or stacked."""
        first = nodes[0]
        if all(node is first for node in nodes):
            return self.member(first)
        if first.constant:
            return self._add(CONSTANT, (), {}, np.stack([node.value for node in nodes]), first)
        stack = self._places[first][0]
        return self._taken(stack, [self._places[node][1] for node in nodes])

    @staticmethod
    def _is_stack(members: list[Node], operand: int) -> bool:
        return any(node.operands[operand] is not members[0].operands[operand] for node in members)

    def _taken(self, stack: int, places: list[int]) -> Node:
        """Return some members of a stack, in an order."""
        if places == list(range(self._sizes[stack])):
            return self.stacks[stack]
        index, whole = np.array(places), self.stacks[stack]
        key = stack, index.tobytes()
        if key not in self._picked:
            self._picked[key] = self._add(
                INDEX, (whole,), {"index": index}, whole.value[index], whole
            )
        return self._picked[key]

    def _indexed(self, members: list[Node], value: Any) -> Node | None:
        """Return x[i] for several i, or of several x, or both."""
        operands = [node.operands[0] for node in members]
        parts = [_parts(node.params["index"]) for node in members]
        numbers = [k for k, part in enumerate(parts[0]) if _is_number(part)]
        index = list(parts[0])
        for k in numbers:
            index[k] = np.array([int(one[k]) for one in parts])
        if operands[0] in self._places:
            stack = self._places[operands[0]][0]
            operand = self.stacks[stack]
            places = np.array([self._places[one][1] for one in operands])
            if all((index[k] == index[k][0]).all() for k in numbers):
                index = parts[0]
            in_order = np.array_equal(places, np.arange(self._sizes[stack]))
            index = [slice(None) if in_order and index is parts[0] else places, *index]
        else:
            # What is picked by arrays comes first only if they do.
            operand = self.member(operands[0])
            if not numbers or numbers != list(range(len(numbers))):
                return None
            if any(one is not operands[0] for one in operands):
                return None
        if _is_everything(tuple(index), operand.shape, value.shape):
            params = {"shape": value.shape}
            return self._add(RESHAPE, (operand,), params, value, *members)
        return self._add(INDEX, (operand,), {"index": tuple(index)}, value, *members)

    def _with_axes(self, node: Node, ndim: int) -> Node:
        """Put axes of size 1 behind the leading one, so that members have `ndim` axes."""
        if node.ndim == ndim + 1:
            return node
        shape = (node.shape[0], *(1,) * (ndim + 1 - node.ndim), *node.shape[1:])
        return self._add(RESHAPE, (node,), {"shape": shape}, node.value.reshape(shape), node)

    def _repeated(self, node: Node, count: int, like: Node) -> Node:
        shape = (count, *node.shape)
        value = np.broadcast_to(node.value, shape)
        if node.constant:
            return self._add(CONSTANT, (), {}, value, node)
        return self._add(BROADCAST, (node,), {"shape": shape}, value, node)

    def _joined(self, node: Node) -> Node:
        """Return parts side by side; those that follow each other in a stack as one part."""
        axis = node.params["axis"]
        parts: list[Node] = []
        for stack, run in groupby(node.operands, lambda x: self._places.get(x, (None, 0))[0]):
            nodes = list(run)
            if stack is None or len(nodes) < LEAST:
                parts += map(self.member, nodes)
            else:
                places = [self._places[one][1] for one in nodes]
                parts.append(self._side_by_side(self._taken(stack, places), axis))
        if len(parts) == 1:
            return parts[0]
        return self._add(CONCATENATE, tuple(parts), node.params, node.value, node)

    def _side_by_side(self, stack: Node, axis: int) -> Node:
        """Return the members of a stack joined along one of their axes."""
        shape = list(stack.shape[1:])
        shape[axis] *= stack.shape[0]
        if axis:
            axes = (*range(1, axis + 1), 0, *range(axis + 1, stack.ndim))
            value = np.transpose(stack.value, axes)
            stack = self._add(TRANSPOSE, (stack,), {"axes": axes}, value, stack)
        params = {"shape": tuple(shape)}
        return self._add(RESHAPE, (stack,), params, stack.value.reshape(shape), stack)

    # -- sums -------------------------------------------------------------------------------------

    def _total(self, node: Node) -> Node:
        """Return a long sum: of each stack together, then of these and of what is in none."""
        places: defaultdict[tuple[bool, int], list[int]] = defaultdict(list)
        total: Node | None = None
        for minus, term in self._chains[node]:
            if term in self._places:
                stack, place = self._places[term]
                places[minus, stack].append(place)
            else:
                total = self._plus(total, self.member(term), minus)
        for (minus, stack), several in places.items():
            members = self._taken(stack, several)
            value = members.value.sum(axis=0)
            params = {"axes": (0,), "keepdims": False}
            total = self._plus(total, self._add(SUM, (members,), params, value, members), minus)
        assert total is not None
        if total is not self.graph.nodes[-1]:
            return total
        # The terms were added up in another order, which rounds differently.
        self.graph.nodes[-1] = replace(total, value=node.value, source=node.source)
        return self.graph.nodes[-1]

    def _plus(self, total: Node | None, term: Node, minus: bool) -> Node:
        if total is None and not minus:
            return term
        if total is None:
            total = self._add(CONSTANT, (), {}, np.zeros(term.shape)[()])
        primitive = _SUBTRACT if minus else _ADD
        value = total.value - term.value if minus else total.value + term.value
        return self._add(primitive, (total, term), {}, value, total, term)

    def _add(self, primitive: Primitive, operands: Any, params: Any, value: Any, *of: Node) -> Node:
        """Add a node in the place of old ones."""
        tensors: frozenset[str] = frozenset().union(*[node.tensors for node in of])
        source = of[0].source if of else self.graph.nodes[-1].source
        node = Node(len(self.graph.nodes), primitive, operands, params, value, tensors, source)
        self.graph.nodes.append(node)
        return node


def _with_label(labels: Any, over: list[bool]) -> tuple[tuple[int, ...], ...]:
    """Return a product's labels, with one for the leading axis."""
    new = 1 + max((label for group in labels for label in group), default=-1)
    operands = [
        (new, *group) if stacked else tuple(group)
        for group, stacked in zip(labels[:2], over, strict=True)
    ]
    return (*operands, (new, *labels[2]))


def _frozen(primitive: Primitive, params: Any) -> Hashable:
    """Return what the parameters of operations that are alike have in common; None if unknown."""
    if primitive is INDEX:
        parts = _parts(params["index"])
        if not all(part is None or _is_number(part) or isinstance(part, slice) for part in parts):
            return None
        return tuple(
            "number"
            if _is_number(part)
            else (part.start, part.stop, part.step)
            if isinstance(part, slice)
            else part
            for part in parts
        )
    key = tuple(sorted(params.items()))
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _is_everything(index: Any, shape: tuple[int, ...], picked: tuple[int, ...]) -> bool:
    """Whether an index picks every element of an array, in order."""
    size = math.prod(shape)
    if math.prod(picked) != size:
        return False
    places = np.arange(size)
    return np.array_equal(places.reshape(shape)[index].ravel(), places)


def _parts(index: Any) -> list[Any]:
    return list(index) if isinstance(index, tuple) else [index]


def _is_number(part: Any) -> bool:
    return isinstance(part, int | np.integer) and not isinstance(part, bool)
