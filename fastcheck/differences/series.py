"""Functions of tiny differences by their first few terms: a pass costs less than a function.

A step is about 2⁻³⁰ of the parameters unless a kink or the user asks for another, so differences
are tiny nearly always. How many terms are needed is read off the largest of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array
from fastcheck.differences.elementwise import Site

# With k terms, those left out are below dᵏ of the first, in every series here.
_REACH = {2: 2.0**-27, 3: 2.0**-18, 4: 2.0**-13.5}
_EXP = (1.0, 1 / 2, 1 / 6, 1 / 24)
_LOG = (1.0, -1 / 2, 1 / 3, -1 / 4)
_WORTH_A_LOOK = 512
"""Elements from which looking for the largest one costs less than it may save."""


def terms(context: Context, d: Array) -> int:
    """Return how many terms of a series suffice for differences `d`; 0 if none here do."""
    if d.size < _WORTH_A_LOOK or not context.asks(d):
        return 0
    reach = context.reach(d)
    return next((count for count, most in _REACH.items() if reach <= most), 0)


def expm1(context: Context, d: Array) -> Array:
    """Return exp(d) − 1."""
    return _series(context, d, context.xp.expm1, _EXP)


def log1p(context: Context, d: Array) -> Array:
    """Return log(1 + d)."""
    return _series(context, d, context.xp.log1p, _LOG)


def _series(
    context: Context, d: Array, function: Callable[..., Array], factors: tuple[float, ...]
) -> Array:
    xp, count = context.xp, terms(context, d)
    if not count:
        return context.ufunc(function, d)
    total = xp.multiply(d, factors[count - 1], out=context.bases.pool.empty(d.shape))
    for factor in reversed(factors[: count - 1]):
        total += factor
        total *= d
    return total


Slopes = Callable[[Array], tuple[Array, ...]]
"""The factors aₖ of a series Σ aₖ·dᵏ around b, k from 1 on, none larger than the first."""


def taylor(site: Site, d: Array, slopes: Slopes) -> Array | None:
    """Return Σ aₖ·dᵏ; None where too many terms would be needed."""
    count = terms(site.context, d)
    if not count:
        return None
    factors = [site.hoisted(("slope", k), lambda b, k=k: slopes(b)[k]) for k in range(count)]
    total = site.ufunc(site.xp.multiply, d, factors[-1])
    for factor in reversed(factors[:-1]):
        total += factor
        total *= d
    return total


def of_exp(b: Array) -> tuple[Array, ...]:
    """Return the factors of the exponential's series."""
    return tuple(np.exp(b) * factor for factor in _EXP)


def of_tanh(b: Array) -> tuple[Array, ...]:
    """Return the factors of tanh's series."""
    e = np.exp(-2.0 * abs(b))
    slope = 4.0 * e / (1.0 + e) ** 2  # 1 − tanh² b without its cancellation at large |b|
    t = np.tanh(b)
    return slope, -t * slope, (t * t - 1 / 3) * slope, (2 / 3 * t - t**3) * slope


def of_sigmoid(b: Array) -> tuple[Array, ...]:
    """Return the factors of the sigmoid's series, which is (1 + tanh(b/2))/2."""
    return tuple(a / 2.0 ** (k + 2) for k, a in enumerate(of_tanh(b / 2)))
