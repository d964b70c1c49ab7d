"""What the gradient of an operation's result makes of those of its operands, by operation.

The slope of a corner, as `maximum` has one, is that which central differences see, or another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.primitives import (
    ACCUMULATE_AT,
    BROADCAST,
    CAST,
    CONCATENATE,
    CONTRACT,
    CUMSUM,
    DIAGONAL,
    ELEMENTWISE,
    INDEX,
    LOG_SOFTMAX,
    LOGSUMEXP,
    MAX,
    MIN,
    RESHAPE,
    SIGMOID,
    SPECIAL,
    SUM,
    TRANSPOSE,
    WHERE,
    WRITE,
    contract_values,
)

FloatArray = NDArray[np.float64]
_BETWEEN = 0.5
_AT_CORNERS = ContextVar("slope at corners", default=_BETWEEN)

Pull = Callable[[Node, FloatArray], list[FloatArray | None]]
"""From an operation and the gradient of its result to those of its operands."""


class NoRuleError(Exception):
    """An operation that no backward rule is known for."""


def operand_gradients(
    node: Node, gradient: FloatArray, towards: frozenset[str] | None = None
) -> list[FloatArray | None]:
    """Return the gradients of an operation's operands; None for those that need or have none.

    Raises
    ------
    NoRuleError
        There is no rule for the operation.
    """
    if node.primitive.discrete:
        return [None] * len(node.operands)
    wanted = [bool(o.tensors if towards is None else o.tensors & towards) for o in node.operands]
    if node.primitive is CONTRACT:
        return [
            _of_factor(node, place, gradient) if want else None for place, want in enumerate(wanted)
        ]
    if node.primitive in _PULLS:
        parts = _PULLS[node.primitive](node, gradient)
        return [part if want else None for part, want in zip(parts, wanted, strict=True)]
    return [
        unbroadcast(gradient * slope, operand.shape) if want else None
        for operand, slope, want in zip(node.operands, slopes(node), wanted, strict=True)
    ]


def slopes(node: Node) -> list[FloatArray]:
    """Return the derivatives of an elementwise operation with respect to each operand."""
    if node.primitive not in _SLOPES:
        raise NoRuleError(node.primitive.name)
    values = [np.asarray(operand.value, dtype=np.float64) for operand in node.operands]
    with np.errstate(all="ignore"):
        found = _SLOPES[node.primitive](*values, np.asarray(node.value, dtype=np.float64))
    share = _AT_CORNERS.get()
    moving = [not operand.constant for operand in node.operands]
    if share != _BETWEEN and node.primitive in CORNERED and sum(moving) == 1:
        tied = values[0] == values[1]
        found = [np.where(tied, share, s) if m else s for s, m in zip(found, moving, strict=True)]
    return [np.asarray(slope, dtype=np.float64) for slope in found]


@contextmanager
def at_corners(share: float) -> Iterator[None]:
    """Take this slope for ``maximum(0, z)`` at z = 0, where central differences see a half.

    Of equal elements ``max`` then takes the first, and not a share of each.
    """
    token = _AT_CORNERS.set(share)
    try:
        yield
    finally:
        _AT_CORNERS.reset(token)


def has_corners(nodes: Sequence[Node]) -> bool:
    """Whether some ``maximum(0, z)`` lies just at its corner, or two elements share a maximum."""
    return any(_is_shared(node) for node in nodes) or any(
        node.primitive in CORNERED
        and sum(operand.constant for operand in node.operands) == 1
        and bool(np.any(np.equal(*(operand.value for operand in node.operands))))
        for node in nodes
    )


def _is_shared(node: Node) -> bool:
    if node.primitive not in (MAX, MIN) or node.constant:
        return False
    best = node.operands[0].value == _spread(node, np.asarray(node.value))
    return bool(np.any(best.sum(axis=node.params["axes"]) > 1))


def is_elementwise(node: Node) -> bool:
    """Whether `slopes` knows the operation."""
    return node.primitive in _SLOPES


def unbroadcast(gradient: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the gradient of what was broadcast from `shape`: sums over the axes added.

    A row (1, n) may also have been written into a place (n,).
    """
    if gradient.shape == shape:  # as nearly always, and long loops do little else
        return gradient
    extra = gradient.ndim - len(shape)
    if extra > 0:
        gradient = gradient.sum(axis=tuple(range(extra)))
    elif extra < 0:
        gradient = gradient.reshape((1,) * -extra + gradient.shape)
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and gradient.shape[i] != 1)
    if axes:
        gradient = gradient.sum(axis=axes, keepdims=True)
    return np.broadcast_to(gradient, shape)


