"""Making arrays while the trace runs.

`np.zeros(shape)` gives an ordinary array, which no traced value can be written into. So while a
loss is traced, the makers of float arrays in the `numpy` namespace give traced constants instead,
in the tracing thread only; `np.array` of traced scalars stacks them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastcheck.trace.functions.join import stack_nested
from fastcheck.trace.registry import traced
from fastcheck.trace.source import called_by_library
from fastcheck.trace.tape import Tape
from fastcheck.trace.traced import Traced, contains_traced, wrap

_MAKERS = ("zeros", "ones", "empty", "full")
_CONVERTERS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
_ORIGINAL: dict[str, Callable[..., Any]] = {
    name: getattr(np, name) for name in (*_MAKERS, *_CONVERTERS)
}
_patching = threading.Lock()


def _fresh(tape: Tape, array: Any) -> Any:
    """A float array made inside the loss may receive traced values later, so it is traced."""
    return wrap(tape, tape.record_constant(array)) if array.dtype.kind == "f" else array


def _maker(name: str, tape: Tape, thread: int) -> Callable[..., Any]:
    original = _ORIGINAL[name]

    def make(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread or called_by_library():
            return original(*args, **kwargs)
        if name == "full" and contains_traced(args[1:2]):
            return np.broadcast_to(args[1], args[0]).copy()
        # Uninitialised memory differs from call to call; zeros do not.
        array = _ORIGINAL["zeros" if name == "empty" else name](*args, **kwargs)
        return _fresh(tape, array)

    return make


def _converter(name: str, thread: int) -> Callable[..., Any]:
    original = _ORIGINAL[name]

    def convert(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread or not args or not contains_traced(args[0]):
            return original(*args, **kwargs)
        return _converted(args[0], name, *args[1:], **kwargs)

    return convert


def _converted(
    value: Any, name: str, dtype: Any = None, *, copy: bool | None = None, ndmin: int = 0, **_: Any
) -> Any:
    copying = (name == "array" and copy is not False) or copy is True
    array: Any = stack_nested(value)
    if dtype is not None and array.dtype != np.dtype(dtype):
        array = array.astype(dtype)
    elif copying and isinstance(value, Traced):
        array = array.copy()
    return array if array.ndim >= ndmin else array[(None,) * (ndmin - array.ndim)]


@contextmanager
def traced_makers(tape: Tape) -> Iterator[None]:
    """Let `np.zeros` and its kin make traced arrays in this thread while the context lasts."""
    thread = threading.get_ident()
    with _patching:
        try:
            for name in _MAKERS:
                setattr(np, name, _maker(name, tape, thread))
            for name in _CONVERTERS:
                setattr(np, name, _converter(name, thread))
            yield
        finally:
            for name, original in _ORIGINAL.items():
                setattr(np, name, original)


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    """np.zeros_like and its kin: the shape and dtype of a traced array, nothing of its value."""

    def rule(
        a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None
    ) -> Any:
        shape = a.shape if shape is None else shape
        return _fresh(a.tape, make(shape, a.dtype if dtype is None else dtype))

    return rule


traced(np.zeros_like)(_like(_ORIGINAL["zeros"]))
traced(np.empty_like)(_like(_ORIGINAL["zeros"]))
traced(np.ones_like)(_like(_ORIGINAL["ones"]))


@traced(np.full_like)
def full_like(a: Any, fill_value: Any, dtype: Any = None, *_: Any, **kwargs: Any) -> Any:
    filled = np.zeros_like(a, dtype=dtype, shape=kwargs.get("shape"))
    filled[...] = fill_value
    return filled
