"""What a verdict costs beyond the bare 2N passes, and where the rest of a check goes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from unittest.mock import patch

import fastcheck
from benchmarks.cases import Case
from benchmarks.passes import Passes, obstacle
from fastcheck import judging
from fastcheck.problems import Problem
from fastcheck.run import Run
from fastcheck.verdict.probing import Probe

STEP = 2.0**-30
"""The bare passes take a step like the one that a check chooses."""

PARTS = ("trace", "engines", "passes", "error bars", "verdict", "rest")
"""Tracing and planning; choosing engines with the cross-check; differences; error bars without
these; comparing, with a second look; keeping the user's arrays, matching gradients, the report."""


@dataclass(frozen=True)
class Cost:
    """Medians in seconds.

    Attributes
    ----------
    case, engine
        What was checked, and how.
    parameters
        N.
    bare
        The 2N passes, with the engines prepared.
    whole
        The whole call of `fastcheck.check`.
    parts
        Where it goes, in the order of `PARTS`.
    """

    case: str
    engine: str
    parameters: int
    bare: float
    whole: float
    parts: dict[str, float]

    @property
    def verdict_share(self) -> float:
        """What measuring and judging take beyond the bare passes, relative to these."""
        judged = self.parts["passes"] + self.parts["error bars"] + self.parts["verdict"]
        return judged / self.bare - 1

    @property
    def whole_share(self) -> float:
        """What the whole check takes beyond the bare passes, relative to these."""
        return self.whole / self.bare - 1

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        shares = {"verdict_share": self.verdict_share, "whole_share": self.whole_share}
        return {**vars(self), **shares}


class Watches:
    """Stopwatches by name; of nested ones only the outermost of a name runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: set[str] = set()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a stopwatch around it."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if name in self._running:
                return function(*args, **kwargs)
            self._running.add(name)
            start = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._running.discard(name)
                self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start

        return timed

    def inside(self, name: str, outer: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a stopwatch that runs only within another one."""
        timed = self.wrap(name, function)

        def maybe(*args: Any, **kwargs: Any) -> Any:
            return (timed if outer in self._running else function)(*args, **kwargs)

        return maybe


@contextmanager
def watched() -> Iterator[Watches]:
    """Put stopwatches around the parts of a check."""
    watches = Watches()
    with ExitStack() as stack:
        for owner, attribute, name in (
            (Run, "__init__", "trace"),
            (Run, "assign", "engines"),
            (Run, "measure", "measure"),
            (judging, "judge", "verdict"),
        ):
            timed = watches.wrap(name, getattr(owner, attribute))
            stack.enter_context(patch.object(owner, attribute, timed))
        passes = watches.inside("passes", "measure", Probe.differences)
        stack.enter_context(patch.object(Probe, "differences", passes))
        yield watches


def measure(case: Case, engine: str, repeats: int, budget: float) -> Cost | str:
    """Return the cost on one network, or why it is not measured."""
    problem = case.problem()
    why = obstacle(problem, engine, STEP, budget, 3 * (repeats + 1))
    if why:
        return f"{case.label}, {engine}: {why}"
    passes = Passes(problem, engine, STEP)
    _check(problem, engine)
    passes.gradient()
    bare, whole, parts = [], [], []
    for _ in range(repeats):
        bare.append(_timed(passes.gradient))
        whole.append(_timed(lambda: _check(problem, engine)))
        with watched() as watches:
            total = _timed(lambda: _check(problem, engine))
        parts.append(_split(watches.seconds, total))
    medians = {name: statistics.median(one[name] for one in parts) for name in PARTS}
    return Cost(
        case.label,
        engine,
        case.parameters,
        statistics.median(bare),
        statistics.median(whole),
        medians,
    )


def _split(seconds: dict[str, float], total: float) -> dict[str, float]:
    named = {name: seconds.get(name, 0.0) for name in ("trace", "engines", "passes", "verdict")}
    bars = seconds.get("measure", 0.0) - named["passes"]
    rest = total - sum(named.values()) - bars
    return {**named, "error bars": bars, "rest": rest}


def _timed(work: Callable[[], object]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def _check(problem: Problem, engine: str) -> None:
    report = fastcheck.check(problem.loss, problem.params, problem.gradients(), engine=engine)
    if not report:
        raise fastcheck.FastcheckError(f"the check of a right gradient did not pass:\n{report}")
