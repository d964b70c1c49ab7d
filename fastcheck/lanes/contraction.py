"""Sums of products: matrices, batches of them, and one perturbed weight as a row of its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastcheck.lanes.delta import Delta, Rows, moved_table, strides_of
from fastcheck.lanes.opcodes import Op
from fastcheck.lanes.rules import Deltas, real, rule
from fastcheck.lanes.structure import places_of
from fastcheck.lanes.writer import Constants, NoProgram, Room, Table, Writer
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT

Names = tuple[int, ...]
_MOST_LOOPS = 2


@rule(CONTRACT)
def _contract(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    left, right, _ = node.params["labels"]
    if len(set(left)) < len(left) or len(set(right)) < len(right):
        raise NoProgram("a diagonal is taken in a product")
    product = _Product(writer, node, deltas)
    for operand in (0, 1):
        rows = product.rows(operand)
        if rows is not None:
            return product.with_rows(operand, rows)
    return Delta(node.shape, product.dense())


class _Product:
    """One sum of products of two operands, of which at least one moves."""

    def __init__(self, writer: Writer, node: Node, deltas: Deltas) -> None:
        self._writer, self._node, self._deltas = writer, node, deltas
        self._names: list[Names] = list(node.params["labels"])
        self._sizes: dict[int, int] = {}
        for names, operand in zip(self._names[:2], node.operands, strict=True):
            self._sizes.update(zip(names, operand.shape, strict=True))

    # -- one number of an operand -----------------------------------------------------------------

    def rows(self, operand: int) -> Rows | None:
        """Return the step times a part of the other operand; None where that is not all."""
        delta = self._deltas[operand]
        seed = None if delta is None else delta.seed
        if seed is None:
            return None
        mine, theirs, out = self._names[operand], self._names[1 - operand], self._names[2]
        if any(name not in out and name not in mine for name in theirs):
            return None
        loops = self._loops([name for name in out if name not in mine], theirs, out)
        if loops is None:
            return None
        hoisted, key = self._writer.hoisted, (self._node, operand)
        into = hoisted.table((*key, "into"), lambda: self._places(mine, out))
        of = hoisted.table((*key, "of"), lambda: self._places(mine, theirs))
        base = hoisted.constants(
            (self._node, "base", 1 - operand), lambda: real(self._node.operands[1 - operand].value)
        )
        other = self._deltas[1 - operand]
        moved = None
        if other is not None:
            moved = other.dense(self._writer)
            moved.users += 1
        return Rows(moved_table(seed, into), loops, moved_table(seed, of), base, moved)

    def _loops(
        self, free: Sequence[int], theirs: Names, out: Names
    ) -> tuple[tuple[int, int, int], ...] | None:
        """Return loops over some names: counts, and strides of the result and of an operand."""
        to, of = self._strides(out), self._strides(theirs)
        loops: list[tuple[int, int, int]] = []
        for name in free:
            size, one, other = self._sizes[name], to[name], of.get(name, 0)
            if size == 1:
                continue
            if loops and loops[-1][1:] == (one * size, other * size):
                loops[-1] = (loops[-1][0] * size, one, other)
            else:
                loops.append((size, one, other))
        return tuple(loops) if len(loops) <= _MOST_LOOPS else None

    def _strides(self, names: Names) -> dict[int, int]:
        shape = tuple(self._sizes[name] for name in names)
        return dict(zip(names, strides_of(shape), strict=True))

    def _places(self, mine: Names, others: Names) -> Table:
        """Return for each number of an operand where its part of another array begins."""
        shape, strides = tuple(self._sizes[name] for name in mine), self._strides(others)
        grid = np.indices(shape).reshape(len(shape), -1) if shape else np.zeros((0, 1), dtype=int)
        return np.asarray(np.array([strides.get(name, 0) for name in mine], dtype=int) @ grid)

    def with_rows(self, operand: int, rows: Rows) -> Delta:
        """Return the rows, and what the other operand's difference adds."""
        other = self._deltas[1 - operand]
        if other is None:
            return Delta(self._node.shape, None, [rows])
        room = self._writer.zeros(prod(self._node.shape))
        self._add(room, 1 - operand, other.dense(self._writer), None)
        return Delta(self._node.shape, room, [rows])

    # -- matrices ---------------------------------------------------------------------------------

    def dense(self) -> Room:
        """Return δA·B + A·δB + δA·δB as an array."""
        writer = self._writer
        room = writer.zeros(prod(self._node.shape))
        one, other = self._deltas
        if one is not None:
            self._add(room, 0, one.dense(writer), None)
        if other is not None:
            moved = None if one is None else self._moved(one.dense(writer))
            self._add(room, 1, other.dense(writer), moved)
            if moved is not None:
                writer.release(moved)
        return room

    def _moved(self, room: Room) -> Room:
        """Return A + δA."""
        base = self._writer.hoisted.constants(
            (self._node, "base", 0), lambda: real(self._node.operands[0].value)
        )
        return self._writer.elementwise(Op.SHIFT, room.size, [room], base.reshape(-1))

    def _add(self, target: Room, operand: int, room: Room, moved: Room | None) -> None:
        """Add one operand's difference times the other operand, or times what that has become."""
        writer = self._writer
        plan: _Plan = writer.hoisted.once(
            (self._node, "plan", operand), lambda: self._plan(operand)
        )
        ours = self._arranged(room, self._names[operand], plan.ours, plan.groups.alone)
        if moved is None:
            theirs: Room | Constants = self._constant(1 - operand, plan.groups)
            of_theirs = plan.theirs.arranged
        else:
            beside = self._names[1 - operand]
            arranged = self._arranged(moved, beside, plan.theirs, plan.groups.their_alone)
            theirs, of_theirs = arranged.room, arranged.strides
        result = writer.zeros(target.size) if plan.result.strides is None else target
        to = plan.result.strides or plan.result.arranged
        writer.matrices(result, ours.room, theirs, plan.sizes, (to, ours.strides, of_theirs))
        if ours.own:
            writer.release(ours.room)
        if moved is not None and arranged.own:
            writer.release(arranged.room)
        if result is not target:
            table = writer.hoisted.table(
                (self._node, "order", operand), lambda: self._order(plan.result.names)
            )
            turned = writer.gathered(result, table)
            writer.write(Op.ADD, target, target, turned)
            writer.release(turned)
            writer.release(result)

    def _plan(self, operand: int) -> _Plan:
        mine, theirs, out = self._names[operand], self._names[1 - operand], self._names[2]
        groups = _Groups(mine, theirs, out)
        wanted = (groups.batch, groups.rows, groups.columns, groups.inner)
        return _Plan(
            groups,
            [self._size(group) for group in wanted],
            self._view((groups.batch, groups.rows, groups.columns), out),
            self._view((groups.batch, groups.rows, groups.inner), mine),
            self._view((groups.batch, groups.inner, groups.columns), theirs),
        )

    def _view(self, groups: tuple[Names, Names, Names], names: Names) -> _View:
        strides = [self._stride(group, names) for group in groups]
        one, other = self._size(groups[1]), self._size(groups[2])
        return _View(
            tuple(name for group in groups for name in group),
            None if None in strides else [stride or 0 for stride in strides],
            [one * other, other, 1],
        )

    def _order(self, names: Names) -> Table:
        """Return where the numbers of the result lie in an array with its axes in this order."""
        shape = tuple(self._sizes[name] for name in names)
        return places_of(shape).transpose([names.index(n) for n in self._names[2]]).reshape(-1)

    def _constant(self, operand: int, groups: _Groups) -> Constants:
        """Return a constant operand as (batch, inner, columns)."""

        def made() -> Any:
            value, names = real(self._node.operands[operand].value), self._names[operand]
            alone = tuple(names.index(name) for name in groups.their_alone)
            value, left = value.sum(axis=alone), [n for n in names if n not in groups.their_alone]
            wanted = (*groups.batch, *groups.inner, *groups.columns)
            return value.transpose([left.index(name) for name in wanted]).reshape(-1)

        return self._writer.hoisted.constants((self._node, "matrix", operand), made)

    def _arranged(self, room: Room, names: Names, view: _View, alone: Names) -> _Arranged:
        """Return an array with one stride for each group of names, what else it has summed."""
        if not alone and view.strides is not None:
            return _Arranged(room, view.strides, False)
        writer, order = self._writer, view.names
        shape = tuple(self._sizes[name] for name in names)
        turned = tuple(names.index(name) for name in (*order, *alone))

        def places() -> Table:
            return places_of(shape).transpose(turned).reshape(self._size(order), -1)

        table = writer.hoisted.table(("turned", shape, turned, len(order)), places)
        found = writer.summed(room, table) if alone else writer.gathered(room, table.reshape(-1))
        return _Arranged(found, view.arranged, True)

    def _size(self, names: Names) -> int:
        return prod(self._sizes[name] for name in names)

    def _stride(self, group: Names, names: Names) -> int | None:
        """Return the stride of names that follow each other as one; None if they do not."""
        strides, expected, found = self._strides(names), 0, 0
        for name in reversed(group):
            if self._sizes[name] == 1:
                continue
            if not found:
                found = expected = strides[name]
            if strides[name] != expected:
                return None
            expected *= self._sizes[name]
        return found


