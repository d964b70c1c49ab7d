"""Factors that a product is taken after instead of before: (x / n) @ w is (x @ w) / n.

A row is scaled by its norm, then multiplied with a matrix. Where one weight moves one element of
the row it moves the norm too, and so all of the scaled row; but of x itself still one element, and
its product with the matrix is one scaled row of that. So what is the same along the axes that a
contraction adds up is taken out of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.primitives import CONTRACT, RESHAPE, TRANSPOSE, elementwise

Make = Callable[..., Node]
"""Makes a node: `make(primitive, *operands, **params)`."""
_MULTIPLY, _DIVIDE = elementwise(np.multiply), elementwise(np.divide)
_DEEPEST = 8


@dataclass(frozen=True)
class Factor:
    """What an array is multiplied with or divided by, with as many axes as the array."""

    primitive: Primitive
    node: Node


def after(make: Make, node: Node, operands: tuple[Node, ...]) -> Node | None:
    """Return a contraction with the moving factors of its operands taken after it; None if none.

    Parameters
    ----------
    make : callable
        Adds operations to the new graph.
    node : Node
        The contraction.
    operands : tuple of Node
        Its operands in the new graph.
    """
    labels = node.params["labels"]
    inner, factors = [], []
    for operand, mine in zip(operands, labels[:2], strict=True):
        # What is larger after the product than before costs more there.
        if operand.constant or node.value.size > operand.value.size:
            inner.append(operand)
            continue
        summed = tuple(axis for axis, label in enumerate(mine) if label not in labels[2])
        rest, found = _taken_out(make, operand, summed, _DEEPEST)
        inner.append(rest)
        factors += [Factor(one.primitive, _placed(make, one.node, mine, labels)) for one in found]
    if not factors:
        return None
    result = make(CONTRACT, *inner, **node.params)
    for factor in factors:
        result = make(factor.primitive, result, factor.node)
    return result


def _taken_out(
    make: Make, node: Node, summed: tuple[int, ...], depth: int
) -> tuple[Node, list[Factor]]:
    """Return a node without the moving factors that are the same along `summed`, and these."""
    if node.constant or not depth:
        return node, []
    if node.primitive is TRANSPOSE:
        axes = node.params["axes"]
        inside = tuple(axes[axis] for axis in summed)
        rest, factors = _taken_out(make, node.operands[0], inside, depth - 1)
        if not factors:
            return node, []
        turned = [Factor(one.primitive, make(TRANSPOSE, one.node, axes=axes)) for one in factors]
        return make(TRANSPOSE, rest, axes=axes), turned
    if node.primitive not in (_MULTIPLY, _DIVIDE):
        return node, []
    pairs = [(0, 1)] if node.primitive is _DIVIDE else [(0, 1), (1, 0)]
    for main, other in pairs:
        whole, factor = node.operands[main], node.operands[other]
        if whole.shape != node.shape:
            continue
        rest, factors = _taken_out(make, whole, summed, depth - 1)
        aligned = (1,) * (node.ndim - factor.ndim) + factor.shape
        same = all(aligned[axis] == 1 for axis in summed)
        if same and not factor.constant and math.prod(aligned) < node.value.size:
            if aligned != factor.shape:
                factor = make(RESHAPE, factor, shape=aligned)
            return rest, [*factors, Factor(node.primitive, factor)]
        if factors:
            return make(node.primitive, rest, factor), factors
    return node, []


def _placed(
    make: Make, factor: Node, mine: tuple[int, ...], labels: tuple[tuple[int, ...], ...]
) -> Node:
    """Return a factor with the axes of the contraction's result."""
    kept = [axis for axis, label in enumerate(mine) if label in labels[2]]
    kept.sort(key=lambda axis: labels[2].index(mine[axis]))
    order = (*kept, *[axis for axis in range(len(mine)) if axis not in kept])
    if order != tuple(range(len(mine))):
        factor = make(TRANSPOSE, factor, axes=order)
    sizes = {mine[axis]: size for axis, size in zip(order, factor.shape, strict=True)}
    shape = tuple(sizes.get(label, 1) for label in labels[2])
    return factor if factor.shape == shape else make(RESHAPE, factor, shape=shape)
