"""The same mistake at several places: in a layer's class, in a loop over time, in one formula.

What a class or a loop gets wrong is wrong wherever it runs: all operations that one source line
makes are tried together, and so are all statistics (a mean, a variance) that one layer forms of
the same array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward import Fault, pull_back
from fastcheck.trace.backward_rules import factor_gradient, is_elementwise, operand_gradients
from fastcheck.trace.graph import PARAMETER, Node
from fastcheck.trace.primitives import CONTRACT, INDEX, MAX, MIN, SUM
from fastcheck.verdict.diagnosis.depths import is_parameter_itself
from fastcheck.verdict.diagnosis.families.activations import (
    cause_of,
    is_shut,
    open_slope,
    wrong_slopes,
)
from fastcheck.verdict.diagnosis.functions import Function, functions_of
from fastcheck.verdict.diagnosis.in_time import is_through_time
from fastcheck.verdict.diagnosis.naming import operation
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass

_OPERATIONS = 30_000
"""So many operations are gone back through in all."""
_FEWEST, _MOST = 4, 48
_MOST_NEAR = 24
_MOST_STARTS = 400
_MOST_PAIRED = 4
_TERMS = 2
"""So many functions of one line may be terms of one formula."""
_LINES_NAMED = 3
_MORE = 0.15
"""A mistake made everywhere takes a little more to say than one that was made once."""
_A_STEP = 1e-3
_FORMS = (SUM, MAX, MIN)

Edge = tuple[Node, Node, int]
"""An operation, what takes it, and as which operand."""


@dataclass(frozen=True, eq=False)
class Mistake:
    """What is wrong at all of these places."""

    cause: str
    complexity: float
    faults: tuple[Fault, ...]
    figures: dict[str, Any] = field(default_factory=dict)


def everywhere(passed: RightPass, found: Found) -> None:
    """The same mistake was made wherever a line of the forward pass runs."""
    most = min(_MOST, max(_FEWEST, _OPERATIONS // max(len(passed.graph), 1)))
    families = (_statistics, _products, _cuts, _derivatives)
    streams = [family(passed) for family in families]
    left, seen = most, set()
    while streams and left > 0:  # each in its turn, or the first would use up all
        for stream in tuple(streams):
            mistake = next(stream, None)
            if mistake is None:
                streams.remove(stream)
                continue
            places = _places(mistake)
            if places in seen:
                continue
            seen.add(places)
            figures = {**mistake.figures, "places": len(mistake.faults)}
            passed.add_with_faults(
                found, mistake.faults, mistake.cause, mistake.complexity, figures
            )
            left -= 1
    for edges in (ways for several in _ways_on(passed) for ways in several.values()):
        # Each takes as many passes as there are steps.
        if len(edges) <= most and is_through_time(passed, [operand for operand, _, _ in edges]):
            most -= len(edges)
            _truncated(passed, found, edges)


def _places(mistake: Mistake) -> tuple[Any, ...]:
    where = frozenset((fault.at, fault.to) for fault in mistake.faults)
    return mistake.cause, mistake.figures.get("taken"), where


def _is_inside(passed: RightPass, node: Node) -> bool:
    """Whether something flows through a node to what is unexplained, other than a tensor itself."""
    inside = node in passed.gradients and not is_parameter_itself(node)
    return inside and bool(node.tensors & passed.names)


def _of_same_line(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Yield the operations of a kind that one line makes, where there are several."""
    alike: dict[Any, list[Node]] = {}
    for node in nodes:
        alike.setdefault((node.primitive, node.source), []).append(node)
    yield from (group for group in alike.values() if len(group) > 1)


def lines_of(nodes: Sequence[Node]) -> str:
    """Return the source lines of operations, the first few of them."""
    lines = list(dict.fromkeys(str(node.source) for node in nodes))
    more = ", …" if len(lines) > _LINES_NAMED else ""
    return ", ".join(lines[:_LINES_NAMED]) + more


