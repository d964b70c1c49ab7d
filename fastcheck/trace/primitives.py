"""The primitives of the graph: every traced NumPy call becomes a few of these.

Each has a rule in `fastcheck.differences` that says how a finite difference passes through it.
Elementwise primitives are NumPy's ufuncs themselves; `ELEMENTWISE` maps one to the other.
"""

from __future__ import annotations

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
    sign floor ceil rint trunc floor_divide
"""


def _elementwise() -> dict[np.ufunc, Primitive]:
    table: dict[np.ufunc, Primitive] = {}
    for names, discrete in ((_SMOOTH, False), (_DISCRETE, True)):
        for name in names.split():
            ufunc = getattr(np, name)
            table.setdefault(ufunc, Primitive(name, ufunc, discrete))
    return table


ELEMENTWISE: dict[np.ufunc, Primitive] = _elementwise()


def elementwise(ufunc: np.ufunc) -> Primitive:
    """Return the primitive of a NumPy ufunc."""
    return ELEMENTWISE[ufunc]


def _write(base: NDArray[Any], value: Any, index: Any) -> NDArray[Any]:
    out = np.array(base, order="K")
    out[index] = value
    return out


def _accumulate_at(base: NDArray[Any], value: Any, index: Any) -> NDArray[Any]:
    out = np.array(base, order="K")
    np.add.at(out, index, value)
    return out


def contract_values(
    a: NDArray[Any], b: NDArray[Any], labels: tuple[tuple[int, ...], ...]
) -> NDArray[Any]:
    """Sum of products over the labels that `labels[2]`, the output's, does not name."""
    small = {label: i for i, label in enumerate(dict.fromkeys(labels[0] + labels[1]))}
    left, right, out = ([small[label] for label in group] for group in labels)
    result: NDArray[Any] = np.einsum(a, left, b, right, out, optimize=True)
    return result


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
        return function(x, axis=axes, keepdims=keepdims)

    return evaluate


WHERE = Primitive("where", np.where)
CAST = Primitive("cast", lambda x, dtype: np.asarray(x).astype(dtype))
# Sum of products of two operands over integer labels, as in einsum's sublist form.
CONTRACT = Primitive("contract", contract_values)
SUM = Primitive("sum", _reduction(np.sum))
PROD = Primitive("prod", _reduction(np.prod))
MAX = Primitive("max", _reduction(np.max))
MIN = Primitive("min", _reduction(np.min))
CUMSUM = Primitive("cumsum", lambda x, axis: np.cumsum(x, axis=axis))
RESHAPE = Primitive("reshape", lambda x, shape: np.reshape(x, shape))
TRANSPOSE = Primitive("transpose", lambda x, axes: np.transpose(x, axes))
BROADCAST = Primitive("broadcast", lambda x, shape: np.broadcast_to(x, shape))
INDEX = Primitive("index", lambda x, index: x[index])
CONCATENATE = Primitive("concatenate", lambda *parts, axis: np.concatenate(parts, axis=axis))
WRITE = Primitive("write", _write)
ACCUMULATE_AT = Primitive("accumulate_at", _accumulate_at)

STRUCTURAL = (RESHAPE, TRANSPOSE, BROADCAST, INDEX)
"""Primitives that may give a view: which one does is read off NumPy's own result."""


def discrete_function(name: str, function: Callable[..., Any]) -> Primitive:
    """Return a primitive for a function that moves in jumps and is computed copy by copy."""
    return Primitive(name, function, discrete=True)


def opaque_function(name: str, function: Callable[..., Any]) -> Primitive:
    """Return a primitive for a smooth function without a rule: f(b + d) − f(b), copy by copy."""
    return Primitive(name, function)
