"""numpy.linalg: norms by their formulae, dense solvers copy by copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, axis_tuple, refuse
from fastcheck.trace.primitives import opaque_function
from fastcheck.trace.registry import traced

_SOLVE = opaque_function("solve", np.linalg.solve)
_INV = opaque_function("inv", np.linalg.inv)
_DET = opaque_function("det", np.linalg.det)

traced(np.linalg.solve)(lambda a, b: apply(_SOLVE, a, b))
traced(np.linalg.inv)(lambda a: apply(_INV, a))
traced(np.linalg.det)(lambda a: apply(_DET, a))


@traced(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if axis is None and (
        ord is None or (ord in ("fro", 2) and x.ndim == (2 if ord == "fro" else 1))
    ):
        return np.sqrt(np.sum(np.square(x), keepdims=keepdims))
    axes = axis_tuple(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if ord not in (None, "fro"):
        refuse(f"np.linalg.norm of a matrix with ord={ord!r}", "write the norm by its formula", x)
    return np.sqrt(np.sum(np.square(x), axis=axes, keepdims=keepdims))


def _vector_norm(x: Any, ord: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    if ord in (None, 2):
        return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))
    if ord == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    if ord == np.inf:
        return np.max(np.abs(x), axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return np.min(np.abs(x), axis=axis, keepdims=keepdims)
    return np.sum(np.abs(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)
