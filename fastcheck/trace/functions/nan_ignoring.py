"""Reductions that leave out NaN: those of the array with something neutral in its place."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.registry import traced


def _filled(a: Any, neutral: float) -> Any:
    return np.where(np.isnan(a), neutral, a)


@traced(np.nansum)
def nansum(a: Any, axis: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
    return np.sum(_filled(a, 0.0), axis=axis, dtype=dtype, **kwargs)


@traced(np.nanprod)
def nanprod(a: Any, axis: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
    return np.prod(_filled(a, 1.0), axis=axis, dtype=dtype, **kwargs)


@traced(np.nanmean)
def nanmean(a: Any, axis: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
    total = np.sum(_filled(a, 0.0), axis=axis, dtype=dtype, **kwargs)
    return total / np.sum(~np.isnan(a), axis=axis, **kwargs)


@traced(np.nanmax)
def nanmax(a: Any, axis: Any = None, **kwargs: Any) -> Any:
    return np.max(_filled(a, -np.inf), axis=axis, **kwargs)


@traced(np.nanmin)
def nanmin(a: Any, axis: Any = None, **kwargs: Any) -> Any:
    return np.min(_filled(a, np.inf), axis=axis, **kwargs)


@traced(np.nanvar)
def nanvar(a: Any, axis: Any = None, dtype: Any = None, ddof: float = 0, **kwargs: Any) -> Any:
    return np.var(a, axis=axis, dtype=dtype, ddof=ddof, where=~np.isnan(a), **kwargs)


@traced(np.nanstd)
def nanstd(a: Any, *args: Any, **kwargs: Any) -> Any:
    return np.sqrt(nanvar(a, *args, **kwargs))


@traced(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return np.cumsum(_filled(a, 0.0), axis=axis)


@traced(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None) -> Any:
    return np.cumprod(_filled(a, 1.0), axis=axis)


@traced(np.nanargmax)
def nanargmax(a: Any, axis: Any = None, **kwargs: Any) -> Any:
    return np.argmax(_filled(a, -np.inf), axis=axis, **kwargs)


@traced(np.nanargmin)
def nanargmin(a: Any, axis: Any = None, **kwargs: Any) -> Any:
    return np.argmin(_filled(a, np.inf), axis=axis, **kwargs)
