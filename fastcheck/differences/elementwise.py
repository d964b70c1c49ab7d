"""Elementwise rules: the frame that they share, and the algebra of + − × ÷ and powers.

Each rule sees a `Site`: the operands' base values and differences, already aligned and pinned
alike, so that a rule is the textbook identity and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, Pins, align, unify
from fastcheck.differences.rules import CANCELLING, RULES, Deltas
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import elementwise as primitive_of


class Site:
    """An elementwise node for one chunk: what its rule may ask for."""

    def __init__(
        self, context: Context, node: Node, differences: list[Array | None], pins: Pins
    ) -> None:
        self.context = context
        self.xp = context.xp
        self.node = node
        # Integers mix with float32 to float64; masks and what is counted stay what they are.
        self._counts = node.primitive.discrete
        self.differences: list[Any] = differences
        self.pins = pins

    def ufunc(self, ufunc: Callable[..., Array], *operands: Array) -> Array:
        """Apply a floating-point ufunc of the namespace, its result in pooled memory."""
        return self.context.ufunc(ufunc, *operands)

    def within(self, ufunc: Callable[..., Array], change: Array, other: Array) -> Array:
        """Apply a ufunc of two operands, its result in the memory of the first if it fits."""
        return self.context.within(ufunc, change, other)

    def base(self, operand: int) -> Array:
        """Return the operand's base value where the copies differ."""
        node = self.node.operands[operand]
        kind, bases = node.value.dtype.kind, self.context.bases
        as_float = kind in "iu" and not self._counts
        value = bases.real(node) if as_float else bases.value(node)
        lead = (1,) * (self.node.ndim - value.ndim)
        if lead:
            key = (node, "aligned", len(lead), as_float)
            value = bases.kept(key, lambda: value.reshape(lead + value.shape))
        return bases.gather(value, self.pins)

    def result(self) -> Array:
        """Return the node's own base value where the copies differ."""
        bases = self.context.bases
        return bases.gather(bases.value(self.node), self.pins)

    def hoisted(self, key: tuple[Any, ...], make: Callable[..., Array]) -> Array:
        """Return `make(*operands' base values)`, taken where copies differ.

        It is computed once, on the host: by NumPy, in float64, and moved to the device.
        """
        bases, ndim = self.context.bases, self.node.ndim

        def aligned() -> Array:
            made = np.asarray(make(*[bases.exact(operand) for operand in self.node.operands]))
            return made.reshape((1,) * (ndim - made.ndim) + made.shape)

        return bases.gather(bases.derived((self.node, *key), aligned), self.pins)


Formula = Callable[[Site], Array | None]


def elementwise_rule(formula: Formula) -> Callable[[Context, Node, Deltas], Delta | None]:
    """Turn a formula on sites into a difference rule."""

    def apply(context: Context, node: Node, deltas: Deltas) -> Delta | None:
        aligned = [
            None if delta is None else align(delta, operand.shape, node.ndim)
            for delta, operand in zip(deltas, node.operands, strict=True)
        ]
        differences, pins = unify(context.xp, aligned, node.shape)
        values = formula(Site(context, node, differences, pins))
        return None if values is None else Delta(context.floats(values), pins)

    return apply


def formula(*ufuncs: np.ufunc, cancelling: bool = False) -> Callable[[Formula], Formula]:
    """Register a formula as the rule of NumPy ufuncs."""

    def register(function: Formula) -> Formula:
        for primitive in {primitive_of(ufunc) for ufunc in ufuncs}:
            RULES[primitive] = elementwise_rule(function)
            if cancelling:
                CANCELLING.add(primitive)
        return function

    return register


@formula(np.positive, np.conjugate)
def _same(site: Site) -> Array:
    return site.differences[0]


@formula(np.negative)
def _negative(site: Site) -> Array:
    return site.ufunc(site.xp.negative, site.differences[0])


@formula(np.add)
def _add(site: Site) -> Array:
    dx, dy = site.differences
    return dx if dy is None else dy if dx is None else site.ufunc(site.xp.add, dx, dy)


@formula(np.subtract)
def _subtract(site: Site) -> Array:
    dx, dy = site.differences
    if dx is None:
        return site.ufunc(site.xp.negative, dy)
    return dx if dy is None else site.ufunc(site.xp.subtract, dx, dy)


@formula(np.multiply)
def _multiply(site: Site) -> Array:
    dx, dy = site.differences
    xp = site.xp
    if dy is None:
        return site.ufunc(xp.multiply, dx, site.base(1))
    if dx is None:
        return site.ufunc(xp.multiply, site.base(0), dy)
    x, y = site.base(0), site.base(1)
    if site.node.operands[0].value.dtype.kind != "f":
        # A mask that goes out leaves exactly −y, so that what comes after sees an exact zero.
        return site.ufunc(xp.add, dx * y, (x + dx) * dy)
    change = site.within(xp.multiply, site.ufunc(xp.add, y, dy), dx)
    return site.within(xp.add, change, site.ufunc(xp.multiply, x, dy))


@formula(np.divide)
def _divide(site: Site) -> Array:
    dx, dy = site.differences
    if dy is None:
        reciprocal = site.hoisted(("reciprocal",), lambda x, y: 1.0 / y)
        return site.ufunc(site.xp.multiply, dx, reciprocal)
    # (x+dx)/(y+dy) − x/y = (dx − (x/y)·dy)/(y+dy)
    change = site.ufunc(site.xp.multiply, site.result(), dy)
    if dx is None:
        site.xp.negative(change, out=change)
    else:
        change = site.ufunc(site.xp.subtract, dx, change)
    return site.within(site.xp.divide, change, site.ufunc(site.xp.add, site.base(1), dy))


@formula(np.reciprocal)
def _reciprocal(site: Site) -> Array:
    (d,) = site.differences
    return -d * site.result() / (site.base(0) + d)


@formula(np.square)
def _square(site: Site) -> Array:
    (d,) = site.differences
    change = site.hoisted(("twice",), lambda x: 2.0 * x) + d
    change *= d
    return change


@formula(np.power, np.float_power)
def _power(site: Site) -> Array:
    dp = site.differences[1]
    exponent = site.node.operands[1].value
    if dp is None and exponent.size == 1 and float(exponent.reshape(())) in (2.0, 3.0, 4.0):
        return _small_power(site, int(exponent.reshape(())))
    return _general_power(site)


def _small_power(site: Site, exponent: int) -> Array:
    """(b+d)ᵖ − bᵖ = d·(bᵖ⁻¹ + bᵖ⁻²·(b+d) + … + (b+d)ᵖ⁻¹), by Horner."""
    d, b = site.differences[0], site.base(0)
    moved = b + d
    total = 1.0
    for term in range(1, exponent):
        total = total * moved + b**term
    return total * d


def _general_power(site: Site) -> Array:
    """bᵖ·expm1((p+dp)·log1p(d/b) + dp·log b) where b keeps its sign; else the plain difference."""
    xp = site.xp
    dx, dp = (0.0 if d is None else d for d in site.differences)
    b, p = site.base(0), site.base(1)
    with np.errstate(all="ignore"):
        plain = xp.power(b + dx, p + dp) - site.result()
        growth = (p + dp) * xp.log1p(dx / b)
        if site.differences[1] is not None:
            growth = growth + dp * xp.log(b)
        smooth = site.result() * xp.expm1(growth)
        usable = xp.isfinite(smooth)
        if site.differences[0] is not None:
            usable &= abs(dx) * 2 < abs(b)
    return xp.where(usable, smooth, plain)
