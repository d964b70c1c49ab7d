"""Products that sum: dot, matmul, tensordot, einsum. All become CONTRACT over labelled axes.

Values come from NumPy's own call, so the traced loss is the user's loss to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, axis_tuple, lift, record, refuse, tape_of
from fastcheck.trace.primitives import CONTRACT, contract_values, elementwise
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import Traced, wrap

Labels = tuple[int, ...]


def contract(value: Any, a: Any, b: Any, left: Labels, right: Labels, out: Labels) -> Traced:
    """Record Σ a[left]·b[right] over the labels that are not in `out`.

    An axis of size 1 that NumPy would broadcast is given its full size first. A sum of no products
    (`L[j, :j] @ L[j, :j]` at j = 0) depends on nothing.
    """
    if value.dtype == bool:  # "any" in place of the sum
        a, b = (lift(x, tape_of(a, b)).astype(int) for x in (a, b))
        counts = contract_values(a.value, b.value, (left, right, out))
        return apply(elementwise(np.not_equal), contract(counts, a, b, left, right, out), 0)
    sizes: dict[int, int] = {}
    for operand, labels in ((a, left), (b, right)):
        for label, size in zip(labels, np.shape(_plain(operand)), strict=True):
            sizes[label] = size if sizes.get(label, 1) == 1 else sizes[label]
    if 0 in sizes.values():
        tape = tape_of(a, b)
        return wrap(tape, tape.record_constant(value))
    a, b = (
        x if np.shape(_plain(x)) == full else np.broadcast_to(x, full)
        for x, full in (
            (a, tuple(sizes[label] for label in left)),
            (b, tuple(sizes[label] for label in right)),
        )
    )
    return record(CONTRACT, value, a, b, labels=(left, right, out))


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Traced) else value


@traced(np.matmul)
def matmul(a: Any, b: Any) -> Any:
    value = np.matmul(_plain(a), _plain(b))
    a_ndim, b_ndim = np.ndim(_plain(a)), np.ndim(_plain(b))
    batch = max(a_ndim, b_ndim, 2) - 2
    row, inner, column = batch, batch + 1, batch + 2
    left: Labels = (*range(batch - (a_ndim - 2), batch), row, inner) if a_ndim > 1 else (inner,)
    right: Labels = (*range(batch - (b_ndim - 2), batch), inner, column) if b_ndim > 1 else (inner,)
    out = tuple(range(batch)) + ((row,) if a_ndim > 1 else ()) + ((column,) if b_ndim > 1 else ())
    return contract(value, a, b, left, right, out)


@traced(np.dot)
def dot(a: Any, b: Any) -> Any:
    a_ndim, b_ndim = np.ndim(_plain(a)), np.ndim(_plain(b))
    if a_ndim == 0 or b_ndim == 0:
        return np.multiply(a, b)
    inner = a_ndim + b_ndim
    left = (*range(a_ndim - 1), inner)
    right: Labels = tuple(range(a_ndim, a_ndim + b_ndim - 1))
    out = left[:-1] + right
    right = (*right[:-1], inner, right[-1]) if b_ndim > 1 else (inner,)
    return contract(np.dot(_plain(a), _plain(b)), a, b, left, right, out)


@traced(np.inner)
def inner_(a: Any, b: Any) -> Any:
    if np.ndim(_plain(a)) == 0 or np.ndim(_plain(b)) == 0:
        return np.multiply(a, b)
    return np.tensordot(a, b, axes=(-1, -1))


@traced(np.outer)
def outer(a: Any, b: Any) -> Any:
    return np.multiply(np.reshape(a, (-1, 1)), np.reshape(b, (1, -1)))


@traced(np.kron)
def kron(a: Any, b: Any) -> Any:
    shapes = np.shape(_plain(a)), np.shape(_plain(b))
    ndim = max(map(len, shapes))
    one, other = ((1,) * (ndim - len(shape)) + shape for shape in shapes)
    spread = np.reshape(a, [size for n in one for size in (n, 1)])
    product = np.multiply(spread, np.reshape(b, [size for n in other for size in (1, n)]))
    return np.reshape(product, [n * m for n, m in zip(one, other, strict=True)])


@traced(np.vdot)
def vdot(a: Any, b: Any) -> Any:
    return dot(np.reshape(a, -1), np.reshape(b, -1))


@traced(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a_ndim, b_ndim = np.ndim(_plain(a)), np.ndim(_plain(b))
    if np.ndim(axes) == 0 and not isinstance(axes, (tuple, list)):
        a_axes, b_axes = tuple(range(a_ndim - int(axes), a_ndim)), tuple(range(int(axes)))
    else:
        a_axes, b_axes = axis_tuple(axes[0], a_ndim), axis_tuple(axes[1], b_ndim)
    left = list(range(a_ndim))
    right = list(range(a_ndim, a_ndim + b_ndim))
    for one, other in zip(a_axes, b_axes, strict=True):
        right[other] = left[one]
    shared = {left[one] for one in a_axes}
    out = tuple(label for label in left + right if label not in shared)
    value = np.tensordot(_plain(a), _plain(b), axes=(a_axes, b_axes))
    return contract(value, a, b, tuple(left), tuple(right), out)


@traced(np.linalg.multi_dot)
def multi_dot(arrays: Any) -> Any:
    product = arrays[0]
    for array in arrays[1:]:
        product = dot(product, array)
    return product


@traced(np.einsum)
def einsum(*operands: Any, optimize: Any = False, **kwargs: Any) -> Any:
    if kwargs:
        refuse(f"np.einsum with {', '.join(kwargs)}", "leave that argument out", *operands)
    inputs, out, arrays = _parse(operands)
    tape = tape_of(*arrays)
    terms = [
        _diagonal(lift(array, tape), labels) for array, labels in zip(arrays, inputs, strict=True)
    ]
    while len(terms) > 1:
        (a, left), (b, right), *rest = terms
        wanted = set(out).union(*[labels for _, labels in rest])
        keep = tuple(label for label in dict.fromkeys(left + right) if label in wanted)
        value = contract_values(a.value, b.value, (left, right, keep))
        terms = [(contract(value, a, b, left, right, keep), keep), *rest]
    (result, labels) = terms[0]
    summed = tuple(axis for axis, label in enumerate(labels) if label not in out)
    result = np.sum(result, axis=summed) if summed else result
    order = [label for label in labels if label in out]
    return np.transpose(result, [order.index(label) for label in out]) if order else result


def _parse(operands: Any) -> tuple[list[Labels], Labels, list[Any]]:
    """Read einsum's two call forms into labels; the ellipsis becomes labels of its own."""
    if isinstance(operands[0], str):
        spec, arrays = operands[0].replace(" ", ""), list(operands[1:])
        left, arrow, right = spec.partition("->")
        terms: list[Any] = [_symbols(term) for term in left.split(",")]
        out: Any = _symbols(right) if arrow else None
    else:
        pairs = list(operands)
        out = list(pairs.pop()) if len(pairs) % 2 else None
        arrays, terms = pairs[0::2], [list(term) for term in pairs[1::2]]
    ranks = [
        np.ndim(_plain(array)) - sum(label is not Ellipsis for label in term)
        for array, term in zip(arrays, terms, strict=True)
    ]
    widest = max([rank for rank, term in zip(ranks, terms, strict=True) if Ellipsis in term] or [0])
    rest = list(range(1000, 1000 + widest))
    inputs = [_expand(term, rest[widest - rank :]) for term, rank in zip(terms, ranks, strict=True)]
    if out is None:
        counted = [label for labels in inputs for label in labels]
        once = sorted(x for x in set(counted) if counted.count(x) == 1 and x < 1000)
        return inputs, tuple(rest + once), arrays
    return inputs, _expand(out, rest), arrays


