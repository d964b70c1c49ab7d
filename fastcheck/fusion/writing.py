"""Writing into arrays and joining them: a difference takes its place among constants."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastcheck.fusion.dims import Label, NotFusable
from fastcheck.fusion.form import Algebra, Axis, Form, dims_of, is_pinned
from fastcheck.fusion.hoisted import Hoisted, known
from fastcheck.fusion.rules import Forms, hoist, rule
from fastcheck.fusion.structure import expanded
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONCATENATE, WRITE

_MOST_PLACES = 4_500_000


@rule(WRITE)
def _write(algebra: Algebra, node: Node, forms: Forms) -> Form:
    """Return what is left of the array, and the value in its place."""
    base, value = forms
    index = node.params["index"]
    written = None
    if value is not None:
        parts = expanded(index, node.ndim)
        if all(isinstance(part, slice | int | np.integer) for part in parts):
            written = _placed(algebra, value, parts, node.shape)
        else:
            written = _scattered(algebra, value, index, node)
    if base is None:
        assert written is not None
        return written
    left = np.ones(node.shape)
    left[index] = 0.0
    axes = list(base.axes)
    rest = algebra.scale(base, hoist(algebra, left, axes), axes)
    return rest if written is None else algebra.plus(rest, written)


def _scattered(algebra: Algebra, form: Form, index: Any, node: Node) -> Form:
    """Return a difference at any places of an array that is zero elsewhere.

    Where a place is written twice, the last value counts, as in NumPy.
    """
    if node.value.size > _MOST_PLACES:
        raise NotFusable("a part of a large array is written")
    spots = np.zeros(node.shape, dtype=np.int8)[index].shape
    source = np.full(node.shape, -1)
    source[index] = np.arange(prod(spots)).reshape(spots)
    there = source >= 0
    coordinates = np.unravel_index(np.where(there, source, 0), spots) if spots else ()
    lead = len(spots) - len(form.axes)
    followed = (None,) * lead + form.axes if lead >= 0 else form.axes[-lead:]
    axes: list[Axis] = [algebra.label(n) if n > 1 else None for n in node.shape]
    places: dict[Label, Hoisted] = {}
    form = Form(followed, form.terms)
    for axis in range(len(spots)):
        if form.axes[axis] is not None:
            form = algebra.unpin(form, axis) if is_pinned(form.axes[axis]) else form
            label = form.axes[axis]
            assert isinstance(label, Label)
            places[label] = _over(coordinates[axis], axes)
    found = algebra.gather(form, places, axes)
    return algebra.scale(found, _over(there, axes), axes)


def _over(array: Any, axes: list[Axis]) -> Hoisted:
    """Return a constant over axes, without those along which it is the same."""
    dims: list[Any] = list(axes)
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(first, array.shape), array):
            array, dims[axis] = first, None
    return known(array, dims)


@rule(CONCATENATE)
def _concatenate(algebra: Algebra, node: Node, forms: Forms) -> Form:
    axis, start = node.params["axis"] % node.ndim, 0
    joined: Form | None = None
    for form, operand in zip(forms, node.operands, strict=True):
        stop = start + operand.shape[axis]
        if form is not None:
            parts: list[Any] = [slice(None)] * node.ndim
            parts[axis] = slice(start, stop)
            placed = _placed(algebra, form, parts, node.shape)
            joined = placed if joined is None else algebra.plus(joined, placed)
        start = stop
    assert joined is not None
    return joined


def _placed(algebra: Algebra, form: Form, parts: list[Any], shape: tuple[int, ...]) -> Form:
    """Return a difference at `parts` of an array of `shape` that is zero elsewhere."""
    lead = sum(isinstance(part, slice) for part in parts) - len(form.axes)
    source = iter((*[None] * lead, *form.axes) if lead > 0 else form.axes[-lead or 0 :])
    axes: list[Axis] = []
    for part, size in zip(parts, shape, strict=True):
        follows = next(source) if isinstance(part, slice) else None
        places = np.arange(size)[part]
        if np.array_equal(np.atleast_1d(places), np.arange(size)):
            axes.append(follows if isinstance(part, slice) else None)
            continue
        form, label = _at(algebra, form, follows, np.atleast_1d(places), size)
        axes.append(label)
    return Form(tuple(axes), form.terms)


def _at(algebra: Algebra, form: Form, follows: Axis, places: Any, size: int) -> tuple[Form, Label]:
    """Put what follows one dimension at some places of a longer axis."""
    if len(places) * size > _MOST_PLACES:
        raise NotFusable("a part of a large array is written")
    label = algebra.label(size)
    if isinstance(follows, Label) and any(follows in term.variable.labels for term in form.terms):
        there, source = np.zeros(size), np.zeros(size)
        there[places], source[places] = 1.0, np.arange(len(places))
        form = algebra.gather(form, {follows: known(source, (label,))}, form.axes)
        return algebra.scale(form, known(there, (label,))), label
    if follows is None:
        there = np.zeros(size)
        there[places] = 1.0
        return algebra.scale(form, known(there, (label,))), label
    hot = np.zeros((size, len(places)))
    hot[places, np.arange(len(places))] = 1.0
    over = [follows] if isinstance(follows, Label) else []
    return algebra.contract(form, known(hot, (label, *dims_of(follows))), over, form.axes), label
