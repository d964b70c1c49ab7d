"""Sums, products, extremes, and the statistics made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import (
    apply,
    axis_tuple,
    lift,
    one_axis,
    tape_of,
)
from fastcheck.trace.graph import Primitive
from fastcheck.trace.primitives import (
    ARGMAX,
    ARGMIN,
    ARGPARTITION,
    ARGSORT,
    CUMPROD,
    CUMSUM,
    MAX,
    MIN,
    PROD,
    SUM,
    discrete_function,
)
from fastcheck.trace.registry import named, traced
from fastcheck.trace.traced import Traced

_ABSENT = np._NoValue  # NumPy's own "not given"


def _reduce(primitive: Primitive, a: Any, axis: Any, keepdims: Any) -> Traced:
    keepdims = False if keepdims is _ABSENT else bool(keepdims)
    return apply(primitive, a, axes=axis_tuple(axis, a.ndim), keepdims=keepdims)


def _masked(a: Any, where: Any, neutral: float) -> Any:
    return a if where is True or where is _ABSENT else np.where(where, a, neutral)


def _whole(
    primitive: Primitive,
    combine: Any,
    neutral: float,
    a: Any,
    axis: Any,
    keepdims: Any,
    initial: Any,
    where: Any,
) -> Any:
    """Reduce with NumPy's `where=` and `initial=`: neutral where left out, combined at the end."""
    a = _masked(lift(a, tape_of(a, where)), where, neutral)
    if not a.size and primitive in (MAX, MIN) and initial is not _ABSENT:
        return combine(_of_nothing(np.sum(a.value, axis, keepdims=keepdims), neutral), initial)
    reduced = _reduce(primitive, a, axis, keepdims)
    return reduced if initial is _ABSENT else combine(reduced, initial)


def _of_nothing(total: Any, neutral: float) -> Any:
    """Return what extremes along an axis are before there is any element to choose."""
    return np.full(np.shape(total), neutral)[()]


def _typed(a: Any, dtype: Any, *others: Any) -> Any:
    return a if dtype is None else lift(a, tape_of(a, *others)).astype(dtype)


@traced(np.sum)
def sum_(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: Any = _ABSENT,
    initial: Any = _ABSENT,
    where: Any = True,
) -> Any:
    return _whole(SUM, np.add, 0.0, _typed(a, dtype, where), axis, keepdims, initial, where)


@traced(np.prod)
def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    keepdims: Any = _ABSENT,
    initial: Any = _ABSENT,
    where: Any = True,
) -> Any:
    return _whole(PROD, np.multiply, 1.0, _typed(a, dtype, where), axis, keepdims, initial, where)


@traced(np.max, np.amax)
def max_(
    a: Any, axis: Any = None, keepdims: Any = _ABSENT, initial: Any = _ABSENT, where: Any = True
) -> Any:
    return _whole(MAX, np.maximum, -np.inf, a, axis, keepdims, initial, where)


@traced(np.min, np.amin)
def min_(
    a: Any, axis: Any = None, keepdims: Any = _ABSENT, initial: Any = _ABSENT, where: Any = True
) -> Any:
    return _whole(MIN, np.minimum, np.inf, a, axis, keepdims, initial, where)


@traced(np.mean)
def mean(
    a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = _ABSENT, where: Any = True
) -> Any:
    a = lift(a, tape_of(a, where))
    if where is True or where is _ABSENT:
        count: Any = _count(a, axis)
    else:
        kept = np.broadcast_to(where, a.shape)
        count = np.sum(kept, axis=axis, keepdims=keepdims is True)
    return sum_(a, axis, dtype, keepdims, where=where) / count


def _count(a: Any, axis: Any) -> int:
    return int(np.prod([a.shape[one] for one in axis_tuple(axis, a.ndim)], dtype=np.int64))


@traced(np.var)
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    ddof: float = 0,
    keepdims: Any = _ABSENT,
    where: Any = True,
    mean: Any = _ABSENT,
    correction: Any = _ABSENT,
) -> Any:
    ddof = ddof if correction is _ABSENT else correction
    tape = tape_of(a, where, mean)
    a = lift(a, tape)
    count: Any = _count(a, axis)
    if where is not True and where is not _ABSENT:
        count = np.sum(np.broadcast_to(where, a.shape), axis=axis, keepdims=keepdims is True)
    centre = np.mean(a, axis=axis, keepdims=True, where=where) if mean is _ABSENT else mean
    # With degrees of freedom below zero NumPy divides by zero.
    free = np.maximum(count - ddof, 0)
    return sum_(np.square(a - centre), axis, dtype, keepdims, where=where) / free


