"""What a monitor takes of a training: with a budget, and a check of each mode."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.timing import Clock, Ratio, Timing, interleave, ratio
from fastcheck import Monitor, Record
from fastcheck.problems import training

BUDGET = 0.01
ALONE, AGAIN, BUDGETED = "no monitor", "no monitor, again", f"budget={BUDGET}"
_RUNS_A_MODE = 3
MODES = ("full", "sample", "directions")


@dataclass(frozen=True)
class Watched:
    """A training under a monitor, or alone, as a contender of `timing`.

    Attributes
    ----------
    name
        Its name in tables.
    keywords
        Of the monitor; None for a training alone.
    iterations
        Steps of training.
    """

    name: str
    keywords: Mapping[str, Any] | None
    iterations: int

    @property
    def timed(self) -> int | None:
        """None: the whole training is timed."""
        return None

    def measure(self, clock: Clock) -> tuple[float, list[Record]]:
        """Return the seconds of one training, and the records of its monitor."""
        monitor = None if self.keywords is None else Monitor(training.loss, **self.keywords)
        watch = None if monitor is None else partial(_called, monitor)
        start = clock()
        training.train(watch, iterations=self.iterations)
        return clock() - start, [] if monitor is None else monitor.history


def _called(monitor: Monitor, params: Any, grads: Any, batch: Any) -> None:
    monitor(params, grads, batch=batch)


@dataclass(frozen=True)
class Overhead:
    """What was measured.

    Attributes
    ----------
    timings
        Of the training alone, alone once more, and with the budget.
    whole
        How many times as long the latter takes as the training alone, round by round.
    noise
        The same of the second training alone: what the machine makes of no difference.
    budgeted
        The records of one training with the budget.
    by_mode
        Mode → the records of trainings with it.
    iterations
        Steps of one training.
    """

    timings: tuple[Timing, ...]
    whole: Ratio
    noise: Ratio
    budgeted: list[Record]
    by_mode: dict[str, list[Record]]
    iterations: int

    @property
    def a_step(self) -> float:
        """Seconds of a training step."""
        return self.timings[0].median / self.iterations

    def modes(self) -> list[dict[str, Any]]:
        """Return what checks of each mode take: the first, the median of the others, the range."""
        rows = []
        for mode, records in self.by_mode.items():
            later = [one.seconds for one in records if one.step]
            rows.append(
                {
                    "mode": mode,
                    "first": statistics.median(one.seconds for one in records if not one.step),
                    "median": statistics.median(later),
                    "low": min(later),
                    "high": max(later),
                    "steps_apart": statistics.median(later) / (BUDGET * self.a_step),
                    "false_fails": sum(one.verdict.value == "fail" for one in records),
                }
            )
        return rows


def measure(iterations: int, repeats: int, every: int = 100) -> Overhead:
    """Train in turns alone and with the budget; then with each mode, for what a check takes."""
    contenders = [
        Watched(ALONE, None, iterations),
        Watched(AGAIN, None, iterations),
        Watched(BUDGETED, {"budget": BUDGET, "every": every}, iterations),
    ]
    alone, again, budgeted = interleave(contenders, repeats)
    by_mode = {}
    for mode in MODES:
        one = Watched(mode, {"mode": mode, "every": every}, iterations)
        by_mode[mode] = [r for _ in range(min(repeats, _RUNS_A_MODE)) for r in _records(one)]
    return Overhead(
        (alone, again, budgeted),
        ratio(budgeted, alone),
        ratio(again, alone),
        budgeted.outcome,
        by_mode,
        iterations,
    )


def _records(watched: Watched) -> list[Record]:
    return watched.measure(lambda: 0.0)[1]
