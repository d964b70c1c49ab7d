"""Which arrays' contents are copied, so that a giant data set does not cost a copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastcheck.keep.arrays import Contents, contents_of, writeable_part
from fastcheck.params.places import addresses

_Array = Any
"""An array of NumPy or CuPy."""
_MOST_BYTES = 256 * 2**20


def snapshots_of_contents(
    reached: Iterable[_Array], parameters: Sequence[_Array]
) -> tuple[list[Contents], tuple[str, ...]]:
    """Snapshots of the contents of `reached`, and in words what was left out.

    The smallest arrays come first: buffers, masks and counters are always kept, and only giant
    data sets, which losses read, may be left out. Whatever may share memory with `parameters`
    is kept at any size.
    """
    kept: dict[int, _Array] = {}
    left: list[_Array] = []
    in_views: Counter[int] = Counter()  # Bytes already spent on views of an array, by its id.
    room = _MOST_BYTES
    for array in sorted(_writeable(reached), key=_bytes_of):
        more = array.nbytes - in_views[id(array)]
        if id(array.base) in kept:
            continue
        if more <= room:
            room -= more
            in_views[id(array.base)] += array.nbytes
        elif not _may_share(array, parameters):
            left.append(array)
            continue
        kept[id(array)] = array
    chosen = [array for array in kept.values() if id(array.base) not in kept]
    missing = [array for array in left if id(array.base) not in kept]
    return [contents_of(array) for array in chosen], _in_words(missing)


def _writeable(reached: Iterable[_Array]) -> Iterable[_Array]:
    parts = [part for array in reached if (part := writeable_part(array)) is not None]
    return {id(part): part for part in parts}.values()


def _may_share(array: _Array, parameters: Sequence[_Array]) -> bool:
    mine = addresses(array)
    return any(np.may_share_memory(mine, addresses(parameter)) for parameter in parameters)


def _bytes_of(array: _Array) -> int:
    return int(array.nbytes)


def _in_words(left: list[_Array]) -> tuple[str, ...]:
    if not left:
        return ()
    size = f"{sum(array.nbytes for array in left) / 1e6:,.0f} MB"
    if len(left) == 1:
        return (f"the contents of 1 array of {size}",)
    return (f"the contents of {len(left):,} arrays of {size} in all",)
