"""Stacks of copies of θ to hand to the user's function, and whether it wrote into them.

The tensor that is perturbed has one stack that is kept: an element of each copy is set, and set
back afterwards. The others stay at θ, so a view of one copy with a stride of zero stands for the
whole stack. Nothing that is handed out is the tree's own memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.params import ParamTree, Tensor
from fastcheck.params.places import imported_cupy


@dataclass(frozen=True)
class Home:
    """Where the stacks of a tensor are made: where the user's own array is."""

    xp: Any
    asarray: Callable[[Any], Any]
    active: Callable[[], AbstractContextManager[Any]]

    @classmethod
    def of(cls, tensor: Tensor) -> Home:
        """Return NumPy, or CuPy on the tensor's device and the user's stream."""
        if tensor.place is None:
            return cls(np, np.asarray, nullcontext)
        return cls(imported_cupy(), tensor.place.array, tensor.place.active)


@dataclass(frozen=True)
class Lent:
    """A stack that is in the user's hands.

    Attributes
    ----------
    tree : object
        What is handed to the user's loss.
    """

    tree: Any
    tensor: Tensor
    stack: Any
    rows: Any
    places: tuple[Any, Any]
    values: Any


class Stacks:
    """Stacks of the parameters, in the array namespace of the user's own arrays.

    Parameters
    ----------
    tree : ParamTree
        The parameters θ.
    """

    def __init__(self, tree: ParamTree) -> None:
        self._tree = tree
        self._homes = {t.name: Home.of(t) for t in tree}
        self._theta = {t.name: self._homes[t.name].asarray(t.value) for t in tree}
        self._shown: dict[str, Any] = {}
        self._kept: tuple[str, Any] | None = None
        self._out = True

    def reserve(self, tensor: Tensor, copies: int) -> None:
        """Make the stack of a tensor now that `lend` will need."""
        self._kept = (tensor.name, self._take(tensor, copies))

    def lend(self, tensor: Tensor, indices: IndexArray, values: FloatArray) -> Lent:
        """Return a stack that shares memory: with later ones, and between its copies.

        NumPy arrays are read-only.

        Parameters
        ----------
        tensor : Tensor
            The tensor that is perturbed.
        indices : (B,) int64
            The element of each copy.
        values : (B,) float64
            What it is set to.
        """
        copies = len(indices)
        if self._out:  # the last one did not come back, because the user's function raised
            self._shown = {t.name: self._copy(t) for t in self._tree}
        self._out = True
        stack = self._take(tensor, copies)
        part = stack[:copies]
        rows, places, moved = self._set(part, tensor, indices, values)
        if isinstance(part, np.ndarray):
            part.flags.writeable = False  # `rows` remains writable
        leaves = {
            t.name: self._spread(t, self._shown[t.name], copies)
            for t in self._tree
            if t.name != tensor.name
        }
        leaves[tensor.name] = part
        return Lent(self._tree.build(leaves), tensor, stack, rows, places, moved)

    def take_back(self, lent: Lent) -> tuple[str, ...]:
        """Set the perturbed elements back; return the names of tensors that were written into."""
        written = [
            t.name
            for t in self._tree
            if t.name != lent.tensor.name and self._differs(t, self._shown[t.name])
        ]
        if self._is_whole(lent):
            self._kept = (lent.tensor.name, lent.stack)
        else:
            written.append(lent.tensor.name)
        self._out = bool(written)
        return tuple(name for name in self._tree.names if name in written)

    def copies(self, tensor: Tensor, indices: IndexArray, values: FloatArray) -> Any:
        """Return a stack as `lend` does, but in fresh memory that may be written into."""
        leaves = {}
        for t in self._tree:
            with self._homes[t.name].active():
                leaves[t.name] = self._spread(t, self._theta[t.name], len(indices)).copy()
        self._set(leaves[tensor.name], tensor, indices, values)
        return self._tree.build(leaves)

    def drop(self) -> None:
        """Give up the stack that is kept between calls."""
        self._kept = None

    def _copy(self, tensor: Tensor) -> Any:
        with self._homes[tensor.name].active():
            return self._theta[tensor.name].copy()

    def _spread(self, tensor: Tensor, array: Any, copies: int) -> Any:
        with self._homes[tensor.name].active():
            return self._homes[tensor.name].xp.broadcast_to(array, (copies, *tensor.shape))

    def _differs(self, tensor: Tensor, array: Any) -> bool:
        with self._homes[tensor.name].active():
            return bool((array != self._theta[tensor.name]).any())

    def _is_whole(self, lent: Lent) -> bool:
        """Set the perturbed elements back; return whether the stack is at θ then."""
        with self._homes[lent.tensor.name].active():
            # Setting an element back would hide that it was written into.
            spoilt = bool((lent.rows[lent.places] != lent.values).any())
            theta = self._theta[lent.tensor.name].reshape(-1)
            lent.rows[lent.places] = theta[lent.places[1]]
            return not spoilt and not bool((lent.rows != theta).any())

    def _take(self, tensor: Tensor, copies: int) -> Any:
        # It is kept again only once it is known to be at θ: an interruption may come at any moment.
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] == tensor.name and len(kept[1]) >= copies:
            return kept[1]
        del kept  # before as much is taken again
        home = self._homes[tensor.name]
        with home.active():
            stack = home.xp.empty((copies, *tensor.shape))
            stack[...] = self._theta[tensor.name]
            return stack

    def _set(
        self, stack: Any, tensor: Tensor, indices: IndexArray, values: FloatArray
    ) -> tuple[Any, tuple[Any, Any], Any]:
        """Set an element of each copy; return the copies as rows, the places, and the values."""
        home = self._homes[tensor.name]
        with home.active():
            rows = stack.reshape(len(indices), tensor.size)
            places = (home.xp.arange(len(indices)), home.asarray(indices))
            moved = home.asarray(values)
            rows[places] = moved
            return rows, places, moved
