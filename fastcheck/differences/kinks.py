"""Functions with kinks and jumps: maximum, minimum, abs, comparisons, where.

A kink is a place where a comparison comes out differently for a copy than at θ. Differences stay
exact across it; the copy is marked, because its gradient is not the derivative at θ.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, align, unify
from fastcheck.differences.elementwise import Site, elementwise_rule, formula
from fastcheck.differences.rules import Deltas, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CAST, ELEMENTWISE, WHERE


def _extreme(site: Site, sign: float) -> Array | None:
    """max(x+dx, y+dy) − max(x, y) (sign 1), or the same for min (sign −1).

    With m the larger of x and y, it is max((x−m)+dx, (y−m)+dy): the winner's gap is exactly zero,
    so nothing cancels. It is a kink where the result is not the difference of the winner at θ.
    """
    xp = site.xp
    dx, dy = site.differences
    name = "maximum" if sign > 0 else "minimum"
    # Which operand wins at θ; in a tie it is the second, and any move of the first is a kink.
    first_wins = site.hoisted((name, "first"), lambda x, y: (sign * x > sign * y) | (y != y))
    if _out_of_reach(site, name):
        chosen = [
            site.ufunc(xp.multiply, d, wins)
            for d, wins in ((dx, first_wins), (dy, ~first_wins))
            if d is not None
        ]
        return chosen[0] if len(chosen) == 1 else chosen[0] + chosen[1]
    smooth = xp.where(first_wins, 0.0 if dx is None else dx, 0.0 if dy is None else dy)
    nearest = site.hoisted((name, "gap"), lambda x, y: abs(_gap(x, y)))
    reach = 0.0 if dx is None else abs(dx)
    if dy is not None:
        reach = reach + abs(dy)
    crossing = (reach >= nearest) & (reach > 0)
    if not site.context.any(crossing):
        return smooth if site.context.any(smooth) else None
    gap_x = site.hoisted((name, "gap x"), lambda x, y: np.minimum(sign * _gap(x, y), 0.0))
    gap_y = site.hoisted((name, "gap y"), lambda x, y: np.minimum(sign * _gap(y, x), 0.0))
    change = sign * xp.maximum(
        gap_x if dx is None else gap_x + sign * dx, gap_y if dy is None else gap_y + sign * dy
    )
    kinks = crossing & (change != smooth)
    site.context.mark_kinks(kinks)
    return xp.where(crossing, change, smooth)


def _out_of_reach(site: Site, name: str) -> bool:
    """Whether no difference of the chunk is as large as the smallest distance to a tie."""
    bases, operands = site.context.bases, site.node.operands
    margin: float = bases.derived(
        (site.node, name, "margin"), lambda: float(abs(_gap(*map(bases.exact, operands))).min())
    )
    return site.context.reach(*site.differences) < margin


def _gap(x: Array, y: Array) -> Array:
    """Return x − y of base values: zero for equal infinities, and masks count as 0 and 1."""
    return np.where(x == y, 0.0, np.subtract(x, y, dtype=np.float64))


@formula(np.maximum, np.fmax)
def _maximum(site: Site) -> Array | None:
    return _extreme(site, 1.0)


@formula(np.minimum, np.fmin)
def _minimum(site: Site) -> Array | None:
    return _extreme(site, -1.0)


@formula(np.absolute, np.fabs)
def _absolute(site: Site) -> Array:
    (d,) = site.differences
    xp = site.xp
    b = site.base(0)
    smooth = d * site.hoisted(("sign",), lambda x: np.sign(x * 1.0))
    crossing = (abs(d) >= abs(b)) & (d != 0)
    if not site.context.any(crossing):
        return smooth
    change = abs(b + d) - abs(b)
    site.context.mark_kinks(crossing & ((b + d) * b <= 0))
    return xp.where(crossing, change, smooth)


def _compare(compare: np.ufunc) -> None:
    """x+dx < y+dy is dx−dy < y−x: the gap is computed once, exactly where x and y are close."""

    def flips(site: Site) -> Array | None:
        dx, dy = site.differences
        gap = site.hoisted(("gap",), lambda x, y: _gap(y, x))
        moved = dx if dy is None else -dy if dx is None else dx - dy
        if _any_stuck(site):
            stuck = site.hoisted(("stuck",), _equal_infinities)
            moved = site.xp.where(stuck, 0.0, moved)
        return _flipped(site, getattr(site.xp, compare.__name__)(moved, gap), site.result())

    formula(compare)(flips)


def _equal_infinities(x: Array, y: Array) -> Array:
    return (x == y) & (abs(y * 1.0) == np.inf)


def _any_stuck(site: Site) -> bool:
    """Whether infinities are compared, which stay as they are whatever is added to them."""
    bases, operands = site.context.bases, site.node.operands
    found: bool = bases.derived(
        (site.node, "any stuck"),
        lambda: bool(_equal_infinities(*map(bases.exact, operands)).any()),
    )
    return found


def _flipped(site: Site, truth: Array, old: Array) -> Array | None:
    """Return truth − old truth as −1, 0 or 1; None when nothing flips, which is usual."""
    flips = truth != old
    if not bool(flips.any()):
        return None
    site.context.mark_kinks(flips)
    context = site.context
    return context.floats(truth) - context.floats(old)


for _comparison in (
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
):
    _compare(_comparison)


def _stepwise(ufunc: np.ufunc) -> None:
    """Any other function that moves in jumps: evaluate it, and keep what changed."""

    def jump(site: Site) -> Array | None:
        operands = site.node.operands
        moved = [
            site.base(k) if d is None else moved_value(site.base(k), d, operands[k])
            for k, d in enumerate(site.differences)
        ]
        function = getattr(site.xp, ufunc.__name__)
        return _jumped(site, function(*moved), lambda: function(*map(site.base, range(len(moved)))))

    formula(ufunc)(jump)


def _jumped(site: Site, new: Array, evaluate: Callable[[], Array]) -> Array | None:
    """Return the change of a value that moves in jumps; None when it stays, which is usual.

    A base value that has been rounded to float32 may lie on the other side of a jump than the exact
    one. So `evaluate` then computes the old value from it too.
    """
    old = site.result() if site.context.dtype == np.float64 else evaluate()
    if new.dtype == bool:
        return _flipped(site, new, old)
    change = new - old
    if not bool(change.any()):
        return None
    site.context.mark_kinks(change != 0)
    return change


def moved_value(base: Array, difference: Array, node: Node) -> Array:
    """Return base + difference in the node's own kind: masks and integers stay what they are."""
    moved, dtype = base + difference, node.value.dtype
    return moved.astype(dtype) if dtype.kind in "biu" else moved


