"""What memory is to traced arrays: views share a store, and a write moves the whole store on.

NumPy's views see each other's writes. Here every array that owns its memory is a `Store` holding
the node of its present contents; a view is a store plus the structural steps that lead from it. A
write makes a new node for the whole store, and every view of it finds its own contents afresh.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.primitives import BROADCAST, CAST, WRITE
from fastcheck.trace.tape import Tape

Step = tuple[Primitive, dict[str, Any]]


class Store:
    """Memory that traced arrays share: the node of its contents, and how often it was written."""

    __slots__ = ("_data", "_known", "_scratch", "exported", "tape", "version")

    def __init__(self, tape: Tape, node: Node | None, data: NDArray[Any] | None = None) -> None:
        self.tape = tape
        self.version = 0
        self.exported = False
        self._known = node
        self._data = data
        self._scratch: NDArray[Any] | None = None

    @classmethod
    def of_data(cls, tape: Tape, data: NDArray[Any]) -> Store:
        """Return the store of an array of the user's, whose contents are taken once needed."""
        return cls(tape, None, data)

    @property
    def _node(self) -> Node:
        if self._known is None:
            assert self._data is not None
            self._known, self._data = self.tape.constant(self._data), None
        return self._known

    @_node.setter
    def _node(self, node: Node) -> None:
        self._known = node

    @property
    def shape(self) -> tuple[int, ...]:
        return self._node.shape

    @property
    def is_scalar(self) -> bool:
        # CuPy gives arrays without axes where NumPy gives scalars.
        return self.tape.place is None and not isinstance(self._node.value, np.ndarray)

    @property
    def node(self) -> Node:
        if self._scratch is not None:
            self._node = self.tape.record_constant(self._scratch)
            self._scratch = None
        return self._node

    def replace(self, node: Node) -> None:
        """Give the store new contents."""
        self._refuse_if_exported()
        self._scratch = None
        self._node = node
        self.version += 1

    def write(self, index: Any, value: Node) -> None:
        """Write `value` at `index` of the whole store."""
        self._refuse_if_exported()
        dtype = self._node.value.dtype
        if dtype.kind in "biu" and value.value.dtype.kind == "f":
            value = self.tape.apply(CAST, value, dtype=dtype)
        if self._scratch is not None and value.constant:
            self._scratch[index] = value.value
        elif self._node.constant and value.constant:
            # Nobody has seen this copy yet, so a run of constant writes can share it.
            scratch = np.array(self._node.value, order="K")
            scratch[index] = value.value
            self._scratch = scratch
        else:
            self._node = self.tape.apply(WRITE, self.node, value, index=index)
        self.version += 1

    def write_at(self, where: NDArray[np.int64], value: Node) -> None:
        """Write `value` at flat (C order) positions, as `positions` gives them."""
        if where.size:
            self.write(unflattened(self, where), value)

    def _refuse_if_exported(self) -> None:
        if self.exported:
            self.tape.refuse(
                "an array is written to after code outside NumPy's protocols read it",
                "write before handing the array on, or hand on a copy",
            )


def positions(store: Store, steps: tuple[Step, ...]) -> NDArray[np.int64]:
    """Return where in the flat (C order) store each element of a view lies."""
    flat: NDArray[np.int64] = np.arange(int(np.prod(store.shape)), dtype=np.int64)
    flat = flat.reshape(store.shape)
    for primitive, params in steps:
        flat = primitive.evaluate(flat, **params)
    return flat


def writable(store: Store, steps: tuple[Step, ...]) -> NDArray[np.int64]:
    """Return the positions of a view that is written to; refused where its elements overlap."""
    where = positions(store, steps)
    fancy = any(_may_overlap(primitive, params) for primitive, params in steps)
    if fancy and np.bincount(where.reshape(-1)).max(initial=0) > 1:
        store.tape.refuse(
            "a view whose elements overlap in memory is written to",
            "write to a copy, or to the array that it is a view of",
        )
    return where


def _may_overlap(primitive: Primitive, params: dict[str, Any]) -> bool:
    # Only as_strided and its kin make views by index arrays.
    index = params.get("index", ())
    parts = index if isinstance(index, tuple) else (index,)
    return primitive is BROADCAST or any(isinstance(part, np.ndarray) for part in parts)


def unflattened(store: Store, where: NDArray[np.int64]) -> tuple[Any, ...]:
    """Return flat positions as an index of the whole store."""
    return np.unravel_index(where, store.shape) if store.shape else ()


def laid_out_as(tape: Tape, old: Any, node: Node) -> Node:
    """Return `node` in the memory layout of the array that it overwrites."""
    new = node.value
    if isinstance(new, np.ndarray) and (new.strides == old.strides or new.size < 2):
        return node
    laid_out = np.empty_like(old)
    laid_out[...] = new
    return tape.record(CAST, (node,), {"dtype": old.dtype}, laid_out)