@traced(np.std)
def std(a: Any, *args: Any, **kwargs: Any) -> Any:
    return np.sqrt(var(a, *args, **kwargs))


@traced(np.average)
def average(
    a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
) -> Any:
    if weights is None:
        mean = np.mean(a, axis=axis, keepdims=keepdims)
        counts = np.full(np.shape(mean), float(_count(a, axis)))[()]
        return (mean, counts) if returned else mean
    if np.shape(weights) != np.shape(a):  # one weight a slice along `axis`
        trailing = np.ndim(a) - 1 - one_axis(axis, np.ndim(a))
        weights = np.reshape(weights, np.shape(weights) + (1,) * trailing)
        weights = np.broadcast_to(weights, np.shape(a))
    total = np.sum(weights, axis=axis, keepdims=keepdims)
    mean = np.sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (mean, total) if returned else mean


@traced(np.ptp)
def ptp(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    return max_(a, axis, keepdims) - min_(a, axis, keepdims)


@traced(np.cumsum)
def cumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    a = a.ravel() if axis is None else a
    return apply(CUMSUM, a, axis=one_axis(0 if axis is None else axis, a.ndim))


@traced(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = _ABSENT, append: Any = _ABSENT) -> Any:
    tape = tape_of(a, prepend, append)
    a = lift(a, tape)
    axis = one_axis(axis, a.ndim)
    edge = (*a.shape[:axis], 1, *a.shape[axis + 1 :])
    parts = [
        np.broadcast_to(lift(part, tape), edge) if np.ndim(part) == 0 else lift(part, tape)
        for part in (prepend, a, append)
        if part is not _ABSENT
    ]
    a = np.concatenate(parts, axis=axis) if len(parts) > 1 else a
    for _ in range(n):
        whole = [slice(None)] * a.ndim
        later, earlier = list(whole), list(whole)
        later[axis], earlier[axis] = slice(1, None), slice(None, -1)
        a = a[tuple(later)] - a[tuple(earlier)]
    return a


def _along(function: Any) -> Any:
    return lambda x, axis: np.asarray(function(x, axis=axis))[()]


def _keeping(function: Any) -> Any:
    return lambda x, axis, keepdims: function(x, axis=axis, keepdims=keepdims)


_ANY = discrete_function("any", _keeping(np.any))
_ALL = discrete_function("all", _keeping(np.all))
_COUNT = discrete_function("count_nonzero", _along(np.count_nonzero))


@traced(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    a = a.ravel() if axis is None else a
    return apply(CUMPROD, a, axis=one_axis(0 if axis is None else axis, a.ndim))


@traced(np.argmax)
def argmax(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return apply(ARGMAX, a, axis=axis, keepdims=keepdims is True)


@traced(np.argmin)
def argmin(a: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    return apply(ARGMIN, a, axis=axis, keepdims=keepdims is True)


@traced(np.any)
def any_(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    return apply(_ANY, a, axis=axis, keepdims=keepdims is True)


@traced(np.all)
def all_(a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    return apply(_ALL, a, axis=axis, keepdims=keepdims is True)


@traced(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None) -> Any:
    return apply(_COUNT, a, axis=axis)


@traced(np.argsort)
def argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None) -> Any:
    return apply(ARGSORT, a, axis=axis)


@traced(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None) -> Any:
    if axis is None:
        a, axis = a.ravel(), 0
    return np.take_along_axis(a, argsort(a, axis), axis)


@traced(np.argpartition)
def argpartition(
    a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Any:
    return apply(ARGPARTITION, a, kth=kth, axis=axis)


@traced(np.partition)
def partition(
    a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Any:
    if axis is None:
        a, axis = a.ravel(), 0
    return np.take_along_axis(a, argpartition(a, kth, axis), axis)


def _cumulative(accumulate: Any, first: float) -> Any:
    """The array-API standard's np.cumulative_sum and np.cumulative_prod."""

    def rule(
        x: Any, /, *, axis: Any = None, dtype: Any = None, include_initial: bool = False
    ) -> Any:
        if axis is None and x.ndim > 1:
            raise ValueError("For arrays which have more than one dimension ``axis`` is required")
        axis = one_axis(0 if axis is None else axis, x.ndim)
        totals = accumulate(_typed(x, dtype), axis)
        if not include_initial:
            return totals
        start = np.full((*x.shape[:axis], 1, *x.shape[axis + 1 :]), first)
        return np.concatenate([start, totals], axis=axis)

    return rule


traced(*named("cumulative_sum"))(_cumulative(cumsum, 0.0))
traced(*named("cumulative_prod"))(_cumulative(cumprod, 1.0))
