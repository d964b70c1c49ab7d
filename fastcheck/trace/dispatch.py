"""Where NumPy hands over: one place that looks up the rule, calls it, and wraps the result."""

from __future__ import annotations

import inspect
from functools import lru_cache
from itertools import accumulate, takewhile, zip_longest
from typing import Any

import numpy as np

from fastcheck.trace import functions
from fastcheck.trace.primitives import elementwise, has_primitive
from fastcheck.trace.registry import REFUSED, TRACED
from fastcheck.trace.tape import Converted, Tape
from fastcheck.trace.traced import Traced, as_node, contains_traced, plain_index, wrap

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
        result = _where(tape, ufunc, inputs, kwargs, out)
    elif method == "at":
        return functions.indexing.ufunc_at(ufunc, *inputs)
    else:
        result = _apply_method(tape, ufunc, method, inputs, kwargs)
    return result if out is None else _into_each(tape, result, out)


def _into_each(tape: Tape, result: Any, out: Any) -> Any:
    """Put one result, or the two of np.modf and np.divmod, where `out=` asks for them."""
    if not isinstance(result, tuple):
        return into(tape, result, out)
    outs = out if isinstance(out, tuple) else (out,)
    return tuple(
        one if other is None else into(tape, one, other) for one, other in zip_longest(result, outs)
    )


def _where(tape: Tape, ufunc: np.ufunc, inputs: Any, kwargs: Any, out: Any) -> Any:
    """`ufunc(..., where=mask, out=out)`: where the mask is False, `out` stays what it is."""
    where = kwargs.pop("where", True)
    if where is True:
        return _apply(tape, ufunc, inputs, kwargs)
    if out is None or isinstance(out, tuple):
        tape.refuse(
            f"np.{ufunc.__name__}(..., where=mask) without out=, which leaves memory as it happens "
            "to be where the mask is False, cannot be traced",
            "give out=, or write np.where(mask, this, that)",
        )
    return np.where(where, _apply(tape, ufunc, inputs, kwargs), out)


def _apply(tape: Tape, ufunc: np.ufunc, inputs: Any, kwargs: Any) -> Any:
    dtype = kwargs.pop("dtype", None)
    kwargs.pop("casting", None), kwargs.pop("order", None), kwargs.pop("subok", None)
    rule = TRACED.get(ufunc) or functions.universal.of_scipy(ufunc)
    if rule is not None and contains_traced(inputs):
        return rule(*inputs, **kwargs)
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
    if method == "reduceat" and ufunc.nin == 2 and has_primitive(ufunc):
        return _reduceat(ufunc, *inputs, **kwargs)
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


def _reduceat(ufunc: np.ufunc, a: Any, indices: Any, axis: int = 0, dtype: Any = None) -> Any:
    """Reduce from each index to the next; an index that is not below its next picks one element."""
    rows = np.moveaxis(a if dtype is None else a.astype(dtype), axis, 0)
    starts = np.asarray(plain_index(a.tape, indices)).tolist()
    pieces = [
        ufunc.reduce(rows[start:stop], axis=0) if start < stop else rows[start]
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True)
    ]
    return np.moveaxis(np.stack(pieces), 0, axis)


def call_function(tape: Tape, function: Any, args: Any, kwargs: Any) -> Any:
    """Answer a NumPy function where an argument is traced."""
    tape.refuse_if_closed()
    args, kwargs = tape.downloads.hosted(args), tape.downloads.hosted(kwargs)
    if function not in TRACED:
        return _constant_only(tape, function, args, kwargs)
    args, named = _split_at_out(function, args)
    kwargs = {**named, **kwargs}
    out = kwargs.pop("out", None)
    # The array that the result goes into may be the only one that is traced.
    rule = TRACED[function] if contains_traced(args) or contains_traced(kwargs) else function
    result = rule(*args, **kwargs)
    if type(result) is np.ndarray and result.dtype.kind == "f":  # made with `like=`
        result = wrap(tape, tape.record_constant(result))
    return result if out is None else into(tape, result, out)


def _split_at_out(function: Any, args: Any) -> tuple[Any, dict[str, Any]]:
    """Give names to the arguments from `out` on: rules have no `out`, so they count otherwise."""
    names = _names_of_arguments(function)
    place = names.index("out") if "out" in names else len(args)
    return args[:place], dict(zip(names[place:], args[place:], strict=False))


@lru_cache(None)
def _names_of_arguments(function: Any) -> tuple[str, ...]:
    if function in (np.dot, np.concatenate):  # whose signatures NumPy 1 cannot tell
        return ("a", "b", "out")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return ()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(one.name for one in takewhile(lambda one: one.kind in positional, parameters))


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
