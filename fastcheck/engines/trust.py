"""What has been found trustworthy once: slices and kernels of one structure need no second look.

A check in a training loop traces the loss anew, since parameters, batch and branches may be others;
but where the same operations follow each other on arrays of the same shapes, comparing them with
the user's function again would show nothing new.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from fastcheck.engines.survey import Survey
from fastcheck.trace.graph import Node
from fastcheck.trace.slices import Slice

_MOST = 10_000
"""Structures remembered; code that builds another one at every step must not fill the memory."""


class Trust:
    """Remembers the structures of slices, and the kernels, that agreed with the user's function."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._sizes: dict[int, Survey] = {}

    def has(self, *what: Hashable) -> bool:
        """Whether this has agreed before."""
        return hash(what) in self._known

    def add(self, *what: Hashable) -> None:
        """Remember that this agrees."""
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known.add(hash(what))

    def sizes(self, what: int) -> Survey | None:
        """Return how large the stacks of such a slice were."""
        return self._sizes.get(what)

    def add_sizes(self, what: int, sizes: Survey) -> None:
        """Remember how large the stacks of such a slice are."""
        if len(self._sizes) >= _MOST:
            self._sizes.clear()
        self._sizes[what] = sizes

    def clear(self) -> None:
        """Forget everything: the next look is a first one again."""
        self._known.clear()
        self._sizes.clear()


_STRUCTURES: WeakKeyDictionary[Slice, int] = WeakKeyDictionary()


def structure(part: Slice) -> int:
    """Return what a slice computes, whatever the values: operations, shapes, how they connect.

    It is a hash: slices may be as long as a long recurrence is, and thousands are remembered.
    Arrays that are indices count by their shape, other parameters of operations by their value.
    """
    found = _STRUCTURES.get(part)
    if found is None:
        found = _STRUCTURES[part] = hash(_lines(part))
    return found


def _lines(part: Slice) -> Hashable:
    places: dict[Node, int] = {part.parameter: -1}
    lines = []
    for place, node in enumerate(part.nodes):
        operands = tuple(
            places[operand] if operand in places else ("constant", *_kind(operand.value))
            for operand in node.operands
        )
        places[node] = place
        lines.append((node.primitive, operands, _frozen(node.params), _kind(node.value)))
    guards = tuple((places.get(guard.node), guard.action) for guard in part.guards)
    return part.tensor, _kind(part.parameter.value), tuple(lines), guards, places.get(part.output)


def _kind(value: Any) -> tuple[Hashable, ...]:
    return tuple(value.shape), value.dtype.str


def _frozen(value: Any) -> Hashable:
    if value is True or value is False:
        return repr(value)
    if type(value) is int and value == -1:
        return "-1"  # Python's hash of -1 is that of -2
    if isinstance(value, np.ndarray):
        return ("array", *_kind(value))
    if isinstance(value, Mapping):
        return tuple((name, _frozen(one)) for name, one in value.items())
    if isinstance(value, tuple | list):
        return (type(value).__name__, *map(_frozen, value))
    if isinstance(value, slice):
        return "slice", _frozen(value.start), _frozen(value.stop), _frozen(value.step)
    return value if isinstance(value, Hashable) else repr(value)
