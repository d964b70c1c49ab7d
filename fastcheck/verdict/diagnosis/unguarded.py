"""The gradient that a loss has without its numerical guards, or derivatives that leave them out.

Backward passes by hand are most often those of the formula without the guard. How far that is from
the right gradient is found by a backward pass through the traced graph with it and one without.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward import pull_back
from fastcheck.trace.backward_rules import NoRuleError, operand_gradients
from fastcheck.trace.graph import CONSTANT, PARAMETER, Graph, Node
from fastcheck.trace.primitives import WHERE, elementwise
from fastcheck.trace.simplify import simplify
from fastcheck.verdict.bars import largest
from fastcheck.verdict.diagnosis.guards import LIMITS, Guarded, guards_of, is_formula
from fastcheck.verdict.diagnosis.naming import listed

_ALL_SUBSETS = 3
_MOST_LINES = 12
_MOST_WAYS = 18
_MOST_NUMBERS = 2**24
_SAME = 1e-6

_SQRT = elementwise(np.sqrt)
_ADD, _SUBTRACT, _DIVIDE = map(elementwise, (np.add, np.subtract, np.divide))

Gradients = dict[str, FloatArray]
Found = tuple[Gradients, Graph | None]


@dataclass(frozen=True)
class Unguarded:
    """The gradient of a loss without some of its guards.

    Attributes
    ----------
    said : str
        Which: ``the 1e-8 in `log` (net.py:12)``.
    lines : tuple of str
        Where they stand.
    way : int
        0 if it is the gradient of the loss without them; else a number for the way in which
        derivatives leave them out and take other values from the forward pass as it is.
    shift : dict of str to (size,) float64
        By how much it differs from the right gradient, by tensor, flat in C order. Not finite where
        the loss is not without the guard.
    right : dict of str to (size,) float64
        The right gradient, of the loss with all guards, by the same way.
    graph : Graph or None
        The forward pass without the guards, if `way` is 0.
    """

    said: str
    lines: tuple[str, ...]
    way: int
    shift: Gradients
    right: Gradients
    graph: Graph | None = None

    def whole(self) -> float:
        """Return how large the difference is beside the gradient of all tensors."""
        size = float(np.linalg.norm([np.linalg.norm(g) for g in self.right.values()]))
        moved = float(np.linalg.norm([np.linalg.norm(g) for g in self.shift.values()]))
        return moved / size if size > 0 else np.inf


def unguarded(graph: Graph) -> list[Unguarded]:
    """Return the gradients without guards: of lines alone, then together.

    Those of the loss without the guards come first, with all values as they are then; after them
    those of backward passes that take values as the forward pass left them, and leave the guard out
    of the derivatives. Nothing where there is no guard, or no backward pass is known.
    """
    by_line: dict[str, list[Guarded]] = {}
    for guard in guards_of(graph):
        by_line.setdefault(str(guard.node.source), []).append(guard)
    if not by_line or len(by_line) > _MOST_LINES:
        return []
    try:
        with np.errstate(all="ignore"):
            return _different(_each(graph, by_line))
    except NoRuleError:
        return []


def _different(every: Iterator[Unguarded]) -> list[Unguarded]:
    """Return each gradient once, of many large ones the first."""
    found: list[Unguarded] = []
    for one in every:
        if not any(_are_same(one.shift, other.shift) for other in found):
            found.append(one)
        if len(found) * sum(values.size for values in one.shift.values()) > _MOST_NUMBERS:
            break
    return found


def _are_same(one: Gradients, other: Gradients) -> bool:
    # Two ways to compute the same gradient differ by rounding.
    return all(
        np.allclose(values, other[name], rtol=_SAME, atol=_SAME * largest(values), equal_nan=True)
        for name, values in one.items()
    )


def _each(graph: Graph, by_line: Mapping[str, Sequence[Guarded]]) -> Iterator[Unguarded]:
    right = _of_tensors(graph, pull_back(graph.nodes, _start(graph)))
    for first, gradients in ((0, _without), (1, _beside)):
        for lines in _subsets(tuple(by_line)):
            guards = [guard for line in lines for guard in by_line[line]]
            for way, (found, other) in enumerate(gradients(graph, guards), first):
                if found.keys() == right.keys():
                    shift = {name: found[name] - right[name] for name in right}
                    yield Unguarded(_said(by_line, lines), lines, way, shift, right, other)


def _said(by_line: Mapping[str, Sequence[Guarded]], lines: Sequence[str]) -> str:
    """Return which guards these are, as a sentence names them."""
    each = []
    for line in lines:
        numbers = dict.fromkeys(_written(guard) for guard in by_line[line])
        operations = dict.fromkeys(f"`{guard.operation}`" for guard in by_line[line])
        each.append(
            f"{listed([f'the {number}' for number in numbers])} in {listed(tuple(operations))} "
            f"({line})"
        )
    return listed(each)


def _written(guard: Guarded) -> str:
    """Return a constant as people write it: ``1e-8``, ``1 − 1e-7``."""
    apart = guard.value - guard.nominal
    size = re.sub(r"e-0*", "e-", f"{abs(apart):.3g}")
    if guard.nominal:
        return f"1 {'−' if apart < 0 else '+'} {size}"
    return f"{'−' if apart < 0 else ''}{size}"


def _subsets(lines: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield one line at a time, all of them, and what is between, where that is little."""
    if len(lines) <= _ALL_SUBSETS:
        for count in range(1, len(lines) + 1):
            yield from combinations(lines, count)
        return
    yield from combinations(lines, 1)
    yield lines
    yield from combinations(lines, len(lines) - 1)


