"""Making arrays while the trace runs.

`np.zeros(shape)` gives an ordinary array, which no traced value can be written into. So while a
loss is traced, the user's modules see makers of float arrays that give traced constants instead,
in the tracing thread only; `np.array` of traced scalars stacks them. NumPy itself is left alone:
compiled code (`np.random`, for one) calls `np.empty` too and must get real memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastcheck.params.places import is_device_array
from fastcheck.trace.functions.common import lift, tape_of
from fastcheck.trace.functions.join import stack_nested
from fastcheck.trace.registry import traced
from fastcheck.trace.tape import Tape
from fastcheck.trace.traced import Traced, contains_traced, wrap

_MAKERS = ("zeros", "ones", "empty", "full", "eye", "identity", "tri")
_LIKE = ("zeros_like", "ones_like", "empty_like", "full_like")
_CONVERTERS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
# NumPy looks for overrides in an array, but not in the list of arrays that these take as well.
_LIST_TAKERS = ("sum", "mean", "prod", "max", "min", "amax", "amin", "std", "var", "median", "dot")
_ORIGINAL: dict[str, Callable[..., Any]] = {
    name: getattr(np, name) for name in (*_MAKERS, *_LIKE, *_CONVERTERS, *_LIST_TAKERS)
}


def _fresh(tape: Tape, array: Any) -> Any:
    """A float array made inside the loss may receive traced values later, so it is traced."""
    return wrap(tape, tape.record_constant(array)) if array.dtype.kind == "f" else array


def _maker(name: str, tape: Tape, thread: int) -> Callable[..., Any]:
    original = _ORIGINAL[name]

    def make(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return original(*args, **kwargs)
        if name == "full_like" and contains_traced(args[1:2]):
            return full_like(*args, **kwargs)
        if name in _LIKE:
            given: Any = (shaped_like(args[0]), *args[1:])
            array = _ORIGINAL["zeros_like" if name == "empty_like" else name](*given, **kwargs)
            made = array if isinstance(array, Traced) else _fresh(tape, array)
            # Of integers and masks of the device, there are no traced ones.
            mine = isinstance(made, Traced) or not is_device_array(args[0])
            return made if mine else original(*args, **kwargs)
        if name == "full" and contains_traced(args[1:2]):
            return np.broadcast_to(args[1], args[0]).copy()
        # Uninitialised memory differs from call to call; zeros do not.
        array = _ORIGINAL["zeros" if name == "empty" else name](*args, **kwargs)
        return _fresh(tape, array)

    return make


def shaped_like(a: Any) -> Any:
    """An array on the host with the shape, dtype and layout of a device array; else `a` itself."""
    if not is_device_array(a):
        return a
    order = "F" if a.flags.f_contiguous and not a.flags.c_contiguous else "C"
    return np.empty(a.shape, a.dtype, order=order)  # type: ignore[call-overload]


def _list_taker(name: str, thread: int) -> Callable[..., Any]:
    original = _ORIGINAL[name]

    def take(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            args = tuple(stack_nested(arg) if _is_list_of_traced(arg) else arg for arg in args)
        return original(*args, **kwargs)

    return take


def _is_list_of_traced(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and contains_traced(value)


def _converter(name: str, thread: int) -> Callable[..., Any]:
    original = _ORIGINAL[name]

    def convert(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread or not args or not contains_traced(args[0]):
            return original(*args, **kwargs)
        return _converted(args[0], name, *args[1:], **kwargs)

    return convert


def _converted(
    value: Any, name: str, dtype: Any = None, *, copy: Any = "default", ndmin: int = 0, **_: Any
) -> Any:
    array: Any = stack_nested(value)
    wanted = name == "array" if copy == "default" else copy is True
    copying = wanted or _must_move(name, array)
    if dtype is not None and array.dtype != np.dtype(dtype):
        array = array.astype(dtype)
    elif copying and isinstance(value, Traced):
        array = array.copy("F" if name == "asfortranarray" else "C")
    return array if array.ndim >= ndmin else array[(None,) * (ndmin - array.ndim)]


def _must_move(name: str, array: Traced) -> bool:
    """Whether the elements do not lie in memory as the converter wants them."""
    flags = array.flags
    return (name == "ascontiguousarray" and not flags.c_contiguous) or (
        name == "asfortranarray" and not flags.f_contiguous
    )


class _Joiner:
    """np.c_ and np.r_ of traced arrays: they join along the last and the first axis."""

    def __init__(self, original: Any, join: Callable[[Any], Any], thread: int) -> None:
        self._original = original
        self._join = join
        self._thread = thread

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        mine = threading.get_ident() == self._thread and contains_traced(parts)
        if not mine or any(isinstance(part, (slice, str)) for part in parts):
            return self._original[key]
        return self._join(parts)


def makers(tape: Tape) -> dict[str, Any]:
    """Return what takes the place of NumPy's makers of arrays, by name, in this thread."""
    thread = threading.get_ident()
    return {
        **{name: _maker(name, tape, thread) for name in (*_MAKERS, *_LIKE)},
        **{name: _converter(name, thread) for name in _CONVERTERS},
        **{name: _list_taker(name, thread) for name in _LIST_TAKERS},
        **joiners(vars(np), thread),
    }


def joiners(module: Mapping[str, Any], thread: int) -> dict[str, Any]:
    """Return what takes the place of a module's `c_` and `r_`, if it has them."""
    joins: dict[str, Callable[[Any], Any]] = {
        "c_": np.column_stack,
        "r_": lambda parts: np.concatenate([*map(np.atleast_1d, parts)]),
    }
    return {
        name: _Joiner(module[name], join, thread) for name, join in joins.items() if name in module
    }


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    """np.zeros_like and its kin: the shape and dtype of a traced array, nothing of its value."""

    def rule(a: Any, *args: Any, **kwargs: Any) -> Any:
        # `make` takes an array's layout, which decides what is a view later.
        return _fresh(a.tape, make(np.asarray(a.node.value), *args, **kwargs))

    return rule


traced(np.zeros_like)(_like(np.zeros_like))
traced(np.empty_like)(_like(np.zeros_like))
traced(np.ones_like)(_like(np.ones_like))


@traced(np.full_like)
def full_like(a: Any, fill_value: Any, *args: Any, **kwargs: Any) -> Any:
    filled = np.zeros_like(a, *args, **kwargs)
    if not isinstance(filled, Traced):  # an array of integers
        filled = lift(filled, tape_of(a, fill_value))
    filled[...] = fill_value
    return filled
