"""Universal functions that are not primitives: NumPy's of two results, and SciPy's by formula."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply
from fastcheck.trace.functions.selection import clip
from fastcheck.trace.primitives import SPECIAL, opaque_function
from fastcheck.trace.registry import traced

_I0 = opaque_function("i0", np.i0)


@traced(np.modf)
def modf(x: Any) -> Any:
    whole = np.trunc(x)
    return np.where(np.isinf(x), np.copysign(0.0, x), x - whole), whole


traced(np.divmod)(lambda x1, x2: (np.floor_divide(x1, x2), np.remainder(x1, x2)))
traced(np.ldexp)(lambda x1, x2: np.multiply(x1, np.exp2(x2)))
traced(np.i0)(lambda x: apply(_I0, x))


@traced(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    phase = np.arctan2(0.0, z)
    return np.degrees(phase) if deg else phase


def _unnamed(name: str) -> Any:
    """A ufunc that NumPy calls on its own behalf, without a public name."""
    core: Any = sys.modules.get("numpy._core.umath") or sys.modules["numpy.core.umath"]
    return getattr(core, name)


traced(_unnamed("clip"))(lambda x, low, high: clip(x, low, high))
traced(_unnamed("_ones_like"))(lambda x: np.ones_like(x))


def _xlog1py(x: Any, y: Any) -> Any:
    return np.where(np.equal(x, 0), 0.0, np.multiply(x, np.log1p(y)))


def _relative_entropy(x: Any, y: Any) -> Any:
    """x·log(x/y), 0 at x = 0 and infinite where x or y is negative, or y is 0."""
    inside = np.logical_and(np.greater(x, 0), np.greater(y, 0))
    at_zero = np.logical_and(np.equal(x, 0), np.greater_equal(y, 0))
    return np.where(inside, x * np.log(np.divide(x, y)), np.where(at_zero, 0.0, np.inf))


_OF_SCIPY: dict[str, Callable[..., Any]] = {
    "xlog1py": _xlog1py,
    "entr": lambda x: np.where(np.less(x, 0), -np.inf, -_special("xlogy")(x, x)),
    "rel_entr": _relative_entropy,
    "kl_div": lambda x, y: _relative_entropy(x, y) - x + y,
    "logit": lambda x: np.log(x) - np.log1p(np.negative(x)),
    "softplus": lambda x: np.logaddexp(0.0, x),
    "exp2": np.exp2,
    "exp10": lambda x: np.power(10.0, x),
    "expm1": np.expm1,
    "log1p": np.log1p,
    "cbrt": np.cbrt,
}
"""SciPy's ufuncs that NumPy's and `xlogy` express; the others are computed copy by copy."""


def _special(name: str) -> Any:
    return getattr(sys.modules["scipy.special"], name)


def of_scipy(ufunc: np.ufunc) -> Callable[..., Any] | None:
    """Return the rule of a ufunc of scipy.special that other ufuncs express; None without one."""
    name = ufunc.__name__
    if name in SPECIAL or getattr(sys.modules.get("scipy.special"), name, None) is not ufunc:
        return None
    return _OF_SCIPY.get(name)
