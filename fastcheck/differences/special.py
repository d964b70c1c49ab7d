"""SciPy's special functions that networks use: expit, log_expit, erf, erfc, xlogy.

SciPy is optional: only a loss that has imported it can use these, so it is there when it is needed.
b is the base value, d its difference, u = b + d.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.differences import series
from fastcheck.differences.delta import Array
from fastcheck.differences.elementwise import Site, elementwise_rule
from fastcheck.differences.rules import rule
from fastcheck.trace.primitives import SIGMOID, SPECIAL

_NEAR = 0.5
# Gauss–Legendre nodes: exact to the last bit or two for exp(−t²) over an interval of 0.5.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)


def _formula(name: str) -> Callable[[Callable[[Site], Array]], Callable[[Site], Array]]:
    def register(function: Callable[[Site], Array]) -> Callable[[Site], Array]:
        rule(SPECIAL[name])(elementwise_rule(function))
        return function

    return register


def _sigmoid(xp: Any, x: Array) -> Array:
    return 1.0 / (1.0 + xp.exp(-x))


@_formula("expit")
def _expit(site: Site) -> Array:
    """σ(u) − σ(b) = σ(u)·σ(−b)·(1 − exp(−d)), read from the side on which exp stays small.

    With σ(u) in terms of σ(b) that is t·σ(b)·σ(−b) / (1 + t·σ(b)), t = expm1(d), which needs one
    function instead of three and loses nothing while d is small.
    """
    (d,) = site.differences
    near = series.taylor(site, d, series.of_sigmoid)
    if near is not None:
        return near
    xp, b = site.xp, site.base(0)
    if site.context.asks(d) and site.context.reach(d) <= _NEAR:
        rise = site.ufunc(xp.expm1, d)
        slope = site.hoisted(("slope",), lambda x: _sigmoid(np, x) * _sigmoid(np, -x))
        return rise * slope / (1.0 + rise * site.result())
    rising = d > 0
    high, low = xp.where(rising, b + d, b), xp.where(rising, b, b + d)
    size = -xp.expm1(-abs(d)) * _sigmoid(xp, high) * _sigmoid(xp, -low)
    return xp.where(rising, size, -size)


rule(SIGMOID)(elementwise_rule(_expit))


@_formula("log_expit")
def _log_expit(site: Site) -> Array:
    """−log1p(σ(−b)·expm1(−d)); where that nears log(0), the difference itself is large."""
    (d,) = site.differences
    xp, b = site.xp, site.base(0)
    growth = site.hoisted(("complement",), lambda x: _sigmoid(np, -x)) * xp.expm1(-d)
    near = abs(growth) < _NEAR
    plain = xp.logaddexp(0.0, -b) - xp.logaddexp(0.0, -(b + d))
    return xp.where(near, -xp.log1p(xp.where(near, growth, 0.0)), plain)


@_formula("erf")
def _erf(site: Site) -> Array:
    return _erf_growth(site)


@_formula("erfc")
def _erfc(site: Site) -> Array:
    return -_erf_growth(site)


def _erf_growth(site: Site) -> Array:
    """The integral of 2/√π·exp(−t²) from b to u, by quadrature where the interval is short."""
    (d,) = site.differences
    xp, b = site.xp, site.base(0)
    area: Any = 0.0
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        area = area + weight * xp.exp(-xp.square(b + d * ((1.0 + node) / 2)))
    near = d * area / float(np.sqrt(np.pi))
    far = abs(d) > _NEAR
    return xp.where(far, _erf_far(xp, b, d), near) if site.context.any(far) else near


def _erf_far(xp: Any, b: Array, d: Array) -> Array:
    """By erfc on the side where both ends lie, whose tails keep their digits."""
    functions = _functions(xp)
    side = xp.copysign(1.0, b + d / 2)
    return side * (functions.erfc(side * b) - functions.erfc(side * (b + d)))


def _functions(xp: Any) -> Any:
    name = "scipy.special" if xp is np else "cupyx.scipy.special"
    return importlib.import_module(name)


@_formula("xlogy")
def _xlogy(site: Site) -> Array:
    """(x+dx)·log1p(dy/y) + dx·log y; where a logarithm is infinite, the plain difference."""
    xp = site.xp
    dx, dy = (0.0 if d is None else d for d in site.differences)
    x, y = site.base(0), site.base(1)
    change = (x + dx) * xp.log1p(dy / y) + dx * xp.log(y)
    far = ~xp.isfinite(change) | (abs(dy / y) > _NEAR)
    plain = xp.where(x + dx == 0, 0.0, (x + dx) * xp.log(y + dy)) - site.result()
    return xp.where(far, plain, change)
