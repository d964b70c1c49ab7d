"""Smooth functions of one or two variables, by the identities that avoid cancellation.

b is the base value, d its difference, f = f(b). Sources: the addition theorems (Abramowitz & Stegun
chapter 4), solved for f(b+d) − f(b).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.differences import series
from fastcheck.differences.delta import Array
from fastcheck.differences.elementwise import Site, formula
from fastcheck.trace.primitives import ELEMENTWISE

_LN2, _LN10 = float(np.log(2.0)), float(np.log(10.0))
_NEAR_ZERO = 2.0**-4  # a sum of terms of size 1 that is smaller than this has lost digits


def _unary(*ufuncs: np.ufunc) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Register `function(xp, site, d)` for functions of one variable."""

    def register(function: Callable[..., Array]) -> Callable[..., Array]:
        formula(*ufuncs)(lambda site: function(site.xp, site, site.differences[0]))
        return function

    return register


@_unary(np.exp)
def _exp(xp: Any, site: Site, d: Array) -> Array:
    near = series.taylor(site, d, series.of_exp)
    if near is not None:
        return near
    change = _scale(site, site.ufunc(xp.expm1, d), site.result())
    overflown = xp.isnan(change)  # 0·∞: from where the exponential is 0, beyond its range
    if not site.context.any(overflown):
        return change
    return xp.where(overflown, xp.exp(site.base(0) + d) - site.result(), change)


@_unary(np.exp2)
def _exp2(xp: Any, site: Site, d: Array) -> Array:
    return _scale(site, site.ufunc(xp.expm1, d * _LN2), site.result())


@_unary(np.expm1)
def _expm1(xp: Any, site: Site, d: Array) -> Array:
    return xp.expm1(d) * (site.result() + 1.0)


def _log_growth(xp: Any, site: Site, d: Array) -> Array:
    """log(b+d) − log(b) = log1p(d/b)."""
    ratio = site.ufunc(xp.multiply, d, site.hoisted(("reciprocal",), lambda b: 1.0 / b))
    if series.terms(site.context, ratio):
        return series.log1p(site.context, ratio)
    far = ratio < _NEAR_ZERO - 1.0
    if site.context.any(far):
        return xp.where(far, xp.log(site.base(0) + d) - xp.log(site.base(0)), xp.log1p(ratio))
    return xp.log1p(ratio, out=ratio)


@_unary(np.log)
def _log(xp: Any, site: Site, d: Array) -> Array:
    return _log_growth(xp, site, d)


@_unary(np.log2)
def _log2(xp: Any, site: Site, d: Array) -> Array:
    return _log_growth(xp, site, d) / _LN2


@_unary(np.log10)
def _log10(xp: Any, site: Site, d: Array) -> Array:
    return _log_growth(xp, site, d) / _LN10


@_unary(np.log1p)
def _log1p(xp: Any, site: Site, d: Array) -> Array:
    return xp.log1p(d * site.hoisted(("reciprocal",), lambda b: 1.0 / (1.0 + b)))


@_unary(np.sqrt)
def _sqrt(xp: Any, site: Site, d: Array) -> Array:
    root = xp.sqrt(site.base(0) + d) + site.result()
    # At b = d = 0 both roots vanish, and so does the difference.
    return d / xp.where(root == 0, 1.0, root)


@_unary(np.cbrt)
def _cbrt(xp: Any, site: Site, d: Array) -> Array:
    old, new = site.result(), xp.cbrt(site.base(0) + d)
    total = new * new + new * old + old * old
    return d / xp.where(total == 0, 1.0, total)


@_unary(np.sin)
def _sin(xp: Any, site: Site, d: Array) -> Array:
    return 2.0 * xp.sin(d / 2) * xp.cos(site.base(0) + d / 2)


@_unary(np.cos)
def _cos(xp: Any, site: Site, d: Array) -> Array:
    return -2.0 * xp.sin(d / 2) * xp.sin(site.base(0) + d / 2)


@_unary(np.tan)
def _tan(xp: Any, site: Site, d: Array) -> Array:
    """tan(b+d) − tan b = sin d / (cos(b+d)·cos b)."""
    b = site.base(0)
    return xp.sin(d) / (xp.cos(b + d) * xp.cos(b))


@_unary(np.sinh)
def _sinh(xp: Any, site: Site, d: Array) -> Array:
    return 2.0 * xp.sinh(d / 2) * xp.cosh(site.base(0) + d / 2)


@_unary(np.cosh)
def _cosh(xp: Any, site: Site, d: Array) -> Array:
    return 2.0 * xp.sinh(d / 2) * xp.sinh(site.base(0) + d / 2)


@_unary(np.tanh)
def _tanh(xp: Any, site: Site, d: Array) -> Array:
    """tanh(b+d) − tanh b = tanh d·sech²b / (1 + tanh d·tanh b)."""
    near = series.taylor(site, d, series.of_tanh)
    if near is not None:
        return near
    slope = site.hoisted(("slope", 0), lambda b: series.of_tanh(b)[0])
    t = xp.tanh(d)
    divisor = 1.0 + t * site.result()
    change = t * slope / divisor
    # Coming back from far out the divisor nears zero, and the difference is large.
    far = divisor < _NEAR_ZERO
    if not site.context.any(far):
        return change
    return xp.where(far, xp.tanh(site.base(0) + d) - site.result(), change)


@_unary(np.arctan)
def _arctan(xp: Any, site: Site, d: Array) -> Array:
    """arctan(d/(1 + b(b+d))), on the branch that arctan2 picks (|difference| < π)."""
    b = site.base(0)
    return xp.arctan2(d, 1.0 + b * (b + d))


