"""SciPy's softmax family. They are Python functions that convert their argument to an array.

So no protocol reaches them: while a loss is traced, the user's modules see these in their place.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, axis_tuple, lift, refuse, tape_of
from fastcheck.trace.primitives import LOG_SOFTMAX, LOGSUMEXP
from fastcheck.trace.traced import contains_traced


def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Any:
    if b is not None or return_sign:
        refuse("scipy.special.logsumexp with b= or return_sign=", "write np.log(np.sum(...))", a, b)
    a = lift(a, tape_of(a))
    return apply(LOGSUMEXP, a, axes=axis_tuple(axis, a.ndim), keepdims=keepdims)


def log_softmax(x: Any, axis: Any = None) -> Any:
    x = lift(x, tape_of(x))
    return apply(LOG_SOFTMAX, x, axes=axis_tuple(axis, x.ndim))


def softmax(x: Any, axis: Any = None) -> Any:
    return np.exp(log_softmax(x, axis))


def softmax_family(special: ModuleType) -> dict[str, Any]:
    """Return what takes the place of the functions of SciPy's module, or of CuPy's, by name."""
    rules: dict[str, Any] = {"logsumexp": logsumexp, "log_softmax": log_softmax, "softmax": softmax}
    known = {name: rule for name, rule in rules.items() if hasattr(special, name)}
    return {name: _either(rule, getattr(special, name)) for name, rule in known.items()}


def _either(rule: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    def choose(*args: Any, **kwargs: Any) -> Any:
        reached = contains_traced(args) or contains_traced(kwargs)
        return (rule if reached else original)(*args, **kwargs)

    return choose
