"""Sums, sums of products, softmax: what is linear, or has one exponential in it."""

from __future__ import annotations

from typing import Any

from fastcheck.fusion import series
from fastcheck.fusion.dims import Label, NotFusable
from fastcheck.fusion.form import ONE, Algebra, Axis, Form
from fastcheck.fusion.hoisted import known
from fastcheck.fusion.rules import Forms, drop, hoist, real, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT, SUM


@rule(SUM)
def _sum(algebra: Algebra, node: Node, forms: Forms) -> Form:
    (form,) = forms
    assert form is not None
    axes, shape = node.params["axes"], node.operands[0].shape
    result = summed(algebra, form, axes, shape)
    return Form(drop(form, axes, node.params["keepdims"]), result.terms)


def summed(algebra: Algebra, form: Form, axes: tuple[int, ...], shape: tuple[int, ...]) -> Form:
    """Sum over axes; they stay, following nothing."""
    repeats = 1
    over: list[Label] = []
    for axis in axes:
        follows = form.axes[axis]
        if follows is None:
            repeats *= shape[axis]
        elif isinstance(follows, Label):
            over.append(follows)
    left = drop(form, axes, keepdims=True)
    return algebra.contract(algebra.times(form, repeats), ONE, over, left)


def contract_like(algebra: Algebra, form: Form, weights: Any, axes: tuple[int, ...]) -> Form:
    """Multiply by an array of the same shape and sum over axes, which stay.

    Where the difference is the same all along an axis, the weights are summed over it.
    """
    same = tuple(axis for axis in axes if form.axes[axis] is None)
    weights = weights.sum(axis=same, keepdims=True) if same else weights
    follows = list(form.axes)
    factor = hoist(algebra, weights, follows)
    over = [dim for axis in axes if isinstance(dim := follows[axis], Label)]
    left = [None if axis in axes else dim for axis, dim in enumerate(follows)]
    return algebra.contract(form, factor, over, left)


@rule(CONTRACT)
def _contract(algebra: Algebra, node: Node, forms: Forms) -> Form:
    left, right, out = node.params["labels"]
    if forms[0] is not None and forms[1] is not None:
        raise NotFusable("both operands of a product of matrices move")
    if forms[0] is not None:
        return _with_constant(algebra, forms[0], left, node.operands[1], right, out, node)
    assert forms[1] is not None
    return _with_constant(algebra, forms[1], right, node.operands[0], left, out, node)


def _with_constant(
    algebra: Algebra,
    form: Form,
    names: tuple[int, ...],
    other: Node,
    other_names: tuple[int, ...],
    out: tuple[int, ...],
    node: Node,
) -> Form:
    if len(set(names)) < len(names) or len(set(other_names)) < len(other_names):
        raise NotFusable("a diagonal is taken in a product")
    value = real(other.value)
    follows: dict[int, Axis] = dict(zip(names, form.axes, strict=True))
    alone = tuple(
        axis
        for axis, name in enumerate(other_names)
        if name not in out and follows.get(name) is None
    )
    if alone:  # the difference is the same along these, or does not have them
        value = value.sum(axis=alone, keepdims=True)
    repeats = 1
    for axis, name in enumerate(names):
        if name not in out and name not in other_names and follows[name] is None:
            repeats *= node.operands[0 if node.operands[1] is other else 1].shape[axis]
    dims: list[Axis] = []
    for axis, name in enumerate(other_names):
        if value.shape[axis] == 1:
            dims.append(None)
            continue
        if follows.get(name) is None:
            follows[name] = algebra.label(value.shape[axis])
        dims.append(follows[name])
    over = [dim for name, dim in follows.items() if name not in out and isinstance(dim, Label)]
    result = algebra.contract(form, known(value, dims), over, [follows.get(name) for name in out])
    return algebra.times(result, repeats)


def grown_share(algebra: Algebra, behind: Form, share: Any, axes: tuple[int, ...]) -> Form:
    """Return log1p(Σ share·expm1(behind)) over axes, which stay."""
    follows = list(behind.axes)
    factor = hoist(algebra, share, follows)
    over = [dim for axis in axes if isinstance(dim := follows[axis], Label)]
    left = [None if axis in axes else dim for axis, dim in enumerate(follows)]
    total = algebra.contract(series.growth(algebra, behind, follows), factor, over, left)
    return series.log_growth(algebra, total)
