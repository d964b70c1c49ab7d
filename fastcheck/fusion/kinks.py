"""Functions with kinks and jumps: linear as long as nothing crosses over, and that is checked.

A copy for which a comparison comes out differently than at θ is not the kernel's: the replay engine
computes it, and counts the kink.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.fusion.dims import Label
from fastcheck.fusion.form import Algebra, Form
from fastcheck.fusion.hoisted import known
from fastcheck.fusion.linear import contract_like
from fastcheck.fusion.rules import Forms, Site, drop, formula, real, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import MAX, MIN, WHERE


def _gap(x: Any, y: Any) -> Any:
    """Return |x − y|: how far two operands are from a tie. Equal infinities never part."""
    x, y = real(x), real(y)
    same = (x == y) & np.isinf(x * np.ones_like(y))
    with np.errstate(invalid="ignore"):
        return np.where(same, np.inf, _short_of(np.abs(x - y)))


def _short_of(gap: Any) -> Any:
    """Return the largest difference that does not reach a tie; none but zero does not from one."""
    return np.maximum(np.nextafter(gap, -np.inf), 0.0)


def _apart(site: Site) -> Form:
    """Return the difference of the first operand less that of the second."""
    x, y = site.forms
    if x is None or y is None:
        return site.linear(x or y)
    return site.algebra.minus(x, y)


def _check_tie(site: Site) -> None:
    x, y = (operand.value for operand in site.node.operands)
    site.algebra.check(_apart(site), site.hoist(_gap(x, y)))


def _extreme(wins: Callable[[Any, Any], Any]) -> Callable[[Site], Form]:
    def apply(site: Site) -> Form:
        x, y = (real(operand.value) for operand in site.node.operands)
        _check_tie(site)
        first = np.broadcast_to(wins(x, y), site.node.shape)
        chosen = [
            site.scale(form, mask)
            for form, mask in zip(site.forms, (first, ~first), strict=True)
            if form is not None
        ]
        return chosen[0] if len(chosen) == 1 else site.algebra.plus(*chosen)

    return apply


formula(np.maximum, np.fmax)(_extreme(lambda x, y: (x > y) | (y != y)))
formula(np.minimum, np.fmin)(_extreme(lambda x, y: (x < y) | (y != y)))


@formula(np.absolute, np.fabs)
def _absolute(site: Site) -> Form:
    b = real(site.node.operands[0].value)
    site.algebra.check(site.linear(site.forms[0]), site.hoist(_gap(b, 0.0)))
    return site.scale(site.forms[0], np.sign(b))


@formula(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)
def _compare(site: Site) -> None:
    _check_tie(site)


@formula(np.sign, np.signbit)
def _sign(site: Site) -> None:
    site.algebra.check(
        site.linear(site.forms[0]), site.hoist(_gap(site.node.operands[0].value, 0.0))
    )


@formula(np.isnan, np.isinf, np.isfinite)
def _never_changes(site: Site) -> None:
    # A copy that is not finite is not the kernel's in any case.
    return


@rule(WHERE, joints=True)
def _where(algebra: Algebra, node: Node, forms: Forms) -> Form | None:
    if forms[1] is None and forms[2] is None:
        return None
    return _chosen(Site(algebra, node, [None, *forms[1:]]))


def _chosen(site: Site) -> Form:
    mask = np.asarray(site.node.operands[0].value, dtype=bool)
    chosen = [
        site.scale(form, taken)
        for form, taken in zip(site.forms[1:], (mask, ~mask), strict=True)
        if form is not None
    ]
    return chosen[0] if len(chosen) == 1 else site.algebra.plus(*chosen)


def _winner(sign: float) -> Callable[[Algebra, Node, Forms], Form]:
    def apply(algebra: Algebra, node: Node, forms: Forms) -> Form:
        (form,) = forms
        assert form is not None
        axes, operand = node.params["axes"], node.operands[0]
        x = sign * real(operand.value)
        form = unpin_all(algebra, form, axes)
        first = one_hot(x, axes)
        winner = contract_like(algebra, form, first, axes)
        if any(isinstance(form.axes[axis], Label) for axis in axes):
            largest = np.max(x, axis=axes, keepdims=True)
            # The winner never falls behind itself, but by rounding.
            gap = np.where(first > 0, np.inf, _gap(largest, x))
            behind = algebra.minus(form, winner)
            same = tuple(axis for axis, follows in enumerate(behind.axes) if follows is None)
            gap = gap.min(axis=same, keepdims=True)
            algebra.check(behind, known(gap, _dims(behind, gap)))
        return Form(drop(winner, axes, node.params["keepdims"]), winner.terms)

    return apply


rule(MAX)(_winner(1.0))
rule(MIN)(_winner(-1.0))


def _dims(form: Form, array: Any) -> list[Any]:
    return [dim if n > 1 else None for dim, n in zip(form.axes, array.shape, strict=True)]


def unpin_all(algebra: Algebra, form: Form, axes: tuple[int, ...]) -> Form:
    """Write out the pinned ones of some axes."""
    for axis in axes:
        if form.axes[axis] is not None and not isinstance(form.axes[axis], Label):
            form = algebra.unpin(form, axis)
    return form


def one_hot(x: Any, axes: tuple[int, ...]) -> Any:
    """Return 1 at the first of the largest elements along `axes`, 0 elsewhere."""
    rest = [axis for axis in range(x.ndim) if axis not in axes]
    order = (*rest, *axes)
    flat = x.transpose(order).reshape([x.shape[axis] for axis in rest] + [-1])
    hot = np.zeros(flat.shape)
    np.put_along_axis(hot, flat.argmax(axis=-1)[..., None], 1.0, axis=-1)
    shaped = hot.reshape([x.shape[axis] for axis in order])
    return shaped.transpose(np.argsort(order))
