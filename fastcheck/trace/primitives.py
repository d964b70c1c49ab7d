"""The primitives of the graph: every traced NumPy call becomes a few of these.

Each has a rule in `fastcheck.differences` that says how a finite difference passes through it.
Elementwise primitives are NumPy's ufuncs themselves; `ELEMENTWISE` maps one to the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.trace.graph import Primitive

_SMOOTH = """
    add subtract multiply divide power float_power negative positive exp exp2 expm1 log log2 log10
    log1p sqrt square cbrt reciprocal sin cos tan sinh cosh tanh arcsin arccos arctan arcsinh
    arccosh arctanh arctan2 hypot logaddexp logaddexp2 deg2rad rad2deg degrees radians absolute
    fabs maximum minimum fmax fmin copysign heaviside remainder fmod conjugate
"""
_DISCRETE = """
    less less_equal greater greater_equal equal not_equal logical_and logical_or logical_xor
    logical_not bitwise_and bitwise_or bitwise_xor invert isnan isinf isfinite signbit
    sign floor ceil rint trunc floor_divide left_shift right_shift
"""


def _elementwise() -> dict[np.ufunc, Primitive]:
    table: dict[np.ufunc, Primitive] = {}
    for names, discrete in ((_SMOOTH, False), (_DISCRETE, True)):
        for name in names.split():
            ufunc = getattr(np, name)
            table.setdefault(ufunc, Primitive(name, ufunc, discrete))
    return table


ELEMENTWISE: dict[np.ufunc, Primitive] = _elementwise()


def _of_scipy(name: str) -> Primitive:
    return Primitive(name, lambda *values: getattr(sys.modules["scipy.special"], name)(*values))


SPECIAL = {name: _of_scipy(name) for name in ("expit", "log_expit", "erf", "erfc", "xlogy")}
"""SciPy's ufuncs by name: fastcheck never imports SciPy, but the user's loss may have."""


def elementwise(ufunc: np.ufunc) -> Primitive:
    """Return the primitive of a ufunc of NumPy or SciPy; KeyError if it has none.

    SciPy's ufuncs of one result that have no rule are computed copy by copy.
    """
    name, scipy = ufunc.__name__, sys.modules.get("scipy.special")
    if ufunc.nout == 1 and getattr(scipy, name, None) is ufunc:
        return SPECIAL.setdefault(name, _of_scipy(name))
    return ELEMENTWISE[ufunc]


def has_primitive(ufunc: np.ufunc) -> bool:
    """Whether `elementwise` knows the ufunc."""
    try:
        elementwise(ufunc)
    except KeyError:
        return False
    return True


def _write(base: NDArray[Any], value: Any, index: Any) -> NDArray[Any]:
    out = np.array(base, order="K")
    out[index] = value
    return out


def _accumulate_at(base: NDArray[Any], value: Any, index: Any) -> NDArray[Any]:
    out = np.array(base, order="K")
    # NumPy reads past the end of values that it has to broadcast to several index arrays.
    np.add.at(out, index, np.broadcast_to(value, out[index].shape))
    return out


def contract_values(
    a: NDArray[Any], b: NDArray[Any], labels: tuple[tuple[int, ...], ...]
) -> NDArray[Any]:
    """Sum of products over the labels that `labels[2]`, the output's, does not name."""
    small = {label: i for i, label in enumerate(dict.fromkeys(labels[0] + labels[1]))}
    left, right, out = ([small[label] for label in group] for group in labels)
    result: NDArray[Any] = np.einsum(a, left, b, right, out, optimize=True)
    return result[()]  # a number where no axis is left, as NumPy gives


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return function(x, axis=axes, keepdims=keepdims)

    return evaluate


def _position(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis, keepdims: function(x, axis=axis, keepdims=keepdims)


def _argsort(x: Any, axis: int | None) -> Any:
    return np.argsort(x, axis=axis, kind="stable")


def _argpartition(x: Any, kth: Any, axis: int | None) -> Any:
    return np.argpartition(x, kth, axis=axis)


def _sigmoid(x: NDArray[Any]) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def _logsumexp(x: NDArray[Any], axes: tuple[int, ...], keepdims: bool) -> Any:
    largest = np.max(x, axis=axes, keepdims=True)
    total = np.log(np.sum(np.exp(x - largest), axis=axes, keepdims=True)) + largest
    return total if keepdims else np.squeeze(total, axis=axes)


WHERE = Primitive("where", np.where)
CAST = Primitive("cast", lambda x, dtype: np.asarray(x).astype(dtype))
# Sum of products of two operands over integer labels, as in einsum's sublist form.
CONTRACT = Primitive("contract", contract_values)
SUM = Primitive("sum", _reduction(np.sum))
PROD = Primitive("prod", _reduction(np.prod))
MAX = Primitive("max", _reduction(np.max))
MIN = Primitive("min", _reduction(np.min))
CUMSUM = Primitive("cumsum", lambda x, axis: np.cumsum(x, axis=axis))
CUMPROD = Primitive("cumprod", lambda x, axis: np.cumprod(x, axis=axis))
# Made by `simplify`, from the many ways in which people write them.
SIGMOID = Primitive("sigmoid", _sigmoid)
LOGSUMEXP = Primitive("logsumexp", _logsumexp)
LOG_SOFTMAX = Primitive("log_softmax", lambda x, axes: x - _logsumexp(x, axes, True))
RESHAPE = Primitive("reshape", lambda x, shape: np.reshape(x, shape))
TRANSPOSE = Primitive("transpose", lambda x, axes: np.transpose(x, axes))
BROADCAST = Primitive("broadcast", lambda x, shape: np.broadcast_to(x, shape))
INDEX = Primitive("index", lambda x, index: x[index])
# A view in NumPy, but otherwise x[index].
DIAGONAL = Primitive("diagonal", lambda x, index, offset: np.diagonal(x, offset, -2, -1))
CONCATENATE = Primitive("concatenate", lambda *parts, axis: np.concatenate(parts, axis=axis))
WRITE = Primitive("write", _write)
ACCUMULATE_AT = Primitive("accumulate_at", _accumulate_at)
ARGMAX = Primitive("argmax", _position(np.argmax), discrete=True)
ARGMIN = Primitive("argmin", _position(np.argmin), discrete=True)
ARGSORT = Primitive("argsort", _argsort, discrete=True)
ARGPARTITION = Primitive("argpartition", _argpartition, discrete=True)

STRUCTURAL = (RESHAPE, TRANSPOSE, BROADCAST, INDEX, DIAGONAL)
"""Primitives that may give a view: which one does is read off NumPy's own result."""


def discrete_function(name: str, function: Callable[..., Any]) -> Primitive:
    """Return a primitive for a function that moves in jumps and is computed copy by copy."""
    return Primitive(name, function, discrete=True)


def opaque_function(name: str, function: Callable[..., Any]) -> Primitive:
    """Return a primitive for a smooth function without a rule: f(b + d) − f(b), copy by copy."""
    return Primitive(name, function)
