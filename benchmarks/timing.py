"""Fair timing: contenders take turns, and are compared within each turn.

Every round runs each contender once, the order turning from round to round, so that a machine that
slows down or warms up does so for all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Clock: TypeAlias = Callable[[], float]

PAUSE = 0.1
"""Seconds between runs, in which the idle threads of the library before stop spinning."""


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
    contenders: Sequence[Contender | Sampled],
    repeats: int,
    *,
    pause: float = 0.0,
    clock: Clock = time.perf_counter,
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
    """
    first = {one.name: one.measure(clock) for one in contenders}
    seconds: dict[str, list[float]] = {one.name: [] for one in contenders}
    for turn in range(repeats):
        start = turn % len(contenders)
        for one in (*contenders[start:], *contenders[:start]):
            time.sleep(pause)
            seconds[one.name].append(one.measure(clock)[0])
    return [
        Timing(one.name, took, tuple(seconds[one.name]), outcome, one.timed)
        for one, (took, outcome) in zip(contenders, first.values(), strict=True)
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
