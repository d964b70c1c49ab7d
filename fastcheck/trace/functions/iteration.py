"""NumPy's ways to go through an array element by element, which convert what they are given.

While a loss is traced, the user's modules see these in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import lift, refuse, tape_of
from fastcheck.trace.functions.join import stack_nested
from fastcheck.trace.traced import Traced, contains_traced

_NDENUMERATE, _NDITER, _VECTORIZE = np.ndenumerate, np.nditer, np.vectorize


def ndenumerate(arr: Any) -> Any:
    """As numpy.ndenumerate."""
    return _enumerated(arr) if isinstance(arr, Traced) else _NDENUMERATE(arr)


def _enumerated(arr: Traced) -> Iterator[tuple[tuple[int, ...], Any]]:
    for index in np.ndindex(arr.shape):
        yield index, arr[index]


def nditer(op: Any, *args: Any, **kwargs: Any) -> Any:
    """As numpy.nditer, of plain data only."""
    if contains_traced(op):
        refuse("np.nditer", "write np.ndenumerate(x), or compute with whole arrays", op)
    return _NDITER(op, *args, **kwargs)


class Vectorized:
    """A np.vectorize object that maps its function over the elements of traced arrays too."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not contains_traced(args):
            return self._original(*args, **kwargs)
        given = self._original
        if kwargs or given.signature is not None or given.excluded:
            refuse("np.vectorize with a signature, keywords or excluded=", "write a loop", *args)
        tape = tape_of(*args)
        arrays = np.broadcast_arrays(*[lift(arg, tape) for arg in args])
        parts = [array.ravel() for array in arrays]
        results = [given.pyfunc(*elements) for elements in zip(*parts, strict=True)]
        if not results or isinstance(results[0], tuple):
            refuse("np.vectorize without or with several results", "write a loop", *args)
        # Its type is that of the first result, to which NumPy converts the others.
        first = results[0].dtype if isinstance(results[0], Traced) else np.asarray(results[0]).dtype
        dtype = np.dtype(given.otypes[0]) if given.otypes else first
        whole: Any = stack_nested(results) if contains_traced(results) else np.array(results)
        return lift(whole, tape).astype(dtype).reshape(arrays[0].shape)[()]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def vectorize(*args: Any, **kwargs: Any) -> Any:
    """As numpy.vectorize."""
    made = _VECTORIZE(*args, **kwargs)
    return Vectorized(made) if isinstance(made, _VECTORIZE) and callable(args and args[0]) else made


def stand_in_of(value: Any) -> Any:
    """Return what takes the place of an object that np.vectorize made; None for others."""
    return Vectorized(value) if type(value) is _VECTORIZE else None


def iterators() -> dict[str, Callable[..., Any]]:
    """Return what takes the place of NumPy's iterators, by name."""
    return {"ndenumerate": ndenumerate, "nditer": nditer, "vectorize": vectorize}
