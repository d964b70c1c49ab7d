"""Functions that pick elements by index, and the scatter-add that undoes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import lift, one_axis, refuse, tape_of
from fastcheck.trace.memory import unflattened, writable
from fastcheck.trace.primitives import ACCUMULATE_AT, DIAGONAL
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import Traced, as_node, plain_index


@traced(np.take)
def take(a: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Any:
    tape = tape_of(a, indices)
    a = lift(a, tape)
    if axis is None:
        a, axis = a.ravel(), 0
    axis = one_axis(axis, a.ndim)
    indices = np.asarray(plain_index(tape, indices))
    if mode != "raise":
        size = a.shape[axis]
        indices = indices % size if mode == "wrap" else np.clip(indices, 0, size - 1)
    return a[(slice(None),) * axis + (indices,)]


@traced(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    tape = tape_of(arr, indices)
    arr = lift(arr, tape)
    indices = np.asarray(plain_index(tape, indices))
    if axis is None:
        arr, axis = arr.ravel(), 0
    return arr[along_axis(indices, one_axis(axis, arr.ndim), arr.shape)]


def along_axis(indices: Any, axis: int, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the full index that pairs `indices` along `axis` with every other position."""
    grids = np.ogrid[tuple(slice(n) for n in shape)]
    return tuple(indices if one == axis else grid for one, grid in enumerate(grids))


@traced(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    indices = np.asarray(plain_index(arr.tape, indices))
    arr[along_axis(indices, one_axis(axis, arr.ndim), arr.shape)] = values


@traced(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    if wrap or a.ndim < 2:
        refuse("np.fill_diagonal with wrap=True", "write a[rows, columns] = values", a, val)
    spots = np.arange(min(a.shape))
    a[(spots,) * a.ndim] = np.take(val, spots % np.size(val))


@traced(np.compress)
def compress(condition: Any, a: Any, axis: Any = None) -> Any:
    return take(a, np.flatnonzero(plain_index(tape_of(condition, a), condition)), axis)


@traced(np.extract)
def extract(condition: Any, arr: Any) -> Any:
    return compress(np.ravel(condition), np.ravel(arr))


@traced(np.delete)
def delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    if axis is None:
        arr, axis = arr.ravel(), 0
    return take(arr, np.delete(np.arange(arr.shape[axis]), obj), axis)


@traced(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    tape = tape_of(arr, values)
    arr, values = lift(arr, tape), lift(values, tape)
    if axis is None:
        arr, axis = arr.ravel(), 0
    axis = one_axis(axis, arr.ndim)
    size = arr.shape[axis]
    values = np.reshape(values, (1,) * (arr.ndim - values.ndim) + values.shape)
    if np.ndim(obj) == 0 and not isinstance(obj, slice):
        values = np.moveaxis(values, 0, axis)
    # Where each element comes from is NumPy's own answer for the positions; at first for one new
    # element a place, since one place may also take several.
    places = np.insert(np.arange(size), obj, -1)
    new = np.count_nonzero(places < 0)
    new = values.shape[axis] if new == 1 else new
    places = np.insert(np.arange(size), obj, np.arange(size, size + new))
    shape = (*arr.shape[:axis], new, *arr.shape[axis + 1 :])
    joined = np.concatenate([arr, np.broadcast_to(values.astype(arr.dtype), shape)], axis=axis)
    return np.take(joined, places, axis=axis)


@traced(np.unravel_index)
def unravel_index(indices: Any, shape: Any, order: str = "C") -> Any:
    return np.unravel_index(plain_index(tape_of(indices), indices), shape, order)  # type: ignore[call-overload]


@traced(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    tape = tape_of(a, choices)
    a = np.asarray(plain_index(tape, a))
    parts = np.broadcast_arrays(a, *[lift(choice, tape) for choice in choices])
    among = np.stack(parts[1:])
    size, which = len(among), np.asarray(plain_index(tape, parts[0]))
    if mode != "raise":
        which = which % size if mode == "wrap" else np.clip(which, 0, size - 1)
    return np.take_along_axis(among, which[None], axis=0)[0]


@traced(np.put)
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    tape = tape_of(a, ind, v)
    ind, v = np.ravel(plain_index(tape, ind)), lift(v, tape)
    if mode != "raise":
        ind = ind % a.size if mode == "wrap" else np.clip(ind, 0, a.size - 1)
    a[np.unravel_index(ind % a.size, a.shape)] = np.take(v, np.arange(ind.size) % np.size(v))


@traced(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    a = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows, columns = a.shape[-2:]
    first, second = np.arange(max(-offset, 0), rows), np.arange(max(offset, 0), columns)
    length = min(len(first), len(second))
    return a.derive(DIAGONAL, index=(..., first[:length], second[:length]), offset=offset)


@traced(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    return np.sum(diagonal(a, offset, axis1, axis2), axis=-1)


@traced(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    if v.ndim == 2:
        return diagonal(v, k)
    size = v.shape[0] + abs(k)
    square: Any = lift(np.zeros((size, size)), v.tape)
    spots = np.arange(v.shape[0])
    square[spots + max(-k, 0), spots + max(k, 0)] = v
    return square


traced(np.diagflat)(lambda v, k=0: diag(np.ravel(v), k))


@traced(np.nonzero)
def nonzero(a: Any) -> Any:
    return np.nonzero(plain_index(a.tape, a != 0))


traced(np.flatnonzero)(lambda a: np.flatnonzero(plain_index(a.tape, np.ravel(a) != 0)))
traced(np.argwhere)(lambda a: np.argwhere(plain_index(a.tape, a != 0)))


def ufunc_at(ufunc: np.ufunc, a: Any, index: Any, *values: Any) -> None:
    """np.add.at and its kin: unbuffered, so repeated indices take part one after the other."""
    tape = tape_of(a, index, *values)
    if not isinstance(a, Traced):
        tape.refuse(
            "an ordinary array is accumulated into with traced values",
            "make the array inside the loss with np.zeros(...)",
        )
    index = plain_index(tape, index)
    if ufunc in (np.add, np.subtract) and a.dtype.kind == "f":
        (value,) = values
        _accumulate(a, index, value if ufunc is np.add else np.negative(value))
    else:
        _one_by_one(ufunc, a, index, *values)


def _accumulate(a: Traced, index: Any, value: Any) -> None:
    tape = a.tape
    node = as_node(tape, value)
    if a._steps:
        index = unflattened(a._store, writable(a._store, a._steps)[index])
    a._store.replace(tape.apply(ACCUMULATE_AT, a._store.node, node, index=index))


def _one_by_one(ufunc: np.ufunc, a: Traced, index: Any, *values: Any) -> None:
    """Write every place once, then once more those that are named again, and so on."""
    flat = np.arange(a.size).reshape(a.shape)[index]
    operands = [np.broadcast_to(lift(value, a.tape), flat.shape).reshape(-1) for value in values]
    flat = flat.reshape(-1)
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], flat[order])
    turn = np.empty(flat.size, dtype=int)
    turn[order] = np.arange(flat.size) - starts
    for k in range(int(turn.max(initial=-1)) + 1):
        mine = np.flatnonzero(turn == k)
        where = np.unravel_index(flat[mine], a.shape)
        a[where] = ufunc(a[where], *[operand[mine] for operand in operands])
