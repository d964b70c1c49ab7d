"""Reshape, transpose, broadcast, indexing: axes move, and what they follow moves with them."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from fastcheck.differences.index_form import normal_form
from fastcheck.fusion.dims import Dim, Joint, Label, NotFusable, Pin
from fastcheck.fusion.form import Algebra, Axis, Form, Term, is_zero
from fastcheck.fusion.hoisted import Hoisted, gathered, known, taken
from fastcheck.fusion.linear import contract_like
from fastcheck.fusion.rules import Forms, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import BROADCAST, DIAGONAL, INDEX, RESHAPE, TRANSPOSE

_MOST_GATHERED = 1_000_000


@rule(TRANSPOSE, joints=True)
def _transpose(algebra: Algebra, node: Node, forms: Forms) -> Form:
    form = _only(forms)
    return Form(tuple(form.axes[axis] for axis in node.params["axes"]), form.terms)


@rule(BROADCAST, joints=True)
def _broadcast(algebra: Algebra, node: Node, forms: Forms) -> Form:
    form = _only(forms)
    return Form((None,) * (node.ndim - len(form.axes)) + form.axes, form.terms)


@rule(RESHAPE, joints=True)
def _reshape(algebra: Algebra, node: Node, forms: Forms) -> Form:
    """Cut axes up and join them; what a new axis is made of, it follows jointly."""
    form, shape = _only(forms), node.operands[0].shape
    if not node.value.size:
        raise NotFusable("an array is empty")
    axes: list[Axis] = []
    places: dict[Label, Hoisted] = {}
    for old, new in _groups(shape, node.shape):
        sizes = [node.shape[axis] for axis in new]
        parts = [part for axis in old for part in _parts(form.axes[axis], shape[axis])]
        try:
            runs, cut = _runs(algebra, parts, sizes)
        except _Askew:  # (6, 4) into (8, 3): through one label for all of it
            form, dim = _flattened(algebra, form, old, shape)
            runs, cut = _runs(algebra, [(dim, prod(sizes))], sizes)
        places.update(cut)
        axes += [_axis(run) for run in runs]
    return algebra.gather(form, places, axes) if places else Form(tuple(axes), form.terms)


Part = tuple[Dim | None, int]


class _Askew(Exception):  # noqa: N818  (an answer, not a failure)
    """Neither of two sizes divides the other."""


def _parts(axis: Axis, size: int) -> list[Part]:
    if isinstance(axis, Joint):
        return list(axis.parts)
    return [(axis, size)] if size != 1 else []


def _axis(parts: list[Part]) -> Axis:
    if all(dim is None for dim, _ in parts):
        return None
    return parts[0][0] if len(parts) == 1 else Joint(tuple(parts))


def _runs(
    algebra: Algebra, parts: list[Part], sizes: list[int]
) -> tuple[list[list[Part]], dict[Label, Hoisted]]:
    """Return the parts that make up each new axis, and where labels that are cut are found."""
    waiting, runs = list(parts), []
    cut: dict[Label, Hoisted] = {}
    for size in sizes:
        run: list[Part] = []
        while size > 1:
            dim, whole = waiting.pop(0)
            if size % whole:
                if whole % size:
                    raise _Askew
                first, last = _cut_in_two(algebra, dim, whole, whole // size, cut)
                waiting.insert(0, last)
                dim, whole = first
            run.append((dim, whole))
            size //= whole
        runs.append(run)
    return runs, cut


def _cut_in_two(
    algebra: Algebra, dim: Dim | None, size: int, last: int, cut: dict[Label, Hoisted]
) -> tuple[Part, Part]:
    """Cut an axis into two, the second one of size `last`."""
    first = size // last
    if dim is None:
        return (None, first), (None, last)
    if isinstance(dim, Pin):
        pins = algebra.split(dim, last)
        return (pins[0], first), (pins[1], last)
    labels = algebra.label(first), algebra.label(last)
    where = known(np.arange(size).reshape(first, last), labels)
    outer = next(((old, at) for old, at in cut.items() if dim in at.labels), None)
    if outer is None:
        cut[dim] = where
    else:  # it is a piece itself
        cut[outer[0]] = gathered(outer[1], {dim: where})
    return (labels[0], first), (labels[1], last)


def _flattened(
    algebra: Algebra, form: Form, axes: list[int], shape: tuple[int, ...]
) -> tuple[Form, Dim | None]:
    """Let some axes follow one label together."""
    parts = [part for axis in axes for part in _parts(form.axes[axis], shape[axis])]
    rest = [axis for place, axis in enumerate(form.axes) if place not in axes]
    if all(dim is None for dim, _ in parts):
        return form, None
    plain = algebra.plain(Form((*rest, Joint(tuple(parts))), form.terms), (len(rest),))
    dim = plain.axes[-1]
    assert isinstance(dim, Label)
    return Form(form.axes, plain.terms), dim


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


@rule(INDEX, DIAGONAL)
def _index(algebra: Algebra, node: Node, forms: Forms) -> Form | None:
    form, operand = _only(forms), node.operands[0]
    index = node.params["index"]
    parts = expanded(index, operand.ndim)
    if any(isinstance(part, np.ndarray | bool) for part in parts):
        picked = _picked(algebra, form, parts, operand.shape)
        return _gathered(algebra, form, index, operand.shape) if picked is None else picked
    axes: list[Axis] = []
    axis = 0
    for part in parts:
        if part is None:
            axes.append(None)
            continue
        form, left = _one_axis(algebra, form, axis, part, operand.shape[axis])
        axes += left
        axis += 1
    return Form(tuple(axes), form.terms)


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
    algebra: Algebra, form: Form, axis: int, part: Any, size: int
) -> tuple[Form, list[Axis]]:
    """Index one axis with a slice or a number; return what it follows then, if it is left."""
    places, follows = np.atleast_1d(np.arange(size)[part]), form.axes[axis]
    if not places.size:
        raise NotFusable("an array is empty")
    stays = isinstance(part, slice)
    if follows is None:
        return form, [None] if stays else []
    if np.array_equal(places, np.arange(size)):
        return form, [follows] if stays else []
    new = algebra.label(len(places)) if len(places) > 1 else None
    found = _at(algebra, form, follows, places if new else places[0], [new] if new else [])
    return found, [new] if stays else []


def _at(algebra: Algebra, form: Form, follows: Axis, places: Any, dims: list[Label]) -> Form:
    """Look along an axis at places that run over labels."""
    if isinstance(follows, Pin):
        if np.size(places) * follows.size > _MOST_GATHERED:
            raise NotFusable("a large index array")
        hot = known(np.asarray(places)[..., None] == np.arange(follows.size), (*dims, follows))
        return Form(form.axes, _without_zeros(algebra.scale(form, hot).terms))
    assert isinstance(follows, Label)
    if len(dims) <= 1 and not any(follows in term.variable.labels for term in form.terms):
        part = _as_slice(places)
        if part is not None:
            new = dims[0] if dims else None
            return Form(form.axes, _cut(form.terms, follows, part, new))
    return algebra.gather(form, {follows: known(places, dims)}, form.axes)


def _as_slice(places: Any) -> Any:
    """Return evenly spaced places as a slice, one place as a number; None for others."""
    if np.ndim(places) == 0:
        return int(places)
    steps = np.unique(np.diff(places))
    if len(steps) != 1 or steps[0] == 0:
        return None
    stop = int(places[-1]) + int(np.sign(steps[0]))
    return slice(int(places[0]), stop if stop >= 0 else None, int(steps[0]))


def _cut(terms: tuple[Term, ...], label: Label, part: Any, new: Label | None) -> tuple[Term, ...]:
    """Index a label that only constants depend on."""
    return _without_zeros(
        tuple(
            replace(term, factors=tuple(taken(f, label, part, new) for f in term.factors))
            for term in terms
        )
    )


def _without_zeros(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    return tuple(term for term in terms if not any(map(is_zero, term.factors)))


def _picked(algebra: Algebra, form: Form, parts: list[Any], shape: tuple[int, ...]) -> Form | None:
    """Index with one array, or with arange and labels: a sum over a one-hot array.

    The sum goes with others over the classes in a kernel. None for another index, and where the
    kernel would compute the sum for nothing else.
    """
    places = [axis for axis, part in enumerate(parts) if isinstance(part, np.ndarray)]
    arrays = [parts[axis] for axis in places]
    rest = [axis for axis in range(len(parts)) if axis not in places]
    if (
        len(parts) != len(shape)
        or any(not isinstance(parts[axis], slice) or parts[axis] != slice(None) for axis in rest)
        or any(array.ndim != 1 or array.dtype.kind not in "iu" for array in arrays)
    ):
        return None
    if len(places) == 2 and places == [0, 1] and not rest:
        first, second = arrays
        if np.array_equal(first, np.arange(shape[0])):
            return _one_a_row(algebra, form, second, shape[1])
    if len(places) == 1:
        axis = places[0]
        follows = form.axes[axis]
        if follows is None:
            return form
        new = algebra.label(len(arrays[0])) if len(arrays[0]) > 1 else None
        where = np.arange(shape[axis])[arrays[0]]
        if not where.size:
            raise NotFusable("an array is empty")
        found = _at(algebra, form, follows, where if new else where[0], [new] if new else [])
        axes = [new if place == axis else old for place, old in enumerate(form.axes)]
        return Form(tuple(axes), found.terms)
    return None


def _one_a_row(algebra: Algebra, form: Form, columns: Any, count: int) -> Form:
    """Return x[arange(n), columns]."""
    hot = np.zeros((len(columns), count))
    hot[np.arange(len(columns)), columns] = 1.0
    if isinstance(form.axes[1], Pin):
        form = algebra.unpin(form, 1)
    picked = contract_like(algebra, form, hot, (1,))
    return Form(picked.axes[:1], picked.terms)


def _gathered(algebra: Algebra, form: Form, index: Any, shape: tuple[int, ...]) -> Form:
    """Index with arrays in any way: every label is looked along at places over the new axes."""
    normal = normal_form(index, len(shape))
    arrays = {axis: np.arange(shape[axis])[array] for axis, array in normal.advanced.items()}
    spots = next(iter(normal.advanced.values())).shape
    if 0 in spots:
        raise NotFusable("an array is empty")
    over = _Spots(algebra, spots)
    left: dict[int, list[Axis]] = {}
    for axis, part in normal.basic.items():
        form, left[axis] = _one_axis(algebra, form, axis, part, shape[axis])
    labels = [(axis, array) for axis, array in arrays.items() if form.axes[axis] is not None]
    for axis, array in labels:
        over.keep(form.axes[axis], array, shape[axis])
    places: dict[Label, Hoisted] = {}
    for axis, array in labels:
        follows = form.axes[axis]
        where, dims = over.varying(array)
        if isinstance(follows, Label):
            if dims != [follows]:
                places[follows] = known(where, dims)
        else:
            form = _at(algebra, form, follows, where, dims)
    axes: list[Axis] = []
    for source in normal.result:
        if source == "advanced":
            axes += over.labels
        else:
            axes += left[source] if isinstance(source, int) else [None]
    return algebra.gather(form, places, axes)


class _Spots:
    """The axes that index arrays have together, and the labels that these follow."""

    def __init__(self, algebra: Algebra, shape: tuple[int, ...]) -> None:
        self._algebra = algebra
        self._shape = shape
        self.labels: list[Label | None] = [None] * len(shape)

    def keep(self, follows: Axis, array: Any, size: int) -> None:
        """Let an axis keep its label where the array has all places of it, in order."""
        where, varying = self._squeezed(array)
        free = len(varying) == 1 and self.labels[varying[0]] is None
        if free and isinstance(follows, Label) and np.array_equal(where, np.arange(size)):
            self.labels[varying[0]] = follows

    def varying(self, array: Any) -> tuple[Any, list[Label]]:
        """Return an index array without the axes along which it is the same, and their labels."""
        where, varying = self._squeezed(array)
        labels = []
        for axis in varying:
            label = self.labels[axis] or self._algebra.label(self._shape[axis])
            self.labels[axis] = label
            labels.append(label)
        return where, labels

    def _squeezed(self, array: Any) -> tuple[Any, list[int]]:
        varying = []
        for axis in range(array.ndim):
            first = array.take([0], axis=axis)
            if np.array_equal(np.broadcast_to(first, array.shape), array):
                array = first
            else:
                varying.append(axis)
        return array.reshape([array.shape[axis] for axis in varying]), varying


def _only(forms: Forms) -> Form:
    (form,) = forms
    assert form is not None
    return form