# --- derivatives -----------------------------------------------------------------------------


def _derivatives(passed: RightPass) -> Iterator[Mistake]:
    """Yield that the derivative of an activation is missing, or another's, at every layer."""
    starts = [node for node in passed.graph if _is_inside(passed, node)]
    by_line: dict[Any, list[Function]] = {}
    by_origin: dict[Any, list[Function]] = {}
    by_kind: dict[Any, list[Function]] = {}
    for start in starts[:_MOST_STARTS]:
        for made in functions_of(_near(passed, start), start):
            if made.result in passed.gradients and not is_shut(made):
                kind = tuple(node.primitive for node in made.operations)
                by_kind.setdefault(kind, []).append(made)
                lines = tuple(node.source for node in made.operations)
                by_line.setdefault((kind, lines), []).append(made)
                by_origin.setdefault((kind, lines, _origin(start)), []).append(made)
    groups = [
        group
        for found in (by_line, by_origin, by_kind)
        for group in found.values()
        if len(group) > 1 and _are_layers(passed, group)
    ]
    tried = [_wrong_everywhere(passed, group) for group in groups]
    while tried:  # of all functions the likeliest mistake first
        for one in tuple(tried):
            mistake = next(one, None)
            if mistake is None:
                tried.remove(one)
            else:
                yield mistake


def _origin(node: Node) -> frozenset[str]:
    """Return which parameters, or which part of an array, an operation takes: the gates of a cell.

    These tell operations of one line apart.
    """
    found = set()
    ahead = [node]
    for _ in range(_MOST_NEAR):
        if not ahead:
            break
        one = ahead.pop()
        if one.primitive is PARAMETER:
            found.add(str(one.params["name"]))
        elif one.primitive is INDEX:
            found.add(str(one.params["index"]))
        elif one.primitive is CONTRACT:
            ahead += [operand for operand in one.operands if is_parameter_itself(operand)]
        else:
            ahead += [operand for operand in one.operands if not operand.constant]
    return frozenset(found)


def _are_layers(passed: RightPass, group: Sequence[Function]) -> bool:
    """Whether functions are several layers, steps or samples, and not two terms of one formula."""
    starts = [made.start for made in group]
    if len({start.tensors for start in starts}) > 1 or len(group) > _TERMS:
        return True
    last = max(starts, key=lambda start: start.index)
    return any(made.result in _leading_to(passed, [last]) for made in group)


def _near(passed: RightPass, start: Node) -> list[Node]:
    """Return what is made of an array, element by element, in order."""
    near: dict[Node, None] = {}
    ahead = [start]
    while ahead and len(near) < _MOST_NEAR:
        for user, _ in passed.users.get(ahead.pop(), []):
            if user not in near and user.shape == start.shape:
                near[user] = None
                ahead.append(user)
    return sorted(near, key=lambda node: node.index)


def _wrong_everywhere(passed: RightPass, group: Sequence[Function]) -> Iterator[Mistake]:
    wrong = [{text: slope for slope, text in wrong_slopes(made)} for made in group]
    for text in dict.fromkeys(text for slopes in wrong for text in slopes):
        both = [
            (made, slopes[text])
            for made, slopes in zip(group, wrong, strict=True)
            if text in slopes
        ]
        if len(both) < 2:
            continue
        first = group[0]
        yield Mistake(
            cause_of(first, text),
            (1.1 if text else 1.0) + _MORE,
            tuple(Fault(m.result, m.start, _times(slope - m.slope)) for m, slope in both),
            {
                "operation": first.name,
                "source": lines_of([made.result for made, _ in both]),
                "taken": text,
                "slope": float(first.slope.flat[0]),
                "open": open_slope(first),
                "after": passed.nearest,
            },
        )


def _times(factor: FloatArray) -> Callable[[FloatArray], FloatArray]:
    return lambda flow: flow * factor


# --- paths -----------------------------------------------------------------------------------


