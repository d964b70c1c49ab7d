"""What code asks of an array without computing with it: its type, its text, its memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, lift, refuse, tape_of
from fastcheck.trace.primitives import discrete_function
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import Traced, plain_index

_ISIN = discrete_function(
    "isin",
    lambda element, test, invert: np.asarray(np.isin(element, test, invert=invert))[()],
)
_LEXSORT = discrete_function("lexsort", lambda keys, axis: np.lexsort(keys, axis=axis))


def _typed(value: Any) -> Any:
    return value.dtype if isinstance(value, Traced) else value


def _text(value: Any) -> Any:
    """Text of a traced array is that of its value, as `str(x)` and f-strings give it."""
    return value.value if isinstance(value, Traced) else value


traced(np.can_cast)(lambda from_, to, casting="safe": np.can_cast(_typed(from_), to, casting))
traced(np.array2string)(lambda a, *args, **kwargs: np.array2string(_text(a), *args, **kwargs))
traced(np.array_str)(lambda a, *args, **kwargs: np.array_str(_text(a), *args, **kwargs))
traced(np.array_repr)(lambda arr, *args, **kwargs: np.array_repr(_text(arr), *args, **kwargs))
traced(np.real_if_close)(lambda a, tol=100: a)
traced(np.imag)(lambda val: lift(np.zeros(np.shape(val)), tape_of(val)))
traced(np.isreal)(lambda x: np.ones(np.shape(x), dtype=bool))
traced(np.iscomplex)(lambda x: np.zeros(np.shape(x), dtype=bool))
traced(np.isposinf)(lambda x: x == np.inf)
traced(np.isneginf)(lambda x: x == -np.inf)
traced(np.diag_indices_from)(lambda arr: np.diag_indices_from(np.empty(arr.shape)))
traced(np.tril_indices_from)(lambda arr, k=0: np.tril_indices(arr.shape[-2], k, arr.shape[-1]))
traced(np.triu_indices_from)(lambda arr, k=0: np.triu_indices(arr.shape[-2], k, arr.shape[-1]))


@traced(np.common_type)
def common_type(*arrays: Any) -> Any:
    return np.common_type(*[np.empty(0, a.dtype) for a in arrays])


@traced(np.einsum_path)
def einsum_path(*operands: Any, **kwargs: Any) -> Any:
    # Only shapes decide on the order.
    return np.einsum_path(*map(_text, operands), **kwargs)


@traced(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Any:
    try:
        np.broadcast_shapes(np.shape(a1), np.shape(a2))
    except ValueError:
        return False
    return np.all(np.equal(a1, a2))


@traced(np.isin)
def isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    kind: Any = None,
) -> Any:
    for values in (element, test_elements):
        if isinstance(values, Traced) and values.dtype.kind == "f" and not values.node.constant:
            refuse("np.isin of numbers that are not whole", "write abs(x - value) < 1e-9", values)
    return apply(_ISIN, element, test_elements, invert=invert)


@traced(np.lexsort)
def lexsort(keys: Any, axis: int = -1) -> Any:
    keys = keys if isinstance(keys, Traced) else np.stack([*keys])
    return apply(_LEXSORT, keys, axis=axis)


@traced(np.ix_)
def ix_(*args: Any) -> Any:
    tape = tape_of(*args)
    return np.ix_(*[plain_index(tape, arg) for arg in args])


@traced(np.ravel_multi_index)
def ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: Any = "C") -> Any:
    tape = tape_of(multi_index)
    places = tuple(plain_index(tape, one) for one in multi_index)
    return np.ravel_multi_index(places, dims, mode, order)


@traced(np.trim_zeros)
def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    kept = np.flatnonzero(plain_index(filt.tape, filt != 0))
    first = kept[0] if kept.size and "f" in trim.lower() else 0
    last = kept[-1] + 1 if kept.size and "b" in trim.lower() else len(filt)
    return filt[first:last] if kept.size else filt[:0]


@traced(np.shares_memory, np.may_share_memory)
def shares_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    from fastcheck.trace.memory import positions

    if not (isinstance(a, Traced) and isinstance(b, Traced)) or a._store is not b._store:
        return False
    mine, other = (positions(one._store, one._steps) for one in (a, b))
    return bool(np.intersect1d(mine, other).size)


if hasattr(np, "astype"):
    traced(np.astype)(lambda x, dtype, /, *, copy=True, device=None: x.astype(dtype, copy=copy))
