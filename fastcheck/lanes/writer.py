"""A list of instructions under construction, and where differences lie in the workspace."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.lanes.assembly import BYTES, LANES
from fastcheck.lanes.interpreter import RESERVED
from fastcheck.lanes.opcodes import ELEMENTWISE, FIELDS, Field, Op

Constants = NDArray[np.float64]
Table = NDArray[np.int64]
Shape = tuple[int, ...]

REACHES = {2: 2.0**-27, 4: 2.0**-13.5}
"""With so many terms, those left out of a series are below 2⁻⁵⁴ of the first."""
_MOST_NUMBERS = 1 << 20
"""Numbers that a copy may keep: eight copies of so many take 64 MiB."""


class NoProgram(Exception):  # noqa: N818  (an answer, not a failure)
    """Why a slice cannot be written down; the replay engine does it then."""


class Hoisted:
    """Constants and tables that programs share, each made once and kept alive."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what was made under a key, or make it now."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def constants(self, key: Hashable, make: Callable[[], Any]) -> Constants:
        """Return float64 numbers, next to each other."""
        return self.once(key, lambda: np.ascontiguousarray(make(), dtype=np.float64))  # type: ignore[no-any-return]

    def table(self, key: Hashable, make: Callable[[], Any]) -> Table:
        """Return whole numbers, next to each other."""
        return self.once(key, lambda: np.ascontiguousarray(make(), dtype=np.int64))  # type: ignore[no-any-return]


class Room:
    """Where an array of differences lies: a place in the workspace, and how many need it still."""

    __slots__ = ("offset", "size", "users")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size
        self.users = 1