def _larger(a: FloatArray, b: FloatArray, _: FloatArray) -> list[FloatArray]:
    return [0.5 * ((a > b) + 1.0 * (a >= b)), 0.5 * ((b > a) + 1.0 * (b >= a))]


def _smaller(a: FloatArray, b: FloatArray, _: FloatArray) -> list[FloatArray]:
    return [0.5 * ((a < b) + 1.0 * (a <= b)), 0.5 * ((b < a) + 1.0 * (b <= a))]


_OF_UFUNCS: dict[np.ufunc, Callable[..., list[FloatArray]]] = {
    np.add: lambda a, b, y: [np.ones(()), np.ones(())],
    np.subtract: lambda a, b, y: [np.ones(()), -np.ones(())],
    np.multiply: lambda a, b, y: [b, a],
    np.divide: lambda a, b, y: [1 / b, -y / b],
    np.power: lambda a, b, y: [b * a ** (b - 1), y * np.log(a)],
    np.negative: lambda x, y: [-np.ones(())],
    np.positive: lambda x, y: [np.ones(())],
    np.exp: lambda x, y: [y],
    np.exp2: lambda x, y: [y * math.log(2)],
    np.expm1: lambda x, y: [y + 1],
    np.log: lambda x, y: [1 / x],
    np.log2: lambda x, y: [1 / (x * math.log(2))],
    np.log10: lambda x, y: [1 / (x * math.log(10))],
    np.log1p: lambda x, y: [1 / (1 + x)],
    np.sqrt: lambda x, y: [0.5 / y],
    np.square: lambda x, y: [2 * x],
    np.reciprocal: lambda x, y: [-(y**2)],
    np.sin: lambda x, y: [np.cos(x)],
    np.cos: lambda x, y: [-np.sin(x)],
    np.tanh: lambda x, y: [1 - y**2],
    np.arctan: lambda x, y: [1 / (1 + x**2)],
    np.absolute: lambda x, y: [np.sign(x)],
    np.fabs: lambda x, y: [np.sign(x)],
    np.logaddexp: lambda a, b, y: [np.exp(a - y), np.exp(b - y)],
    np.maximum: _larger,
    np.minimum: _smaller,
    np.fmax: _larger,
    np.fmin: _smaller,
}
_SLOPES: dict[Primitive, Callable[..., list[FloatArray]]] = {
    **{ELEMENTWISE[ufunc]: rule for ufunc, rule in _OF_UFUNCS.items()},
    SIGMOID: lambda x, y: [y * (1 - y)],
    SPECIAL["expit"]: lambda x, y: [y * (1 - y)],
    SPECIAL["erf"]: lambda x, y: [2 / math.sqrt(math.pi) * np.exp(-(x**2))],
    CAST: lambda x, y: [np.ones(())],
    WHERE: lambda c, a, b, y: [np.zeros(()), 1.0 * (c != 0), 1.0 * (c == 0)],
}


CORNERED = [ELEMENTWISE[f] for f in (np.maximum, np.minimum, np.fmax, np.fmin)]


def _spread(node: Node, gradient: FloatArray) -> FloatArray:
    """Return a reduction's gradient with the axes that it took away, at length 1."""
    (operand,) = node.operands
    if not node.params["keepdims"]:
        gradient = np.expand_dims(gradient, node.params["axes"])
    return np.broadcast_to(gradient, operand.shape)


