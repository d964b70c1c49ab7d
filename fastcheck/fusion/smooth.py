"""Elementwise rules: + − × ÷, powers, and smooth functions by their stable identities.

b is the value at θ and d its difference; see `fastcheck.differences.smooth` for the identities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.fusion import series
from fastcheck.fusion.dims import NotFusable
from fastcheck.fusion.expression import Expression
from fastcheck.fusion.form import Form
from fastcheck.fusion.rules import RULES, Site, elementwise_rule, formula, real
from fastcheck.trace.primitives import CAST, SIGMOID, SPECIAL


@formula(np.positive, np.conjugate)
def _same(site: Site) -> Form:
    form: Form = site.forms[0]
    return form


@formula(np.negative)
def _negative(site: Site) -> Form:
    return site.algebra.negative(site.forms[0])


@formula(np.add)
def _add(site: Site) -> Form:
    x, y = site.forms
    if x is None or y is None:
        return site.linear(x or y)
    return site.algebra.plus(x, y)


@formula(np.subtract)
def _subtract(site: Site) -> Form:
    x, y = site.forms
    if y is None:
        return site.linear(x)
    return site.linear(site.algebra.negative(y)) if x is None else site.algebra.minus(x, y)


@formula(np.multiply)
def _multiply(site: Site) -> Form:
    x, y = site.forms
    if y is None:
        return site.scale(x, site.node.operands[1].value)
    if x is None:
        return site.scale(y, site.node.operands[0].value)
    if x is y:
        return _squared(site, x)
    dx, dy = site.algebra.value(x), site.algebra.value(y)
    a, b = (site.load(operand.value) for operand in site.node.operands)
    return site.variable(dx * (b + dy) + a * dy)


@formula(np.divide)
def _divide(site: Site) -> Form:
    x, y = site.forms
    b = site.node.operands[1].value
    if y is None:
        return site.scale(x, _reciprocal_of(b))
    # (x+dx)/(y+dy) − x/y = (dx − (x/y)·dy)/(y+dy)
    dy = site.algebra.value(y)
    change = -(site.load(site.node.value) * dy)
    if x is not None:
        change = site.algebra.value(x) + change
    return site.variable(change / (site.load(b) + dy))


@formula(np.reciprocal)
def _reciprocal(site: Site) -> Form:
    d = site.algebra.value(site.forms[0])
    b = site.load(site.node.operands[0].value)
    return site.variable(-(site.load(site.node.value) * d) / (b + d))


def _reciprocal_of(b: Any) -> Any:
    with np.errstate(all="ignore"):
        return 1.0 / np.asarray(b, dtype=np.float64)


@formula(np.square)
def _square(site: Site) -> Form:
    return _squared(site, site.forms[0])


def _squared(site: Site, form: Form) -> Form:
    d = site.algebra.value(form)
    twice = site.load(2.0 * np.asarray(site.node.operands[0].value, dtype=np.float64))
    return site.variable(d * (twice + d))


@formula(np.power, np.float_power)
def _power(site: Site) -> Form:
    x, moving_exponent = site.forms
    b, exponent = (np.asarray(operand.value, dtype=np.float64) for operand in site.node.operands)
    if moving_exponent is not None or exponent.size != 1:
        raise NotFusable("an exponent is an array, or moves")
    p = float(exponent.reshape(()))
    if p == 1.0:
        return site.linear(x)
    if p == 2.0:
        return _squared(site, x)
    if p == 0.5:
        return _square_root(site, x)
    if p == 3.0:
        d = site.algebra.value(x)
        return site.variable(d * (site.load(3.0 * b * b) + d * (site.load(3.0 * b) + d)))
    if np.any(b == 0) or (p != round(p) and np.any(b < 0)):
        raise NotFusable(f"a power {p:g} of zero, or of a negative number")
    # bᵖ·expm1(p·log1p(d/b)); an integer power keeps the sign that bᵖ has.
    growth = _log1p(site, site.scale(x, _reciprocal_of(b)))
    return _grown(site, site.algebra.times(growth, p))


def _grown(site: Site, exponent: Form) -> Form:
    """Return f·expm1(exponent), f the node's value."""
    return site.scale(series.growth(site.algebra, exponent, site.axes), site.node.value)


def _log1p(site: Site, form: Form) -> Form:
    return site.linear(series.log_growth(site.algebra, form))


@formula(np.sqrt)
def _sqrt(site: Site) -> Form:
    return _square_root(site, site.forms[0])


def _square_root(site: Site, form: Form) -> Form:
    d = site.algebra.value(form)
    b = site.load(site.node.operands[0].value)
    return site.variable(d / ((b + d).sqrt() + site.load(site.node.value)))


@formula(np.exp)
def _exp(site: Site) -> Form:
    return _grown(site, site.forms[0])


@formula(np.exp2)
def _exp2(site: Site) -> Form:
    return _grown(site, site.algebra.times(site.forms[0], float(np.log(2.0))))


