"""A whole slice as a list of instructions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastcheck.lanes import (  # noqa: F401  (the rules)
    contraction,
    kinks,
    smooth,
    structure,
)
from fastcheck.lanes.assembly import BYTES
from fastcheck.lanes.delta import Delta, Rows
from fastcheck.lanes.rules import RULES, Deltas
from fastcheck.lanes.writer import Hoisted, NoProgram, Table, Writer
from fastcheck.trace.graph import Node
from fastcheck.trace.slices import Slice

_MOST_INSTRUCTIONS = 20_000


@dataclass(frozen=True, eq=False)
class Program:
    """What the interpreter runs for each group of copies.

    Attributes
    ----------
    code : (n, FIELDS) int64
    loss : int
        The byte offset of J(θ + step) − J(θ) in the workspace.
    vectors : int
        The size of the workspace.
    work : float
        About how many vector operations a group of copies takes.
    alive : list
        The constants and tables that the code points to.
    """

    code: Table
    loss: int
    vectors: int
    work: float
    alive: list[Any]


def write(part: Slice, terms: int, hoisted: Hoisted) -> Program | None:
    """Write a slice down; None if its tensor does not reach the loss.

    Parameters
    ----------
    part : Slice
        What the tensor reaches.
    terms : {2, 4}
        Of series around θ: how far from it they are good.
    hoisted : Hoisted
        Constants that programs of the same graph share.

    Raises
    ------
    NoProgram
        What the slice does that a program does not.
    """
    elements = prod(part.parameter.shape)
    writer = Writer(terms, hoisted)
    itself = hoisted.table(("itself", elements), lambda: np.arange(elements))
    deltas: dict[Node, Delta] = {}
    deltas[part.parameter] = Delta(part.parameter.shape, None, [Rows(itself)])
    for place, node in enumerate(part.nodes):
        delta = _written(writer, node, [deltas.get(operand) for operand in node.operands])
        if delta is not None:
            deltas[node] = delta
        for operand in node.operands:
            if part.last_use[operand] == place and operand in deltas:
                deltas.pop(operand).release(writer)
    for guard in part.guards:
        if guard.node in deltas:
            raise NoProgram(f"Python reads a number that moves ({guard.source})")
    loss = deltas.get(part.output)
    if loss is None:
        return None
    room = loss.dense(writer)
    code, alive = writer.finished()
    if len(code) > _MOST_INSTRUCTIONS:
        raise NoProgram("it has too many operations")
    return Program(code, room.offset * BYTES, writer.vectors, writer.work, alive)


def _written(writer: Writer, node: Node, deltas: Deltas) -> Delta | None:
    if all(delta is None for delta in deltas):
        return None
    rule = RULES.get(node.primitive)
    if rule is None:
        raise NoProgram(f"{node.primitive.name} has no instructions ({node.source})")
    if not node.value.size or any(not operand.value.size for operand in node.operands):
        raise NoProgram("an array is empty")
    if not all(map(_is_exact, (node, *node.operands))):
        raise NoProgram(f"an array of {node.value.dtype} takes part")
    return rule(writer, node, deltas)


def _is_exact(node: Node) -> bool:
    """Whether rounding to the node's type is that of float64, or the type has none."""
    return node.value.dtype == np.float64 or node.value.dtype.kind in "iub"
