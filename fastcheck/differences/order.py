"""Where the largest element is, and in which order elements stand: answers that seldom change.

A winner by a margin stays the winner while nobody moves that far, and an order stays while no two
neighbours can meet. Only where that is possible are the copies looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, spread
from fastcheck.differences.extremes import closest_call, gap_to_largest
from fastcheck.differences.opaque import copy_by_copy
from fastcheck.differences.rules import Deltas, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import ARGMAX, ARGMIN, ARGPARTITION, ARGSORT


@rule(ARGMAX)
def _argmax(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    return _winner(context, node, deltas, 1.0)


@rule(ARGMIN)
def _argmin(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    return _winner(context, node, deltas, -1.0)


def _winner(context: Context, node: Node, deltas: Deltas, sign: float) -> Delta | None:
    """Compare the gaps to the winner at θ, which is exactly zero for itself, after the move."""
    (delta,) = deltas
    assert delta is not None
    bases, operand, axis = context.bases, node.operands[0], node.params["axis"]

    def compared() -> Array:
        """Return the base value, the elements that are compared along its last axis."""
        value = sign * bases.exact(operand).astype(np.float64)
        return value.reshape(-1) if axis is None else np.moveaxis(value, axis, -1)

    def gap() -> Array:
        return gap_to_largest(compared(), -1)

    def margin() -> float:
        return closest_call(compared(), compared().ndim - 1)

    key = node, "winner"
    if context.asks(delta.values) and _span(delta) < bases.derived((*key, "margin"), margin):
        return None
    if bases.derived((*key, "lost"), lambda: bool(np.isnan(gap()).any())):
        return copy_by_copy(context, node, deltas)  # the largest is infinite, or no number
    moved = sign * spread(context.xp, delta, operand.shape)
    copies = moved.shape[0]
    if axis is None:
        moved = moved.reshape((copies, -1))
    else:
        moved = context.xp.moveaxis(moved, axis % operand.ndim + 1, -1)
    new = (moved + bases.derived((*key, "gap"), gap)).argmax(axis=-1)
    change = new.reshape((copies, *node.shape)) - bases.value(node)
    if not context.any(change):
        return None
    context.mark_kinks(change != 0)
    return Delta(context.floats(change), {})


@rule(ARGSORT, ARGPARTITION)
def _order(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    (delta,) = deltas
    assert delta is not None
    bases = context.bases

    def margin() -> float:
        value = bases.exact(node.operands[0]).astype(np.float64)
        axis = node.params["axis"]
        steps = np.diff(np.sort(value, axis=axis), axis=-1 if axis is None else axis)
        return float(np.min(steps, initial=np.inf))

    if _span(delta) < bases.derived((node, "margin"), margin):
        return None
    return copy_by_copy(context, node, deltas)


def _span(delta: Delta) -> Any:
    """Return by how much two elements of a copy may move towards each other, at most."""
    return max(float(delta.values.max()), 0.0) - min(float(delta.values.min()), 0.0)
