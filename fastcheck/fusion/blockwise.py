"""A kernel's constants in place, and copies in blocks whose constants are in memory at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastcheck.fusion.dims import Pin
from fastcheck.fusion.hoisted import Hoisted, Values
from fastcheck.fusion.layout import Layout
from fastcheck.fusion.memory import MOST_DIMS, strided
from fastcheck.fusion.source import Source

Positions = NDArray[np.int64]
Chosen = dict[Pin, Positions]
"""The positions of a pin for which constants are computed; at all of them where it is empty."""
_NOTHING = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Constants:
    """What a kernel reads, for all copies of a block.

    Attributes
    ----------
    arrays : list of float64 arrays
        In the layouts of the source.
    strides : (n, MOST_DIMS) int64
        Of their outer dimensions, in elements.
    lengths : (m,) int64
        How many iterations the loops have.
    starts, offsets : int64 arrays
        For each position of the skipping pin where its list of blocks of samples starts, and the
        lists.
    weight : float64 array
        1 for every sample, 0 past the last one.
    """

    arrays: list[NDArray[np.float64]]
    strides: Positions
    lengths: Positions
    starts: Positions
    offsets: Positions
    weight: NDArray[np.float64]


class BlockwiseKernel(ABC):
    """The differences of one group of elements, by a printed kernel, on some device.

    Parameters
    ----------
    source : Source
    memory : int
        Bytes for the hoisted constants at a time.

    Attributes
    ----------
    elements : int
        How many numbers are hoisted for all copies.
    """

    def __init__(self, source: Source, memory: int) -> None:
        self.source = source
        self._memory = memory
        self._lasting = Values({})
        self._arranged: dict[Layout, NDArray[np.float64]] = {}
        self._visited: tuple[Positions, Positions] | None = None
        self._blocked = _widest(source)
        self._capacity = _capacity(source, self._blocked, memory)
        self.elements = sum(hoisted.size() for hoisted in _everything(source))

    def run(
        self, positions: Mapping[Pin, Positions], steps: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return J(θ+h) − J(θ), J(θ) − J(θ−h), and which copies the kernel refuses.

        Parameters
        ----------
        positions : dict of Pin to (n,) int64 array
            Where each copy is perturbed.
        steps : (n,) float64 array
            The step h of each.
        """
        count = len(steps)
        positions = {**positions, **_of_split(self.source.pins, positions)}
        plus, minus = np.empty(count), np.empty(count)
        refused = np.empty(count, dtype=np.uint8)
        blocked = self._blocked
        if blocked is None or blocked.size <= self._capacity:
            self._run_block({}, positions, steps, plus, minus, refused)
        else:
            for chosen, at in _blocks(positions[blocked], self._capacity):
                parts = np.empty(len(chosen)), np.empty(len(chosen))
                flags = np.empty(len(chosen), dtype=np.uint8)
                local = {pin: where[chosen] for pin, where in positions.items()}
                local[blocked] = np.searchsorted(at, local[blocked])
                self._run_block({blocked: at}, local, steps[chosen], *parts, flags)
                plus[chosen], minus[chosen], refused[chosen] = *parts, flags
        return plus, minus, refused.astype(bool)

    def _halve(self) -> bool:
        """Take half as many positions at a time from now on; False if it was one already."""
        blocked = self._blocked
        if blocked is None or min(self._capacity, blocked.size) <= 1:
            return False
        self._capacity = min(self._capacity, blocked.size) // 2
        self._lasting, self._arranged, self._visited = Values({}), {}, None
        return True

    @abstractmethod
    def _run_block(
        self,
        chosen: Chosen,
        positions: Mapping[Pin, Positions],
        steps: NDArray[np.float64],
        plus: NDArray[np.float64],
        minus: NDArray[np.float64],
        refused: NDArray[np.uint8],
    ) -> None:
        """Run copies whose constants are in memory at once; the last three are filled."""

    def _constants(self, chosen: Chosen) -> Constants:
        """Compute and arrange what the copies of a block need."""
        source = self.source
        values = Values(chosen, self._lasting) if chosen else self._lasting
        arrays = [self._array(layout, values, chosen) for layout in source.layouts]
        strides = np.zeros((max(len(arrays), 1), MOST_DIMS), dtype=np.int64)
        for place, (layout, array) in enumerate(zip(source.layouts, arrays, strict=True)):
            for axis in range(len(strided(layout))):
                strides[place, axis] = array.strides[axis] // array.itemsize
        lengths = np.array([source.schedule.trips(label) for label in source.loops], dtype=np.int64)
        starts, offsets = self._blocks_to_visit(arrays, chosen)
        weight = np.zeros(1) if source.weight is None else self._array(source.weight, values, {})
        return Constants(arrays, strides, lengths, starts, offsets, weight)

    def _array(
        self, layout: Layout, values: Values, chosen: dict[Pin, Positions]
    ) -> NDArray[np.float64]:
        if any(pin in chosen for pin in layout.pins):
            return layout.arranged(values.of(layout.hoisted))
        if layout not in self._arranged:
            self._arranged[layout] = layout.arranged(values.of(layout.hoisted))
        return self._arranged[layout]

    def _blocks_to_visit(
        self, arrays: list[NDArray[np.float64]], chosen: dict[Pin, Positions]
    ) -> tuple[Positions, Positions]:
        """Return for each position of a pin the blocks of samples that are not all zero."""
        skipping = self.source.skipping
        if skipping is None:
            return _NOTHING, _NOTHING
        array = arrays[self.source.layouts.index(skipping)]
        if any(pin in chosen for pin in skipping.pins):
            return _nonzero_blocks(array)
        if self._visited is None:
            self._visited = _nonzero_blocks(array)
        return self._visited


