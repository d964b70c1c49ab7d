"""Functions that choose between values, and elementwise ones made of others."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, lift, refuse, tape_of
from fastcheck.trace.primitives import WHERE, discrete_function, opaque_function
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import plain_index


@traced(np.where)
def where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return np.nonzero(plain_index(tape_of(condition), condition != 0))
    tape = tape_of(condition, *branches)
    condition = lift(condition, tape)
    if condition.dtype != bool:
        condition = condition != 0
    return apply(WHERE, condition, *branches)


@traced(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is not None:
        a = np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


@traced(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    chosen = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        chosen = np.where(condition, choice, chosen)
    return chosen


@traced(np.nan_to_num)
def nan_to_num(
    x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    info = np.finfo(x.dtype)
    x = np.where(np.isnan(x), nan, x)
    x = np.where(x == np.inf, info.max if posinf is None else posinf, x)
    return np.where(x == -np.inf, info.min if neginf is None else neginf, x)


def _lower(shape: tuple[int, ...], k: int) -> Any:
    return np.tri(shape[-2], shape[-1], k, dtype=bool)


@traced(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    return np.where(_lower(m.shape, k), m, 0.0)


@traced(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    return np.where(_lower(m.shape, k - 1), 0.0, m)


_ROUND = discrete_function("round", lambda x, decimals: np.round(x, decimals))
_FIX = discrete_function("fix", lambda x: np.trunc(x))
_SINC = opaque_function("sinc", np.sinc)
_SORTED_BEFORE = discrete_function(
    "searchsorted", lambda a, v, side: np.asarray(np.searchsorted(a, v, side))[()]
)


traced(np.round, np.around)(lambda a, decimals=0: apply(_ROUND, a, decimals=decimals))
traced(np.fix)(lambda x: apply(_FIX, x))
traced(np.sinc)(lambda x: apply(_SINC, x))
traced(np.real)(lambda val: val)
traced(np.copy)(lambda a, order="K", subok=False: a.copy())


@traced(np.searchsorted)
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    return apply(_SORTED_BEFORE, a, v, side=side)


@traced(np.copyto)
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    from fastcheck.trace.dispatch import into  # registers itself after the rules

    tape = tape_of(dst, src, where)
    into(tape, src if where is True else np.where(where, src, dst), dst)


@traced(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    tape = tape_of(x, condlist, *args)
    x = lift(x, tape)
    several = np.ndim(condlist) > 0 if isinstance(condlist, np.ndarray) else np.iterable(condlist)
    several = several and (isinstance(condlist[0], (list, np.ndarray)) or not x.ndim)
    conditions = list(condlist) if several else [condlist]
    if len(funclist) == len(conditions) + 1:
        conditions.append(~np.any(np.stack([lift(one, tape) for one in conditions]), axis=0))
    pieces: Any = lift(np.zeros(x.shape, x.dtype), tape)
    for condition, function in zip(conditions, funclist, strict=True):
        if not callable(function):
            pieces[condition] = function
        elif (chosen := x[condition]).size:
            pieces[condition] = function(chosen, *args, **kw)
    return pieces


@traced(np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> None:
    # The place of an element in the whole array decides which of fewer values it gets.
    spread = np.reshape(np.take(values, np.arange(a.size) % np.size(values)), a.shape)
    copyto(a, spread, where=mask)


@traced(np.place)
def place(arr: Any, mask: Any, vals: Any) -> None:
    if np.size(vals) != 1:
        refuse("np.place of several values", "write x[mask] = values", arr, mask, vals)
    putmask(arr, mask, vals)


@traced(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    return np.shape(a1) == np.shape(a2) and np.all(a1 == a2)


@traced(np.isclose)
def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    return np.abs(a - b) <= atol + rtol * np.abs(b)


traced(np.allclose)(lambda a, b, *args, **kwargs: bool(np.all(np.isclose(a, b, *args, **kwargs))))
