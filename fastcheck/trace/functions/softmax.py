"""SciPy's softmax family. They are Python functions that convert their argument to an array.

So no protocol reaches them: while a loss is traced, the user's modules see these in their place.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, axis_tuple, lift, refuse, stand_ins, tape_of
from fastcheck.trace.primitives import LOG_SOFTMAX, LOGSUMEXP


def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Any:
    if return_sign:
        refuse("scipy.special.logsumexp with return_sign=", "write np.log(np.sum(...))", a, b)
    a = lift(a, tape_of(a, b))
    if b is not None:
        return _weighted(a, axis_tuple(axis, max(a.ndim, np.ndim(b))), b, keepdims)
    return apply(LOGSUMEXP, a, axes=axis_tuple(axis, a.ndim), keepdims=keepdims)


def _weighted(a: Any, axes: tuple[int, ...], b: Any, keepdims: bool) -> Any:
    """log Σ b·exp(a); what b leaves out does not decide which exponent is the largest."""
    a, b = np.broadcast_arrays(a, b)
    a = np.where(b == 0, -np.inf, a)
    largest = np.max(a, axis=axes, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    total = np.log(np.sum(b * np.exp(a - largest), axis=axes, keepdims=True)) + largest
    return total if keepdims else np.squeeze(total, axis=axes)


def log_softmax(x: Any, axis: Any = None) -> Any:
    x = lift(x, tape_of(x))
    return apply(LOG_SOFTMAX, x, axes=axis_tuple(axis, x.ndim))


def softmax(x: Any, axis: Any = None) -> Any:
    return np.exp(log_softmax(x, axis))


def softmax_family(special: ModuleType) -> dict[str, Any]:
    """Return what takes the place of the functions of SciPy's module, or of CuPy's, by name."""
    rules: dict[str, Any] = {"logsumexp": logsumexp, "log_softmax": log_softmax, "softmax": softmax}
    return stand_ins(special, rules)
