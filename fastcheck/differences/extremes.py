"""Maxima and minima over axes: the rule asks only whether the winner changed.

max(b+d) − max b = max((b − max b) + d). The winner's gap b − max b is exactly zero, so nothing
cancels, and where no other element can catch up the answer is the winner's own difference. It is a
kink where it is not. In a tie the winner is the first, so that any separate move of another one is
a kink, which it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, Pins, along, unpin
from fastcheck.differences.reductions import Axes, drop
from fastcheck.differences.rules import Deltas, rule
from fastcheck.differences.short import reduced
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import MAX, MIN


@rule(MAX)
def _max(context: Context, node: Node, deltas: Deltas) -> Delta:
    return _extreme(context, node, deltas, 1.0)


@rule(MIN)
def _min(context: Context, node: Node, deltas: Deltas) -> Delta:
    return _extreme(context, node, deltas, -1.0)


def _extreme(context: Context, node: Node, deltas: Deltas, sign: float) -> Delta:
    (delta,) = deltas
    assert delta is not None
    axes, shape, keepdims = node.params["axes"], node.operands[0].shape, node.params["keepdims"]
    if all(delta.values.shape[axis + 1] == 1 and axis not in delta.pins for axis in axes):
        return drop(delta.values, delta.pins, axes, keepdims)  # all move alike
    if len(axes) == 1 and axes[0] in delta.pins:
        return _pinned_extreme(context, node, delta, sign)
    delta = unpin(context.xp, delta, shape, axes)
    if len(axes) == 1:
        frame = _Frame(context, node.operands[0], axes[0], sign)
        return drop(frame.change(delta.values, delta.pins), delta.pins, axes, keepdims)
    return _over_several(context, node, delta, sign)


class _Frame:
    """The base values along one axis: how far each element lies behind the winner, and which wins.

    `arrange` prepares the base value; by default the array is used as it is.
    """

    def __init__(
        self,
        context: Context,
        operand: Node,
        axis: int,
        sign: float,
        arrange: Callable[[Array], Array] = lambda value: value,
        key: Any = None,
    ) -> None:
        self._context = context
        self._axis = axis
        self._sign = sign
        bases = context.bases
        name = (operand, axis, sign, key)

        def whole() -> Array:
            return sign * arrange(bases.exact(operand))

        self._gap = bases.derived((*name, "gap"), lambda: gap_to_largest(whole(), axis))
        self._winner = bases.derived((*name, "winner"), lambda: _winner(whole(), axis))
        self._margin = bases.derived((*name, "margin"), lambda: closest_call(whole(), axis))

    def change(self, values: Array, pins: Pins) -> Array:
        """Return the change of the extreme, the reduced axis kept with size 1."""
        context, axis, xp = self._context, self._axis + 1, self._context.xp
        if values.shape[axis] == 1:
            return values
        winner = context.bases.gather(self._winner, pins)
        smooth = along(xp, values, winner, axis)
        if context.asks(values) and bool(values.max() - values.min() < self._margin):
            return smooth  # nobody can catch up
        gap = context.bases.gather(self._gap, pins)
        if self._sign > 0:
            change = reduced(xp, np.maximum, context.ufunc(xp.add, values, gap), (axis,))
        else:
            change = reduced(xp, np.minimum, context.ufunc(xp.subtract, values, gap), (axis,))
        context.mark_kinks(change != smooth)
        return change


def gap_to_largest(value: Array, axis: int) -> Array:
    """Return how far each element lies behind the largest along the axis: at most zero."""
    return value - value.max(axis=axis, keepdims=True)


def _winner(value: Array, axis: int) -> Array:
    """Return where the largest element along the axis is, the first of equals."""
    return np.expand_dims(value.argmax(axis=axis), axis)


def _wins(value: Array, axis: int) -> Array:
    """Return where the winners are, as a mask."""
    places = np.arange(value.shape[axis]).reshape([-1] + [1] * (value.ndim - 1 - axis))
    return places == _winner(value, axis)


def closest_call(value: Array, axis: int) -> float:
    """Return how far behind the best of the others is, where it is closest."""
    others = np.where(_wins(value, axis), -np.inf, gap_to_largest(value, axis))
    return float(-others.max()) if others.size else float("inf")


def _over_several(context: Context, node: Node, delta: Delta, sign: float) -> Delta:
    """Put the reduced axes last, as one, and reduce that."""
    xp, operand, axes = context.xp, node.operands[0], node.params["axes"]
    shape = operand.shape
    order = [axis for axis in range(len(shape)) if axis not in axes] + list(axes)
    kept = len(shape) - len(axes)

    def arrange(value: Array) -> Array:
        value = np.transpose(value, order)
        return value.reshape((*value.shape[:kept], -1))

    frame = _Frame(context, operand, kept, sign, arrange, axes)
    values = xp.transpose(delta.values, (0, *[axis + 1 for axis in order]))
    full = tuple(shape[axis] for axis in axes)
    values = xp.broadcast_to(values, (*values.shape[: kept + 1], *full))
    values = values.reshape((*values.shape[: kept + 1], -1))
    pins = {order.index(axis): pin for axis, pin in delta.pins.items()}
    return _restore(frame.change(values, pins)[..., 0], pins, order, kept, node)


def _restore(values: Array, pins: Pins, order: list[int], kept: int, node: Node) -> Delta:
    """Give a result whose kept axes are in order its size-1 axes back, if they are wanted."""
    if not node.params["keepdims"]:
        return Delta(values, pins)
    shape, back = [values.shape[0]], {}
    for axis in range(len(order)):
        place = order.index(axis)
        shape.append(values.shape[place + 1] if place < kept else 1)
        if place < kept and place in pins:
            back[axis] = pins[place]
    return Delta(values.reshape(shape), back)


def _pinned_extreme(context: Context, node: Node, delta: Delta, sign: float) -> Delta:
    """One element moves per copy: it wins, or the best of the others does."""
    axes: Axes = node.params["axes"]
    operand, bases, xp = node.operands[0], context.bases, context.xp
    axis = axes[0]

    def behind() -> Array:
        return gap_to_largest(sign * bases.exact(operand), axis)

    def best_other() -> Array:
        gap = behind()
        second = np.take(np.sort(gap, axis=axis), [-2], axis=axis)
        return np.where(_wins(gap, axis), second, 0.0)

    own = bases.gather(bases.derived((operand, "behind", axis, sign), behind), delta.pins)
    other = bases.gather(bases.derived((operand, "other", axis, sign), best_other), delta.pins)
    change = xp.maximum(own + sign * delta.values, other)
    smooth = xp.where((own == 0) & (other <= 0), sign * delta.values, 0.0)
    context.mark_kinks((change != smooth) | ((own == 0) & (other == 0) & (delta.values != 0)))
    pins = {one: pin for one, pin in delta.pins.items() if one != axis}
    return drop(sign * change, pins, axes, node.params["keepdims"])