def _start(graph: Graph) -> dict[Node, FloatArray]:
    assert graph.output is not None
    return {graph.output: np.ones(graph.output.shape)}


def _of_tensors(graph: Graph, found: dict[Node, FloatArray]) -> Gradients:
    return {
        name: np.asarray(found[node], dtype=np.float64).ravel(order="C")
        for name, node in graph.parameters.items()
        if node in found
    }


def _without(graph: Graph, guards: Sequence[Guarded]) -> Iterator[Found]:
    """Yield the gradient of the loss without the guards, and its forward pass."""
    # Simplified, log(softmax) needs no quotients that leave the range of floats.
    other = simplify(_removed(graph, guards))
    yield _of_tensors(other, pull_back(other.nodes, _start(other))), other


def _removed(graph: Graph, guards: Sequence[Guarded]) -> Graph:
    """Return the graph without the guards, with the values that it has then."""
    by_node = {guard.node: guard for guard in guards}
    new: dict[Node, Node] = {}
    nodes: list[Node] = []
    for node in graph:
        operands = tuple(new[operand] for operand in node.operands)
        if node in by_node:
            node_without = _passed_on(by_node[node], operands)
            if node_without is not None:
                new[node] = node_without
                continue
            number = _constant(by_node[node])
            nodes.append(number)
            place = by_node[node].place
            operands = (*operands[:place], number, *operands[place + 1 :])
        new[node] = _again(node, operands)
        nodes.append(new[node])
    parameters = {name: new[node] for name, node in graph.parameters.items()}
    assert graph.output is not None
    return Graph(nodes, parameters, [], new[graph.output])


def _passed_on(guard: Guarded, operands: tuple[Node, ...]) -> Node | None:
    """Return what is guarded, where the operation without the guard is that and nothing else."""
    node = guard.node
    (other,) = _rest(guard, operands)
    if other.shape != node.shape:
        return None
    added = node.primitive is _ADD or (node.primitive is _SUBTRACT and guard.place == 1)
    if node.primitive in (_ADD, _SUBTRACT) and not (added and guard.nominal == 0):
        return None
    return other


def _rest(guard: Guarded, operands: Sequence[Node]) -> tuple[Node, ...]:
    """Return what is guarded."""
    return tuple(operands[place] for place in _others(guard))


def _others(guard: Guarded) -> tuple[int, ...]:
    places = (1, 2) if guard.node.primitive is WHERE else (0, 1)
    return tuple(place for place in places if place != guard.place)


def _constant(guard: Guarded) -> Node:
    """Return the constant that stands in a guard's place where it cannot just be left out."""
    node, old = guard.node, guard.node.operands[guard.place]
    value = guard.nominal
    if node.primitive in LIMITS:
        value = -np.inf if "max" in node.primitive.name else np.inf
    array = np.full(old.shape, value)
    return Node(old.index, CONSTANT, (), {}, array, frozenset(), node.source)


