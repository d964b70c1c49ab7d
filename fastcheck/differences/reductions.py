"""Sums and products over axes. A sum over a pinned axis just drops the pin."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, Pins, spread, unpin
from fastcheck.differences.rules import Deltas, rule
from fastcheck.differences.short import reduced
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CUMPROD, CUMSUM, PROD, SUM

Axes = tuple[int, ...]


def drop(values: Array, pins: Pins, axes: Axes, keepdims: bool) -> Delta:
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
        values = reduced(context.xp, np.add, values, tuple(full))
    if repeats != 1:
        values = values * repeats
    return drop(values, pins, axes, node.params["keepdims"])


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


@rule(PROD)
def _prod(context: Context, node: Node, deltas: Deltas) -> Delta:
    """Telescoping: ∏(b+d) − ∏b = Σᵢ (∏ before i, moved)·dᵢ·(∏ after i, at θ)."""
    (delta,) = deltas
    assert delta is not None
    xp, operand, axes = context.xp, node.operands[0], node.params["axes"]
    d = spread(xp, delta, operand.shape)
    b = xp.broadcast_to(context.bases.real(operand)[None], d.shape)
    order = [axis for axis in range(operand.ndim) if axis not in axes]
    lead = (d.shape[0], *[operand.shape[axis] for axis in order])
    arrange = (0, *[axis + 1 for axis in (*order, *axes)])
    d = xp.transpose(d, arrange).reshape((*lead, -1))
    b = xp.transpose(b, arrange).reshape((*lead, -1))
    change = functools.reduce(
        lambda _, last: last, _running_products(context, b, d), context.zeros(lead)
    )
    if node.params["keepdims"]:
        change = change.reshape((d.shape[0], *node.shape))
    return Delta(change, {})


@rule(CUMPROD)
def _cumprod(context: Context, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    xp, operand, axis = context.xp, node.operands[0], node.params["axis"] + 1
    d = xp.moveaxis(spread(xp, delta, operand.shape), axis, -1)
    b = xp.moveaxis(context.bases.real(operand)[None], axis, -1)
    changes = list(_running_products(context, xp.broadcast_to(b, d.shape), d))
    return Delta(xp.stack(changes, axis=axis), {})


def _running_products(context: Context, b: Array, d: Array) -> Iterator[Array]:
    """Yield ∏(b+d) − ∏b of the first 1, 2, 3, … elements along the last axis."""
    change = context.zeros(d.shape[:-1])
    product = context.xp.ones(d.shape[:-1], dtype=context.dtype)
    for i in range(d.shape[-1]):
        change = change * b[..., i] + d[..., i] * product
        product = product * (b[..., i] + d[..., i])
        yield change
