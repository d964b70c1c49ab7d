"""Fair timing: contenders take turns, and are compared within each turn.

Every round runs each contender once, the order turning from round to round, so that a machine that
slows down or warms up does so for all of them alike.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

Clock: TypeAlias = Callable[[], float]

PAUSE = 0.1
"""Seconds between runs, in which the idle threads of the library before stop spinning."""


class Measured(Protocol):
    """What can be timed in turns: a `Contender`, or what measures itself in another way."""

    @property
    def name(self) -> str:
        """Its name in tables and results."""

    @property
    def timed(self) -> int | None:
        """How many pieces of the work are timed; None where all of it is."""

    def measure(self, clock: Clock) -> tuple[float, Any]:
        """Return the seconds of one run of the whole, and its outcome."""


@dataclass(frozen=True)
class Contender:
    """A way to do the work, by name.

    Attributes
    ----------
    name
        Its name in tables and results.
    run
        Does the work once and returns the outcome.
    """

    name: str
    run: Callable[[], Any]

    @property
    def timed(self) -> int | None:
        """None: the whole work is timed."""
        return None

    def measure(self, clock: Clock) -> tuple[float, Any]:
        """Return the seconds of one run, and its outcome."""
        start = clock()
        outcome = self.run()
        return clock() - start, outcome


@dataclass(frozen=True)
class Sampled:
    """A way of many equal pieces, of which a sample is timed.

    The whole is the median piece times their number: the mean would multiply every stall of the
    machine as well, and the short sample of a slow way would meet more or fewer of them than its
    share.

    Attributes
    ----------
    name
        Its name in tables and results.
    piece
        ``piece(k)`` does the k-th piece of the sample.
    timed
        How many pieces the sample has.
    total
        How many the whole has.
    """

    name: str
    piece: Callable[[int], float]
    timed: int
    total: int

    def measure(self, clock: Clock) -> tuple[float, Any]:
        """Return the seconds of the whole, and the outcomes of the sample as an array."""
        found, taken = [], []
        for k in range(self.timed):
            start = clock()
            found.append(self.piece(k))
            taken.append(clock() - start)
        return statistics.median(taken) * self.total, np.array(found)


@dataclass(frozen=True)
class Timing:
    """How long a contender took.

    Attributes
    ----------
    name
        The contender's.
    first
        Seconds of its first run, which warms caches up and counts for nothing else.
    seconds
        Seconds of each round after it.
    outcome
        What the first run returned.
    timed
        How many pieces of the work were timed; None where all of it was.
    """

    name: str
    first: float
    seconds: tuple[float, ...]
    outcome: Any = None
    timed: int | None = None

    @property
    def median(self) -> float:
        """The median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        """The fastest round, in seconds."""
        return min(self.seconds)

    @property
    def high(self) -> float:
        """The slowest round, in seconds."""
        return max(self.seconds)

    @property
    def extrapolated(self) -> bool:
        """Whether only a sample of the work was timed."""
        return self.timed is not None

    def to_dict(self) -> dict[str, Any]:
        """Return the times as plain data, without the outcome."""
        return {
            "name": self.name,
            "first": self.first,
            "seconds": list(self.seconds),
            "median": self.median,
            "low": self.low,
            "high": self.high,
            "extrapolated": self.extrapolated,
            "timed": self.timed,
        }


def interleave(
    contenders: Sequence[Measured],
    repeats: int,
    *,
    pause: float = 0.0,
    clock: Clock = time.perf_counter,
    fewest: int = 1,
    limit: float = math.inf,
    failed: Callable[[str, Exception], None] | None = None,
) -> list[Timing]:
    """Time the contenders in turns.

    Parameters
    ----------
    contenders
        What to run; the order of the answer.
    repeats
        Rounds after the warming one, at least 1.
    pause
        Seconds to wait before each run.
    clock
        Returns seconds.
    fewest, limit
        Past so many seconds, and so many rounds, no other round begins.
    failed
        Is told of a contender that raises, which takes no further part and is left out of the
        answer. Without it the error is the caller's.
    """
    taking_part = list(contenders)

    def measured(one: Measured) -> tuple[float, Any] | None:
        try:
            return one.measure(clock)
        except Exception as error:
            if failed is None:
                raise
            failed(one.name, error)
            taking_part.remove(one)
            return None

    start = clock()
    first = {one.name: measured(one) for one in contenders}
    seconds: dict[str, list[float]] = {one.name: [] for one in contenders}
    for turn in range(repeats):
        if turn >= fewest and clock() - start > limit:
            break
        order = list(taking_part)
        at = turn % max(len(order), 1)
        for one in (*order[at:], *order[:at]):
            time.sleep(pause)
            taken = measured(one)
            if taken is not None:
                seconds[one.name].append(taken[0])
    found = [(one, first[one.name]) for one in taking_part]
    return [
        Timing(one.name, warm[0], tuple(seconds[one.name]), warm[1], one.timed)
        for one, warm in found
        if warm is not None
    ]


@dataclass(frozen=True)
class Ratio:
    """How many times as long one contender takes as another, round by round."""

    median: float
    low: float
    high: float


def ratio(slow: Timing, fast: Timing) -> Ratio:
    """Compare two contenders within each round: what disturbed the machine disturbed both."""
    rounds = [s / f for s, f in zip(slow.seconds, fast.seconds, strict=True)]
    return Ratio(statistics.median(rounds), min(rounds), max(rounds))