class Writer:
    """Writes instructions down.

    Parameters
    ----------
    terms : {2, 4}
        Of series.
    hoisted : Hoisted
        Shared with other programs of the same graph.

    Attributes
    ----------
    vectors : int
        How many vectors the workspace needs.
    work : float
        About how many vector operations a group of copies takes.
    """

    def __init__(self, terms: int, hoisted: Hoisted) -> None:
        self.terms = terms
        self.hoisted = hoisted
        self.vectors = RESERVED
        self.work = 0.0
        self._code: list[list[int]] = []
        self._free: dict[int, list[int]] = {}
        self._alive: list[Any] = []
        (self._reach,) = struct.unpack("<q", struct.pack("<d", REACHES[terms]))

    # -- the workspace ----------------------------------------------------------------------------

    def room(self, size: int) -> Room:
        """Make room for some numbers.

        Room is used again only by arrays of the same size: instructions that run tile by tile then
        never write where another one is still to read.
        """
        free = self._free.get(size)
        if free:
            return Room(free.pop(), size)
        offset = self.vectors
        self.vectors += size
        if self.vectors > _MOST_NUMBERS:
            raise NoProgram("a copy would keep too many numbers")
        return Room(offset, size)

    def release(self, room: Room) -> None:
        """Note that one user less needs an array."""
        room.users -= 1
        if not room.users:
            self._free.setdefault(room.size, []).append(room.offset)

    # -- instructions -----------------------------------------------------------------------------

    def write(self, op: Op, target: Room, *operands: Room) -> list[int]:
        """Add an instruction on whole arrays; return it, for more to be filled in."""
        row = [0] * FIELDS
        row[0] = op
        row[1] = target.offset * BYTES
        for place, operand in enumerate(operands, start=2):
            row[place] = operand.offset * BYTES
        row[9] = target.size
        self._code.append(row)
        self.work += target.size * (1 + len(operands))
        return row

    def constants(self, row: list[int], *arrays: Constants) -> None:
        """Fill constants in: all of the instruction's size, or all single numbers."""
        for place, array in enumerate(arrays, start=4):
            row[place] = self.address(array)
        row[8] = 8 if arrays[0].size > 1 else 0
        self.work += row[9] * len(arrays)

    def address(self, array: NDArray[Any]) -> int:
        """Return where constants or a table begin, and keep them alive."""
        self._alive.append(array)
        return int(array.ctypes.data)

    def zeros(self, size: int) -> Room:
        """Write an array of zeros."""
        room = self.room(size)
        self.write(Op.ZERO, room)
        return room

    def elementwise(self, op: Op, size: int, operands: Sequence[Room], *arrays: Constants) -> Room:
        """Write one number after the other."""
        room = self.room(size)
        row = self.write(op, room, *operands)
        if arrays:
            self.constants(row, *arrays)
        return room

    def series(self, operand: Room, nearness: Constants, factors: Sequence[Constants]) -> Room:
        """Write Σ factorₖ·aᵏ⁺¹; copies for which |nearness·a| is out of reach are refused."""
        room = self.room(operand.size)
        row = self.write(Op.SERIES_2 if self.terms == 2 else Op.SERIES_4, room, operand)
        self.constants(row, *factors[: self.terms])
        row[Field.B], row[Field.REACH] = self.address(nearness), self._reach
        row[Field.NEARNESS_STRIDE] = 8 if nearness.size > 1 else 0
        self.work += 3 * room.size
        return room

    def within(self, operand: Room, bounds: Constants) -> None:
        """Refuse copies for which a difference is larger than its bound."""
        row = self.write(Op.WITHIN, operand, operand)
        self.constants(row, bounds)

    def looked_up(self, op: Op, target: Room, operand: Room, table: Table) -> None:
        """Write GATHER, SCATTER, SCATTER_ADD or CLEAR."""
        row = self.write(op, target, operand)
        row[Field.TABLE], row[Field.COUNT] = self.address(table), table.size

    def gathered(self, operand: Room, table: Table) -> Room:
        """Write a copy of the numbers at some places."""
        room = self.room(table.size)
        self.looked_up(Op.GATHER, room, operand, table)
        return room

    def summed(self, operand: Room, table: Table) -> Room:
        """Write the sum of the numbers at each row of places."""
        room = self.room(len(table))
        row = self.write(Op.SUM, room, operand)
        row[Field.TABLE], row[Field.SIZES] = self.address(table), table.shape[1]
        self.work += 2 * table.size
        return room

    def matrices(
        self,
        target: Room,
        left: Room,
        right: Room | Constants,
        sizes: Sequence[int],
        strides: tuple[Sequence[int], Sequence[int], Sequence[int]],
    ) -> None:
        """Add products of matrices to an array.

        `sizes` are batch, rows, columns and inner; `strides`, in numbers, are those of the target
        (batch, rows, columns), of `left` (batch, rows, inner) and of `right` (batch, inner,
        columns).
        """
        moving = isinstance(right, Room)
        row = self.write(Op.MATRICES if moving else Op.MATRIX, target, left)
        if isinstance(right, Room):
            row[Field.B] = right.offset * BYTES
        else:
            row[Field.BASE] = self.address(right)
        listed = self.room(sizes[3] // LANES + 1)
        row[Field.LIST] = listed.offset * BYTES
        self.release(listed)
        row[Field.SIZES : Field.SIZES + 4] = sizes
        row[Field.TARGET_STRIDES : Field.TARGET_STRIDES + 3] = [n * BYTES for n in strides[0]]
        row[Field.A_STRIDES : Field.A_STRIDES + 3] = [n * BYTES for n in strides[1]]
        unit = BYTES if moving else 8
        row[Field.B_STRIDES : Field.B_STRIDES + 3] = [n * unit for n in strides[2]]
        self.work += 0.8 * prod(sizes)

    def rows(
        self,
        target: Room,
        table: Table,
        loops: Sequence[tuple[int, int, int]],
        other: Table | None = None,
        base: Constants | None = None,
        moved: Room | None = None,
    ) -> None:
        """Add the step, or the step times constants, to a few numbers of an array.

        `loops` are at most two counts with the strides of the target and of the constants.
        """
        (one, to_one, of_one), (two, to_two, of_two) = [(1, 0, 0)] * (2 - len(loops)) + list(loops)
        if base is None:
            row = self.write(Op.SEED, target)
        elif moved is None:
            row = self.write(Op.ROWS, target)
        else:
            row = self.write(Op.MOVED_ROWS, target, moved)
        row[Field.TABLE] = self.address(table)
        if base is not None:
            assert other is not None
            row[Field.OTHER_TABLE], row[Field.BASE] = self.address(other), self.address(base)
        row[Field.SIZES : Field.SIZES + 2] = [one, two]
        row[Field.TARGET_STRIDES : Field.TARGET_STRIDES + 2] = [to_one, to_two]
        row[Field.A_STRIDES : Field.A_STRIDES + 2] = [of_one, of_two]
        self.work += 16.0 * one * two - row[9]

    # -- the whole --------------------------------------------------------------------------------

    def finished(self) -> tuple[Table, list[Any]]:
        """Return the instructions, runs of elementwise ones tile by tile, and what they need."""
        lines: list[list[int]] = []
        run: list[list[int]] = []
        for row in [*self._code, None]:
            if row is not None and row[0] in ELEMENTWISE and (not run or run[0][9] == row[9]):
                run.append(row)
                continue
            if len(run) > 1:
                lines.append([int(Op.TILES), 0, run[0][9], *[0] * 6, len(run), *[0] * 14])
            lines += run
            run = []
            if row is not None:
                (run if row[0] in ELEMENTWISE else lines).append(row)
        return np.array(lines, dtype=np.int64).reshape(-1, FIELDS), self._alive
