"""The arrays that a loss finds outside itself, as traced constants while it is traced.

`X.dot(W)` of plain X is C code, which no protocol reaches, and so is `net.W[...] = W`. If X and
`net.W` are traced, these are methods of traced arrays. So each array that the loss can reach gets
one traced array, which takes its place wherever it is found: in attributes, containers, closures,
defaults and module variables. All of them are put back in the end.

An array may be written to if every other way to its memory is known: views of one memory share a
`Store`, as views of any traced array do. Where one of them is of another kind, or hidden in an
object that nothing can be put into, a write is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.params.places import is_device_array
from fastcheck.trace.memory import Store
from fastcheck.trace.reach import Reach, can_be_rebuilt, reach_of, rebuilt
from fastcheck.trace.rewriting import rewritten
from fastcheck.trace.tape import Tape
from fastcheck.trace.traced import Traced, wrap
from fastcheck.trace.undoing import Steps, take_back
from fastcheck.trace.views import owner_of, steps_to

_Array = NDArray[Any]


@contextmanager
def with_traced_data(
    loss: Callable[..., Any], tape: Tape, kinds: str
) -> Iterator[Callable[..., Any]]:
    """Give `loss` with the plain arrays that it reaches as traced constants.

    `kinds` are the kinds of dtypes that this is done for; arrays of others stay as they are.
    """
    reach = reach_of(loss)
    swap = _Swap(tape, reach, kinds)
    undo: Steps = []
    try:
        rewritten(reach.functions, tape, undo)
        for place in reach.places:
            new = swap.replaced(place.value)
            if new is not place.value:
                place.put(new, undo)
        yield swap.replaced(loss)
    finally:
        take_back(undo)


class _Swap:
    """Finds what takes the place of arrays, and of tuples and partial functions that hold some."""

    def __init__(self, tape: Tape, reach: Reach, kinds: str) -> None:
        self._tape = tape
        self._kinds = kinds
        self._reach = reach  # keeps the objects alive that are known by their ids
        self._known: dict[int, Any] = {}
        members: dict[int, list[_Array]] = {}
        for array in reach.arrays:
            if is_device_array(array):
                self._add_device_array(array)
            else:
                members.setdefault(id(owner_of(array)), []).append(array)
        hidden = [owner_of(array) for array in reach.hidden]
        self._hidden = {id(owner) for owner in hidden}
        # Windows made by `as_strided`, and arrays over other buffers, do not name whose they are.
        owners = [*hidden, *(owner_of(arrays[0]) for arrays in members.values())]
        self._borrowed = [owner for owner in owners if not owner.flags.owndata]
        for arrays in members.values():
            self._add_arrays(owner_of(arrays[0]), arrays)

    def replaced(self, value: Any) -> Any:
        """Return what takes the place of `value`: often `value` itself."""
        if id(value) in self._known:
            return self._known[id(value)]
        new = rebuilt(value, self.replaced) if can_be_rebuilt(value) else value
        if new is not value:
            self._known[id(value)] = new
        return new

    def _add_device_array(self, array: Any) -> None:
        if array.dtype.kind == "f":
            data = wrap(self._tape, self._tape.constant(array))
            # The user's array may be reached in other ways too, which would not see a write.
            data.forbid_writes()
            self._known[id(array)] = data

    def _add_arrays(self, owner: _Array, arrays: list[_Array]) -> None:
        """Add the arrays that were found in one memory."""
        paths = [steps_to(array, owner) for array in arrays]
        alike = all(self._suits(array) for array in (owner, *arrays)) and None not in paths
        # What is read-only raises an error of NumPy's when the loss writes to it.
        writeable = all(array.flags.writeable for array in (owner, *arrays))
        if alike and writeable and owner.flags.owndata and self._is_known(owner):
            store = Store.of_data(self._tape, owner)
            for array, steps in zip(arrays, paths, strict=True):
                assert steps is not None
                self._known[id(array)] = Traced(store, steps)
            return
        for array in filter(self._suits, arrays):
            data = Traced(Store.of_data(self._tape, array))
            data.forbid_writes()
            self._known[id(array)] = data

    def _suits(self, array: _Array) -> bool:
        return type(array) is np.ndarray and array.dtype.kind in self._kinds

    def _is_known(self, owner: _Array) -> bool:
        """Whether all ways to its memory are known."""
        if not self._reach.whole or id(owner) in self._hidden:
            return False
        return not any(np.may_share_memory(owner, other) for other in self._borrowed)
