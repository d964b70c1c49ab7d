"""A backward pass through the traced forward pass: what a hand-written one should have computed.

It is never what a gradient is judged by: the verdict rests on finite differences alone. Engines are
held against it before their differences are trusted, and mistakes are recognised by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck.trace.backward_rules import (
    CORNERED,
    FloatArray,
    is_basic,
    is_elementwise,
    operand_gradients,
    placed,
    slopes,
)
from fastcheck.trace.graph import PARAMETER, Node
from fastcheck.trace.patience import ask
from fastcheck.trace.primitives import CONCATENATE, INDEX, RESHAPE

_MOST_REMEMBERED = 16
_WAYS = "_ways"

Way = Callable[[FloatArray], FloatArray]
"""From the gradient of an operation's result to that of one of its operands."""


@dataclass(frozen=True, eq=False)
class Fault:
    """A mistake at one place: what flows back to `to` is off by `error` of what flows to `at`.

    Attributes
    ----------
    at : Node
    to : Node
        Computed before `at`.
    error : callable
        From the gradient of `at` to what is added to that of `to`.
    """

    at: Node
    to: Node
    error: Callable[[FloatArray], FloatArray]


def pull_back(
    nodes: Sequence[Node],
    starts: Mapping[Node, FloatArray],
    towards: frozenset[str] | None = None,
    faults: Sequence[Fault] = (),
) -> dict[Node, FloatArray]:
    """Return the gradients of the nodes that those of `starts` lead to, parameters included.

    Parameters
    ----------
    nodes : sequence of Node
        The operations to go back through, in the order in which they were computed.
    starts : mapping
        The gradients to begin with.
    towards : set of str, optional
        The tensors whose gradients are wanted; what leads to others only is left out.
    faults : sequence of Fault
        Mistakes to make on the way.

    Raises
    ------
    NoRuleError
        There is no rule for an operation.
    OutOfTimeError
        More time was spent than `patience` allows for.
    """
    ask()
    known: dict[Node, FloatArray] = dict(starts)
    made: dict[Node, list[Fault]] = {}
    for fault in faults:
        made.setdefault(fault.at, []).append(fault)
    with np.errstate(all="ignore"):
        for node in reversed(nodes):
            if node not in known or node.constant or node.primitive is PARAMETER:
                continue
            parts = _parts(node, known[node], towards)
            for operand, part in parts:
                if part is not None:
                    known[operand] = known[operand] + part if operand in known else part
            for fault in made.get(node, ()):
                if fault.to in known:
                    known[fault.to] = known[fault.to] + fault.error(known[node])
    return known


def _parts(
    node: Node, gradient: FloatArray, towards: frozenset[str] | None
) -> Iterable[tuple[Node, FloatArray | None]]:
    """Return the operands of an operation and their gradients."""
    ways = node.__dict__.get(_WAYS, _WAYS)
    if ways is _WAYS:  # remembered, as a diagnosis goes back through long loops many times
        ways = node.__dict__[_WAYS] = _ways(node)
    if ways is None:
        return zip(node.operands, operand_gradients(node, gradient, towards), strict=True)
    return [
        (operand, way(gradient))
        for operand, way in ways
        if towards is None or not towards.isdisjoint(operand.tensors)
    ]


def _ways(node: Node) -> list[tuple[Node, Way]] | None:
    """Return the moving operands of a small operation, and what its gradient becomes there.

    None where there is more to it: axes to sum over, corners, or much to keep in mind.
    """
    if max(node.value.size, *(o.value.size for o in node.operands)) > _MOST_REMEMBERED:
        return None
    found: list[Way] | None = None
    if node.primitive is RESHAPE:
        found = [_reshaping(node.operands[0].shape)]
    elif node.primitive is INDEX and is_basic(node.params["index"]):
        found = [_placing(node.operands[0].shape, node.params["index"])]
    elif node.primitive is CONCATENATE:
        found = _cutting(node)
    elif _multiplies(node):
        found = [_multiplying(slope) for slope in slopes(node)]
    if found is None:
        return None
    pairs = zip(node.operands, found, strict=True)
    return [(operand, way) for operand, way in pairs if operand.tensors]


def _multiplies(node: Node) -> bool:
    """Whether each operand's gradient is a product of the same shape, wherever corners are."""
    moving = [operand for operand in node.operands if operand.tensors]
    smooth = is_elementwise(node) and node.primitive not in CORNERED
    return smooth and all(operand.shape == node.shape for operand in moving)


def _multiplying(slope: FloatArray) -> Way:
    if slope.ndim == 0 and slope == 1:
        return _as_it_is
    factor = slope[()]  # a number is multiplied much faster than an array without axes
    return lambda gradient: gradient * factor


def _as_it_is(gradient: FloatArray) -> FloatArray:
    return gradient


def _reshaping(shape: tuple[int, ...]) -> Way:
    return lambda gradient: gradient.reshape(shape)


def _placing(shape: tuple[int, ...], index: Any) -> Way:
    return lambda gradient: placed(gradient, shape, index)


def _cutting(node: Node) -> list[Way]:
    axis = node.params["axis"] % node.ndim
    ends = np.cumsum([operand.shape[axis] for operand in node.operands]).tolist()
    before = (slice(None),) * axis
    return [
        _picking((*before, slice(start, end))) for start, end in zip([0, *ends], ends, strict=False)
    ]


def _picking(index: Any) -> Way:
    return lambda gradient: gradient[index]