def _sum(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    return [_spread(node, gradient)]


def _extreme(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    (operand,) = node.operands
    best = 1.0 * (operand.value == _spread(node, np.asarray(node.value)))
    if _AT_CORNERS.get() != _BETWEEN:
        best = _first(best, node.params["axes"])
    return [_spread(node, gradient) * best / best.sum(axis=node.params["axes"], keepdims=True)]


def _first(best: FloatArray, axes: tuple[int, ...]) -> FloatArray:
    """Return the first of equal extremes, which is argmax's choice."""
    last = tuple(range(-len(axes), 0))
    moved = np.moveaxis(best, axes, last)
    rows = moved.reshape(*moved.shape[: moved.ndim - len(axes)], -1)
    first = np.cumsum(rows, axis=-1) * rows == 1
    return np.moveaxis(1.0 * first.reshape(moved.shape), last, axes)


def _logsumexp(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    (operand,) = node.operands
    return [_spread(node, gradient) * np.exp(operand.value - _spread(node, np.asarray(node.value)))]


def _log_softmax(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    total = gradient.sum(axis=node.params["axes"], keepdims=True)
    return [gradient - np.exp(node.value) * total]


def _reshape(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    return [np.reshape(gradient, node.operands[0].shape)]


def _transpose(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    axes = node.params["axes"]
    return [np.transpose(gradient, None if axes is None else np.argsort(axes))]


def _broadcast(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    return [unbroadcast(gradient, node.operands[0].shape)]


def _index(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    (operand,) = node.operands
    if node.primitive is INDEX and is_basic(node.params["index"]):  # every place once
        return [placed(gradient, operand.shape, node.params["index"])]
    whole = np.zeros(operand.value.size)
    places = node.primitive.evaluate(np.arange(whole.size).reshape(operand.shape), **node.params)
    np.add.at(whole, places, gradient)
    return [whole.reshape(operand.shape)]


def placed(gradient: FloatArray, shape: tuple[int, ...], index: Any) -> FloatArray:
    """Return zeros of a shape with the gradient at a basic index."""
    whole = np.zeros(shape)
    whole[index] = gradient
    return whole


def is_basic(index: Any) -> bool:
    """Whether an index is made of whole numbers, slices and new axes, none of them an array."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None
        or part is Ellipsis
        or (isinstance(part, (int, np.integer, slice)) and not isinstance(part, bool))
        for part in parts
    )


def _write(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    index, value = node.params["index"], node.operands[1]
    rest = np.array(gradient)
    rest[index] = 0
    return [rest, unbroadcast(np.asarray(gradient[index]), value.shape)]


def _accumulate_at(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    index, value = node.params["index"], node.operands[1]
    return [gradient, unbroadcast(np.asarray(gradient[index]), value.shape)]


def _concatenate(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    axis = node.params["axis"]
    ends = np.cumsum([operand.shape[axis] for operand in node.operands])
    return list(np.split(gradient, ends[:-1], axis=axis))


def _cumsum(node: Node, gradient: FloatArray) -> list[FloatArray | None]:
    axis = node.params["axis"]
    return [np.flip(np.cumsum(np.flip(gradient, axis), axis=axis), axis)]


def _of_factor(node: Node, place: int, gradient: FloatArray) -> FloatArray:
    return factor_gradient(node, place, gradient, node.operands[1 - place].value)


def factor_gradient(node: Node, place: int, gradient: FloatArray, other: FloatArray) -> FloatArray:
    """Return the gradient of one factor of a contraction, if the other one were `other`."""
    *labels, out = node.params["labels"]
    mine, others = labels[place], labels[1 - place]
    there = tuple(label for label in mine if label in out or label in others)
    result = np.asarray(contract_values(gradient, other, (out, others, there)))
    for axis, label in enumerate(mine):
        if label not in there:  # summed over in this factor alone
            result = np.expand_dims(result, axis)
    return np.broadcast_to(result, node.operands[place].shape)


_PULLS: dict[Primitive, Pull] = {
    SUM: _sum,
    MAX: _extreme,
    MIN: _extreme,
    LOGSUMEXP: _logsumexp,
    LOG_SOFTMAX: _log_softmax,
    RESHAPE: _reshape,
    TRANSPOSE: _transpose,
    BROADCAST: _broadcast,
    INDEX: _index,
    DIAGONAL: _index,
    WRITE: _write,
    ACCUMULATE_AT: _accumulate_at,
    CONCATENATE: _concatenate,
    CUMSUM: _cumsum,
}
