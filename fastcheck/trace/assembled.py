"""Arrays that are put together from parts: what a later read of a part finds there.

`h = np.zeros(...); h[t] = ...` makes a graph of writes, each a new array as large as the buffer. A
`Block` knows which node holds each part of such an array, so that reading `h[t - 1]` leads straight
to what was written there, and reading all of `h` to one concatenation of the parts.

Only ranges of step 1 are followed, and single positions; anything else is read as it was written.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import BROADCAST, CONCATENATE, INDEX, RESHAPE

Box = tuple[tuple[int, int], ...]
"""First and last-but-one position along every axis."""
Make = Callable[..., Node]
"""Makes a node: `make(primitive, *operands, **params)`."""


@dataclass(frozen=True, eq=False)
class Block:
    """An array's parts: side by side along an axis, or a single node.

    Attributes
    ----------
    shape : tuple of int
    node : Node or None
        The only part.
    axis : int
        Along which the parts lie.
    parts : tuple of Block
    starts : tuple of int
        Where each of them begins along the axis.
    """

    shape: tuple[int, ...]
    node: Node | None = None
    axis: int = 0
    parts: tuple[Block, ...] = ()
    starts: tuple[int, ...] = ()

    def met(self, start: int, stop: int) -> range:
        """Return the places of the parts that a range along the axis meets."""
        return range(bisect_right(self.starts, start) - 1, bisect_left(self.starts, stop))


def leaf(node: Node) -> Block:
    """Return a node as a block without parts."""
    return Block(node.shape, node)


def joined(blocks: list[Block], axis: int) -> Block:
    """Return blocks side by side along an axis."""
    parts = _flat(blocks, axis)
    if len(parts) == 1:
        return parts[0]
    *starts, size = accumulate((part.shape[axis] for part in parts), initial=0)
    shape = (*blocks[0].shape[:axis], size, *blocks[0].shape[axis + 1 :])
    return Block(shape, None, axis, tuple(parts), tuple(starts))


def _flat(blocks: list[Block], axis: int) -> list[Block]:
    """Return the blocks that are not empty, those made of parts along the axis as their parts."""
    parts: list[Block] = []
    for block in blocks:
        inner = block.node is None and block.axis == axis
        parts += [part for part in (block.parts if inner else (block,)) if part.shape[axis]]
    return parts


def box_of(index: Any, shape: tuple[int, ...]) -> Box | None:
    """Return what an index picks, if that is a box of at least one element."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(_is_basic(part) for part in parts):
        return None
    parts = [part for part in parts if part is not None]
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    box = []
    for part, size in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            span = range(*part.indices(size))
            if not span or (span.step != 1 and len(span) > 1):
                return None
            box.append((span.start, span.start + len(span)))
        else:
            box.append((int(part) % size, int(part) % size + 1))
    return tuple(box)


def _is_basic(part: Any) -> bool:
    if isinstance(part, bool | np.bool_):
        return False
    return part is None or part is Ellipsis or isinstance(part, slice | int | np.integer)


def picked_shape(index: Any, box: Box) -> tuple[int, ...]:
    """Return the shape of `x[index]` for an index that picks `box`."""
    parts = list(index) if isinstance(index, tuple) else [index]
    sizes = [stop - start for start, stop in box]
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    place = parts.index(Ellipsis)
    known = sum(part is not None for part in parts) - 1
    parts[place : place + 1] = [slice(None)] * (len(box) - known)
    axes, shape = iter(sizes), []
    for part in parts:
        size = 1 if part is None else next(axes)
        if part is None or isinstance(part, slice):
            shape.append(size)
    return tuple(shape)


def fitted(make: Make, value: Node, index: Any, box: Box) -> Node | None:
    """Return a value that is written at an index as an array of the box's shape."""
    shape = picked_shape(index, box)
    if value.ndim > len(shape):
        return None
    if value.shape != shape:
        value = make(BROADCAST, value, shape=shape)
    return reshaped(make, value, tuple(stop - start for start, stop in box))


