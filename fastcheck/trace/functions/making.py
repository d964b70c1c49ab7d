"""Making arrays while the trace runs.

`np.zeros(shape)` gives an ordinary array, which no traced value can be written into. So while a
loss is traced, the user's modules see makers of float arrays that give traced constants instead,
in the tracing thread only; `np.array` of traced scalars stacks them. NumPy itself is left alone:
compiled code (`np.random`, for one) calls `np.empty` too and must get real memory.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastcheck.params.places import is_device_array
from fastcheck.trace.functions.common import lift, tape_of
from fastcheck.trace.functions.iteration import iterators
from fastcheck.trace.functions.join import stack_nested
from fastcheck.trace.primitives import ELEMENTWISE
from fastcheck.trace.registry import traced
from fastcheck.trace.tape import Tape
from fastcheck.trace.traced import Traced, contains_traced, wrap

_MAKERS = ("zeros", "ones", "empty", "full", "eye", "identity", "tri")
_GRIDS = ("arange", "linspace", "logspace")
_LIKE = ("zeros_like", "ones_like", "empty_like", "full_like")
_CONVERTERS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
# NumPy looks for overrides in an array, but not in the list of arrays that these take as well.
_LIST_TAKERS = ("sum", "mean", "prod", "max", "min", "amax", "amin", "std", "var", "median", "dot")
_ORIGINAL: dict[str, Callable[..., Any]] = {
    name: getattr(np, name) for name in (*_MAKERS, *_GRIDS, *_LIKE, *_CONVERTERS, *_LIST_TAKERS)
}


def _fresh(tape: Tape, array: Any) -> Any:
    """An array made inside the loss may receive traced values later, so it is traced.

    Floats always. Masks and indices only once it is known that the loss stores traced ones in an
    ordinary array: they go into many more functions that know nothing of traced arrays.
    """
    mine = not isinstance(array, Traced) and array.dtype.kind in ("fbiu" if tape.makes_all else "f")
    return wrap(tape, tape.record_constant(array)) if mine else array


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
            args = tuple(map(_stacked, args))
        return original(*args, **kwargs)

    return take


class _UfuncOfLists:
    """A ufunc, or a method of one, that takes nested lists of traced numbers, too."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._original(*map(_stacked, args), **kwargs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._original, name)
        return _UfuncOfLists(found) if callable(found) else found

    def __eq__(self, other: object) -> bool:
        return other is self._original or other is self

    def __hash__(self) -> int:
        return hash(self._original)


def _stacked(value: Any) -> Any:
    return stack_nested(value) if _is_list_of_traced(value) else value


def _is_list_of_traced(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and contains_traced(value)


def _converter(name: str, tape: Tape, thread: int) -> Callable[..., Any]:
    original = _ORIGINAL[name]

    def convert(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread or not args:
            return original(*args, **kwargs)
        if contains_traced(args[0]):
            return _converted(args[0], name, *args[1:], **kwargs)
        made = original(*args, **kwargs)
        # What was an array already may be the user's own data.
        new = tape.makes_all and isinstance(args[0], (list, tuple, int, float))
        return _fresh(tape, made) if new else made

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


def _grid(name: str, tape: Tape, thread: int) -> Callable[..., Any]:
    """np.arange and np.linspace: evenly spaced numbers, between traced ends as well."""
    original = _ORIGINAL[name]

    def make(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return original(*args, **kwargs)
        made = original(*args, **kwargs)
        # They come in pairs with retstep=True, or traced.
        return _fresh(tape, made) if tape.makes_all and type(made) is np.ndarray else made

    return make


@traced(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    tape = tape_of(start, stop)
    start, stop = np.broadcast_arrays(lift(start, tape), lift(stop, tape))
    parts = num - 1 if endpoint else num
    step = (stop - start) / parts if parts > 0 else (stop - start) * np.nan
    along = np.arange(float(num)).reshape((-1,) + (1,) * start.ndim)
    points = start + along * step if parts > 0 else start + along * (stop - start)
    if endpoint and num > 1:  # the last point is the end itself, not next to it
        points = np.concatenate([points[:-1], stop[None]])
    points = np.moveaxis(points if dtype is None else points.astype(dtype), 0, axis)
    return (points, step) if retstep else points


@traced(np.logspace)
def logspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    tape = tape_of(start, stop, base)
    start, stop, base = (lift(part, tape) for part in (start, stop, base))
    if base.ndim:
        ndim = max(part.ndim for part in (start, stop, base))
        start, stop, base = (
            np.reshape(part, (1,) * (ndim - part.ndim) + part.shape) for part in (start, stop, base)
        )
        base = np.expand_dims(base, axis)
    powers = np.power(base, linspace(start, stop, num, endpoint, axis=axis))
    return powers if dtype is None else powers.astype(dtype)


@traced(np.arange)
def arange(*bounds: Any, **kwargs: Any) -> Any:
    """With `like=`; bounds that are traced are read as numbers, as NumPy reads them."""
    return _ORIGINAL["arange"](*bounds, **kwargs)


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
    ufuncs = ELEMENTWISE if tape.makes_all else ()
    return {
        **{ufunc.__name__: _UfuncOfLists(ufunc) for ufunc in ufuncs},
        **{name: _maker(name, tape, thread) for name in (*_MAKERS, *_LIKE)},
        **{name: _grid(name, tape, thread) for name in _GRIDS},
        **{name: _converter(name, tape, thread) for name in _CONVERTERS},
        **{name: _list_taker(name, thread) for name in _LIST_TAKERS},
        **joiners(vars(np), thread),
        **iterators(),
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


def _given_like(name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
    """A converter that is called with `like=` a traced array."""
    if contains_traced(value):
        return _converted(value, name, *args, **kwargs)
    return _ORIGINAL[name](value, *args, **kwargs)


def _with_like(make: Callable[..., Any]) -> Callable[..., Any]:
    """A maker that is called with `like=` a traced array, which chooses no value of its own."""
    return lambda *args, **kwargs: make(*args, **kwargs)


for _name in _MAKERS:
    traced(_ORIGINAL[_name])(_with_like(_ORIGINAL["zeros" if _name == "empty" else _name]))
for _name in _CONVERTERS:
    traced(_ORIGINAL[_name])(functools.partial(_given_like, _name))