def _cuts(passed: RightPass) -> Iterator[Mistake]:
    """Yield that one way on, or all ways on in time, are left out wherever a line runs."""
    steps, others = _ways_on(passed)
    for edges in (*steps.values(), *others.values()):
        yield _cut(edges)
    for one, two in combinations(list(steps.values())[:_MOST_PAIRED], 2):
        yield _cut([*one, *(edge for edge in two if edge not in one)])


Ways = dict[frozenset[Edge], list[Edge]]


def _ways_on(passed: RightPass) -> tuple[Ways, Ways]:
    """Return ways on that recur: those from one step in time to the next, and others."""
    inside = [node for node in passed.graph if _is_inside(passed, node)]
    steps: Ways = {}
    others: Ways = {}
    for group in _of_same_line(inside):
        alike: dict[Any, list[Edge]] = {}
        for operand in group:
            for user, place in passed.users.get(operand, []):
                kind = (user.primitive, user.source, place)
                alike.setdefault(kind, []).append((operand, user, place))
        leads = _leading_to(passed, group)
        # What is written into an array and read again leads on but for the last.
        onward = [
            edges
            for edges in alike.values()
            if _most_lead_on(edges, leads) and any(_is_one_of_several(passed, e) for e in edges)
        ]
        for edges in (*onward, [edge for each in onward for edge in each]):
            if len(edges) > 1:
                # From the last step none leads on.
                is_step = len({operand for operand, _, _ in edges}) == len(group) - 1
                (steps if is_step else others)[frozenset(edges)] = edges
    return steps, others


def _is_one_of_several(passed: RightPass, edge: Edge) -> bool:
    """Whether it is not the only way: then to leave it out would be to leave out everything."""
    operand = edge[0]
    return len(passed.users[operand]) > 1 or bool(operand.tensors & passed.reused)


def _most_lead_on(edges: Sequence[Edge], leads: set[Node]) -> bool:
    on = sum(user in leads for _, user, _ in edges)
    return on > 0 and on >= len(edges) - 1


def _truncated(passed: RightPass, found: Found, edges: Sequence[Edge]) -> None:
    """Add that what flows back does so for so many steps only, and is cut off there."""
    graph, crossed = passed.graph, dict[Node, FloatArray]()
    assert graph.output is not None

    def stopped(operand: Node, user: Node, place: int) -> Fault:
        def error(flow: FloatArray) -> FloatArray:
            part = operand_gradients(user, flow)[place]
            assert part is not None
            crossed[operand] = crossed.get(operand, np.zeros(operand.shape)) + part
            return -part

        return Fault(user, operand, error)

    faults = [stopped(*edge) for edge in edges]
    starts = {graph.output: passed.gradients[graph.output]}
    totals = {name: np.zeros(node.shape) for name, node in graph.parameters.items()}
    users = [user for _, user, _ in edges]
    for count in range(len(edges) + 1):
        crossed.clear()
        moved = pull_back(graph.nodes, starts, None, faults)
        for name, node in graph.parameters.items():
            if node in moved:
                totals[name] = totals[name] + moved[node]
        if not crossed:
            return
        if count:  # that none is carried on at all is a cut of every step
            figures = {
                "operation": operation(users[0]),
                "source": lines_of(users),
                "what": "truncated",
                "steps": count,
            }
            reached = {n: t for n, t in totals.items() if graph.parameters[n] in passed.gradients}
            # Of two ways to say it, the one with fewer steps: an operation of each step counts one
            # more than what leads from one to the next.
            complexity = 0.95 + _MORE + _A_STEP * count
            passed.add_totals(found, reached, "missing-path", complexity, figures)
        starts = dict(crossed)


def _leading_to(passed: RightPass, group: Sequence[Node]) -> set[Node]:
    """Return some operations and what leads to one of them: a step on in time, say."""
    leads = set(group)
    for node in reversed(passed.graph.nodes):
        if node in leads:
            leads.update(operand for operand in node.operands if not operand.constant)
    return leads


