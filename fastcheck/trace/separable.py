"""Elements picked by their flat positions, picked axis by axis where that says the same.

Windows over images (`as_strided`, `sliding_window_view`, a table of positions into `x.ravel()`) are
recorded as flat positions. Samples and channels are whole axes of such a table, though: read as
`x[:, rows, columns, :]`, a copy that differs in one channel only still does in the windows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import INDEX, RESHAPE, TRANSPOSE

Make = Callable[..., Node]
"""Makes a node: `make(primitive, *operands, **params)`."""
Places = NDArray[np.int64]


def axis_by_axis(make: Make, flat: Node, index: Any) -> Node | None:
    """Return `flat[index]`, a flattened array picked by positions, by axes of that array.

    None where the positions are no such thing, or no axis but one of size 1 is taken whole.
    """
    places = index[0] if isinstance(index, tuple) and len(index) == 1 else index
    if flat.primitive is not RESHAPE or flat.ndim != 1 or not isinstance(places, np.ndarray):
        return None
    whole = flat.operands[0]
    if places.dtype.kind not in "iu" or not places.size or whole.ndim < 2:
        return None
    steps = _steps(places)
    if steps is None:
        return None
    start = np.unravel_index(int(places.flat[0]) % flat.value.size, whole.shape)
    moves = [_moves(one, start, whole.shape) for one in steps]
    return _picked(make, whole, places.shape, [int(one) for one in start], moves)


def _steps(places: Places) -> list[Places] | None:
    """Return what each axis adds to a position; None where positions are no such sums."""
    first = int(places.flat[0])
    if first < 0:
        return None
    steps, total = [], np.array(first)
    for axis in range(places.ndim):
        line = places[(0,) * axis + (slice(None),) + (0,) * (places.ndim - 1 - axis)]
        steps.append(line - first)
        total = total + steps[-1].reshape((-1,) + (1,) * (places.ndim - 1 - axis))
    return steps if np.array_equal(total, places) and total.min() >= 0 else None


def _moves(step: Places, start: Any, shape: tuple[int, ...]) -> list[Places]:
    """Return the same step in coordinates: by how much it moves along each axis of the array."""
    position = int(np.ravel_multi_index(start, shape))
    there = np.unravel_index(position + step, shape)
    return [one - int(first) for one, first in zip(there, start, strict=True)]


def _picked(
    make: Make, whole: Node, shape: tuple[int, ...], start: list[int], moves: list[list[Places]]
) -> Node | None:
    movers = [[k for k in range(len(shape)) if moves[k][axis].any()] for axis in range(whole.ndim)]
    kept: dict[int, int] = {}  # an axis of the array that is taken whole: the result's
    for axis, size in enumerate(whole.shape):
        if len(movers[axis]) != 1:
            continue
        (k,) = movers[axis]
        alone = sum(k in others for others in movers) == 1
        if alone and not start[axis] and np.array_equal(moves[k][axis], np.arange(size)):
            kept[axis] = k
    picked = [axis for axis in range(whole.ndim) if axis not in kept]
    rest = [k for k in range(len(shape)) if k not in kept.values()]
    if not kept or not picked:
        return None
    index: list[Any] = [slice(None)] * whole.ndim
    for axis in picked:
        where = np.array(start[axis])
        for k in movers[axis]:
            dims = [shape[k] if one == k else 1 for one in rest]
            where = where + moves[k][axis].reshape(dims)
        if where.min() < 0 or where.max() >= whole.shape[axis]:
            return None  # a window that goes on in the next row
        index[axis] = where
    index[picked[0]] = np.broadcast_to(index[picked[0]], [shape[k] for k in rest])
    found = make(INDEX, whole, index=tuple(index))
    order = _order(whole.ndim, kept, picked, rest)
    axes = tuple(order.index(k) for k in range(len(shape)))
    return found if axes == tuple(range(len(shape))) else make(TRANSPOSE, found, axes=axes)


def _order(ndim: int, kept: dict[int, int], picked: list[int], rest: list[int]) -> list[int]:
    """Return the axes of the result in the order in which NumPy's indexing has them."""
    if picked[-1] - picked[0] != len(picked) - 1:  # apart from each other: they come first
        return [*rest, *[kept[axis] for axis in range(ndim) if axis in kept]]
    before = [kept[axis] for axis in range(picked[0])]
    return [*before, *rest, *[kept[axis] for axis in range(picked[-1] + 1, ndim)]]
