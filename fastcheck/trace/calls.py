"""What calls in the user's code become while it is traced: see `rewriting`.

`X.dot(W)` of a plain X and a traced W becomes `np.dot(X, W)`. `float(x)` and `math.log(x)` of a
traced x stay traced. A float array that a library has just made is a traced constant from there on,
so that traced values may be written into it.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcheck.params.places import is_device_array
from fastcheck.trace.functions.join import stack_nested
from fastcheck.trace.tape import Tape
from fastcheck.trace.traced import Traced, contains_traced, wrap

_RENAMED = {"fabs": "abs", "pow": "power", "asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_RENAMED |= {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "atan2": "arctan2"}
_SAME = """
    exp exp2 expm1 sqrt cbrt log2 log10 log1p sin cos tan sinh cosh tanh hypot copysign
    degrees radians
"""
_TESTS = "isnan isinf isfinite".split()


class Calls:
    """The three functions that rewritten code calls, for one trace and its thread."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._thread = threading.get_ident()

    def callee(self, function: Any) -> Any:
        """Return what is called in place of `function`."""
        stand_in = _STAND_INS.get(id(function))
        if stand_in is None or threading.get_ident() != self._thread:
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            # The sum looks at its values itself: a generator can be looked into only once.
            mine = stand_in is _sum or _moving(args)
            return (stand_in if mine else function)(*args, **kwargs)

        return call

    def method(self, owner: Any, name: str) -> Any:
        """Return what is called in place of `owner.name`, the name of a method of arrays."""
        found = getattr(owner, name)
        if type(owner) is not np.ndarray and not is_device_array(owner):
            return self.callee(found)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not (contains_traced(args) or contains_traced(kwargs)):
                return found(*args, **kwargs)
            data = wrap(self._tape, self._tape.constant(owner))
            data.forbid_writes()  # the plain array would not see them
            return getattr(data, name)(*args, **kwargs)

        return call

    def result(self, value: Any) -> Any:
        """Return what is used in place of the result of a call."""
        if type(value) is not np.ndarray or threading.get_ident() != self._thread:
            return value
        # Where others hold it too, they would not see what is written to it.
        fresh = sys.getrefcount(value) <= _ALONE and _owns_its_memory(value)
        if value.dtype.kind != "f" or not value.flags.writeable or not fresh:
            return value
        return wrap(self._tape, self._tape.record_constant(value))

    def shown(self, value: Any) -> Any:
        """Return what is formatted by `text % value`: nobody computes with text."""
        if type(value) is Traced:
            return value.value
        if type(value) is tuple:
            return tuple(map(self.shown, value))
        if type(value) is dict:
            return {key: self.shown(part) for key, part in value.items()}
        return value


def _moving(args: Sequence[Any]) -> bool:
    """Whether a traced array that depends on a parameter is among arguments, or in a list there."""
    return any(
        not arg.node.constant
        if type(arg) is Traced
        else type(arg) in (list, tuple) and _moving(arg)
        for arg in args
    )


def _number(x: Any) -> Any:
    """`float(x)`: a number still, of which NumPy says that it is a float."""
    if type(x) is not Traced or x.ndim:
        return float(x)  # raises NumPy's own error, or leaves a guard
    return _float64(x)


def _float64(x: Any) -> Any:
    """`np.float64(x)`: an array stays one, what has no axes becomes a number."""
    if type(x) is not Traced:
        x = stack_nested(x)
    return (x if x.dtype == np.float64 else x.astype(np.float64))[()]


def _as_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers, as `math` has them: arrays of one element pass for numbers."""

    def call(*args: Any, **kwargs: Any) -> Any:
        numbers = [_number(arg) if type(arg) is Traced else arg for arg in args]
        return function(*numbers, **kwargs)

    return call


def _log(x: Any, *base: Any) -> Any:
    return np.log(x) / np.log(base[0]) if base else np.log(x)


def _test(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: bool(function(x))


def _round(x: Any, ndigits: Any = None) -> Any:
    return int(np.rint(x)) if ndigits is None else np.round(x, ndigits)


def _sum(values: Any) -> Any:
    values = list(values)
    return np.sum(stack_nested(values)) if _moving(values) else math.fsum(values)


def _stand_ins() -> dict[int, Callable[..., Any]]:
    """Return NumPy's functions by the identity of Python's own."""
    table: dict[Any, Callable[..., Any]] = {float: _number, round: _as_numbers(_round)}
    for name in (*_SAME.split(), *_RENAMED):
        if hasattr(math, name):
            table[getattr(math, name)] = _as_numbers(getattr(np, _RENAMED.get(name, name)))
    for name in _TESTS:
        table[getattr(math, name)] = _as_numbers(_test(getattr(np, name)))
    table[math.log], table[math.fsum] = _as_numbers(_log), _sum
    table[np.float64] = _float64
    return {id(function): stand_in for function, stand_in in table.items()}


def _owns_its_memory(value: np.ndarray[Any, Any]) -> bool:
    """Whether nothing else holds the memory: it is the array's own, or that of a hidden base."""
    base = value.base
    if base is None:
        return value.flags.owndata
    # What is a view of it later depends on how it lies in memory.
    whole = type(base) is np.ndarray and base.flags.owndata and value.flags.c_contiguous
    return whole and sys.getrefcount(base) <= _ALONE_AS_A_BASE


def _references(value: Any) -> int:
    return sys.getrefcount(value)


def _references_to_base(value: Any) -> int:
    base = value.base
    return sys.getrefcount(base)


_STAND_INS = _stand_ins()
# How many references an array has that only the running function knows; Pythons differ.
_ALONE = _references(np.empty(1))
_ALONE_AS_A_BASE = _references_to_base(np.empty(2).reshape(1, 2))
