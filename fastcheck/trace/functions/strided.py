"""Views that NumPy makes of an array's memory itself: as_strided and sliding windows.

Their elements may overlap. What is written to the array shows in such a view, as in NumPy; a write
through an overlapping view is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.trace.functions.common import refuse
from fastcheck.trace.primitives import INDEX, RESHAPE
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import Traced

_AS_STRIDED = np.lib.stride_tricks.as_strided


def _view(x: Traced, places: NDArray[np.int64]) -> Traced:
    """Return the view of `x` whose elements are those at flat `places` of it."""
    flat = (RESHAPE, {"shape": (-1,)})
    return Traced(x._store, (*x._steps, flat, (INDEX, {"index": (places,)})))


@traced(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:
    places = np.arange(x.size).reshape(x.shape)
    return _view(x, np.lib.stride_tricks.sliding_window_view(places, window_shape, axis))


def as_strided(
    x: Any,
    shape: Any = None,
    strides: Any = None,
    subok: bool = False,
    writeable: bool = True,
    **kwargs: Any,
) -> Any:
    """As numpy.lib.stride_tricks.as_strided, also of traced arrays."""
    if not isinstance(x, Traced):
        return _AS_STRIDED(x, shape, strides, subok, writeable, **kwargs)
    shape = x.shape if shape is None else tuple(np.atleast_1d(shape).tolist())
    strides = x.strides if strides is None else tuple(np.atleast_1d(strides).tolist())
    wanted, own = _offsets(shape, strides), _offsets(x.shape, x.strides).reshape(-1)
    order = np.argsort(own, kind="stable")
    found = np.minimum(np.searchsorted(own, wanted, sorter=order), own.size - 1)
    places = order[found]
    if not np.array_equal(own[places], wanted):
        refuse(
            "as_strided beyond the elements of the array that it is given",
            "give it the whole array, or write np.lib.stride_tricks.sliding_window_view",
            x,
        )
    return _view(x, places)


def _offsets(shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[np.int64]:
    """How many bytes after the first element each element lies."""
    total = np.zeros(shape, dtype=np.int64)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        total += (np.arange(size) * stride).reshape((-1,) + (1,) * (len(shape) - 1 - axis))
    return total


def stride_tricks() -> dict[str, Callable[..., Any]]:
    """Return what takes the place of functions of np.lib.stride_tricks, by name."""
    return {"as_strided": as_strided}
