"""The derivative of an activation is missing or another's, or one of several paths is left out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward_rules import operand_gradients
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT
from fastcheck.verdict.diagnosis.depths import is_parameter_itself
from fastcheck.verdict.diagnosis.functions import Function, functions_of, slopes_at
from fastcheck.verdict.diagnosis.naming import operation
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass

_MOST_NODES = 8
_MOST_FUNCTIONS = 4
_MOST_EDGES = 24
_MOST_ABOVE = 24
_PRODUCTS = ("multiply", "divide")
_LINEAR = {*_PRODUCTS, "add", "subtract", "negative", "positive", "cast"}
_COMPLEXITY = {"constant-left-out": 1.2}
"""It takes less to say that all of a gradient is too large."""


def activations(passed: RightPass, found: Found) -> None:
    """The derivative of an activation is missing, or is another function's."""
    starts = [n for n in passed.gradients if passed.could_spoil(n) and not is_parameter_itself(n)]
    for start in sorted(starts, key=passed.order)[:_MOST_NODES]:
        for made in functions_of(passed.graph.nodes, start)[:_MOST_FUNCTIONS]:
            flow = passed.gradients.get(made.result)
            if flow is None or is_shut(made):
                continue
            for wrong, text in wrong_slopes(made):
                figures = {"operation": made.name, "source": str(made.source), "taken": text}
                cause = cause_of(made, text)
                slope = float(made.slope.flat[0])
                passed.add_changed(
                    found,
                    start,
                    flow * (wrong - made.slope),
                    cause,
                    _COMPLEXITY.get(cause, 1.0) if not text else 1.1,
                    {
                        **figures,
                        "slope": slope,
                        "open": open_slope(made),
                        "after": passed.nearest,
                    },
                )


def cause_of(made: Function, taken: str) -> str:
    """Return what it is called that this derivative is missing, or that another one is taken."""
    if taken:
        return "activation-derivative"
    slope = made.slope
    if {node.primitive.name for node in made.operations} <= _LINEAR:
        # A mask that lets all through still divides by the share that it keeps.
        return "missing-mask" if _has_array(made) else "constant-left-out"
    is_mask = len(np.unique(slope)) <= 2 and bool(np.any((slope == 0) | (slope == 1)))
    return "missing-mask" if is_mask else "activation-derivative"


def open_slope(made: Function) -> float | None:
    """Return the derivative where an operation lets its input through, if that is one number."""
    slopes = np.unique(made.slope)
    slopes = slopes[slopes != 0]
    return float(slopes[0]) if len(slopes) == 1 else None


def is_shut(made: Function) -> bool:
    """Whether data that are zero throughout let nothing through.

    ``(1 - Y) * log(1 - A)`` where every label is 1: to leave the zeros out is to add a term, which
    another mistake may well come to.
    """
    linear = {node.primitive.name for node in made.operations} <= _LINEAR
    return linear and _has_array(made) and not np.any(made.slope)


def _has_array(made: Function) -> bool:
    """Whether a function multiplies by an array of the data, and not by one number."""
    products = [node for node in made.operations if node.primitive.name in _PRODUCTS]
    operands = [operand for node in products for operand in node.operands]
    return any(operand.constant and operand.ndim > 0 for operand in operands)


def wrong_slopes(made: Function) -> Iterator[tuple[FloatArray, str]]:
    """Yield what people write for a derivative, and how; nothing at all comes first."""
    x, y, slope = made.start.value, made.result.value, made.slope
    tried = [slope]
    with np.errstate(all="ignore"):
        for wrong, text in _guesses(made, np.asarray(x), np.asarray(y), slope):
            full = np.broadcast_to(wrong, slope.shape)
            if not full.any():
                continue  # that nothing flows back is no derivative, but a path left out
            if np.isfinite(full).all() and not any(np.array_equal(full, old) for old in tried):
                tried.append(full)
                yield full, text


def _guesses(
    made: Function, x: FloatArray, y: FloatArray, slope: FloatArray
) -> Iterator[tuple[FloatArray, str]]:
    yield np.ones(()), ""
    if np.all(slope == slope.flat[0]) or (np.array_equal(y, slope * x) and not np.any(slope < 0)):
        return  # multiples and masks: there is no other derivative to mistake theirs for
    yield slopes_at(made, y), "its own formula at the output a, not at the input z,"
    yield y * (1 - y), "a·(1 − a) of its output a"
    yield 1 - y**2, "1 − a² of its output a"
    yield 1 - y, "1 − a of its output a"
    yield y, "its output a itself"
    yield x * (1 - x), "z·(1 − z) of its input z"
    yield 1 - x**2, "1 − z² of its input z"
    yield np.asarray(x > 0, dtype=np.float64), "z > 0 of its input z"
    yield x, "its input z itself"
    yield -slope, "the right one with the wrong sign"


def _joins(passed: RightPass, node: Node) -> bool:
    """Whether several ways meet in a node, of which some go on past it as well.

    A sample of mean and width, say, where both go into a penalty, too: to leave out what flows
    back to it leaves out one path of several, though only one leads on from here.
    """
    ways = [operand for operand in node.operands if not operand.constant]
    return len(ways) > 1 and any(len(passed.users[n]) > 1 for n in _near_above(ways))


def _near_above(ahead: list[Node]) -> Iterator[Node]:
    """Yield what some nodes are made of, the nearest first."""
    seen = dict.fromkeys(ahead)
    for node in (queue := list(seen)):
        yield node
        new = [o for o in node.operands if not o.constant and o not in seen]
        seen.update(dict.fromkeys(new))
        if len(seen) <= _MOST_ABOVE:
            queue += new


def paths(passed: RightPass, found: Found) -> None:
    """One of several ways from an array to the loss was left out, or counted twice."""
    edges = [
        (operand, node, place)
        for operand, users in passed.users.items()
        if passed.could_spoil(operand)
        for node, place in users
        # A single way is one of several where parameters are used again further back.
        if len(users) > 1 or (node.primitive is CONTRACT and operand.tensors & passed.reused)
    ]
    joined = [
        (operand, *users[0])
        for operand, users in passed.users.items()
        if len(users) == 1 and passed.could_spoil(operand) and _joins(passed, operand)
    ]
    chosen = [
        edge
        for several in (edges, joined)
        for edge in sorted(several, key=lambda edge: passed.order(edge[0]))[:_MOST_EDGES]
    ]
    for operand, node, place in dict.fromkeys(chosen):
        part = operand_gradients(node, passed.gradients[node])[place]
        if part is None:
            continue
        for times, what, cause in ((-1.0, "missing", "missing-path"), (1.0, "twice", "path-twice")):
            passed.add_changed(
                found,
                operand,
                times * part,
                cause,
                0.95,
                {"operation": operation(node), "source": str(node.source), "what": what},
            )