@formula(np.expm1)
def _expm1(site: Site) -> Form:
    growth = series.growth(site.algebra, site.forms[0], site.axes)
    return site.scale(growth, np.exp(real(site.node.operands[0].value)))


def _logarithm(ufunc: np.ufunc, scale: float, shift: float = 0.0) -> None:
    def apply(site: Site) -> Form:
        inverse = _reciprocal_of(shift + site.node.operands[0].value)
        growth = _log1p(site, site.scale(site.forms[0], inverse))
        return site.algebra.times(growth, scale)

    formula(ufunc)(apply)


_logarithm(np.log, 1.0)
_logarithm(np.log2, 1.0 / np.log(2.0))
_logarithm(np.log10, 1.0 / np.log(10.0))
_logarithm(np.log1p, 1.0, shift=1.0)


@formula(np.sin)
def _sin(site: Site) -> Form:
    b = site.node.operands[0].value
    return _turned(site, np.cos(b), -np.sin(b))


@formula(np.cos)
def _cos(site: Site) -> Form:
    b = site.node.operands[0].value
    return _turned(site, -np.sin(b), -np.cos(b))


def _turned(site: Site, first: Any, second: Any) -> Form:
    """Return first·sin d + second·(1 − cos d)."""
    d, reach = site.algebra.in_reach(site.forms[0]), site.algebra.reach
    return site.variable(
        site.load(first) * series.sin(d, reach) + site.load(second) * series.one_minus_cos(d, reach)
    )


@formula(np.sinh)
def _sinh(site: Site) -> Form:
    b = site.node.operands[0].value
    return _stretched(site, np.cosh(b), np.sinh(b))


@formula(np.cosh)
def _cosh(site: Site) -> Form:
    b = site.node.operands[0].value
    return _stretched(site, np.sinh(b), np.cosh(b))


def _stretched(site: Site, first: Any, second: Any) -> Form:
    """Return first·sinh d + second·(cosh d − 1)."""
    d, reach = site.algebra.in_reach(site.forms[0]), site.algebra.reach
    return site.variable(
        site.load(first) * series.sinh(d, reach) + site.load(second) * series.coshm1(d, reach)
    )


@formula(np.tanh)
def _tanh(site: Site) -> Form:
    """E·sech²b / (2 + E·(1 + tanh b)), E = expm1(2d)."""
    b = site.node.operands[0].value
    growth = _growth(site, site.algebra.times(site.forms[0], 2.0))
    # 1 − tanh²b = 4e/(1+e)², e = exp(−2|b|), keeps its digits far out.
    e = np.exp(-2.0 * np.abs(b))
    slope = site.load(4.0 * e / (1.0 + e) ** 2)
    return site.variable(slope * growth / (growth * site.load(1.0 + site.node.value) + 2.0))


def _sigmoid(site: Site) -> Form:
    """σ(b)σ(−b)·E / (1 + σ(b)·E), E = expm1(d)."""
    growth = _growth(site, site.forms[0])
    e = np.exp(-np.abs(site.node.operands[0].value))
    slope = site.load(e / (1.0 + e) ** 2)
    return site.variable(slope * growth / (growth * site.load(site.node.value) + 1.0))


def _growth(site: Site, form: Form) -> Expression:
    return site.algebra.value(series.growth(site.algebra, form, site.axes))


RULES[SIGMOID] = RULES[SPECIAL["expit"]] = elementwise_rule(_sigmoid)


@formula(np.logaddexp)
def _logaddexp(site: Site) -> Form:
    """log1p(p·expm1(dx) + q·expm1(dy)), p and q the shares of the two terms."""
    total: Expression | None = None
    for operand, form in zip(site.node.operands, site.forms, strict=True):
        if form is not None:
            share = site.load(np.exp(operand.value - site.node.value))
            grown = share * _growth(site, form)
            total = grown if total is None else total + grown
    assert total is not None
    return _log1p(site, site.variable(total))


def _log_expit(site: Site) -> Form:
    """−log1p(σ(−b)·expm1(−d))."""
    minus = site.algebra.negative(site.forms[0])
    share = site.load(-np.expm1(site.node.value))  # 1 − σ(b)
    return site.algebra.negative(_log1p(site, site.variable(share * _growth(site, minus))))


RULES[SPECIAL["log_expit"]] = elementwise_rule(_log_expit)


def _cast(site: Site) -> Form | None:
    form: Form = site.forms[0]
    if site.node.value.dtype.kind != "f" or site.node.operands[0].value.dtype.kind != "f":
        raise NotFusable(f"an array that moves is turned into {site.node.value.dtype}")
    return form


RULES[CAST] = elementwise_rule(_cast)


@formula(np.deg2rad, np.radians)
def _deg2rad(site: Site) -> Form:
    return site.algebra.times(site.forms[0], np.pi / 180.0)


@formula(np.rad2deg, np.degrees)
def _rad2deg(site: Site) -> Form:
    return site.algebra.times(site.forms[0], 180.0 / np.pi)
