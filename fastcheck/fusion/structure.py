"""Reshape, transpose, broadcast, indexing: axes move, and what they follow moves with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastcheck.fusion.dims import Dim, Label, NotFusable, Pin
from fastcheck.fusion.form import Algebra, Axis, Form, Term
from fastcheck.fusion.hoisted import known, taken
from fastcheck.fusion.linear import contract_like
from fastcheck.fusion.rules import Forms, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import BROADCAST, INDEX, RESHAPE, TRANSPOSE

_MOST_GATHERED = 1_000_000


@rule(TRANSPOSE)
def _transpose(algebra: Algebra, node: Node, forms: Forms) -> Form:
    form = _only(forms)
    return Form(tuple(form.axes[axis] for axis in node.params["axes"]), form.terms)


@rule(BROADCAST)
def _broadcast(algebra: Algebra, node: Node, forms: Forms) -> Form:
    form = _only(forms)
    return Form((None,) * (node.ndim - len(form.axes)) + form.axes, form.terms)


@rule(RESHAPE)
def _reshape(algebra: Algebra, node: Node, forms: Forms) -> Form:
    """Move the axes where only sizes of 1 come and go, or where the difference is the same."""
    form, shape = _only(forms), node.operands[0].shape
    groups = _groups(shape, node.shape)
    axes: list[Axis] = []
    for old, new in groups:
        wide_old = [axis for axis in old if shape[axis] != 1]
        wide_new = [axis for axis in new if node.shape[axis] != 1]
        follows = [form.axes[axis] for axis in wide_old]
        if len(wide_old) <= 1 and len(wide_new) <= 1:
            kept = iter(follows)
            axes += [next(kept) if axis in wide_new else None for axis in new]
        elif all(dim is None for dim in follows):
            axes += [None] * len(new)
        else:
            raise NotFusable(f"a reshape from {shape} to {node.shape}")
    return Form(tuple(axes), form.terms)


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Cut two shapes of one size into the smallest runs of axes that hold the same elements."""
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        left, right, a, b = [], [], 1, 1
        if i < len(old):
            left, a, i = [i], old[i], i + 1
        if j < len(new):
            right, b, j = [j], new[j], j + 1
        while a != b:
            if a < b:
                left, a, i = [*left, i], a * old[i], i + 1
            else:
                right, b, j = [*right, j], b * new[j], j + 1
        groups.append((left, right))
    return groups


@rule(INDEX)
def _index(algebra: Algebra, node: Node, forms: Forms) -> Form | None:
    form, operand = _only(forms), node.operands[0]
    index = node.params["index"]
    parts = expanded(index, operand.ndim)
    if any(isinstance(part, np.ndarray) for part in parts):
        return _gathered(algebra, node, form, parts)
    axes: list[Axis] = []
    terms, axis = form.terms, 0
    for part in parts:
        if part is None:
            axes.append(None)
            continue
        terms, left = _one_axis(algebra, terms, form.axes[axis], part, operand.shape[axis])
        axes += left
        axis += 1
    return Form(tuple(axes), terms)


def expanded(index: Any, ndim: int) -> list[Any]:
    """Return the parts of an index, one for each axis: an ellipsis and full slices written out.

    Sequences of numbers are arrays, as in NumPy.
    """
    parts = [
        np.asarray(part) if isinstance(part, list | range | tuple) else part
        for part in (index if isinstance(index, tuple) else (index,))
    ]
    used = sum(
        part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1
        for part in parts
        if part is not None and part is not Ellipsis
    )
    full = [slice(None)] * (ndim - used)
    result: list[Any] = []
    for part in parts:
        if part is Ellipsis:
            result, full = result + full, []
        else:
            result.append(part)
    return result + full


