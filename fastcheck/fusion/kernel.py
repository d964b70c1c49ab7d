"""A kernel ready to run: its arrays in place, its copies spread over threads."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.devices.cpu import usable_cores
from fastcheck.fusion.compiler import Function, compiled
from fastcheck.fusion.dims import Pin
from fastcheck.fusion.hoisted import Hoisted, Values
from fastcheck.fusion.layout import Layout
from fastcheck.fusion.memory import MOST_DIMS, strided
from fastcheck.fusion.source import Source

Positions = NDArray[np.int64]
_WORTH_A_THREAD = 200_000.0
_NOTHING = np.zeros(1, dtype=np.int64)
_CHUNKS = 4
"""Chunks a thread, so that threads that are slowed down do not hold up the others."""
_LONGEST = 250_000_000.0
"""Operations a chunk at most, about 40 ms: Ctrl-C is heard between chunks."""


class Kernel:
    """The differences of one group of elements, by machine code.

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
        self._function: Function | None = None
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

    def _run_block(
        self,
        chosen: dict[Pin, Positions],
        positions: Mapping[Pin, Positions],
        steps: NDArray[np.float64],
        plus: NDArray[np.float64],
        minus: NDArray[np.float64],
        refused: NDArray[np.uint8],
    ) -> None:
        """Run copies whose constants are in memory at once."""
        source = self.source
        values = Values(chosen, self._lasting) if chosen else self._lasting
        arrays = [self._array(layout, values, chosen) for layout in source.layouts]
        strides = np.zeros((max(len(arrays), 1), MOST_DIMS), dtype=np.int64)
        for place, (layout, array) in enumerate(zip(source.layouts, arrays, strict=True)):
            for axis in range(len(strided(layout))):
                strides[place, axis] = array.strides[axis] // array.itemsize
        where = [np.ascontiguousarray(positions[pin], dtype=np.int64) for pin in source.pins]
        lengths = np.array([source.schedule.trips(label) for label in source.loops], dtype=np.int64)
        starts, offsets = self._blocks_to_visit(arrays, chosen)
        weight = np.zeros(1) if source.weight is None else self._array(source.weight, values, {})
        steps = np.ascontiguousarray(steps)
        kept = (arrays, strides, where, lengths, starts, offsets, weight, steps)
        arguments = [
            _table(arrays),
            _address(strides),
            _table(where),
            _address(lengths),
            _table([starts, offsets, weight]),
            *map(_address, (steps, plus, minus, refused)),
        ]
        self._spread(arguments, len(steps))
        del kept

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

    def _spread(self, arguments: list[Any], count: int) -> None:
        """Run all copies, in chunks over the threads; each copy is computed alike in any."""
        if self._function is None:
            self._function = compiled(self.source)
        function = self._function
        work = count * self.source.operations
        team = min(threads(), max(1, int(work / _WORTH_A_THREAD)))
        chunks = max(team * _CHUNKS if team > 1 else 1, int(work / _LONGEST) + 1)
        edges = [count * k // chunks for k in range(chunks + 1)]

        def run(first: int, last: int) -> None:
            if first < last:  # the machine code has its test at the end
                function(*arguments, first, last)

        if team == 1:
            for first, last in pairwise(edges):
                run(first, last)
        else:
            pool = _pool(team)
            _together([pool.submit(run, *chunk) for chunk in pairwise(edges)])


def _together(chunks: list[Future[None]]) -> None:
    """Wait for all chunks; whatever happens meanwhile, none is left writing into the arrays."""
    try:
        for chunk in chunks:
            chunk.result()
    finally:
        for chunk in chunks:
            chunk.cancel()
        wait(chunks)


def _nonzero_blocks(array: NDArray[np.float64]) -> tuple[Positions, Positions]:
    """Return where the list of each row starts, and the lists: blocks that are not all zero."""
    some = (array != 0).any(axis=-1)
    starts = np.concatenate([[0], np.cumsum(some.sum(axis=-1))]).astype(np.int64)
    return starts, np.ascontiguousarray(np.nonzero(some)[1].astype(np.int64))


def threads() -> int:
    """Return how many threads to use: NUMBA_NUM_THREADS, or all cores that the process may use."""
    chosen = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) > 0 else usable_cores()


@cache
def _pool(team: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(team, thread_name_prefix="fastcheck")


if hasattr(os, "register_at_fork"):  # a child process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


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


def _address(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _table(arrays: list[NDArray[Any]]) -> Any:
    return (ctypes.c_void_p * max(len(arrays), 1))(*[array.ctypes.data for array in arrays])
