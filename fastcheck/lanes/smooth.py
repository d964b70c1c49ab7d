"""Elementwise rules: + − × ÷, powers, and smooth functions by their series around θ.

b is the value at θ and d its difference. A series is used only within its reach of θ, which the
interpreter checks; see `fastcheck.differences.series` for the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial
from typing import Any

import numpy as np

from fastcheck.differences.series import of_exp, of_sigmoid, of_tanh
from fastcheck.lanes.delta import Delta
from fastcheck.lanes.opcodes import Op
from fastcheck.lanes.rules import RULES, Deltas, Site, elementwise_rule, formula
from fastcheck.lanes.writer import Constants, NoProgram, Room, Writer
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CAST, SIGMOID, SPECIAL

Series = Callable[[Any], tuple[Any, Sequence[Any]]]
"""How near a difference has to be, 1/|b| say, and four factors, from the values at θ."""
EXP = tuple(1.0 / factorial(k + 1) for k in range(4))
LOG = tuple((-1.0) ** k / (k + 1) for k in range(4))


@formula(np.positive, np.conjugate)
def _same(site: Site) -> Delta:
    (delta,) = site.deltas
    assert delta is not None
    return delta.shared(site.node.shape)


@formula(np.negative)
def _negative(site: Site) -> Delta:
    return site.result(site.scaled(0, "minus", lambda: -1.0))


@formula(np.add)
def _add(site: Site) -> Delta:
    one, other = site.delta(0), site.delta(1)
    if one is None or other is None:
        delta = one or other
        assert delta is not None
        return _kept(site, delta)
    if one.room is not None and other.room is not None:
        return site.result(site.write(Op.ADD, [site.room(0), site.room(1)]))
    # Rows that wait go on waiting, for the sum.
    for room in (*one.rooms(), *other.rooms()):
        room.users += 1
    site.close()
    return Delta(site.node.shape, one.room or other.room, one.rows + other.rows)


def _kept(site: Site, delta: Delta) -> Delta:
    result = delta.shared(site.node.shape)
    site.close()
    return result


@formula(np.subtract)
def _subtract(site: Site) -> Delta:
    one, other = site.delta(0), site.delta(1)
    if other is None:
        assert one is not None
        return _kept(site, one)
    if one is None:
        return site.result(site.scaled(1, "minus", lambda: -1.0))
    return site.result(site.write(Op.SUBTRACT, [site.room(0), site.room(1)]))


@formula(np.multiply)
def _multiply(site: Site) -> Delta:
    one, other = site.deltas
    if other is None:
        return site.result(site.scaled(0, "second", lambda: site.value(1)))
    if one is None:
        return site.result(site.scaled(1, "first", lambda: site.value(0)))
    if one is other:
        return _squared(site)
    factors = site.constants("factors", lambda: [site.value(0), site.value(1)])
    return site.result(site.write(Op.PRODUCT, [site.room(0), site.room(1)], *factors))


@formula(np.divide)
def _divide(site: Site) -> Delta:
    one, other = site.deltas
    if other is None:
        return site.result(site.scaled(0, "divisor", lambda: 1.0 / site.value(1)))
    values = site.constants("quotient", lambda: [site.node.value, site.value(1)])
    above = site.writer.zeros(site.node.value.size) if one is None else site.room(0)
    room = site.write(Op.QUOTIENT, [above, site.room(1)], *values)
    if one is None:
        site.writer.release(above)
    return site.result(room)


@formula(np.square)
def _square(site: Site) -> Delta:
    return _squared(site)


def _squared(site: Site) -> Delta:
    factors = site.constants("square", lambda: [2.0 * site.value(0), 1.0])
    return site.result(site.write(Op.QUADRATIC, [site.room(0)], *factors))


@formula(np.power, np.float_power)
def _power(site: Site) -> Delta:
    exponent = np.asarray(site.node.operands[1].value)
    if site.deltas[1] is not None or exponent.size != 1:
        raise NoProgram("an exponent is an array, or moves")
    p, b = float(exponent.reshape(())), site.value(0)
    if p == 1.0:
        delta = site.delta(0)
        assert delta is not None
        return _kept(site, delta)
    if p == 2.0:
        return _squared(site)
    if p == 3.0:
        factors = site.constants("cube", lambda: [3.0 * b * b, 3.0 * b, 1.0])
        return site.result(site.write(Op.CUBIC, [site.room(0)], *factors))
    if np.any(b == 0) or (p != round(p) and np.any(b < 0)):
        raise NoProgram(f"a power {p:g} of zero, or of a negative number")
    return _by_series(site, lambda b: _of_power(b, p))


def _of_power(b: Any, p: float) -> tuple[Any, Sequence[Any]]:
    factors, binomial = [], 1.0
    for k in range(4):
        binomial *= (p - k) / (k + 1)
        factors.append(binomial * b ** (p - k - 1))
    return max(1.0, abs(p)) / np.abs(b), factors


def _by_series(site: Site, series: Series) -> Delta:
    return site.result(site.series(site.room(0), "series", lambda: series(site.value(0))))


def _of_log(scale: float, shift: float = 0.0) -> Series:
    def series(b: Any) -> tuple[Any, Sequence[Any]]:
        inverse = 1.0 / (shift + b)
        factors = [scale * factor * inverse ** (k + 1) for k, factor in enumerate(LOG)]
        return np.abs(inverse), factors

    return series


def _always_near(factors: Callable[[Any], Sequence[Any]]) -> Series:
    return lambda b: (1.0, factors(b))


def _of_sin(b: Any) -> tuple[Any, ...]:
    return np.cos(b), -np.sin(b) / 2, -np.cos(b) / 6, np.sin(b) / 24


def _of_cos(b: Any) -> tuple[Any, ...]:
    return -np.sin(b), -np.cos(b) / 2, np.sin(b) / 6, np.cos(b) / 24


def _of_sinh(b: Any) -> tuple[Any, ...]:
    return np.cosh(b), np.sinh(b) / 2, np.cosh(b) / 6, np.sinh(b) / 24


def _of_cosh(b: Any) -> tuple[Any, ...]:
    return np.sinh(b), np.cosh(b) / 2, np.sinh(b) / 6, np.cosh(b) / 24


def _of_arctan(b: Any) -> tuple[Any, ...]:
    slope = 1.0 / (1.0 + b * b)
    third = (b * b - 1.0 / 3.0) * slope
    return slope, -b * slope**2, third * slope**2, b * (1.0 - b * b) * slope**4


_SERIES: dict[np.ufunc, Series] = {
    np.exp: _always_near(of_exp),
    np.exp2: lambda b: (
        np.log(2.0),
        [np.exp2(b) * factor * np.log(2.0) ** (k + 1) for k, factor in enumerate(EXP)],
    ),
    np.expm1: _always_near(of_exp),
    np.sin: _always_near(_of_sin),
    np.cos: _always_near(_of_cos),
    np.sinh: _always_near(_of_sinh),
    np.cosh: _always_near(_of_cosh),
    np.tanh: _always_near(of_tanh),
    np.arctan: _always_near(_of_arctan),
    np.log: _of_log(1.0),
    np.log2: _of_log(1.0 / np.log(2.0)),
    np.log10: _of_log(1.0 / np.log(10.0)),
    np.log1p: _of_log(1.0, 1.0),
    np.sqrt: lambda b: _of_power(b, 0.5),
    np.reciprocal: lambda b: _of_power(b, -1.0),
}


def _register(series: Series) -> Callable[[Site], Delta]:
    return lambda site: _by_series(site, series)


for _ufunc, _one in _SERIES.items():
    formula(_ufunc)(_register(_one))
for _primitive in (SIGMOID, SPECIAL["expit"]):
    RULES[_primitive] = elementwise_rule(_register(_always_near(of_sigmoid)))


def log_growth(writer: Writer, room: Room) -> Room:
    """Write log(1 + a)."""
    factors = [_number(writer, factor) for factor in LOG]
    return writer.series(room, _number(writer, 1.0), factors)


def _number(writer: Writer, value: float) -> Constants:
    return writer.hoisted.constants(("number", value), lambda: [value])


@formula(np.logaddexp)
def _logaddexp(site: Site) -> Delta:
    """log1p(p·expm1(dx) + q·expm1(dy)), p and q the shares of the two terms."""
    grown = [
        _grown(site, operand, 1.0, np.exp(site.value(operand) - site.node.value))
        for operand, delta in enumerate(site.deltas)
        if delta is not None
    ]
    total = grown[0] if len(grown) == 1 else site.write(Op.ADD, grown)
    result = log_growth(site.writer, total)
    for room in {id(room): room for room in (*grown, total)}.values():
        site.writer.release(room)
    return site.result(result)


def _grown(site: Site, operand: int, sign: float, share: Any) -> Room:
    """Write share·expm1(sign·d)."""

    def series() -> tuple[Any, Sequence[Any]]:
        return 1.0, [share * factor * sign ** (k + 1) for k, factor in enumerate(EXP)]

    return site.series(site.room(operand), f"grown{operand}", series)


def _log_expit(site: Site) -> Delta:
    """−log1p(σ(−b)·expm1(−d))."""
    grown = _grown(site, 0, -1.0, -np.expm1(site.node.value))  # 1 − σ(b)
    growth = log_growth(site.writer, grown)
    result = site.write(Op.SCALE, [growth], _number(site.writer, -1.0))
    site.writer.release(grown)
    site.writer.release(growth)
    return site.result(result)


RULES[SPECIAL["log_expit"]] = elementwise_rule(_log_expit)


def _cast(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    if node.value.dtype.kind != "f" or node.operands[0].value.dtype.kind != "f":
        raise NoProgram(f"an array that moves is turned into {node.value.dtype}")
    return delta.shared(node.shape)


RULES[CAST] = _cast


@formula(np.deg2rad, np.radians)
def _deg2rad(site: Site) -> Delta:
    return site.result(site.scaled(0, "degrees", lambda: np.pi / 180.0))


@formula(np.rad2deg, np.degrees)
def _rad2deg(site: Site) -> Delta:
    return site.result(site.scaled(0, "degrees", lambda: 180.0 / np.pi))
