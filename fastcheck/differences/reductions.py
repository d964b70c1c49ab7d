"""Reductions: a sum drops the pin, an extreme asks only whether the winner changed."""

from __future__ import annotations

from typing import Any

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, Pins, spread, unpin
from fastcheck.differences.rules import Deltas, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CUMSUM, MAX, MIN, PROD, SUM

Axes = tuple[int, ...]


def _drop(values: Array, pins: Pins, axes: Axes, keepdims: bool) -> Delta:
    """Remove reduced axes (now of size 1) unless they are kept."""
    if keepdims:
        return Delta(values, pins)
    kept = [axis for axis in range(values.ndim - 1) if axis not in axes]
    shape = values.shape[:1] + tuple(values.shape[axis + 1] for axis in kept)
    return Delta(values.reshape(shape), {kept.index(axis): pin for axis, pin in pins.items()})


@rule(SUM)
def _sum(context: Context, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    axes, shape = node.params["axes"], node.operands[0].shape
    values, pins = delta.values, dict(delta.pins)
    repeats = 1
    full = []
    for axis in axes:
        if axis in pins:
            del pins[axis]
        elif values.shape[axis + 1] != shape[axis]:
            repeats *= shape[axis]  # the same all along the axis
        elif shape[axis] != 1:
            full.append(axis + 1)
    if full:
        values = values.sum(axis=tuple(full), keepdims=True)
    if repeats != 1:
        values = values * repeats
    return _drop(values, pins, axes, node.params["keepdims"])


@rule(CUMSUM)
def _cumsum(context: Context, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    axis, shape = node.params["axis"], node.operands[0].shape
    delta = unpin(context.xp, delta, shape, [axis])
    values = delta.values
    if values.shape[axis + 1] != shape[axis]:
        full = (*values.shape[: axis + 1], shape[axis], *values.shape[axis + 2 :])
        values = context.xp.broadcast_to(values, full)
    return Delta(context.xp.cumsum(values, axis=axis + 1), delta.pins)


@rule(MAX)
def _max(context: Context, node: Node, deltas: Deltas) -> Delta:
    return _extreme(context, node, deltas, 1.0)


@rule(MIN)
def _min(context: Context, node: Node, deltas: Deltas) -> Delta:
    return _extreme(context, node, deltas, -1.0)


def _extreme(context: Context, node: Node, deltas: Deltas, sign: float) -> Delta:
    """max(b+d) − max b = max((b − max b) + d): the winner's gap is exactly zero.

    It is a kink where the result is not the winner's own difference. In a tie the winner is the
    first, so that any separate move of another is a kink, which it is.
    """
    (delta,) = deltas
    assert delta is not None
    operand, axes = node.operands[0], node.params["axes"]
    xp, shape = context.xp, operand.shape
    if all(shape[axis] == 1 for axis in axes):
        return _drop(delta.values, dict(delta.pins), axes, node.params["keepdims"])
    if len(axes) == 1 and axes[0] in delta.pins:
        return _pinned_extreme(context, node, delta, sign)
    delta = unpin(xp, delta, shape, axes)
    order = [axis for axis in range(len(shape)) if axis not in axes] + list(axes)
    kept = len(shape) - len(axes)
    values = xp.transpose(delta.values, (0, *[axis + 1 for axis in order]))
    pins = {order.index(axis): pin for axis, pin in delta.pins.items()}
    full = tuple(shape[axis] for axis in axes)
    if values.shape[kept + 1 :] != full:
        values = xp.broadcast_to(values, (*values.shape[: kept + 1], *full))
    values = values.reshape((*values.shape[: kept + 1], -1))
    gap, winner = _gaps(context, operand, axes, order, sign)
    gap, winner = context.bases.gather(gap, pins), context.bases.gather(winner, pins)
    moved = values + gap if sign > 0 else values - gap
    change = moved.max(axis=-1) if sign > 0 else moved.min(axis=-1)
    smooth = xp.take_along_axis(*_same_lead(xp, values, winner), axis=-1)[..., 0]
    context.mark_kinks(change != smooth)
    return _restore(change, pins, order, kept, node)


def _same_lead(xp: Any, values: Array, winner: Array) -> tuple[Array, Array]:
    """Spread values and winner over each other's axes, but for the reduced one."""
    lead = tuple(max(a, b) for a, b in zip(values.shape[:-1], winner.shape[:-1], strict=True))
    return (
        xp.broadcast_to(values, (*lead, values.shape[-1])),
        xp.broadcast_to(winner, (*lead, 1)),
    )


def _gaps(
    context: Context, operand: Node, axes: Axes, order: list[int], sign: float
) -> tuple[Array, Array]:
    """Return how far each element lies behind the winner (≤ 0), and which one wins, axes last."""
    bases, xp = context.bases, context.xp

    def ordered() -> Array:
        value = sign * xp.transpose(bases.value(operand), order)
        return value.reshape((*value.shape[: len(order) - len(axes)], -1))

    last = bases.derived((operand, "ordered", axes, sign), ordered)
    gap = bases.derived(
        (operand, "gap", axes, sign), lambda: last - last.max(axis=-1, keepdims=True)
    )
    winner = bases.derived(
        (operand, "winner", axes, sign), lambda: xp.expand_dims(last.argmax(axis=-1), -1)
    )
    return gap, winner


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
    (axis,) = node.params["axes"]
    operand, bases, xp = node.operands[0], context.bases, context.xp

    def behind() -> Array:
        value = sign * bases.value(operand)
        return value - value.max(axis=axis, keepdims=True)

    def best_other() -> Array:
        gap = behind()
        second = xp.sort(gap, axis=axis)
        second = xp.take(second, xp.asarray([-2]), axis=axis)
        wins = xp.arange(gap.shape[axis]).reshape([-1] + [1] * (gap.ndim - 1 - axis))
        wins = wins == xp.expand_dims(gap.argmax(axis=axis), axis)
        return xp.where(wins, second, 0.0)

    own = bases.gather(bases.derived((operand, "behind", axis, sign), behind), delta.pins)
    other = bases.gather(bases.derived((operand, "other", axis, sign), best_other), delta.pins)
    change = xp.maximum(own + sign * delta.values, other)
    smooth = xp.where(own == 0, xp.where(other <= 0, sign * delta.values, 0.0), 0.0)
    context.mark_kinks((change != smooth) | ((own == 0) & (other == 0) & (delta.values != 0)))
    pins = {one: pin for one, pin in delta.pins.items() if one != axis}
    return _drop(sign * change, pins, node.params["axes"], node.params["keepdims"])


@rule(PROD)
def _prod(context: Context, node: Node, deltas: Deltas) -> Delta:
    """Telescoping: ∏(b+d) − ∏b = Σᵢ (∏ before i, moved)·dᵢ·(∏ after i, at θ)."""
    (delta,) = deltas
    assert delta is not None
    xp, operand, axes = context.xp, node.operands[0], node.params["axes"]
    d = spread(xp, delta, operand.shape)
    b = xp.broadcast_to(context.bases.value(operand)[None], d.shape)
    order = [axis for axis in range(operand.ndim) if axis not in axes]
    lead = (d.shape[0], *[operand.shape[axis] for axis in order])
    arrange = (0, *[axis + 1 for axis in (*order, *axes)])
    d = xp.transpose(d, arrange).reshape((*lead, -1))
    b = xp.transpose(b, arrange).reshape((*lead, -1))
    change = xp.zeros(lead)
    product = xp.ones(lead)
    for i in range(d.shape[-1]):
        change = change * b[..., i] + d[..., i] * product
        product = product * (b[..., i] + d[..., i])
    if node.params["keepdims"]:
        change = change.reshape((d.shape[0], *node.shape))
    return Delta(change, {})
