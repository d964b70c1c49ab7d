"""How many copies a stack has: more while the time a copy takes falls, within the memory."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastcheck.devices import format_bytes
from fastcheck.errors import InputError

_FIRST = 8
_GAIN = 0.95
_TRIES = 2
_LONGEST = 0.5
"""Seconds a stack after which it does not grow: there is little left to be won."""


class Room:
    """How many copies fit the memory.

    Parameters
    ----------
    memory : int
        Bytes for one stack and what the function makes of it.
    stacked : int
        Bytes of one copy of all parameters.

    Attributes
    ----------
    most : int
        Copies a stack.
    per_copy : int
        Bytes that one copy takes, as far as known.

    Raises
    ------
    InputError
        If not even the parameters of one copy fit.
    """

    def __init__(self, memory: int, stacked: int) -> None:
        if stacked > memory:
            raise InputError(
                f"`memory` is {memory:,} bytes, but one stacked copy of `params` needs "
                f"{stacked:,} bytes: give at least that."
            )
        self._memory, self._stacked = memory, stacked
        self.per_copy = stacked
        self.most = memory // max(stacked, 1)

    def learn(self, small: int, small_peak: int, large: int, large_peak: int) -> None:
        """Take into account what the function itself took for stacks of two sizes, in bytes."""
        own = max(0, large_peak - small_peak) // (large - small)
        fixed = max(0, small_peak - small * own)
        self.per_copy = max(self.per_copy, self._stacked + own)
        # What the function takes for one copy, it takes without us too.
        self.most = max(1, min(self.most, (self._memory - fixed) // max(self.per_copy, 1)))

    def exceeded(self, copies: int, error: BaseException) -> None:
        """Note that memory did not suffice for so many copies.

        Raises
        ------
        InputError
            If that was one copy only.
        """
        if copies == 1:
            raise too_large_alone(error, self._memory) from error
        self.most = min(self.most, copies // 2)


def too_large_alone(error: BaseException, memory: int | None = None) -> InputError:
    """Say that memory ran out with one copy; `memory` is the keyword's value, where it is known."""
    here = "" if memory is None else f", {format_bytes(memory)} here,"
    return InputError(
        "Even a single copy of `params` put through `loss` (a stack of one, with batched=True) "
        f"does not fit into memory ({type(error).__name__}: {error}); `memory`{here} cannot help: "
        "check with fewer samples, or free memory."
    )


class StackSize:
    """The size of the stacks of one tensor, found on the way.

    Parameters
    ----------
    room : Room
        How many copies there may be.

    Attributes
    ----------
    seconds : float
        The time of a copy at the best size so far; infinite before the first stack.
    settled : bool
        Whether the size has been found.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._size = self._best = _FIRST
        self._tries = 0
        self.seconds = math.inf
        self.settled = False

    @property
    def copies(self) -> int:
        """Copies in the next stack."""
        return min(self._size, self._room.most)

    def took(self, copies: int, seconds: float) -> None:
        """Learn from the time of one stack."""
        if self.settled or copies < self.copies:
            return  # the rest of a row of stacks tells nothing
        self._tries += 1
        if seconds / copies < _GAIN * self.seconds:
            self.seconds, self._best, self._tries = seconds / copies, copies, 0
            self.settled = copies == self._room.most or seconds > _LONGEST
            self._size = copies if self.settled else 2 * copies
        elif self._tries == _TRIES:  # the first time, something else may have been in the way
            self.settled, self._size = True, self._best


@dataclass
class Peak:
    """Bytes that were taken at most at one time; None where that cannot be known."""

    size: int | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure what Python and NumPy take inside the block, beyond what they hold already."""
    peak = Peak()
    if tracemalloc.is_tracing():  # somebody else's measurement
        yield peak
        return
    tracemalloc.start()
    try:
        yield peak
        peak.size = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
