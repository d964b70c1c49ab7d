"""Sums of products. Pins make them cheap: a pinned contracted axis is an outer product.

δ(AB) = δA·B + A·δB + δA·δB. In each term a pinned label is a fixed position per copy: the constant
operand is gathered there, the label leaves the sum, and the output stays pinned where the label
goes on. What is left is one batched matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, Pin, unpin
from fastcheck.differences.rules import Deltas, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT

Labels = tuple[int, ...]
COPY = -1
"""The label of the copy axis."""
# Products that OpenBLAS leaves to one thread, of two matrices, and of a matrix and a vector.
_ONE_THREAD, _ONE_THREAD_VECTOR = 2**18, 9216
_FEWEST_ROWS = 32


@dataclass(frozen=True, eq=False)
class Term:
    """An array with a label an axis; COPY, if present, is the first."""

    array: Array
    labels: Labels


@rule(CONTRACT)
def _contract(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    left, right, out = node.params["labels"]
    (a, b), (da, db) = node.operands, deltas
    if db is None:
        assert da is not None
        return _with_constant(context, da, left, b, right, out, a.shape)
    if da is None:
        return _with_constant(context, db, right, a, left, out, b.shape)
    # The operand that has the pins, if any, meets the other one as it is after the move.
    if len(da.pins) > len(db.pins):
        return _both(context, node, db, b, right, da, a, left)
    return _both(context, node, da, a, left, db, b, right)


def _both(
    context: Context,
    node: Node,
    dx: Delta,
    x: Node,
    x_labels: Labels,
    dy: Delta,
    y: Node,
    y_labels: Labels,
) -> Delta:
    """Return δX·Y + (X + δX)·δY, where θ is perturbed in both, as in x @ x.T."""
    out = node.params["labels"][2]
    first = _with_constant(context, dx, x_labels, y, y_labels, out, x.shape)
    pins = {y_labels[axis]: pin for axis, pin in dy.pins.items()}
    sizes = dict(zip(x_labels, x.shape, strict=True)) | dict(zip(y_labels, y.shape, strict=True))
    moved = _moved_at_pins(context, dx, x, x_labels, pins)
    second = _product(context, _unpinned(dy, y_labels), moved, pins, out, sizes)
    return _plus(context, first, second, node.shape)


def _moved_at_pins(
    context: Context, delta: Delta, node: Node, labels: Labels, pins: dict[int, Pin]
) -> Term:
    """Return an operand after its move, at the labels that are pinned in the other."""
    xp, bases = context.xp, context.bases
    shared = {
        axis: pin
        for axis, pin in delta.pins.items()
        if labels[axis] in pins and pin.same_as(pins[labels[axis]])
    }
    delta = unpin(xp, delta, node.shape, [axis for axis in delta.pins if axis not in shared])
    value = context.ufunc(xp.add, delta.values, bases.gather(bases.real(node), shared))
    term = Term(value, (COPY, *labels))
    for axis in shared:
        term = _without(term, labels[axis])
    for label in [label for label in term.labels if label in pins]:
        axis, pin = term.labels.index(label), pins[label]
        if pin.single is not None:
            taken = term.array[(slice(None),) * axis + (pin.single,)]
        else:
            rows = xp.arange(term.array.shape[0])
            taken = xp.moveaxis(term.array, axis, 1)[rows, pin.on(xp)]
        term = Term(taken, term.labels[:axis] + term.labels[axis + 1 :])
    return term


def _plus(context: Context, one: Delta, other: Delta, shape: tuple[int, ...]) -> Delta:
    """Add two differences, the second one in place where it is small and pinned."""
    xp = context.xp
    if one.pins.keys() == other.pins.keys() and all(
        pin.same_as(other.pins[axis]) for axis, pin in one.pins.items()
    ):
        return Delta(context.ufunc(xp.add, one.values, other.values), one.pins)
    if one.pins or len(other.pins) != 1 or one.values.shape[1:] != shape:
        one, other = unpin(xp, one, shape), unpin(xp, other, shape)
        return Delta(context.ufunc(xp.add, one.values, other.values), {})
    ((axis, pin),) = other.pins.items()
    rows = xp.moveaxis(one.values, axis + 1, 1)
    copies = slice(None) if pin.single is not None else xp.arange(len(rows))
    rows[copies, pin.on(xp) if pin.single is None else pin.single] += xp.moveaxis(
        other.values, axis + 1, 1
    )[:, 0]
    return one


def _with_constant(
    context: Context,
    delta: Delta,
    labels: Labels,
    other: Node,
    other_labels: Labels,
    out: Labels,
    shape: tuple[int, ...],
) -> Delta:
    """Contract a difference with an operand that no copy changes."""
    bases = context.bases
    pins = {labels[axis]: pin for axis, pin in delta.pins.items()}
    value = bases.real(other)
    constant = _at_pins(bases, value, other_labels, pins)
    moving = _unpinned(delta, labels)
    sizes = dict(zip(labels, shape, strict=True)) | dict(
        zip(other_labels, value.shape, strict=True)
    )
    return _product(context, moving, constant, pins, out, sizes)


def _at_pins(bases: Any, value: Array, labels: Labels, pins: dict[int, Pin]) -> Term:
    """Gather a constant operand at the labels that are pinned in the other."""
    axes = {axis: pins[label] for axis, label in enumerate(labels) if label in pins}
    taken = bases.gather(value, axes)
    kept = [axis for axis in range(value.ndim) if axis not in axes]
    array = taken.reshape(taken.shape[:1] + tuple(taken.shape[axis + 1] for axis in kept))
    rest = tuple(labels[axis] for axis in kept)
    return Term(array[0], rest) if array.shape[0] == 1 else Term(array, (COPY, *rest))


def _unpinned(delta: Delta, labels: Labels) -> Term:
    """Drop the pinned axes, which have size 1."""
    kept = [axis for axis in range(len(labels)) if axis not in delta.pins]
    shape = delta.values.shape[:1] + tuple(delta.values.shape[axis + 1] for axis in kept)
    return Term(delta.values.reshape(shape), (COPY, *[labels[axis] for axis in kept]))


def _product(
    context: Context,
    moving: Term,
    other: Term,
    pins: dict[int, Pin],
    out: Labels,
    sizes: dict[int, int],
) -> Delta:
    """Contract two terms into the output's labels, with its pinned labels as size-1 axes."""
    wanted = tuple(label for label in out if label not in pins)
    moving, other, factor = _settle_constant_axes(context.xp, moving, other, wanted, sizes)
    result = contract(context, moving, other, (COPY, *wanted))
    if factor != 1:
        result = result * factor
    dims, kept = [result.shape[0]], iter(result.shape[1:])
    dims += [1 if label in pins else next(kept) for label in out]
    out_pins = {axis: pins[label] for axis, label in enumerate(out) if label in pins}
    return Delta(result.reshape(dims), {a: p for a, p in out_pins.items() if sizes[out[a]] > 1})