for _primitive in {p for p in ELEMENTWISE.values() if p.discrete}:
    if _primitive.evaluate not in (
        np.less,
        np.less_equal,
        np.greater,
        np.greater_equal,
        np.equal,
        np.not_equal,
    ):
        _stepwise(getattr(np, _primitive.name))


@formula(np.remainder)
def _remainder(site: Site) -> Array:
    """x mod y = x − y·⌊x/y⌋: smooth but where the floor jumps."""
    xp = site.xp
    dx, dy = (0.0 if d is None else d for d in site.differences)
    x, y = site.base(0), site.base(1)
    old, new = xp.floor_divide(x, y), xp.floor_divide(x + dx, y + dy)
    site.context.mark_kinks((new != old) & xp.ones_like(dx + dy, dtype=bool))
    return dx - dy * new - y * (new - old)


@formula(np.heaviside)
def _heaviside(site: Site) -> Array:
    xp = site.xp
    moved = [
        site.base(k) if d is None else site.base(k) + d for k, d in enumerate(site.differences)
    ]
    change = xp.heaviside(*moved) - site.result()
    if site.differences[0] is not None:
        site.context.mark_kinks((xp.sign(moved[0]) != xp.sign(site.base(0))) & (change != 0))
    return change


@rule(WHERE)
def _where(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    """Choose the difference of the branch taken; where the mask flips, that of the two values."""
    flips, dx, dy = deltas
    if flips is None and dx is None and dy is None:
        return None
    aligned = [
        None if delta is None else align(delta, operand.shape, node.ndim)
        for delta, operand in zip(deltas, node.operands, strict=True)
    ]
    (df, dx_, dy_), pins = unify(context.xp, aligned, node.shape)
    site = Site(context, node, [df, dx_, dy_], pins)
    mask = site.base(0)
    change = context.xp.where(mask, 0.0 if dx_ is None else dx_, 0.0 if dy_ is None else dy_)
    if df is not None:
        change = _where_flipped(site, mask, change)
    return Delta(_stacked(context, context.floats(change)), pins)


def _where_flipped(site: Site, mask: Array, change: Array) -> Array:
    xp = site.xp
    df, dx, dy = site.differences
    x, y = site.base(1), site.base(2)
    jump = xp.where(
        mask,
        (y if dy is None else y + dy) - x,
        (x if dx is None else x + dx) - y,
    )
    return xp.where(df != 0, jump, change)


def _stacked(context: Context, values: Array) -> Array:
    """Give a result that lost the copy axis (all copies alike) its full length."""
    if values.shape[0] == context.copies:
        return values
    return context.xp.broadcast_to(values, (context.copies, *values.shape[1:]))


def _cast(site: Site) -> Array | None:
    (d,) = site.differences
    source, target = site.node.operands[0].value.dtype, site.node.value.dtype
    if target.kind in "fc" or (source.kind in "biu" and target.kind in "iu"):
        # Arithmetic stays in float64 whatever the target: a difference has no rounding to lose.
        return d
    b = site.base(0)
    return _jumped(site, (b + d).astype(target), lambda: b.astype(target))


rule(CAST)(elementwise_rule(_cast))
