"""Where NumPy hands over: one place that looks up the rule, calls it, and wraps the result."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from fastcheck.trace import functions
from fastcheck.trace.primitives import elementwise, has_primitive
from fastcheck.trace.registry import REFUSED, TRACED
from fastcheck.trace.tape import Converted, Tape
from fastcheck.trace.traced import Traced, as_node, contains_traced, wrap

# What arithmetic means for masks.
_ON_MASKS: dict[np.ufunc, np.ufunc] = {
    np.add: np.logical_or,
    np.multiply: np.logical_and,
    np.maximum: np.logical_or,
    np.minimum: np.logical_and,
}
# ufunc.reduce, .accumulate and .outer are functions by another name.
_REDUCE = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
    np.logical_and: np.all,
    np.logical_or: np.any,
}


def call_ufunc(tape: Tape, ufunc: np.ufunc, method: str, inputs: Any, kwargs: Any) -> Any:
    """Answer `ufunc.method(*inputs, **kwargs)` where an argument is traced."""
    tape.refuse_if_closed()
    out = kwargs.pop("out", None)
    if isinstance(out, tuple):
        out = out[0] if len(out) == 1 else out
    inputs, kwargs = tape.downloads.hosted(inputs), tape.downloads.hosted(kwargs)
    if method == "__call__":
        result = _apply(tape, ufunc, inputs, kwargs)
    elif method == "at":
        return functions.indexing.accumulate_at(ufunc, *inputs)
    else:
        result = _apply_method(tape, ufunc, method, inputs, kwargs)
    return result if out is None else into(tape, result, out)


def _apply(tape: Tape, ufunc: np.ufunc, inputs: Any, kwargs: Any) -> Any:
    where = kwargs.pop("where", True)
    dtype = kwargs.pop("dtype", None)
    kwargs.pop("casting", None), kwargs.pop("order", None), kwargs.pop("subok", None)
    if where is not True:
        tape.refuse(f"np.{ufunc.__name__}(..., where=mask)", "write np.where(mask, this, that)")
    if ufunc in TRACED:
        return TRACED[ufunc](*inputs, **kwargs)
    if not has_primitive(ufunc):
        return _constant_only(tape, ufunc, inputs, kwargs)
    # Plain numbers keep their weak type, so that float32 * 2.0 stays float32 as in NumPy.
    values = [x.value if isinstance(x, Traced) else x for x in inputs]
    with np.errstate(all="ignore"):
        value = ufunc(*values)
    if value.dtype == bool:
        ufunc = _ON_MASKS.get(ufunc, ufunc)
    nodes = tuple(as_node(tape, x) for x in inputs)
    result = wrap(tape, tape.record(elementwise(ufunc), nodes, {}, value))
    return result if dtype is None else result.astype(dtype)


def _apply_method(tape: Tape, ufunc: np.ufunc, method: str, inputs: Any, kwargs: Any) -> Any:
    if method == "reduce" and ufunc in _REDUCE:
        kwargs.setdefault("axis", inputs[1] if len(inputs) > 1 else 0)
        return TRACED[_REDUCE[ufunc]](inputs[0], **kwargs)
    if method == "accumulate" and ufunc is np.add:
        kwargs.setdefault("axis", 0)
        return np.cumsum(inputs[0], **kwargs)
    if method in ("reduce", "accumulate") and ufunc.nin == 2 and has_primitive(ufunc):
        return _fold(ufunc, *inputs, every=method == "accumulate", **kwargs)
    if method == "outer":
        left, right = (x if isinstance(x, Traced) else np.asarray(x) for x in inputs)
        return ufunc(left.reshape(left.shape + (1,) * right.ndim), right)
    return _constant_only(tape, getattr(ufunc, method), inputs, kwargs)


def _fold(ufunc: np.ufunc, a: Any, axis: int = 0, *, every: bool, keepdims: bool = False) -> Any:
    """Apply a ufunc between one element after the other, as np.logaddexp.reduce does."""
    rows = list(np.moveaxis(a, axis, 0))
    totals = list(accumulate(rows, ufunc))
    if every:
        return np.stack(totals, axis=axis)
    return np.expand_dims(totals[-1], axis) if keepdims else totals[-1]


def call_function(tape: Tape, function: Any, args: Any, kwargs: Any) -> Any:
    """Answer a NumPy function where an argument is traced."""
    tape.refuse_if_closed()
    args, kwargs = tape.downloads.hosted(args), tape.downloads.hosted(kwargs)
    if function not in TRACED:
        return _constant_only(tape, function, args, kwargs)
    out = kwargs.pop("out", None)
    result = TRACED[function](*args, **kwargs)
    return result if out is None else into(tape, result, out)


def into(tape: Tape, result: Any, out: Any) -> Any:
    """Put a result where `out=` asks for it."""
    if not isinstance(out, Traced):
        tape.refuse(
            "an ordinary array is written in place with a traced value (`+=` or `out=`)",
            "make the array inside the loss with np.zeros(...), or write x = x + ...",
            Converted,
        )
    return out.assign(result if isinstance(result, Traced) else wrap(tape, as_node(tape, result)))


def _constant_only(tape: Tape, function: Any, args: Any, kwargs: Any) -> Any:
    """Run a function without a rule on constants; refuse it once a parameter reaches it."""
    name = _full_name(function)
    if reached(args) or reached(kwargs):
        remedy = REFUSED.get(
            function, "rewrite it with elementwise functions, reductions and matrix products"
        )
        tape.refuse(f"{name} of an array that depends on the parameters cannot be traced", remedy)
    result = function(*plain(args), **plain(kwargs))
    if isinstance(result, np.ndarray) and result.dtype.kind in "fc":
        return wrap(tape, tape.record_constant(result))
    return result


def _full_name(function: Any) -> str:
    """Return "numpy.name", or "ufunc.name" for another library's ufunc, which names no module."""
    name = function.__name__
    foreign = isinstance(function, np.ufunc) and getattr(np, name, None) is not function
    return f"{getattr(function, '__module__', None) or ('ufunc' if foreign else 'numpy')}.{name}"


def reached(value: Any) -> bool:
    """Whether a traced array that depends on a parameter is found in nested arguments."""
    if isinstance(value, dict):
        return any(map(reached, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(reached, value))
    return isinstance(value, Traced) and not value.node.constant


def plain(value: Any) -> Any:
    """Replace traced constants by their values in nested arguments."""
    if not contains_traced(value):
        return value
    if isinstance(value, Traced):
        return np.array(value.value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return type(value)(map(plain, value))