@dataclass(frozen=True)
class _Arranged:
    """An array for a product: its strides, and whether it was made for this alone."""

    room: Room
    strides: list[int]
    own: bool


@dataclass(frozen=True)
class _View:
    """An array as three groups of names.

    Attributes
    ----------
    names : tuple of int
        All of them in order.
    strides : list of int or None
        One for each group; None where the array has to be arranged for that.
    arranged : list of int
        The strides when it is.
    """

    names: Names
    strides: list[int] | None
    arranged: list[int]


@dataclass(frozen=True)
class _Plan:
    """How one operand is multiplied: `sizes` are batch, rows, columns and inner."""

    groups: _Groups
    sizes: list[int]
    result: _View
    ours: _View
    theirs: _View


class _Groups:
    """The names of a product: those of rows, columns, the sum, batches, and of one operand alone.

    They are in the order of the result, and those that are summed in that of the first operand.
    """

    def __init__(self, mine: Names, theirs: Names, out: Names) -> None:
        self.batch = tuple(name for name in out if name in mine and name in theirs)
        self.rows = tuple(name for name in out if name in mine and name not in theirs)
        self.columns = tuple(name for name in out if name in theirs and name not in mine)
        self.inner = tuple(name for name in mine if name in theirs and name not in out)
        self.alone = tuple(name for name in mine if name not in theirs and name not in out)
        self.their_alone = tuple(name for name in theirs if name not in mine and name not in out)