def _again(node: Node, operands: tuple[Node, ...]) -> Node:
    """Return a node of the new operands, with its value computed again if theirs changed."""
    if node.primitive in (PARAMETER, CONSTANT):
        return node
    if all(a is b for a, b in zip(operands, node.operands, strict=True)):
        return node
    values = [operand.value for operand in operands]
    same = all(a.value is b.value for a, b in zip(operands, node.operands, strict=True))
    value = node.value if same else np.asarray(node.primitive.evaluate(*values, **node.params))
    return replace(node, operands=operands, value=value)


def _beside(graph: Graph, guards: Sequence[Guarded]) -> Iterator[Found]:
    """Yield gradients by the forward pass's own values, but derivatives without the guards.

    Of a formula of several operations some may be derived without, others by what is at hand: the
    root without ε in ``dx / np.sqrt(var)``, and behind it the forward pass's own quotient.
    """
    by_node = {guard.node: guard for guard in guards}
    twins = _twins(graph, by_node)
    each = _ways(graph, by_node, twins)
    if not each:
        return
    if math.prod(map(len, each)) > _MOST_WAYS:
        each = [ways[:1] for ways in each]
    plain = {node: twin for node, twin in twins.items() if node in by_node}
    for chosen in product(*each):
        taken = {node: at for way in chosen for node, at in way.items()}
        if taken:
            yield _of_tensors(graph, _pulled(graph, by_node, {**plain, **taken})), None


def _ways(
    graph: Graph, by_node: Mapping[Node, Guarded], twins: Mapping[Node, Node]
) -> list[list[dict[Node, Node]]]:
    """Return the ways to derive each formula: at which nodes' values in the place of its own.

    Without guards; a quotient without, but with the quotient that the forward pass found; as it is.
    And a root that is guarded only afterwards, as it is and with its guard.
    """
    kinds: dict[tuple[str, str], list[Node]] = {}
    roots: dict[str, dict[Node, Node]] = {}
    for node in twins:
        (other,) = _rest(by_node[node], node.operands) if node in by_node else (None,)
        if other is not None and other.primitive is _SQRT and other.shape == node.shape:
            guarded = replace(other, value=node.value)
            roots.setdefault(str(node.source), {})[other] = guarded
        if other is None and is_formula(node):
            kinds.setdefault((node.primitive.name, str(node.source)), []).append(node)
    each: list[list[dict[Node, Node]]] = []
    for nodes in kinds.values():
        ways = [{node: twins[node] for node in nodes}]
        if nodes[0].primitive is _DIVIDE and not nodes[0].operands[0].constant:
            ways.append({node: replace(twins[node], value=node.value) for node in nodes})
        each.append([*ways, {}])
    return [*each, *([{}, found] for found in roots.values())]


def _twins(graph: Graph, by_node: Mapping[Node, Guarded]) -> dict[Node, Node]:
    """Return the nodes that guards guard, computed without these."""
    region = frozenset().union(*(guard.region for guard in by_node.values()))
    twins: dict[Node, Node] = {}
    for node in graph.nodes:
        if node not in region:
            continue
        operands = tuple(twins.get(operand, operand) for operand in node.operands)
        if node not in by_node:
            twins[node] = _again(node, operands)
            continue
        guard = by_node[node]
        other = _passed_on(guard, operands)
        operands = (*operands[: guard.place], _constant(guard), *operands[guard.place + 1 :])
        values = [operand.value for operand in operands]
        value = node.primitive.evaluate(*values, **node.params) if other is None else other.value
        twins[node] = replace(node, operands=operands, value=np.asarray(value))
    return twins


def _pulled(
    graph: Graph, by_node: Mapping[Node, Guarded], taken: Mapping[Node, Node]
) -> dict[Node, FloatArray]:
    """Return the gradients of all nodes, some derived at other values."""
    known = _start(graph)
    for node in reversed(graph.nodes):
        if node not in known or node.constant or node.primitive is PARAMETER:
            continue
        parts = operand_gradients(taken.get(node, node), known[node])
        if node in by_node and node.primitive is WHERE:
            (other,) = _others(by_node[node])
            parts = [known[node] if place == other else None for place in range(3)]
        for operand, part in zip(node.operands, parts, strict=True):
            if part is not None:
                known[operand] = known[operand] + part if operand in known else part
    return known
