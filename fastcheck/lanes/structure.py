"""Sums, and what only moves numbers: tables of places, found by doing the same to the places."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np

from fastcheck.lanes.delta import Delta, Rows, expanded, moved_table
from fastcheck.lanes.opcodes import Op
from fastcheck.lanes.rules import Deltas, rule
from fastcheck.lanes.writer import Shape, Table, Writer
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import (
    ACCUMULATE_AT,
    BROADCAST,
    CONCATENATE,
    DIAGONAL,
    INDEX,
    RESHAPE,
    SUM,
    TRANSPOSE,
    WRITE,
)


def places_of(shape: Shape) -> Table:
    """Return an array of each number's own place."""
    return np.arange(prod(shape), dtype=np.int64).reshape(shape)


def reduced_places(shape: Shape, axes: tuple[int, ...]) -> Table:
    """Return a row of places for each number that is left when some axes are reduced."""
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    count = prod(shape[axis] for axis in kept)
    return places_of(shape).transpose([*kept, *axes]).reshape(count, -1)


@rule(SUM)
def _sum(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    shape, axes = node.operands[0].shape, node.params["axes"]
    table = writer.hoisted.table((shape, "reduced", axes), lambda: reduced_places(shape, axes))
    return Delta(node.shape, writer.summed(delta.dense(writer), table))


@rule(RESHAPE)
def _reshape(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    return delta.shared(node.shape)


@rule(BROADCAST)
def _broadcast(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    return expanded(writer, delta, node.shape)


@rule(TRANSPOSE, INDEX, DIAGONAL)
def _index(writer: Writer, node: Node, deltas: Deltas) -> Delta | None:
    (delta,) = deltas
    assert delta is not None
    shape = node.operands[0].shape

    def found() -> Any:
        return np.asarray(node.primitive.evaluate(places_of(shape), **node.params)).reshape(-1)

    table = writer.hoisted.table((node, "places"), found)
    seed = delta.seed
    if seed is not None:
        into = writer.hoisted.once((node, "into"), lambda: _inverse(table, prod(shape)))
        if into is not None:
            moved = moved_table(seed, into)
            return Delta(node.shape, None, [Rows(moved)]) if (moved >= 0).any() else None
    if np.array_equal(table, np.arange(prod(shape))):
        return delta.shared(node.shape)
    return Delta(node.shape, writer.gathered(delta.dense(writer), table))


def _part(node: Node, axis: int, part: slice) -> Table:
    """Return where a part of an array along an axis stands."""
    return np.ascontiguousarray(places_of(node.shape)[(slice(None),) * axis + (part,)].reshape(-1))


def _inverse(table: Table, size: int) -> Table | None:
    """Return where each number goes, −1 where it is left out; None if one goes to many places."""
    if np.bincount(table, minlength=size).max(initial=0) > 1:
        return None
    into = np.full(size, -1, dtype=np.int64)
    into[table] = np.arange(len(table))
    return into


@rule(CONCATENATE)
def _concatenate(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    axis, start = node.params["axis"] % node.ndim, 0
    seeds = [delta for delta in deltas if delta is not None]
    alone = seeds[0].seed if len(seeds) == 1 else None
    make = writer.room if len(seeds) == len(deltas) else writer.zeros
    room = None if alone is not None else make(prod(node.shape))
    rows: list[Rows] = []
    for number, (delta, operand) in enumerate(zip(deltas, node.operands, strict=True)):
        stop = start + operand.shape[axis]
        if delta is not None:
            part = slice(start, stop)
            table = writer.hoisted.once((node, "part", number), partial(_part, node, axis, part))
            if room is None:
                assert alone is not None
                rows.append(Rows(moved_table(alone, table)))
            else:
                writer.looked_up(Op.SCATTER, room, delta.dense(writer), table)
        start = stop
    return Delta(node.shape, room, rows)


@rule(WRITE)
def _write(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    """Take a copy of the array, and put what is written in its places."""
    base, value = deltas
    table = writer.hoisted.table((node, "written"), lambda: _written(node))
    size = prod(node.shape)
    if base is None:
        room = writer.zeros(size)
    else:
        room = writer.elementwise(Op.COPY, size, [base.dense(writer)])
        writer.looked_up(Op.CLEAR, room, room, table)
    if value is not None:
        _put(writer, Op.SCATTER, room, value, node, table)
    return Delta(node.shape, room)


@rule(ACCUMULATE_AT)
def _accumulate_at(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    base, value = deltas
    table = writer.hoisted.table((node, "written"), lambda: _written(node))
    size = prod(node.shape)
    if base is None:
        room = writer.zeros(size)
    else:
        room = writer.elementwise(Op.COPY, size, [base.dense(writer)])
    if value is not None:
        _put(writer, Op.SCATTER_ADD, room, value, node, table)
    return Delta(node.shape, room)


def _written(node: Node) -> Any:
    return places_of(node.shape)[node.params["index"]].reshape(-1)


def _put(writer: Writer, op: Op, room: Any, value: Delta, node: Node, table: Table) -> None:
    spots = places_of(node.shape)[node.params["index"]].shape
    lead = len(value.shape) - len(spots)
    if lead > 0:  # leading axes of size 1 are dropped
        value = value.shared(value.shape[lead:])
    else:
        value = value.shared(value.shape)
    spread = expanded(writer, value, spots)
    writer.looked_up(op, room, spread.dense(writer), table)
    spread.release(writer)
    value.release(writer)