def _cut(edges: Sequence[Edge], complexity: float = 0.95 + _MORE, what: str = "missing") -> Mistake:
    users = [user for _, user, _ in edges]
    return Mistake(
        "missing-path",
        complexity,
        tuple(Fault(user, operand, _without(user, place)) for operand, user, place in edges),
        {
            "operation": ", ".join(dict.fromkeys(operation(user) for user in users)),
            "source": lines_of(users),
            "what": what,
        },
    )


def _without(node: Node, place: int) -> Callable[[FloatArray], FloatArray]:
    def error(flow: FloatArray) -> FloatArray:
        part = operand_gradients(node, flow)[place]
        return -part if part is not None else np.zeros(node.operands[place].shape)

    return error


# --- statistics ------------------------------------------------------------------------------


def _statistics(passed: RightPass) -> Iterator[Mistake]:
    """Yield that all statistics of a layer (the mean and the variance) are taken for constants."""
    layers: dict[Any, list[Edge]] = {}
    for node in passed.graph:
        if node in passed.gradients and is_elementwise(node):
            for place, operand in enumerate(node.operands):
                if _is_statistic(operand, node):
                    layers.setdefault(operand.tensors, []).append((operand, node, place))
    several = [edges for edges in layers.values() if len(edges) > 1]
    for edges in several:
        yield _cut(edges, what="constant")
    by_lines: dict[Any, list[Edge]] = {}
    for edges in several:
        by_lines.setdefault(tuple(user.source for _, user, _ in edges), []).extend(edges)
    for edges in by_lines.values():
        yield _cut(edges, 0.95 + 2 * _MORE, what="constant")


def _is_statistic(operand: Node, node: Node) -> bool:
    """Whether an array was formed over an axis of others and is spread over it again."""
    if operand.constant or operand.value.size >= node.value.size:
        return False
    return not is_parameter_itself(operand) and _is_formed(operand)


def _is_formed(node: Node) -> bool:
    """Whether the last thing that changed the shape of an array was a sum over an axis."""
    for _ in range(_MOST_NEAR):
        if node.primitive in _FORMS:
            return True
        inner = [operand for operand in node.operands if not operand.constant]
        if len(inner) != 1 or node.primitive is CONTRACT:
            return False
        (node,) = inner
    return False


# --- products --------------------------------------------------------------------------------


def _products(passed: RightPass) -> Iterator[Mistake]:
    """Yield that weights stand in the backward pass as in the forward pass, not transposed."""
    square = [
        (node, place)
        for node in passed.graph
        if node.primitive is CONTRACT and node in passed.gradients
        for place in (0, 1)
        if _is_square(node, place) and _is_inside(passed, node.operands[1 - place])
    ]
    groups: dict[Any, list[tuple[Node, int]]] = {}
    for node, place in square:
        groups.setdefault((node.source, place), []).append((node, place))
    everything = [square] if len(groups) > 1 else []
    alone = sorted(([one] for one in square), key=lambda one: passed.order(one[0][0]))
    for products in (*groups.values(), *everything, *alone):
        nodes = [node for node, _ in products]
        yield Mistake(
            "weights-not-transposed",
            1.0 + _MORE * (len(products) > 1),
            tuple(
                Fault(node, node.operands[1 - place], _turned(node, place))
                for node, place in products
            ),
            {"operation": "contract", "source": lines_of(nodes)},
        )


def _is_square(node: Node, place: int) -> bool:
    weights = node.operands[place]
    if (
        weights.ndim != 2
        or weights.shape[0] != weights.shape[1]
        or not is_parameter_itself(weights)
    ):
        return False
    return not np.array_equal(weights.value, weights.value.T)


def _turned(node: Node, place: int) -> Callable[[FloatArray], FloatArray]:
    value = np.asarray(node.operands[place].value, dtype=np.float64)

    def error(flow: FloatArray) -> FloatArray:
        return factor_gradient(node, 1 - place, flow, value.T - value)

    return error
