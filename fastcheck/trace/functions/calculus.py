"""Differences, slopes and areas of sampled functions, and lines between their points."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import axis_tuple, lift, one_axis, refuse, tape_of
from fastcheck.trace.functions.shape import moveaxis
from fastcheck.trace.registry import named, traced
from fastcheck.trace.traced import plain_index


@traced(*named("trapezoid", "trapz"))
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    tape = tape_of(y, x, dx)
    y = lift(y, tape)
    axis = one_axis(axis, y.ndim)
    if x is not None:
        x = lift(x, tape)
        steps = np.diff(x, axis=0 if x.ndim == 1 else axis)
        dx = np.reshape(steps, (-1,) + (1,) * (y.ndim - 1 - axis)) if x.ndim == 1 else steps
    later, earlier = _part(y, axis, slice(1, None)), _part(y, axis, slice(None, -1))
    return np.sum(dx * (later + earlier) / 2.0, axis=axis)


def _part(a: Any, axis: int, where: Any) -> Any:
    return a[(slice(None),) * axis + (where,)]


@traced(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    tape = tape_of(ary, to_end, to_begin)
    parts = [to_begin, np.diff(np.ravel(lift(ary, tape))), to_end]
    return np.concatenate([np.ravel(lift(part, tape)) for part in parts if part is not None])


@traced(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    tape = tape_of(f, *varargs)
    f = lift(f, tape)
    axes = axis_tuple(axis, f.ndim)
    spacings: Any = varargs or (1.0,)
    spacings = spacings * len(axes) if len(spacings) == 1 else spacings
    if len(spacings) != len(axes):
        raise TypeError("invalid number of arguments")
    slopes = [
        np.moveaxis(_slope(np.moveaxis(f, one, 0), spacing, edge_order), 0, one)
        for one, spacing in zip(axes, spacings, strict=True)
    ]
    several = axis is None or isinstance(axis, (tuple, list))
    return tuple(slopes) if several and len(slopes) > 1 else slopes[0]


def _slope(f: Any, spacing: Any, edge_order: int) -> Any:
    """The slope along the first axis: of second order inside, of `edge_order` at the ends."""
    size = len(f)
    if size < edge_order + 1:
        raise ValueError("Shape of array too small to calculate a numerical gradient")
    steps = np.diff(spacing) if np.ndim(spacing) else np.ones(size - 1) * spacing
    steps = np.reshape(steps, (-1,) + (1,) * (f.ndim - 1))
    before, after = steps[:-1], steps[1:]
    both = before + after
    inside = (
        f[2:] * before / (after * both)
        + f[1:-1] * (after - before) / (before * after)
        - f[:-2] * after / (before * both)
    )
    first, last = (f[1] - f[0]) / steps[0], (f[-1] - f[-2]) / steps[-1]
    if edge_order == 2:
        first = _at_the_edge(f[0], f[1], f[2], steps[0], steps[1])
        last = -_at_the_edge(f[-1], f[-2], f[-3], steps[-1], steps[-2])
    return np.concatenate([first[None], inside, last[None]])


def _at_the_edge(f0: Any, f1: Any, f2: Any, near: Any, far: Any) -> Any:
    both = near + far
    return f1 * both / (near * far) - f0 * (near + both) / (near * both) - f2 * near / (far * both)


@traced(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: float = 2 * np.pi) -> Any:
    axis = one_axis(axis, p.ndim)
    steps = np.diff(p, axis=axis)
    high = period / 2
    wrapped = np.mod(steps + high, period) - high
    wrapped = np.where((wrapped == -high) & (steps > 0), high, wrapped)
    limit = high if discont is None else discont
    correction = np.where(np.abs(steps) < limit, 0.0, wrapped - steps)
    later = _part(p, axis, slice(1, None)) + np.cumsum(correction, axis=axis)
    return np.concatenate([_part(p, axis, slice(None, 1)), later], axis=axis)


@traced(np.interp)
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    tape = tape_of(x, xp, fp, left, right)
    if period is not None:
        refuse("np.interp with period=", "take x modulo the period", x, xp, fp)
    x, xp, fp = (lift(part, tape) for part in (x, xp, fp))
    last = len(xp) - 1
    # Which line an element lies on is an index: copies that leave it call the user's function.
    place = np.clip(plain_index(tape, np.searchsorted(xp, x, side="right")) - 1, 0, last - 1)
    low, high = xp[place], xp[place + 1]
    inside = (fp[place + 1] - fp[place]) / (high - low) * (x - low) + fp[place]
    inside = np.where(x < xp[0], fp[0] if left is None else left, inside)
    inside = np.where(x == xp[last], fp[last], inside)
    return np.where(x > xp[last], fp[last] if right is None else right, inside)


@traced(np.cross)
def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    tape = tape_of(a, b)
    a = moveaxis(lift(a, tape), axisa, -1)
    b = moveaxis(lift(b, tape), axisb, -1)
    if (a.shape[-1], b.shape[-1]) != (3, 3):
        refuse("np.cross of vectors of length 2", "write a[0] * b[1] - a[1] * b[0]", a, b)
    (a0, a1, a2), (b0, b1, b2) = ([v[..., k] for k in range(3)] for v in (a, b))
    product = np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)
    return np.moveaxis(product, -1, axisc)


traced(*named("linalg.cross"))(lambda x1, x2, /, *, axis=-1: cross(x1, x2, axis=axis))
