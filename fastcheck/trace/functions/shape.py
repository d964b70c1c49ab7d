"""Functions that move elements about without computing with them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import axis_tuple, lift, one_axis, refuse, tape_of
from fastcheck.trace.primitives import BROADCAST, RESHAPE, TRANSPOSE
from fastcheck.trace.registry import named, traced
from fastcheck.trace.traced import Traced


@traced(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: str = "C", **kwargs: Any) -> Any:
    shape = kwargs.get("newshape", shape)
    sizes = tuple(operator.index(size) for size in (shape if np.iterable(shape) else (shape,)))
    if _order(a, order) == "F":
        return a.T.derive(RESHAPE, shape=sizes[::-1]).T
    return a.derive(RESHAPE, shape=_known(sizes, a.size))


def _order(a: Any, order: str) -> str:
    """Resolve "A" and "K", which ask for the order that the elements have in memory."""
    flags = a.node.value.flags
    if order in ("C", "F") or flags.c_contiguous or order == "A":
        return "F" if order == "F" or (order == "A" and flags.fnc) else "C"
    if not flags.f_contiguous:
        refuse(f"order={order!r} of a strided array", "write order='C' or order='F'", a)
    return "F"


def _known(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Replace a −1, so that the graph holds plain sizes."""
    return np.empty(size, dtype=np.bool_).reshape(shape).shape


@traced(np.ravel)
def ravel(a: Any, order: str = "C") -> Any:
    return reshape(a, (-1,), order)


@traced(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    a = lift(a, tape_of(a))
    axes = tuple(reversed(range(a.ndim))) if axes is None else axis_tuple(axes, a.ndim)
    return a.derive(TRANSPOSE, axes=axes)


traced(*named("permute_dims"))(transpose)


@traced(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    axes = list(range(a.ndim))
    one, other = one_axis(axis1, a.ndim), one_axis(axis2, a.ndim)
    axes[one], axes[other] = axes[other], axes[one]
    return transpose(a, axes)


traced(*named("matrix_transpose"))(lambda x: swapaxes(x, -1, -2))


@traced(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    source, destination = axis_tuple(source, a.ndim), axis_tuple(destination, a.ndim)
    order = [axis for axis in range(a.ndim) if axis not in source]
    for to, axis in sorted(zip(destination, source, strict=True)):
        order.insert(to, axis)
    return transpose(a, order)


@traced(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    axis = one_axis(axis, a.ndim)
    start = start + a.ndim if start < 0 else start
    return moveaxis(a, axis, start - 1 if axis < start else start)


@traced(np.squeeze)
def squeeze(a: Any, axis: Any = None) -> Any:
    a = lift(a, tape_of(a))
    if axis is None:
        kept = [size for size in a.shape if size != 1]
    else:
        dropped = axis_tuple(axis, a.ndim)
        if any(a.shape[one] != 1 for one in dropped):
            raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
        kept = [size for one, size in enumerate(a.shape) if one not in dropped]
    return a.derive(RESHAPE, shape=tuple(kept))


@traced(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    added = axis_tuple(axis, a.ndim + count)
    sizes = iter(a.shape)
    shape = [1 if one in added else next(sizes) for one in range(a.ndim + count)]
    return a.derive(RESHAPE, shape=tuple(shape))


@traced(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = (shape,) if np.ndim(shape) == 0 else tuple(int(size) for size in shape)
    return array.derive(BROADCAST, shape=shape)


@traced(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    tape = tape_of(*args)
    shape = np.broadcast_shapes(*[np.shape(x) for x in args])
    return tuple(broadcast_to(lift(x, tape), shape) for x in args)


def _atleast(ndim: int, *arrays: Any) -> Any:
    tape = tape_of(*arrays)
    grown = [_grow(lift(array, tape), ndim) for array in arrays]
    return grown[0] if len(grown) == 1 else tuple(grown)


def _grow(a: Any, ndim: int) -> Any:
    if a.ndim >= ndim:
        return a
    if ndim == 3:  # NumPy puts the new axes around, not before
        around = {0: (1, 1, 1), 1: (1, -1, 1), 2: (*a.shape, 1)}
        return reshape(a, around[a.ndim])
    return reshape(a, (1,) * (ndim - a.ndim) + a.shape)


traced(np.atleast_1d)(lambda *arrays: _atleast(1, *arrays))
traced(np.atleast_2d)(lambda *arrays: _atleast(2, *arrays))
traced(np.atleast_3d)(lambda *arrays: _atleast(3, *arrays))


@traced(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    flipped = axis_tuple(axis, m.ndim)
    step = tuple(slice(None, None, -1 if one in flipped else None) for one in range(m.ndim))
    return m[step]


traced(np.fliplr)(lambda m: flip(m, 1))
traced(np.flipud)(lambda m: flip(m, 0))


@traced(np.rot90)
def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    for _ in range(k % 4):
        m = flip(swapaxes(m, *axes), axes[0])
    return m


@traced(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), a.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for by, one in zip(shifts.ravel(), axes.ravel(), strict=True):
        size = a.shape[one]
        a = np.take(a, (np.arange(size) - int(by)) % max(size, 1), axis=int(one))
    return a


@traced(*named("fft.fftshift"))
def fftshift(x: Any, axes: Any = None) -> Any:
    return _half_rolled(x, axes, 1)


@traced(*named("fft.ifftshift"))
def ifftshift(x: Any, axes: Any = None) -> Any:
    return _half_rolled(x, axes, -1)


def _half_rolled(x: Any, axes: Any, sign: int) -> Any:
    axes = axis_tuple(axes, x.ndim)
    return roll(x, tuple(sign * (x.shape[one] // 2) for one in axes), axes)


@traced(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    flat = ravel(lift(a, tape_of(a)))
    shape = (new_shape,) if np.ndim(new_shape) == 0 else tuple(new_shape)
    places = np.arange(int(np.prod(shape))) % max(flat.size, 1)
    return np.reshape(np.take(flat, places), shape)


@traced(*named("unstack"))
def unstack(x: Any, /, *, axis: int = 0) -> Any:
    return tuple(moveaxis(x, axis, 0))


@traced(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    tape = tape_of(*xi)
    count = len(xi)
    grids = [
        reshape(lift(x, tape), (1,) * k + (-1,) + (1,) * (count - 1 - k)) for k, x in enumerate(xi)
    ]
    if indexing == "xy" and count > 1:
        grids = [swapaxes(grid, 0, 1) for grid in grids]
    if not sparse:
        grids = list(broadcast_arrays(*grids))
    grids = [grid.copy() for grid in grids] if copy else grids
    return tuple(grids)


# What NumPy only reads off the shape.
traced(np.shape)(lambda a: np.shape(a.value) if isinstance(a, Traced) else _shape_of(a))
traced(np.ndim)(lambda a: len(np.shape(a)))


traced(np.iscomplexobj)(lambda x: False)
traced(np.isrealobj)(lambda x: True)


@traced(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> Any:
    plain = [x.dtype if isinstance(x, Traced) else x for x in arrays_and_dtypes]
    return np.result_type(*plain)


def _shape_of(a: Any) -> tuple[int, ...]:
    from fastcheck.trace.functions.join import stack_nested

    return stack_nested(a).shape


@traced(np.size)
def size_(a: Any, axis: Any = None) -> int:
    shape = np.shape(a)
    return int(np.prod([shape[one] for one in axis_tuple(axis, len(shape))], dtype=np.int64))