def _of_split(pins: tuple[Pin, ...], positions: Mapping[Pin, Positions]) -> dict[Pin, Positions]:
    """Return the positions along pins of axes that a reshape has split."""

    def at(pin: Pin) -> Positions:
        return positions[pin] if pin.of is None else at(pin.of) // pin.stride % pin.size

    return {pin: at(pin) for pin in pins if pin.of is not None}


def _nonzero_blocks(array: NDArray[np.float64]) -> tuple[Positions, Positions]:
    """Return where the list of each row starts, and the lists: blocks that are not all zero."""
    some = (array != 0).any(axis=-1)
    starts = np.concatenate([[0], np.cumsum(some.sum(axis=-1))]).astype(np.int64)
    return starts, np.ascontiguousarray(np.nonzero(some)[1].astype(np.int64))


def _blocks(where: Positions, capacity: int) -> list[tuple[Positions, Positions]]:
    """Cut copies into groups of at most `capacity` positions: (copies, positions)."""
    order = np.argsort(where, kind="stable")
    in_order = where[order]
    present = np.unique(in_order)
    blocks = []
    for first in range(0, len(present), capacity):
        at = present[first : first + capacity]
        left, right = np.searchsorted(in_order, [at[0], at[-1] + 1])
        blocks.append((order[left:right], at))
    return blocks


def _widest(source: Source) -> Pin | None:
    """Return the pin whose positions take the most memory."""
    sizes: dict[Pin, int] = {}
    for hoisted in _everything(source):
        for pin in hoisted.pins:
            sizes[pin] = sizes.get(pin, 0) + hoisted.size()
    return max(sizes, key=lambda pin: sizes[pin], default=None)


def _capacity(source: Source, pin: Pin | None, memory: int) -> int:
    """Return how many positions of the pin fit the memory."""
    if pin is None:
        return 1
    needed = sum(
        hoisted.size(without=pin) for hoisted in _everything(source) if pin in hoisted.dims
    )
    return max(1, memory // (8 * max(needed, 1)))


def _everything(source: Source) -> list[Hoisted]:
    """Return the constants of a kernel and those that they are made of."""
    found: dict[Hoisted, None] = {}
    waiting = [layout.hoisted for layout in source.layouts]
    while waiting:
        hoisted = waiting.pop()
        if hoisted not in found:
            found[hoisted] = None
            waiting += hoisted.operands
    return list(found)