def reshaped(make: Make, node: Node, shape: tuple[int, ...]) -> Node:
    """Return a node with axes of size 1 added or dropped; undone where that was done to it."""
    while node.shape != shape and node.primitive is RESHAPE:
        node = node.operands[0]
    return node if node.shape == shape else make(RESHAPE, node, shape=shape)


def written(make: Make, block: Block, box: Box, value: Block) -> Block:
    """Return the block after `value` was written into a box of it."""
    if value.shape == block.shape:
        return value
    if block.node is not None:
        axis = next(a for a, size in enumerate(block.shape) if box[a] != (0, size))
        start, stop = box[axis]
        whole = [(0, size) for size in block.shape]
        cuts = [(0, start), (start, stop), (stop, block.shape[axis])]
        before, middle, after = (
            leaf(_cut(make, block.node, (*whole[:axis], cut, *whole[axis + 1 :])))
            if cut[0] < cut[1]
            else None
            for cut in cuts
        )
        assert middle is not None
        inside = (*box[:axis], (0, stop - start), *box[axis + 1 :])
        parts = [before, written(make, middle, inside, value), after]
        return joined([part for part in parts if part is not None], axis)
    axis = block.axis
    start, stop = box[axis]
    met = block.met(start, stop)
    found: list[Block] = []
    for place in met:
        part, begin = block.parts[place], block.starts[place]
        first, last = max(start, begin), min(stop, begin + part.shape[axis])
        inside = (*box[:axis], (first - begin, last - begin), *box[axis + 1 :])
        span: list[tuple[int, int]] = [(0, n) for n in value.shape]
        span[axis] = (first - start, last - start)
        found.append(written(make, part, inside, part_of(make, value, tuple(span))))
    new = _flat(found, axis)
    *starts, _ = accumulate((part.shape[axis] for part in new), initial=block.starts[met.start])
    # The others stay as they are: a loop that fills a long array must not go over all of it.
    every = (*block.parts[: met.start], *new, *block.parts[met.stop :])
    begins = (*block.starts[: met.start], *starts, *block.starts[met.stop :])
    return every[0] if len(every) == 1 else Block(block.shape, None, axis, every, begins)


def with_units(make: Make, block: Block, shape: tuple[int, ...]) -> Block:
    """Return a block with axes of size 1 added or dropped, so that it has a shape."""
    if block.shape == shape:
        return block
    if block.node is not None:
        return leaf(reshaped(make, block.node, shape))
    wide = sum(size != 1 for size in block.shape[: block.axis])
    axis = [place for place, size in enumerate(shape) if size != 1][wide]
    parts = []
    for part in block.parts:
        inner = (*shape[:axis], part.shape[block.axis], *shape[axis + 1 :])
        parts.append(with_units(make, part, inner))
    return Block(shape, None, axis, tuple(parts), block.starts)


def part_of(make: Make, block: Block, box: Box) -> Block:
    """Return a box of a block, as a block."""
    if all(one == (0, size) for one, size in zip(box, block.shape, strict=True)):
        return block
    if block.node is not None:
        return leaf(_cut(make, block.node, box))
    axis = block.axis
    start, stop = box[axis]
    found = []
    for place in block.met(start, stop):
        part, begin = block.parts[place], block.starts[place]
        span = max(start, begin) - begin, min(stop, begin + part.shape[axis]) - begin
        found.append(part_of(make, part, (*box[:axis], span, *box[axis + 1 :])))
    return joined(found, axis)


def whole(make: Make, block: Block) -> Node:
    """Return a node for all of a block."""
    if block.node is not None:
        return block.node
    return make(CONCATENATE, *[whole(make, part) for part in block.parts], axis=block.axis)


def _cut(make: Make, node: Node, box: Box) -> Node:
    if all(one == (0, size) for one, size in zip(box, node.shape, strict=True)):
        return node
    index = tuple(
        slice(None) if (start, stop) == (0, size) else slice(start, stop)
        for (start, stop), size in zip(box, node.shape, strict=True)
    )
    return make(INDEX, node, index=index)
