"""Sums, sums of products, softmax: what is linear, or has one exponential in it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from fastcheck.fusion import series
from fastcheck.fusion.dims import Joint, Label, NotFusable, Pin
from fastcheck.fusion.form import ONE, Algebra, Axis, Form, Term, labels_of
from fastcheck.fusion.hoisted import Hoisted, known
from fastcheck.fusion.rules import Forms, drop, hoist, real, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT, SUM

_MOST_PRODUCTS = 4
_MOST_JOINED = 1_000_000


@rule(SUM, joints=True)
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
        repeats *= alike_along(follows, shape[axis])
        over += labels_of(follows)
    left = drop(form, axes, keepdims=True)
    return algebra.contract(algebra.times(form, repeats), ONE, over, left)


def alike_along(axis: Axis, size: int) -> int:
    """Return how many elements next to each other along an axis have the same difference."""
    if isinstance(axis, Joint):
        return prod(part for dim, part in axis.parts if dim is None)
    return size if axis is None else 1


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


@rule(CONTRACT, joints=True)
def _contract(algebra: Algebra, node: Node, forms: Forms) -> Form:
    left, right, out = node.params["labels"]
    if len(set(left)) < len(left) or len(set(right)) < len(right):
        raise NotFusable("a diagonal is taken in a product")
    one, other = forms
    if one is not None and other is not None:
        return _both(algebra, one, other, node)
    if one is not None:
        return _with_constant(algebra, one, left, node.operands[1], right, out, node)
    assert other is not None
    return _with_constant(algebra, other, right, node.operands[0], left, out, node)


Names = tuple[int, ...]


def _with_constant(
    algebra: Algebra,
    form: Form,
    names: Names,
    other: Node,
    other_names: Names,
    out: Names,
    node: Node,
    labels: Mapping[int, Label] | None = None,
) -> Form:
    """Multiply by a constant and sum; `labels` are those to give to what followed nothing."""
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
        if name not in out and name not in other_names:
            size = node.operands[0 if node.operands[1] is other else 1].shape[axis]
            repeats *= alike_along(follows[name], size)
    axes: list[Axis] = []
    for axis, name in enumerate(other_names):
        known_label = None if labels is None else labels.get(name)
        axes.append(follows.get(name) or (known_label if value.shape[axis] > 1 else None))
    factor = hoist(algebra, value, axes)
    follows.update({n: axis for n, axis in zip(other_names, axes, strict=True) if axis is not None})
    over = [dim for name, axis in follows.items() if name not in out for dim in labels_of(axis)]
    result = algebra.contract(form, factor, over, [follows.get(name) for name in out])
    return algebra.times(result, repeats)


def _both(algebra: Algebra, one: Form, other: Form, node: Node) -> Form:
    """Return δA·B + A·δB + δA·δB, summed over the same labels."""
    left, right, out = node.params["labels"]
    a, b = _on_common_labels(algebra, algebra.plain(one), left, algebra.plain(other), right)
    labels = [
        {name: dim for name, dim in form.items() if isinstance(dim, Label)}
        for form in (dict(zip(left, a.axes, strict=True)), dict(zip(right, b.axes, strict=True)))
    ]
    first = _with_constant(algebra, a, left, node.operands[1], right, out, node, labels[1])
    second = _with_constant(algebra, b, right, node.operands[0], left, out, node, labels[0])
    return algebra.plus(algebra.plus(first, second), _product(algebra, a, b, node))


def _on_common_labels(
    algebra: Algebra, a: Form, left: Names, b: Form, right: Names
) -> tuple[Form, Form]:
    """Let both operands run over the same labels where they have a name in common; pins stay."""
    names = tuple(dict.fromkeys(left + right))
    spread = []
    for form, own in ((a, left), (b, right)):
        follows = dict(zip(own, form.axes, strict=True))
        dims = [follows.get(name) for name in names]
        spread.append(
            Form(tuple(dim if isinstance(dim, Label) else None for dim in dims), form.terms)
        )
    unified = algebra.unify(*spread)
    result = []
    for form, own, common in ((a, left, unified[0]), (b, right, unified[1])):
        axes = tuple(
            common.axes[names.index(name)] if isinstance(dim, Label) else dim
            for name, dim in zip(own, form.axes, strict=True)
        )
        result.append(Form(axes, common.terms))
    return result[0], result[1]


def _product(algebra: Algebra, a: Form, b: Form, node: Node) -> Form:
    """Return δA·δB; where one is pinned, the other is looked at there."""
    left, right, out = node.params["labels"]
    follows: dict[int, Axis] = dict(zip(left, a.axes, strict=True))
    theirs: dict[int, Axis] = dict(zip(right, b.axes, strict=True))
    repeats = 1
    for name, size in zip(left, node.operands[0].shape, strict=True):
        ours, their = follows[name], theirs.get(name)
        if isinstance(ours, Pin) and isinstance(their, Pin) and ours is not their:
            b = algebra.unpin(b, right.index(name))
            their = b.axes[right.index(name)]
        if isinstance(ours, Pin) and isinstance(their, Label):
            b = _looked_at(algebra, b, their, ours)
        elif isinstance(ours, Label) and isinstance(their, Pin):
            a = _looked_at(algebra, a, ours, their)
            follows[name] = their
        if ours is None and their is None and name not in out:
            repeats *= size
    for name, size in zip(right, node.operands[1].shape, strict=True):
        if follows.get(name) is None:
            follows[name] = theirs[name]
            if name not in left and name not in out and theirs[name] is None:
                repeats *= size
    over = [dim for name, axis in follows.items() if name not in out for dim in labels_of(axis)]
    axes = [follows.get(name) for name in out]
    product = Form(tuple(axes), tuple(_products(algebra, a, b)))
    return algebra.times(algebra.contract(product, ONE, over, axes), repeats)


def _looked_at(algebra: Algebra, form: Form, label: Label, pin: Pin) -> Form:
    """Return what a difference is at a copy's position along a label."""
    places = {label: known(np.arange(pin.size), (pin,))}
    return algebra.gather(form, places, [pin if axis is label else axis for axis in form.axes])


def _products(algebra: Algebra, a: Form, b: Form) -> list[Term]:
    if len(a.terms) * len(b.terms) > _MOST_PRODUCTS or any(
        _is_large(one, other)
        for x in a.terms
        for y in b.terms
        for one in x.factors
        for other in y.factors
    ):
        return [Term((), algebra.value(a) * algebra.value(b))]
    return [one.times(other) for one in a.terms for other in b.terms]


def _is_large(one: Hoisted, other: Hoisted) -> bool:
    """Whether two constants would be joined into a large one."""
    sizes = [dim.size for dim in {*one.dims, *other.dims}]
    return one.pins == other.pins and prod(sizes) > _MOST_JOINED


def grown_share(algebra: Algebra, behind: Form, share: Any, axes: tuple[int, ...]) -> Form:
    """Return log1p(Σ share·expm1(behind)) over axes, which stay."""
    follows = list(behind.axes)
    factor = hoist(algebra, share, follows)
    over = [dim for axis in axes if isinstance(dim := follows[axis], Label)]
    left = [None if axis in axes else dim for axis, dim in enumerate(follows)]
    total = algebra.contract(series.growth(algebra, behind, follows), factor, over, left)
    return series.log_growth(algebra, total)