def _one_axis(
    algebra: Algebra, terms: tuple[Term, ...], follows: Axis, part: Any, size: int
) -> tuple[tuple[Term, ...], list[Axis]]:
    """Index one axis with a slice or a number."""
    places = np.atleast_1d(np.arange(size)[part])
    left: list[Axis] = [None] if isinstance(part, slice) else []
    if follows is None:
        return terms, left
    if np.array_equal(places, np.arange(size)):
        return terms, [follows] if left else []
    if len(places) == 1:
        return _one_place(algebra, terms, follows, int(places[0])), left
    if isinstance(follows, Pin):
        new = algebra.label(len(places))
        hot = known(places[:, None] == np.arange(size), (new, follows))
        return algebra.scale(Form((), terms), hot).terms, [new]
    if any(follows in term.variable.labels for term in terms):
        raise NotFusable("a part of an axis that the kernel computes is taken")
    new = algebra.label(len(places))
    return _cut(terms, follows, part, new), [new]


def _one_place(
    algebra: Algebra, terms: tuple[Term, ...], follows: Dim, place: int
) -> tuple[Term, ...]:
    if isinstance(follows, Pin):
        chosen = known(np.arange(follows.size) == place, (follows,))
        return algebra.scale(Form((), terms), chosen).terms
    if any(follows in term.variable.labels for term in terms):
        raise NotFusable("a part of an axis that the kernel computes is taken")
    return _cut(terms, follows, place, None)


def _cut(terms: tuple[Term, ...], label: Label, part: Any, new: Label | None) -> tuple[Term, ...]:
    return tuple(
        replace(term, factors=tuple(taken(f, label, part, new) for f in term.factors))
        for term in terms
    )


def _gathered(algebra: Algebra, node: Node, form: Form, parts: list[Any]) -> Form:
    """Index with one array, or with arange and labels: a sum over a one-hot array."""
    shape = node.operands[0].shape
    if any(isinstance(part, np.ndarray) and part.dtype == bool for part in parts):
        raise NotFusable("a mask picks elements")
    if len(parts) != len(shape) or any(part is None for part in parts):
        raise NotFusable("an index array with a new axis")
    places = [axis for axis, part in enumerate(parts) if isinstance(part, np.ndarray)]
    arrays = [parts[axis] for axis in places]
    rest = [axis for axis in range(len(parts)) if axis not in places]
    if any(parts[axis] != slice(None) for axis in rest) or any(
        array.ndim != 1 or array.dtype.kind not in "iu" for array in arrays
    ):
        raise NotFusable("indexing with arrays in a form that has no kernel")
    if len(places) == 2 and places == [0, 1] and not rest:
        first, second = arrays
        if len(first) == shape[0] and np.array_equal(first, np.arange(shape[0])):
            return _one_a_row(algebra, form, second, shape[1])
    if len(places) == 1:
        return _reordered(algebra, form, places[0], arrays[0], shape)
    raise NotFusable("indexing with several arrays")


def _one_a_row(algebra: Algebra, form: Form, columns: Any, count: int) -> Form:
    """Return x[arange(n), columns]."""
    hot = np.zeros((len(columns), count))
    hot[np.arange(len(columns)), columns] = 1.0
    if isinstance(form.axes[1], Pin):
        form = algebra.unpin(form, 1)
    picked = contract_like(algebra, form, hot, (1,))
    return Form(picked.axes[:1], picked.terms)


def _reordered(algebra: Algebra, form: Form, axis: int, order: Any, shape: tuple[int, ...]) -> Form:
    """Return x with the elements along one axis taken in another order, or repeatedly."""
    if form.axes[axis] is None:
        return form
    if len(order) == 1:
        terms, _ = _one_axis(algebra, form.terms, form.axes[axis], int(order[0]), shape[axis])
        axes = [None if place == axis else old for place, old in enumerate(form.axes)]
        return Form(tuple(axes), terms)
    if len(order) * shape[axis] > _MOST_GATHERED:
        raise NotFusable("a large index array")
    new = algebra.label(len(order))
    follows = form.axes[axis]
    hot = np.zeros((len(order), shape[axis]))
    hot[np.arange(len(order)), order] = 1.0
    axes = [new if place == axis else old for place, old in enumerate(form.axes)]
    over = [follows] if isinstance(follows, Label) else []
    return algebra.contract(form, known(hot, (new, follows)), over, axes)


def _only(forms: Forms) -> Form:
    (form,) = forms
    assert form is not None
    return form
