"""Statistics that sort, count or compare: medians, quantiles, covariances, bins."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, axis_tuple, lift, refuse, tape_of
from fastcheck.trace.functions.reductions import sort
from fastcheck.trace.primitives import discrete_function
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import plain_index

_BINS = discrete_function(
    "digitize", lambda x, bins, right: np.asarray(np.digitize(x, bins, right))[()]
)


def _sorted_last(a: Any, axis: Any) -> Any:
    """The elements that a statistic takes together, sorted, along one last axis."""
    axes = axis_tuple(axis, a.ndim)
    ends = tuple(range(a.ndim - len(axes), a.ndim))
    moved = np.moveaxis(a, axes, ends)
    return sort(np.reshape(moved, (*moved.shape[: a.ndim - len(axes)], -1)))


def _kept(result: Any, ndim: int, axis: Any, keepdims: Any) -> Any:
    return np.expand_dims(result, axis_tuple(axis, ndim)) if keepdims is True else result


@traced(np.median)
def median(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False
) -> Any:
    a = lift(a, tape_of(a))
    ordered = _sorted_last(a, axis)
    half = ordered.shape[-1] // 2
    middle = ordered[..., half]
    if ordered.shape[-1] % 2 == 0:
        middle = (ordered[..., half - 1] + middle) / 2
    return _kept(middle, a.ndim, axis, keepdims)


@traced(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
    interpolation: Any = None,
) -> Any:
    tape = tape_of(a, q)
    if weights is not None or interpolation is not None:
        refuse("np.quantile with weights= or interpolation=", "sort and weigh the elements", a, q)
    a, q = lift(a, tape), np.asarray(plain_index(tape, q))
    ordered = _sorted_last(a, axis)
    # Where a quantile lies between two elements is NumPy's own answer for the positions.
    place = np.quantile(np.arange(float(ordered.shape[-1])), q, method=method)  # type: ignore[call-overload]
    low = np.floor(place).astype(int)
    below, above = ordered[..., low], ordered[..., np.ceil(place).astype(int)]
    between = below + (above - below) * (place - low)
    shape = between.shape[: between.ndim - q.ndim]
    first = np.moveaxis(between, tuple(range(len(shape), between.ndim)), tuple(range(q.ndim)))
    if keepdims is not True:
        return first
    axes = tuple(one + q.ndim for one in axis_tuple(axis, a.ndim))
    return np.expand_dims(first, axes)


@traced(np.percentile)
def percentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    return quantile(a, np.true_divide(q, 100), *args, **kwargs)


@traced(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    if fweights is not None or aweights is not None:
        refuse("np.cov with weights", "write the weighted sums", m, y, aweights)
    tape = tape_of(m, y)
    rows = [_variables(lift(part, tape), rowvar) for part in (m, y) if part is not None]
    whole = np.concatenate(rows)
    centred = whole - np.mean(whole, axis=1, keepdims=True)
    ddof = (0 if bias else 1) if ddof is None else ddof
    product = np.dot(centred, centred.T) / (whole.shape[1] - ddof)
    return np.squeeze(product if dtype is None else product.astype(dtype))


def _variables(a: Any, rowvar: bool) -> Any:
    a = np.atleast_2d(a)
    return a.T if not rowvar and a.shape[0] != 1 else a


@traced(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    covariance = cov(x, y, rowvar, dtype=dtype)
    if not covariance.ndim:
        return covariance / covariance
    deviation = np.sqrt(np.diagonal(covariance))
    return np.clip(covariance / deviation[:, None] / deviation[None, :], -1, 1)


@traced(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    return apply(_BINS, x, bins, right=right)


@traced(np.bincount)
def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    tape = tape_of(x, weights)
    x = plain_index(tape, x)
    if weights is None:
        return np.bincount(x, minlength=minlength)
    counts = lift(np.zeros(len(np.bincount(x, minlength=minlength))), tape)
    np.add.at(counts, x, weights)
    return counts
