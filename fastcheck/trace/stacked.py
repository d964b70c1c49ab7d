"""One operation of a graph for several copies of its operands at once, along a new first axis.

In a loop over numbers an operation takes Python longer than the processor: for a few copies at once
it hardly takes longer than for one. What has no rule here is computed copy by copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastcheck.trace.backward_rules import FloatArray, is_basic, is_elementwise, operand_gradients
from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.primitives import (
    BROADCAST,
    CONCATENATE,
    CONTRACT,
    CUMSUM,
    INDEX,
    LOG_SOFTMAX,
    LOGSUMEXP,
    MAX,
    MIN,
    RESHAPE,
    SUM,
    TRANSPOSE,
    WRITE,
)

_MOST_MULTIPLIED = 1024
"""Larger matrices are multiplied one after the other: that is how the libraries are quickest."""

Made = tuple[Sequence[Node], dict[str, Any]]
"""The operands and the parameters of an operation."""


def copies(node: Node, values: Any) -> Node:
    """Return a node in the place of another that holds a value for each copy: (copies, ...)."""
    return _with(node, node.operands, node.params, values)


def stacked(node: Node, operands: Sequence[Node], count: int) -> Node | None:
    """Return an operation computed from stacks, and its value; None where no rule is known.

    Parameters
    ----------
    node : Node
        The operation, and what it gave for one copy.
    operands : sequence of Node
        Its own where they are constant, and `copies` of the others.
    count : int
        The number of copies.
    """
    made = _made(node, operands, count)
    if made is None:
        return None
    value = node.primitive.evaluate(*[operand.value for operand in made[0]], **made[1])
    shape = (count, *node.shape)
    if value.shape != shape:
        if value.shape != (1, *node.shape):
            return None
        value = np.broadcast_to(value, shape)
    return _with(node, made[0], made[1], value)


def one_by_one(node: Node, operands: Sequence[Node], count: int) -> FloatArray:
    """Return the values of an operation for the copies, computed one after the other."""
    values = [_of_copy(node, operands, place) for place in range(count)]
    return np.stack([node.primitive.evaluate(*row, **node.params) for row in values])


def gradients_one_by_one(
    node: Node, operands: Sequence[Node], value: Any, gradient: FloatArray
) -> list[FloatArray | None]:
    """Return the gradients of the operands for the copies, computed one after the other."""
    rows = []
    for place, own in enumerate(gradient):
        values = _of_copy(node, operands, place)
        pairs = zip(node.operands, values, strict=True)
        of_copy = tuple(replace(operand, value=one) for operand, one in pairs)
        rows.append(operand_gradients(_with(node, of_copy, node.params, value[place]), own))
    return [
        None if any(part is None for part in parts) else np.stack(parts)
        for parts in zip(*rows, strict=True)
    ]


def _of_copy(node: Node, operands: Sequence[Node], place: int) -> list[Any]:
    pairs = zip(node.operands, operands, strict=True)
    return [o.value if stack is o else stack.value[place] for o, stack in pairs]


def _with(node: Node, operands: Sequence[Node], params: Any, value: Any) -> Node:
    # dataclasses.replace takes much longer.
    return Node(
        node.index, node.primitive, tuple(operands), params, value, node.tensors, node.source
    )


def _made(node: Node, operands: Sequence[Node], count: int) -> Made | None:
    if is_elementwise(node):
        return [_aligned(operand, node.ndim) for operand in operands], dict(node.params)
    rule = _RULES.get(node.primitive)
    return None if rule is None else rule(node, operands, count)


def _aligned(operand: Node, ndim: int) -> Node:
    """Return a stack whose elements have so many axes, as broadcasting wants them."""
    if operand.constant:
        return operand
    missing = ndim + 1 - operand.ndim
    if missing <= 0:
        return operand
    first, *rest = operand.shape
    return copies(operand, np.reshape(operand.value, (first, *(1,) * missing, *rest)))


def _spread(operand: Node, count: int) -> Node:
    """Return a stack also of a constant."""
    if not operand.constant:
        return operand
    return copies(operand, np.broadcast_to(operand.value, (count, *operand.shape)))


def _reduced(node: Node, operands: Sequence[Node], count: int) -> Made:
    axes = tuple(axis % node.operands[0].ndim + 1 for axis in node.params["axes"])
    return operands, {**node.params, "axes": axes}


def _reshaped(node: Node, operands: Sequence[Node], count: int) -> Made:
    return operands, {"shape": (count, *node.shape)}


def _broadcast(node: Node, operands: Sequence[Node], count: int) -> Made:
    return [_aligned(operands[0], node.ndim)], {"shape": (count, *node.shape)}


def _transposed(node: Node, operands: Sequence[Node], count: int) -> Made:
    ndim, axes = node.ndim, node.params["axes"]
    order = range(ndim)[::-1] if axes is None else [axis % ndim for axis in axes]
    return operands, {"axes": (0, *(axis + 1 for axis in order))}


def _picked(node: Node, operands: Sequence[Node], count: int) -> Made | None:
    index = node.params["index"]
    return (operands, {"index": _after_copies(index)}) if is_basic(index) else None


def _written(node: Node, operands: Sequence[Node], count: int) -> Made | None:
    index = node.params["index"]
    if not is_basic(index):
        return None
    ndim = np.ndim(node.value[index])
    if node.operands[1].ndim > ndim:  # a row (1, n) in a place (n,)
        return None
    pair = (_spread(operands[0], count), _aligned(operands[1], ndim))
    return pair, {"index": _after_copies(index)}


def _after_copies(index: Any) -> Any:
    return (slice(None), *(index if isinstance(index, tuple) else (index,)))


def _joined(node: Node, operands: Sequence[Node], count: int) -> Made:
    axis = node.params["axis"] % node.ndim + 1
    return [_spread(operand, count) for operand in operands], {"axis": axis}


def _summed_up(node: Node, operands: Sequence[Node], count: int) -> Made:
    return operands, {"axis": node.params["axis"] % node.ndim + 1}


def _contracted(node: Node, operands: Sequence[Node], count: int) -> Made | None:
    if max(operand.value.size for operand in node.operands) > _MOST_MULTIPLIED:
        return None
    *inner, out = node.params["labels"]
    copy = 1 + max((label for labels in inner for label in labels), default=0)
    labels = [
        given if operand.constant else (copy, *given)
        for operand, given in zip(operands, inner, strict=True)
    ]
    return operands, {"labels": (*labels, (copy, *out))}


_RULES: dict[Primitive, Callable[[Node, Sequence[Node], int], Made | None]] = {
    **dict.fromkeys((SUM, MAX, MIN, LOGSUMEXP, LOG_SOFTMAX), _reduced),
    RESHAPE: _reshaped,
    BROADCAST: _broadcast,
    TRANSPOSE: _transposed,
    INDEX: _picked,
    WRITE: _written,
    CONCATENATE: _joined,
    CUMSUM: _summed_up,
    CONTRACT: _contracted,
}
