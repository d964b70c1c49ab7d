"""A difference on its way through a program.

A perturbed weight changes one unit of a layer: that is not written as an array at once. A few
numbers, the step times a row of constants, wait to be added to the array that they end up in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from fastcheck.lanes.opcodes import Op
from fastcheck.lanes.writer import Constants, Room, Shape, Table, Writer

_MOST_LOOPS = 2


@dataclass(frozen=True, eq=False)
class Rows:
    """Numbers to be added: the step, times constants and differences of them if there are any.

    Attributes
    ----------
    table : (size of the tensor,) int64
        Where they begin for an element of the tensor; −1 where it has none.
    loops : tuple of (count, stride of the target, stride of the constants)
    other, base, moved
        Where the constants begin for an element, the constants, and their differences.
    """

    table: Table
    loops: tuple[tuple[int, int, int], ...] = ()
    other: Table | None = None
    base: Constants | None = None
    moved: Room | None = None


class Delta:
    """The difference of one node.

    Attributes
    ----------
    shape : tuple of int
    room : Room or None
        Its numbers; None where they are all zero.
    rows : tuple of Rows
        What is to be added to them.
    """

    __slots__ = ("room", "rows", "shape")

    def __init__(self, shape: Shape, room: Room | None, rows: Sequence[Rows] = ()) -> None:
        self.shape = shape
        self.room = room
        self.rows = tuple(rows)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def seed(self) -> Table | None:
        """Where the only number stands that differs, by the element; None if there are others."""
        if self.room is not None or len(self.rows) != 1:
            return None
        (rows,) = self.rows
        return rows.table if rows.base is None and not rows.loops else None

    def shared(self, shape: Shape) -> Delta:
        """Return the same numbers in another shape, to be released on its own."""
        for room in self.rooms():
            room.users += 1
        return Delta(shape, self.room, self.rows)

    def release(self, writer: Writer) -> None:
        """Note that the difference is not needed any more."""
        for room in self.rooms():
            writer.release(room)

    def rooms(self) -> list[Room]:
        """Return the arrays that the difference needs."""
        moved = [rows.moved for rows in self.rows if rows.moved is not None]
        return moved if self.room is None else [self.room, *moved]

    def dense(self, writer: Writer) -> Room:
        """Return all of its numbers as an array; it stays the difference's own."""
        if self.room is None:
            self.room = writer.zeros(self.size)
        elif self.rows and self.room.users > 1:
            copy = writer.elementwise(Op.COPY, self.size, [self.room])
            writer.release(self.room)
            self.room = copy
        for rows in self.rows:
            writer.rows(self.room, rows.table, rows.loops, rows.other, rows.base, rows.moved)
            if rows.moved is not None:
                writer.release(rows.moved)
        self.rows = ()
        return self.room


def expanded(writer: Writer, delta: Delta, shape: Shape) -> Delta:
    """Broadcast a difference, to be released on its own."""
    if delta.size == prod(shape):
        return delta.shared(shape)
    seed = delta.seed
    if seed is not None:
        rows = _repeated(writer, seed, delta.shape, shape)
        if rows is not None:
            return Delta(shape, None, [rows])
    key = ("expanded", delta.shape, shape)
    table = writer.hoisted.table(key, lambda: _places(delta.shape, shape).reshape(-1))
    return Delta(shape, writer.gathered(delta.dense(writer), table))


def _places(old: Shape, new: Shape) -> Table:
    return np.broadcast_to(np.arange(prod(old)).reshape(old), new)


def _repeated(writer: Writer, seed: Table, old: Shape, new: Shape) -> Rows | None:
    """Return one number at all of its places in a larger array."""
    lead = len(new) - len(old)
    strides = strides_of(new)
    loops: list[tuple[int, int, int]] = []
    for axis, size in enumerate(new):
        if size == 1 or (axis >= lead and old[axis - lead] == size):
            continue
        if loops and loops[-1][1] == size * strides[axis]:
            loops[-1] = (loops[-1][0] * size, strides[axis], 0)
        else:
            loops.append((size, strides[axis], 0))
    if len(loops) > _MOST_LOOPS:
        return None
    into = writer.hoisted.table(("first", old, new), lambda: _first_places(old, new, lead))
    return Rows(moved_table(seed, into), tuple(loops))


def _first_places(old: Shape, new: Shape, lead: int) -> Table:
    """Return where each number of an array stands first when it is broadcast."""
    grid = np.indices(old).reshape(len(old), -1) if old else np.zeros((0, 1), dtype=np.int64)
    strides = np.array(strides_of(new)[lead:], dtype=np.int64)
    return np.asarray(strides @ grid)


def moved_table(seed: Table, into: Table) -> Table:
    """Return where elements stand after a step; they are in none of the places where it is −1."""
    found = np.where(seed >= 0, into[seed], -1)
    return np.ascontiguousarray(found, dtype=np.int64)


def strides_of(shape: Shape) -> list[int]:
    """Return the strides of an array in C order, in numbers."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides
