"""How much rounding a loss may carry, read off its graph.

A loss of exactly zero need not be exact: log(softmax) of logits around 40 is rounded at 40 units of
roundoff, whatever comes out. So the size that counts is that of the terms which are added up, as
the last, linear steps scale them.
"""

from __future__ import annotations

import numpy as np

from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.primitives import (
    BROADCAST,
    CAST,
    INDEX,
    LOG_SOFTMAX,
    LOGSUMEXP,
    RESHAPE,
    SUM,
    TRANSPOSE,
    elementwise,
)

_ROUNDINGS = 64 * 2.0**-53
_DEEPEST = 64
_ADDING: tuple[Primitive, ...] = (
    SUM,
    LOG_SOFTMAX,
    LOGSUMEXP,
    RESHAPE,
    TRANSPOSE,
    BROADCAST,
    INDEX,
    CAST,
    *map(elementwise, (np.add, np.subtract, np.negative, np.positive)),
)
_MULTIPLY, _DIVIDE = elementwise(np.multiply), elementwise(np.divide)


def rounding_of(output: Node) -> float:
    """Return 64 units of roundoff of the largest terms of the loss, in units of the loss."""
    return _ROUNDINGS * _size(output, _DEEPEST, {})


def _size(node: Node, depth: int, known: dict[Node, float]) -> float:
    """Return the largest magnitude among the node and the terms that were added to make it."""
    if node not in known:
        own = _largest(node)
        linear = not node.constant and depth > 0
        known[node] = max([own, *_terms(node, depth - 1, known)]) if linear else own
    return known[node]


def _terms(node: Node, depth: int, known: dict[Node, float]) -> list[float]:
    """Return the sizes of what a linear step adds up, as the step scales them."""
    if node.primitive in _ADDING:
        return [_size(operand, depth, known) for operand in node.operands]
    if node.primitive is _MULTIPLY and any(operand.constant for operand in node.operands):
        a, b = node.operands
        moving, factor = (b, a) if a.constant else (a, b)
        return [_size(moving, depth, known) * _largest(factor)]
    if node.primitive is _DIVIDE and node.operands[1].constant:
        return [_size(node.operands[0], depth, known) / _smallest(node.operands[1])]
    return []


def _largest(node: Node) -> float:
    size = np.abs(np.asarray(node.value, dtype=np.float64))
    return float(np.max(size[np.isfinite(size)], initial=0.0))


def _smallest(node: Node) -> float:
    size = np.abs(np.asarray(node.value, dtype=np.float64))
    return float(np.min(size[size > 0], initial=np.inf))
