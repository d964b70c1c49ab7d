"""np.apply_along_axis: the user's function of one slice after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import lift, one_axis, tape_of
from fastcheck.trace.functions.join import stack_nested
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import contains_traced


@traced(np.apply_over_axes)
def apply_over_axes(func: Callable[..., Any], a: Any, axes: Any) -> Any:
    for axis in np.atleast_1d(axes).tolist():
        axis = one_axis(axis, np.ndim(a))
        reduced = func(a, axis)
        a = reduced if np.ndim(reduced) == np.ndim(a) else np.expand_dims(reduced, axis)
    return a


@traced(np.apply_along_axis)
def apply_along_axis(
    func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any
) -> Any:
    tape = tape_of(arr, *args, *kwargs.values())
    arr = lift(arr, tape)
    axis = one_axis(axis, arr.ndim)
    slices = np.moveaxis(arr, axis, -1)
    around = slices.shape[:-1]
    results = [func1d(one, *args, **kwargs) for one in slices.reshape(-1, slices.shape[-1])]
    joined = stack_nested(results) if contains_traced(results) else lift(np.array(results), tape)
    inside = tuple(range(len(around), len(around) + joined.ndim - 1))
    joined = joined.reshape(around + joined.shape[1:])
    return np.moveaxis(joined, inside, tuple(axis + k for k in range(len(inside))))