def _symbols(term: str) -> list[Any]:
    labels: list[Any] = []
    while term:
        if term.startswith("..."):
            labels, term = [*labels, Ellipsis], term[3:]
        else:
            labels, term = [*labels, ord(term[0])], term[1:]
    return labels


def _expand(term: list[Any], rest: list[int]) -> Labels:
    labels: list[int] = []
    for label in term:
        labels += rest if label is Ellipsis else [label]
    return tuple(labels)


def _diagonal(array: Any, labels: Labels) -> tuple[Traced, Labels]:
    """Take the diagonal of axes that carry the same label (einsum's `ii`)."""
    for label in set(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            array = np.diagonal(array, axis1=first, axis2=second)
            others = tuple(x for axis, x in enumerate(labels) if axis not in (first, second))
            labels = (*others, label)
    return array, labels


def contract_vectors(a: Any, b: Any, axis: int = -1) -> Any:
    """The product of vectors along one axis, as np.vecdot gives it."""
    return np.sum(np.multiply(a, b), axis=axis)


def _register_new() -> None:
    """NumPy 2.2 and later name the vector products."""
    if hasattr(np, "vecdot"):
        traced(np.vecdot)(contract_vectors)
    if hasattr(np, "matvec"):
        traced(np.matvec)(lambda a, b: np.matmul(a, np.expand_dims(b, -1))[..., 0])
        traced(np.vecmat)(lambda a, b: np.matmul(np.expand_dims(a, -2), b)[..., 0, :])


_register_new()
