"""Functions that put arrays together or take them apart."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, lift, one_axis, refuse, tape_of
from fastcheck.trace.primitives import CONCATENATE
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import Traced, contains_traced


@traced(np.concatenate)
def concatenate(
    arrays: Any, axis: Any = 0, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    tape = tape_of(arrays)
    parts = [lift(array, tape) for array in arrays]
    if axis is None:
        parts, axis = [part.ravel() for part in parts], 0
    joined = apply(CONCATENATE, *parts, axis=one_axis(axis, parts[0].ndim))
    return joined if dtype is None else joined.astype(dtype)


@traced(np.stack)
def stack(arrays: Any, axis: int = 0, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    tape = tape_of(arrays)
    parts = [lift(array, tape) for array in arrays]
    if len({part.shape for part in parts}) > 1:
        raise ValueError("all input arrays must have the same shape")
    return concatenate([np.expand_dims(part, axis) for part in parts], axis, dtype=dtype)


def stack_nested(values: Any) -> Traced:
    """Return nested lists of traced values as one array, as np.array would."""
    if isinstance(values, Traced):
        return values
    tape = tape_of(values)
    rows = [
        stack_nested(row) if contains_traced(row) else lift(np.asarray(row), tape) for row in values
    ]
    result = stack(rows)
    assert isinstance(result, Traced)
    return result


@traced(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return concatenate([np.atleast_2d(part) for part in tup], 0, dtype=dtype)


@traced(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = [np.atleast_1d(part) for part in tup]
    return concatenate(parts, 0 if np.ndim(parts[0]) == 1 else 1, dtype=dtype)


@traced(np.dstack)
def dstack(tup: Any) -> Any:
    return concatenate([np.atleast_3d(part) for part in tup], 2)


@traced(np.column_stack)
def column_stack(tup: Any) -> Any:
    columns = [np.reshape(part, (-1, 1)) if np.ndim(part) < 2 else part for part in tup]
    return concatenate(columns, 1)


@traced(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Any:
    return concatenate([arr, values], axis)


@traced(np.block)
def block(arrays: Any) -> Any:
    if not isinstance(arrays, list):
        return arrays
    depth = _depth(arrays)
    return _block(arrays, depth, max(depth, _rank(arrays)))


def _depth(arrays: Any) -> int:
    return 1 + max(map(_depth, arrays)) if isinstance(arrays, list) else 0


def _rank(arrays: Any) -> int:
    return max(map(_rank, arrays)) if isinstance(arrays, list) else np.ndim(arrays)


def _block(arrays: Any, depth: int, rank: int) -> Any:
    if not isinstance(arrays, list):
        return np.reshape(arrays, (1,) * (rank - np.ndim(arrays)) + np.shape(arrays))
    return np.concatenate([_block(part, depth - 1, rank) for part in arrays], axis=-depth)


@traced(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    axis = one_axis(axis, ary.ndim)
    size = ary.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        parts = int(indices_or_sections)
        sizes = [size // parts + (i < size % parts) for i in range(parts)]
        cuts = [0, *np.cumsum(sizes).tolist()]
    else:
        cuts = [0, *[int(cut) for cut in indices_or_sections], size]
    before = (slice(None),) * axis
    return [ary[(*before, slice(a, b))] for a, b in pairwise(cuts)]


@traced(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    if np.ndim(indices_or_sections) == 0 and ary.shape[axis] % int(indices_or_sections):
        raise ValueError("array split does not result in an equal division")
    return array_split(ary, indices_or_sections, axis)


traced(np.vsplit)(lambda ary, indices: split(ary, indices, 0))
traced(np.hsplit)(lambda ary, indices: split(ary, indices, 1 if ary.ndim > 1 else 0))
traced(np.dsplit)(lambda ary, indices: split(ary, indices, 2))


@traced(np.tile)
def tile(A: Any, reps: Any) -> Any:
    reps = (int(reps),) if np.ndim(reps) == 0 else tuple(int(rep) for rep in reps)
    A = np.reshape(A, (1,) * (len(reps) - A.ndim) + A.shape)
    reps = (1,) * (A.ndim - len(reps)) + reps
    for axis, rep in enumerate(reps):
        if rep != 1:
            A = np.take(A, np.tile(np.arange(A.shape[axis]), rep), axis=axis)
    return A


@traced(np.repeat)
def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    a, axis = (a.ravel(), 0) if axis is None else (a, one_axis(axis, a.ndim))
    return np.take(a, np.repeat(np.arange(a.shape[axis]), repeats), axis=axis)


_MOVING_PADS = ("edge", "reflect", "symmetric", "wrap")  # which repeat elements as they are


@traced(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Any:
    if not array.ndim:
        refuse("np.pad of a number", "leave it out: there is no axis to pad", array)
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(axis, (0, 0)) for axis in range(array.ndim)]
    widths = np.broadcast_to(np.asarray(pad_width, dtype=int), (array.ndim, 2)).tolist()
    if mode == "constant":
        return _pad_constant(array, widths, kwargs.get("constant_values", 0))
    if mode not in _MOVING_PADS:
        refuse(f"np.pad with mode={mode!r}", "concatenate the edges yourself", array)
    for axis, (before, after) in enumerate(widths):
        # Where each padded element comes from is NumPy's own answer for the positions.
        source = np.pad(np.arange(array.shape[axis]), (before, after), mode=mode, **kwargs)  # type: ignore[call-overload]
        array = np.take(array, source, axis=axis)
    return array


def _pad_constant(array: Any, widths: list[list[int]], fill: Any) -> Any:
    if np.ndim(fill) != 0:
        refuse("np.pad with several constants", "pad once per constant", array, fill)
    for axis, (before, after) in enumerate(widths):
        shape = list(array.shape)
        parts: list[Any] = [array]
        if before:
            parts.insert(0, np.broadcast_to(fill, [*shape[:axis], before, *shape[axis + 1 :]]))
        if after:
            parts.append(np.broadcast_to(fill, [*shape[:axis], after, *shape[axis + 1 :]]))
        array = np.concatenate(parts, axis=axis)
    return array