@_unary(np.arctanh)
def _arctanh(xp: Any, site: Site, d: Array) -> Array:
    b = site.base(0)
    return xp.arctanh(d / (1.0 - b * (b + d)))


@_unary(np.arcsinh)
def _arcsinh(xp: Any, site: Site, d: Array) -> Array:
    """sinh of the difference is u√(1+b²) − b√(1+u²) = d(u+b)/(u√(1+b²) + b√(1+u²)), u = b + d."""
    b = site.base(0)
    u = b + d
    left, right = u * xp.sqrt(1.0 + b * b), b * xp.sqrt(1.0 + u * u)
    total = left + right
    same_side = b * u > 0
    return xp.arcsinh(
        xp.where(same_side, d * (u + b) / xp.where(same_side, total, 1.0), left - right)
    )


@_unary(np.arcsin)
def _arcsin(xp: Any, site: Site, d: Array) -> Array:
    return _arcsin_growth(xp, site.base(0), d)


@_unary(np.arccos)
def _arccos(xp: Any, site: Site, d: Array) -> Array:
    return -_arcsin_growth(xp, site.base(0), d)


def _arcsin_growth(xp: Any, b: Array, d: Array) -> Array:
    """sin and cos of the difference by the addition theorem, its quotient by arctan2."""
    u = b + d
    cos_b, cos_u = xp.sqrt((1.0 - b) * (1.0 + b)), xp.sqrt((1.0 - u) * (1.0 + u))
    same_side = b * u > 0
    # u·cos b − b·cos u, multiplied out by its conjugate where the two nearly cancel.
    total = xp.where(same_side, u * cos_b + b * cos_u, 1.0)
    sine = xp.where(same_side, d * (u + b) / total, u * cos_b - b * cos_u)
    return xp.arctan2(sine, cos_b * cos_u + b * u)


@formula(np.logaddexp)
def _logaddexp(site: Site) -> Array:
    """log1p(p·expm1(dx) + q·expm1(dy)), p and q the shares of the two terms."""
    return _logadd_growth(site, np.logaddexp, 1.0)


@formula(np.logaddexp2)
def _logaddexp2(site: Site) -> Array:
    return _logadd_growth(site, np.logaddexp2, _LN2)


def _logadd_growth(site: Site, function: np.ufunc, scale: float) -> Array:
    xp, context = site.xp, site.context
    shares = _log_shares(site, function, scale)
    if series.terms(context, shares):
        growth = series.log1p(context, shares)
        return growth if scale == 1.0 else growth / scale
    far = ~(abs(shares) < 1.0 - _NEAR_ZERO)
    growth = xp.log1p(shares) / scale
    if not context.any(far):
        return growth
    moved = [
        site.base(operand) if d is None else site.base(operand) + d
        for operand, d in enumerate(site.differences)
    ]
    return xp.where(far, getattr(xp, function.__name__)(*moved) - site.result(), growth)


def _log_shares(site: Site, function: np.ufunc, scale: float) -> Array:
    total = None
    for place, d in enumerate(site.differences):
        if d is not None:
            share = site.hoisted(
                ("share", place), lambda *x, k=place: np.exp(scale * (x[k] - function(*x)))
            )
            part = series.expm1(site.context, d if scale == 1.0 else scale * d)
            part = site.within(site.xp.multiply, part, share)
            total = part if total is None else site.within(site.xp.add, total, part)
    return total


@formula(np.hypot)
def _hypot(site: Site) -> Array:
    xp = site.xp
    squares: Any = 0.0
    moved = []
    for operand, d in enumerate(site.differences):
        b = site.base(operand)
        moved.append(b if d is None else b + d)
        if d is not None:
            squares = squares + d * (2.0 * b + d)
    total = xp.hypot(*moved) + site.result()
    return squares / xp.where(total == 0, 1.0, total)


@formula(np.arctan2)
def _arctan2(site: Site) -> Array:
    """The angle between the two directions: cross product over dot product."""
    dy, dx = (0.0 if d is None else d for d in site.differences)
    y, x = site.base(0), site.base(1)
    turn = site.xp.arctan2(dy * x - dx * y, x * (x + dx) + y * (y + dy))
    # Crossing the negative x axis jumps by a whole turn, as the function itself does.
    return turn - 2.0 * np.pi * site.xp.rint((site.result() + turn) / (2.0 * np.pi))


@_unary(np.deg2rad, np.radians)
def _deg2rad(xp: Any, site: Site, d: Array) -> Array:
    return xp.deg2rad(d)


@_unary(np.rad2deg, np.degrees)
def _rad2deg(xp: Any, site: Site, d: Array) -> Array:
    return xp.rad2deg(d)


def _scale(site: Site, change: Array, factor: Array) -> Array:
    """Multiply in place where the shapes allow it: the stack is the larger by far."""
    return site.within(site.xp.multiply, change, factor)


def _plain_difference(ufunc: np.ufunc) -> None:
    """f(b+d) − f(b), for the functions left: correct, but with cancellation."""

    def difference(site: Site) -> Array:
        moved = [
            site.base(operand) if d is None else site.base(operand) + d
            for operand, d in enumerate(site.differences)
        ]
        return getattr(site.xp, ufunc.__name__)(*moved) - site.result()

    formula(ufunc, cancelling=True)(difference)


for _ufunc in (np.arccosh, np.copysign, np.fmod):
    assert _ufunc in ELEMENTWISE
    _plain_difference(_ufunc)