def _settle_constant_axes(
    xp: Any, moving: Term, other: Term, wanted: Labels, sizes: dict[int, int]
) -> tuple[Term, Term, int]:
    """Deal with axes along which a difference is the same (size 1 for a longer label).

    Summed over, such an axis sums the other operand, or multiplies by its length; in the output it
    is left to broadcasting.
    """
    factor = 1
    terms = [moving, other]
    for place in (0, 1):
        for label in terms[place].labels:
            if label == COPY or sizes[label] == 1:
                continue
            mine, partner = terms[place], terms[1 - place]
            axis = mine.labels.index(label)
            if mine.array.shape[axis] != 1:
                continue
            if label not in wanted and label not in partner.labels:
                factor *= sizes[label]
            elif label not in wanted and partner.array.shape[partner.labels.index(label)] == 1:
                factor *= sizes[label]
                terms[1 - place] = _without(partner, label)
            elif label not in wanted:
                terms[1 - place] = _summed(partner, label)
            elif label not in partner.labels:
                continue  # it stays size 1 in the output
            terms[place] = _without(mine, label)
    return terms[0], terms[1], factor


def _without(term: Term, label: int) -> Term:
    axis = term.labels.index(label)
    shape = term.array.shape[:axis] + term.array.shape[axis + 1 :]
    return Term(term.array.reshape(shape), term.labels[:axis] + term.labels[axis + 1 :])


def _summed(term: Term, label: int) -> Term:
    axis = term.labels.index(label)
    return Term(term.array.sum(axis=axis), term.labels[:axis] + term.labels[axis + 1 :])


