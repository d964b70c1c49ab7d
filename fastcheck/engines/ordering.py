"""In which order the elements of a tensor are put into chunks: those that go the same way together.

Weights of one column feed one unit. A chunk of them is pinned at a single position from there on,
and of the parts that a matrix is sliced into (queries, keys and values; the gates of a cell) it
reaches but one, so that the nodes of the others have nothing to compute.
"""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import IndexArray
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT, INDEX, TRANSPOSE
from fastcheck.trace.slices import Slice


def slowest_first(part: Slice) -> tuple[int, ...]:
    """Return the axes of the slice's tensor in the order of a loop over its elements."""
    every = tuple(range(part.parameter.ndim))
    moved = {part.parameter: every}  # which axis of the tensor each axis of a node is
    for node in part.nodes:
        mine = [(place, one) for place, one in enumerate(node.operands) if one in moved]
        if not mine:
            continue
        place, operand = mine[0]
        if node.primitive is TRANSPOSE:
            moved[node] = tuple(moved[operand][axis] for axis in node.params["axes"])
            continue
        going_on = _going_on(node, place)
        if going_on is not None:
            first = sorted(moved[operand][axis] for axis in going_on)
            return (*first, *[axis for axis in every if axis not in first])
    return every


def _going_on(node: Node, place: int) -> list[int] | None:
    """Return the axes of an operand that go on, or are cut; None where nothing is said of them."""
    if node.primitive is CONTRACT:
        labels = node.params["labels"]
        return [axis for axis, label in enumerate(labels[place]) if label in labels[2]]
    if node.primitive is INDEX:
        index = node.params["index"]
        parts = index if isinstance(index, tuple) else (index,)
        if all(isinstance(part, slice | int | np.integer) for part in parts):
            return [axis for axis, part in enumerate(parts) if part != slice(None)]
    return None


def in_order(
    indices: IndexArray, shape: tuple[int, ...], axes: tuple[int, ...]
) -> IndexArray | None:
    """Return how to sort flat indices so that the first of `axes` varies slowest; None if so."""
    if axes == tuple(range(len(shape))):
        return None
    where = np.unravel_index(indices, shape)
    sizes = [shape[axis] for axis in axes]
    return np.argsort(np.ravel_multi_index([where[axis] for axis in axes], sizes), kind="stable")
