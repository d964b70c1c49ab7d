"""Short last axes: NumPy spends a call of its inner loop on each of their few elements.

A maximum over three classes of a large stack takes it twenty times as long as the two maxima of
slices of the stack, and a product with what is the same for all classes several times as long as
one product a class. Long axes are what its loops are made for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcheck.differences.delta import Array

# Of each ufunc the longest axis that is done by slices, and the name of its reduction.
_LONGEST = {"add": 16, "maximum": 32, "minimum": 32, "logical_or": 32}
_NAMES = {"add": "sum", "maximum": "max", "minimum": "min", "logical_or": "any"}
_WORTH = 4096
"""Elements from which slices cost less than their calls."""

_FEW = 4
"""Elements of a last axis along which operands are repeated, one slice after the other."""


def elementwise(xp: Any, ufunc: Callable[..., Array], operands: Sequence[Array], out: Array) -> Any:
    """Return `ufunc(*operands, out=out)` of operands with as many axes as `out`.

    Examples
    --------
    >>> import numpy as np
    >>> a, b = np.ones((2000, 3)), np.full((2000, 1), 2.0)
    >>> elementwise(np, np.multiply, [a, b], np.empty((2000, 3)))[-1]
    array([2., 2., 2.])
    """
    few = out.shape[-1] if out.ndim > 1 else 0
    if xp is not np or not 1 < few <= _FEW or out.size < _WORTH:
        return ufunc(*operands, out=out)
    if not any(one.shape[-1] == 1 or one.size == few for one in operands):
        return ufunc(*operands, out=out)
    for k in range(few):
        parts = [one[..., k if one.shape[-1] > 1 else 0] for one in operands]
        ufunc(*parts, out=out[..., k])
    return out


def reduced(xp: Any, ufunc: np.ufunc, values: Array, axes: tuple[int, ...]) -> Array:
    """Return `ufunc.reduce` over the axes, which keep size 1.

    Examples
    --------
    >>> import numpy as np
    >>> reduced(np, np.maximum, np.arange(6.0).reshape(2, 3), (1,))
    array([[2.],
           [5.]])
    """
    if xp is not np:
        return _in_the_namespace(xp, ufunc, values, axes)
    long = axes
    if values.size >= _WORTH:
        short = [axis for axis in axes if 1 < values.shape[axis] <= _LONGEST[ufunc.__name__]]
        for axis in sorted(short, reverse=True):  # the innermost first
            values = _by_slices(ufunc, values, axis)
        long = tuple(axis for axis in axes if values.shape[axis] != 1)
        if not long and short:
            return values
    return ufunc.reduce(values, axis=long, keepdims=True)


def _by_slices(ufunc: np.ufunc, values: Array, axis: int) -> Array:
    before = (slice(None),) * axis
    parts = [values[(*before, slice(k, k + 1))] for k in range(values.shape[axis])]
    total = ufunc(parts[0], parts[1])
    for part in parts[2:]:
        ufunc(total, part, out=total)
    return total


def _in_the_namespace(xp: Any, ufunc: np.ufunc, values: Array, axes: tuple[int, ...]) -> Array:
    return getattr(xp, _NAMES[ufunc.__name__])(values, axis=axes, keepdims=True)
