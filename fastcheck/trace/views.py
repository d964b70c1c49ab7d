"""How a view is reached from the array that owns its memory, in the steps of traced views."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.trace.memory import Step
from fastcheck.trace.primitives import INDEX, RESHAPE, TRANSPOSE

_Array = NDArray[Any]
_EVERYTHING = slice(None)


def owner_of(array: _Array) -> _Array:
    """Return the array at the end of the chain of views that `array` is at the start of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def steps_to(view: _Array, owner: _Array) -> tuple[Step, ...] | None:
    """Return the steps that lead from `owner` to the very elements of `view`, as `view` has them.

    None where there are none: elements that overlap, or another way to read the bytes.
    """
    if _coincide(view, owner):
        return ()
    try:
        steps = _steps(view, owner)
    except ValueError:  # NumPy's: the elements do not lie in a grid
        return None
    found: _Array = owner
    for primitive, params in steps:
        found = primitive.evaluate(found, **params)
    return steps if isinstance(found, np.ndarray) and _coincide(found, view) else None


def _coincide(a: _Array, b: _Array) -> bool:
    """Whether two arrays have the same elements in the same places in memory."""
    if a.shape != b.shape or a.dtype != b.dtype or _address(a) != _address(b):
        return False
    pairs = zip(a.shape, a.strides, b.strides, strict=True)
    return all(mine == others or length == 1 for length, mine, others in pairs)


def _address(array: _Array) -> int:
    return int(array.__array_interface__["data"][0])


def _steps(view: _Array, owner: _Array) -> tuple[Step, ...]:
    axes = [axis for axis in range(view.ndim) if view.shape[axis] > 1]
    repeated = any(view.strides[axis] == 0 for axis in axes)
    if view.dtype != owner.dtype or not view.size or repeated:
        raise ValueError("no grid of the owner's elements")
    start, rest = divmod(_address(view) - _address(owner), owner.itemsize)
    strides = [stride // owner.itemsize for stride in view.strides]
    if rest or any(stride % owner.itemsize for stride in view.strides):
        raise ValueError("between the owner's elements")
    start += sum((view.shape[axis] - 1) * min(strides[axis], 0) for axis in axes)
    order = sorted(axes, key=lambda axis: -abs(strides[axis]))
    counts = [view.shape[axis] for axis in order]
    steps = _flat(owner)
    steps += _grid(start, counts, [abs(strides[axis]) for axis in order], owner.size)
    if any(strides[axis] < 0 for axis in order):
        turned = tuple(slice(None, None, -1 if strides[axis] < 0 else None) for axis in order)
        steps.append((INDEX, {"index": turned}))
    if order != axes:
        steps.append((TRANSPOSE, {"axes": tuple(map(order.index, axes))}))
    if len(axes) != view.ndim:
        steps.append((RESHAPE, {"shape": view.shape}))
    return tuple(steps)


def _flat(owner: _Array) -> list[Step]:
    """The owner's elements in the order in which they lie in memory."""
    steps: list[Step] = []
    if not owner.flags.c_contiguous:
        order = sorted(range(owner.ndim), key=lambda axis: -owner.strides[axis])
        steps.append((TRANSPOSE, {"axes": tuple(order)}))
    if owner.ndim != 1:
        steps.append((RESHAPE, {"shape": (-1,)}))
    return steps


def _grid(start: int, counts: list[int], strides: list[int], length: int) -> list[Step]:
    """Steps from flat memory to a grid, the axis with the largest stride first."""
    dense = [prod(counts[place + 1 :]) for place in range(len(counts))]
    if strides == dense:
        steps: list[Step] = [(INDEX, {"index": (slice(start, start + prod(counts)),)})]
        return steps if len(counts) == 1 else [*steps, (RESHAPE, {"shape": tuple(counts)})]
    steps = []
    done: list[int] = []
    for count, stride in zip(counts, strides, strict=True):
        # Blocks that the stride is a multiple of, as many as there are; then every so many of them.
        block = gcd(stride, length)
        first, start = divmod(start, block)
        step = stride // block
        steps.append((RESHAPE, {"shape": (*done, length // block, block)}))
        blocks = slice(first, first + (count - 1) * step + 1, step)
        steps.append((INDEX, {"index": (*map(_all, done), blocks)}))
        done.append(count)
        length = block
    return [*steps, (INDEX, {"index": (*map(_all, done), start)})]


def _all(_: int) -> slice:
    return _EVERYTHING
