"""Writing into arrays and joining them: a difference takes its place among constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.fusion.dims import Label, NotFusable
from fastcheck.fusion.form import Algebra, Axis, Form
from fastcheck.fusion.hoisted import known
from fastcheck.fusion.rules import Forms, hoist, rule
from fastcheck.fusion.structure import expanded
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONCATENATE, WRITE

_MOST_PLACES = 1_000_000


@rule(WRITE)
def _write(algebra: Algebra, node: Node, forms: Forms) -> Form:
    """Return what is left of the array, and the value in its place."""
    base, value = forms
    index = node.params["index"]
    written = None
    if value is not None:
        written = _placed(algebra, value, expanded(index, node.ndim), node.shape)
    if base is None:
        assert written is not None
        return written
    left = np.ones(node.shape)
    left[index] = 0.0
    axes = list(base.axes)
    rest = algebra.scale(base, hoist(algebra, left, axes), axes)
    return rest if written is None else algebra.plus(rest, written)


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
    if len(parts) != len(shape) or not all(isinstance(p, slice | int | np.integer) for p in parts):
        raise NotFusable("a value that moves is written at an array of places")
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
    if follows is None:
        there = np.zeros(size)
        there[places] = 1.0
        return algebra.scale(form, known(there, (label,))), label
    hot = np.zeros((size, len(places)))
    hot[places, np.arange(len(places))] = 1.0
    over = [follows] if isinstance(follows, Label) else []
    return algebra.contract(form, known(hot, (label, follows)), over, form.axes), label
