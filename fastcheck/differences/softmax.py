"""Log-sum-exp and log-softmax, with the winner at θ as the reference.

log Σ exp(x+d) − log Σ exp(x) = d_w + log1p(Σ p·expm1(d − d_w)), with p the softmax of x and w its
largest element. The winner's own term is exactly zero, so nothing is lost where it takes almost
all of the sum, as it does in a trained network.
"""

from __future__ import annotations

import numpy as np

from fastcheck.differences import series
from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, Pins, along, unpin
from fastcheck.differences.reductions import Axes, drop
from fastcheck.differences.rules import Deltas, rule
from fastcheck.differences.short import reduced
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import LOG_SOFTMAX, LOGSUMEXP

_FEW = 6
"""Classes up to which `einsum` takes longer than a product and a sum of slices."""


@rule(LOGSUMEXP)
def _logsumexp(context: Context, node: Node, deltas: Deltas) -> Delta:
    axes: Axes = node.params["axes"]
    delta = _written_out(context, node, deltas)
    _, lead, growth = _parts(context, node, delta, axes)
    return drop(lead + growth, delta.pins, axes, node.params["keepdims"])


@rule(LOG_SOFTMAX)
def _log_softmax(context: Context, node: Node, deltas: Deltas) -> Delta:
    delta = _written_out(context, node, deltas)
    beside, _, growth = _parts(context, node, delta, node.params["axes"])
    # In the memory of the first, which nobody else has: fresh memory costs more than arithmetic.
    return Delta(context.within(context.xp.subtract, beside, growth), delta.pins)


def _written_out(context: Context, node: Node, deltas: Deltas) -> Delta:
    """Return the operand's difference, full along the reduced axes."""
    (delta,) = deltas
    assert delta is not None
    axes, shape = node.params["axes"], node.operands[0].shape
    delta = unpin(context.xp, delta, shape, axes)
    full = list(delta.values.shape)
    for axis in axes:
        full[axis + 1] = shape[axis]
    return Delta(context.xp.broadcast_to(delta.values, tuple(full)), delta.pins)


def _parts(context: Context, node: Node, delta: Delta, axes: Axes) -> tuple[Array, Array, Array]:
    """Return d − d_w, d_w, and log1p(Σ p·expm1(d − d_w)), the reduced axes kept."""
    xp, values = context.xp, delta.values
    over = tuple(axis + 1 for axis in axes)
    share = _share(context, node.operands[0], axes, delta.pins)
    lead = _of_winner(context, node.operands[0], axes, delta)
    beside = context.ufunc(xp.subtract, values, lead)
    growth = series.expm1(context, beside)
    total = _weighted_sum(context, growth, share, over)
    overflown = ~xp.isfinite(total)
    if not context.any(overflown):
        return beside, lead, series.log1p(context, total)
    far = _plainly(context, node.operands[0], delta, over) - lead
    return beside, lead, xp.where(overflown, far, xp.log1p(total))


def _plainly(context: Context, operand: Node, delta: Delta, axes: tuple[int, ...]) -> Array:
    """Return log Σ exp(x+d) − log Σ exp(x), for differences beyond the range of exponentials."""
    xp, value = context.xp, context.bases.gather(context.bases.value(operand), delta.pins)

    def log_of_sum(x: Array) -> Array:
        top = x.max(axis=axes, keepdims=True)
        return top + xp.log(xp.exp(x - top).sum(axis=axes, keepdims=True))

    return log_of_sum(value + delta.values) - log_of_sum(value)


def _weighted_sum(context: Context, values: Array, weights: Array, axes: tuple[int, ...]) -> Array:
    """Return Σ values·weights over `axes`, kept with size 1; `values` may be overwritten."""
    xp = context.xp
    few = all(values.shape[axis] <= _FEW for axis in axes)
    # On a GPU `einsum` would copy both into another order.
    if few or context.bases.device.is_gpu:
        return reduced(xp, np.add, context.within(xp.multiply, values, weights), axes)
    # In one pass over the stack.
    every = list(range(values.ndim))
    kept = [axis for axis in every if axis not in axes]
    if weights.shape[0] == 1:  # the same for all copies
        total = xp.einsum(values, every, weights[0], every[1:], kept)
    else:
        total = xp.einsum(values, every, weights, every, kept)
    return xp.expand_dims(total, axes)


def _share(context: Context, operand: Node, axes: Axes, pins: Pins) -> Array:
    """Return the softmax at θ."""
    bases = context.bases

    def softmax() -> Array:
        value = bases.exact(operand)
        powers = np.exp(value - value.max(axis=axes, keepdims=True))
        return powers / powers.sum(axis=axes, keepdims=True)

    return bases.gather(bases.derived((operand, "softmax", axes), softmax), pins)


def _of_winner(context: Context, operand: Node, axes: Axes, delta: Delta) -> Array:
    """Return the difference of the largest element along the axes (the first of equals)."""
    bases, xp = context.bases, context.xp
    if len(axes) == 1:
        places = bases.derived(
            (operand, "largest", axes),
            lambda: np.expand_dims(bases.exact(operand).argmax(axis=axes[0]), axes[0]),
        )
        places = bases.gather(places, delta.pins)
        return along(xp, delta.values, places, axes[0] + 1)
    mask = bases.derived(
        (operand, "largest", axes), lambda: _first_largest(bases.exact(operand), axes)
    )
    weighted = delta.values * bases.gather(mask, delta.pins)
    return weighted.sum(axis=tuple(axis + 1 for axis in axes), keepdims=True)


def _first_largest(value: Array, axes: Axes) -> Array:
    """Return 1 at the first largest element along the axes taken together, 0 elsewhere."""
    order = [axis for axis in range(value.ndim) if axis not in axes] + list(axes)
    moved = np.transpose(value, order)
    flat = moved.reshape((*moved.shape[: value.ndim - len(axes)], -1))
    mask = np.arange(flat.shape[-1]) == np.expand_dims(flat.argmax(axis=-1), -1)
    back = [order.index(axis) for axis in range(value.ndim)]
    return np.transpose(mask.reshape(moved.shape), back).astype(np.float64)
