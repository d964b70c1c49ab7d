"""Counts of outcomes, and the intervals that the rates behind them lie in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.trusted.trial import Trial

Z = 1.96
"""Standard deviations of a normal distribution that hold 95% of it."""


@dataclass(frozen=True)
class Rate:
    """So many of so many, and where the rate behind them lies with 95% confidence.

    Attributes
    ----------
    count, total
        So many of so many.
    """

    count: int
    total: int

    @property
    def value(self) -> float:
        """The fraction; 0 of nothing."""
        return self.count / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (Wilson, 1927), which also holds at 0 and at all."""
        n = self.total
        if not n:
            return 0.0, 1.0
        middle = (self.value + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * math.sqrt(self.value * (1 - self.value) / n + Z**2 / (4 * n**2))
        # At 0 and at all an end is exact, and rounding must not move it.
        low = 0.0 if self.count == 0 else middle - half
        high = 1.0 if self.count == n else middle + half
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        low, high = self.interval
        return {"count": self.count, "total": self.total, "low": low, "high": high}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.count:,}/{self.total:,} ({_percent(low)} – {_percent(high)})"


def _percent(rate: float) -> str:
    if rate in (0, 1):
        return f"{rate:.0%}"
    return f"{rate:.2%}" if rate < 0.0995 or rate > 0.9005 else f"{rate:.0%}"


@dataclass(frozen=True)
class Tally:
    """What became of some trials with right gradients, and of others with planted bugs.

    Attributes
    ----------
    false_fail, right_open, right
        Right gradients: called wrong, undecided, and how many there were.
    missed, wrong_open, wrong
        Bugs that a check promises to see: passed, undecided, and how many there were.
    below
        Bugs within the tolerance, and passed ones within the resolution that the report states.
    elsewhere
        Bugs for which a tensor was called wrong that is right.
    named, misnamed, unnamed
        FAILs with the cause named right, named wrong, and not named.
    errors
        Checks that raised an error.
    """

    false_fail: int
    right_open: int
    right: int
    missed: int
    wrong_open: int
    wrong: int
    below: int
    elsewhere: int
    named: int
    misnamed: int
    unnamed: int
    errors: int

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Tally:
        """Count."""
        every = list(trials)
        right = Counter(one.outcome for one in every if not one.bug)
        planted = [one for one in every if one.bug]
        promised = Counter(one.outcome for one in planted if not one.below)
        causes = Counter(one.cause for one in planted if one.outcome == "fail" and not one.below)
        return cls(
            right["fail"],
            right["inconclusive"],
            right.total(),
            promised["pass"],
            promised["inconclusive"],
            promised.total(),
            sum(one.below != "" for one in planted),
            sum(one.elsewhere for one in planted),
            causes["right"],
            causes["wrong"],
            causes["none"],
            sum(one.outcome == "error" for one in every),
        )

    @property
    def rates(self) -> dict[str, Rate]:
        """The rates that tables show."""
        return {
            "false FAIL": Rate(self.false_fail, self.right),
            "INCONCLUSIVE, right": Rate(self.right_open, self.right),
            "missed bug": Rate(self.missed, self.wrong),
            "INCONCLUSIVE, bug": Rate(self.wrong_open, self.wrong),
            "FAIL in a right tensor": Rate(self.elsewhere, self.wrong + self.below),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return counts and rates as plain data."""
        return {**vars(self), "rates": {name: r.to_dict() for name, r in self.rates.items()}}


def grouped(trials: Iterable[Trial], key: Callable[[Trial], str]) -> dict[str, Tally]:
    """Return a tally for each value of `key`, in alphabetical order."""
    groups: dict[str, list[Trial]] = {}
    for one in trials:
        groups.setdefault(key(one), []).append(one)
    return {name: Tally.of(groups[name]) for name in sorted(groups)}


def by_rule(trials: Iterable[Trial]) -> dict[str, tuple[Rate, Rate]]:
    """Return for each other rule the rates of right gradients rejected and of bugs accepted."""
    every = [one for one in trials if one.rules]
    right = [one for one in every if not one.bug]
    wrong = [one for one in every if one.bug and not one.below]
    names = every[0].rules if every else {}
    return {
        name: (
            Rate(sum(not one.rules[name] for one in right), len(right)),
            Rate(sum(one.rules[name] for one in wrong), len(wrong)),
        )
        for name in names
    }
