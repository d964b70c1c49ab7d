"""A kernel on the CPU: machine code, its copies spread over threads."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.devices.cpu import usable_cores
from fastcheck.fusion.blockwise import BlockwiseKernel, Chosen, Positions
from fastcheck.fusion.compiler import Function, compiled
from fastcheck.fusion.dims import Pin
from fastcheck.fusion.source import Source

_WORTH_A_THREAD = 1_000_000.0
_CHUNKS = 4
"""Chunks a thread, so that threads that are slowed down do not hold up the others."""
_LONGEST = 250_000_000.0
"""Operations a chunk at most, about 40 ms: Ctrl-C is heard between chunks."""


class Kernel(BlockwiseKernel):
    """The differences of one group of elements, by machine code; see `BlockwiseKernel`."""

    def __init__(self, source: Source, memory: int) -> None:
        super().__init__(source, memory)
        self._function: Function | None = None

    def _run_block(
        self,
        chosen: Chosen,
        positions: Mapping[Pin, Positions],
        steps: NDArray[np.float64],
        plus: NDArray[np.float64],
        minus: NDArray[np.float64],
        refused: NDArray[np.uint8],
    ) -> None:
        constants = self._constants(chosen)
        where = [np.ascontiguousarray(positions[pin], dtype=np.int64) for pin in self.source.pins]
        steps = np.ascontiguousarray(steps)
        arguments = [
            _table(constants.arrays),
            _address(constants.strides),
            _table(where),
            _address(constants.lengths),
            _table([constants.starts, constants.offsets, constants.weight]),
            *map(_address, (steps, plus, minus, refused)),
        ]
        self._spread(arguments, len(steps))
        del constants, where, steps  # alive until now: the arguments are addresses

    def _spread(self, arguments: list[Any], count: int) -> None:
        """Run all copies; each is computed alike in any chunk."""
        if self._function is None:
            self._function = compiled(self.source)
        function = self._function
        spread(lambda first, last: function(*arguments, first, last), count, self.source.operations)


def spread(run: Callable[[int, int], None], count: int, operations: float) -> None:
    """Run copies, of so many operations each, in chunks over the threads."""
    work = count * operations
    team = min(threads(), max(1, int(work / _WORTH_A_THREAD)))
    chunks = max(team * _CHUNKS if team > 1 else 1, int(work / _LONGEST) + 1)
    edges = [count * k // chunks for k in range(chunks + 1)]
    # The machine code has its test at the end.
    some = [(first, last) for first, last in pairwise(edges) if first < last]
    if team == 1:
        for first, last in some:
            run(first, last)
    else:
        _together(run, deque(some), team - 1)


def _together(run: Callable[[int, int], None], left: deque[tuple[int, int]], helpers: int) -> None:
    """Run all chunks in this thread and in helpers: fewer threads to wake, and none that waits.

    Whatever happens meanwhile, no chunk is left writing into the arrays.
    """

    def help_out() -> None:
        while left:
            try:
                chunk = left.popleft()
            except IndexError:  # another thread was quicker
                return
            run(*chunk)

    helping: list[Future[None]] = []
    try:
        with suppress(RuntimeError):  # there may be no more threads to be had
            for _ in range(helpers):
                helping.append(_pool(threads() - 1).submit(help_out))
        help_out()
        for helper in helping:
            helper.result()
    finally:
        left.clear()
        for helper in helping:
            helper.cancel()
        wait(helping)


def threads() -> int:
    """Return how many threads to use: NUMBA_NUM_THREADS, or all cores that the process may use."""
    chosen = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) > 0 else usable_cores()


@cache
def _pool(helpers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(helpers, thread_name_prefix="fastcheck")


if hasattr(os, "register_at_fork"):  # a child process has none of its parent's threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _address(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _table(arrays: list[NDArray[Any]]) -> Any:
    return (ctypes.c_void_p * max(len(arrays), 1))(*[array.ctypes.data for array in arrays])
