"""How much rounding a loss may carry, read off its graph.

Two measures: the size of the terms that the loss adds up, and what jittered roundings do to it.

A loss of exactly zero need not be exact: log(softmax) of logits around 40 is rounded at 40 units of
roundoff, whatever comes out. So the size that counts is that of the terms which are added up, as
the last, linear steps scale them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.trace.graph import PARAMETER, Graph, Node, Primitive
from fastcheck.trace.primitives import (
    BROADCAST,
    CAST,
    CONCATENATE,
    INDEX,
    LOG_SOFTMAX,
    LOGSUMEXP,
    MAX,
    MIN,
    RESHAPE,
    SUM,
    TRANSPOSE,
    WHERE,
    WRITE,
    elementwise,
)

_ROUNDINGS = 64 * 2.0**-53
_JITTER = 4 * 2.0**-53
_DRAWS = 4
_MOST = 1e-4
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
# These only move values about, or choose one: there is nothing to round.
_EXACT: tuple[Primitive, ...] = (
    RESHAPE,
    TRANSPOSE,
    BROADCAST,
    INDEX,
    CONCATENATE,
    WHERE,
    WRITE,
    MAX,
    MIN,
    *map(elementwise, (np.negative, np.positive, np.absolute, np.maximum, np.minimum)),
)
_MULTIPLY, _DIVIDE = elementwise(np.multiply), elementwise(np.divide)


def term_size(output: Node) -> float:
    """Return the magnitude of the largest terms that the loss is made of; at least its own."""
    return _size(output, _DEEPEST, {})


def rounding_of(output: Node) -> float:
    """Return 64 units of roundoff of the largest terms of the loss, in units of the loss."""
    return roundings(term_size(output))


def roundings(magnitude: float) -> float:
    """Return 64 units of roundoff of terms of that magnitude."""
    return _ROUNDINGS * magnitude


def jitter_noise(
    graph: Graph,
    rng: np.random.Generator,
    moved: Mapping[str, NDArray[np.float64]] | None = None,
) -> float:
    """Return how far rounding may move the loss: σ, from computing it with jittered roundings.

    Every intermediate value is moved by up to four units of roundoff at random, as an unlucky
    rounding might. A difference that cancels (1 − p with p near 1, then a logarithm) shows its loss
    of digits here, where the loss itself may look smooth for want of points nearby.

    Parameters
    ----------
    graph : Graph
        The forward pass at θ.
    rng : numpy.random.Generator
        Draws the roundings.
    moved : mapping, optional
        Tensor name → other values than at θ: the loss is computed there.
    """
    assert graph.output is not None
    start = {graph.parameters[name]: value for name, value in (moved or {}).items()}
    plain = _evaluated(graph, start) if start else {}
    base = float(np.reshape(plain.get(graph.output, graph.output.value), ()))
    losses = [_jittered(graph, rng, plain) for _ in range(_DRAWS)]
    gaps = [abs(loss - base) for loss in losses if loss is not None and np.isfinite(loss)]
    # More than this is no rounding: the loss itself would be meaningless.
    size = max(term_size(graph.output), abs(base) if math.isfinite(base) else 0.0)
    return min(max(gaps, default=0.0), _MOST * size)


def _evaluated(graph: Graph, start: dict[Node, Any]) -> dict[Node, Any]:
    """Return the values of all nodes that depend on those of `start`."""
    known = dict(start)
    with np.errstate(all="ignore"):
        for node in graph:
            if any(operand in known for operand in node.operands):
                operands = [known.get(operand, operand.value) for operand in node.operands]
                known[node] = node.primitive.evaluate(*operands, **node.params)
    return known


def _jittered(graph: Graph, rng: np.random.Generator, plain: dict[Node, Any]) -> float | None:
    """Return the loss with jittered roundings; None where a comparison or step came out otherwise.

    A jump is no rounding, and must not excuse a trace that misses something. `plain` holds the
    values without jitter that are others than at θ.
    """
    assert graph.output is not None
    known: dict[Node, Any] = {n: v for n, v in plain.items() if n.primitive is PARAMETER}
    with np.errstate(all="ignore"):
        for node in graph:
            if node.constant or node.primitive is PARAMETER:
                continue
            operands = [known.get(operand, operand.value) for operand in node.operands]
            value = node.primitive.evaluate(*operands, **node.params)
            if value.dtype.kind == "f" and node.primitive not in _EXACT:
                value = value * (1.0 + _JITTER * rng.uniform(-1.0, 1.0, value.shape))
            if node.primitive.discrete and not np.array_equal(value, plain.get(node, node.value)):
                return None
            known[node] = value
    return float(np.reshape(known.get(graph.output, graph.output.value), ()))


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
    top = float(np.max(size, initial=0.0))
    return top if math.isfinite(top) else float(np.max(size[np.isfinite(size)], initial=0.0))


def _smallest(node: Node) -> float:
    size = np.abs(np.asarray(node.value, dtype=np.float64))
    return float(np.min(size[size > 0], initial=np.inf))