def contract(context: Context, a: Term, b: Term, out: Labels) -> Array:
    """Sum a·b over the labels that `out` does not name, as one (batched) matrix product.

    Axes are sorted into batch (in both and out), rows (only in a), columns (only in b) and inner
    (in both, summed). Labels of one operand alone that are not in `out` are summed beforehand.
    """
    xp = context.xp
    a = _sum_alone(a, b, out)
    b = _sum_alone(b, a, out)
    batch = [label for label in out if label in a.labels and label in b.labels]
    inner = [label for label in a.labels if label in b.labels and label not in out]
    rows = [label for label in out if label in a.labels and label not in b.labels]
    columns = [label for label in out if label in b.labels and label not in a.labels]
    if not inner:
        return context.ufunc(xp.multiply, _lined_up(xp, a, out), _lined_up(xp, b, out))
    in_order = a.labels[: 1 + len(inner)] == (COPY, *inner) and len(a.labels) > 1 + len(inner)
    if in_order and COPY not in b.labels and not batch:
        return _left_product(context, a, b, inner, columns, out)
    left = _arranged(xp, a, [batch, rows, inner])
    right = _arranged(xp, b, [batch, inner, columns])
    n_batch = len(batch)
    row_shape = left.shape[n_batch : n_batch + len(rows)]
    column_shape = right.shape[n_batch + len(inner) :]
    batch_shape = left.shape[:n_batch]
    size = _size(left.shape[n_batch + len(rows) :])
    rows_columns = (_size(row_shape), _size(column_shape))
    product = _matmul(
        xp,
        left.reshape((*batch_shape, rows_columns[0], size)),
        right.reshape((*batch_shape, size, rows_columns[1])),
        context.bases.pool.empty((*batch_shape, *rows_columns)),
    ).reshape((*batch_shape, *row_shape, *column_shape))
    order = [*batch, *rows, *columns]
    return xp.transpose(product, [order.index(label) for label in out])


def _matmul(xp: Any, left: Array, right: Array, out: Array) -> Array:
    """Multiply in blocks of rows, none so large that BLAS would use threads for it.

    Handing a small product to threads and waiting for them takes longer than the product.
    """
    size, columns = right.shape[-2:]
    rows = (_ONE_THREAD if columns > 1 else _ONE_THREAD_VECTOR) // max(1, size * columns)
    if xp is not np or left.ndim > 2 or not _FEWEST_ROWS <= rows < len(left):
        return xp.matmul(left, right, out=out)
    whole = len(left) // rows * rows
    blocks = left[:whole].reshape((-1, rows, size))
    np.matmul(blocks, right, out=out[:whole].reshape((-1, rows, columns)))
    if whole < len(left):
        np.matmul(left[whole:], right, out=out[whole:])
    return out


def _left_product(
    context: Context, a: Term, b: Term, inner: list[int], columns: list[int], out: Labels
) -> Array:
    """W @ δ: a product for every copy, because the copies' axes are in order as they are."""
    xp = context.xp
    left = _arranged(xp, b, [columns, inner])
    column_shape, rest_shape = left.shape[: len(columns)], a.array.shape[1 + len(inner) :]
    copies, size = a.array.shape[0], _size(left.shape[len(columns) :])
    product = xp.matmul(
        left.reshape((_size(column_shape), size)),
        a.array.reshape((copies, size, _size(rest_shape))),
        out=context.bases.pool.empty((copies, _size(column_shape), _size(rest_shape))),
    ).reshape((copies, *column_shape, *rest_shape))
    order = [COPY, *columns, *a.labels[1 + len(inner) :]]
    return xp.transpose(product, [order.index(label) for label in out])


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def _sum_alone(term: Term, partner: Term, out: Labels) -> Term:
    for label in term.labels:
        if label not in out and label not in partner.labels:
            term = _summed(term, label)
    return term


def _arranged(xp: Any, term: Term, groups: list[list[int]]) -> Array:
    return xp.transpose(term.array, [term.labels.index(x) for group in groups for x in group])


def _lined_up(xp: Any, term: Term, out: Labels) -> Array:
    """Return the array with its axes in the output's order, size 1 where it lacks a label."""
    present = [label for label in out if label in term.labels]
    array = _arranged(xp, term, [present])
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if label in term.labels else 1 for label in out])
