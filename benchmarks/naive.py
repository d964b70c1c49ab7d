"""The whole numerical gradient: the loops that everybody writes, against fastcheck.

All rows but the last take the same step and stand for the same 2N central passes of the same
function, on float64 arrays, interleaved. ``kernel passes alone`` leaves out what comes once a check
(tracing, the cross-check, assigning engines), which the rows of the public functions hold; what
fastcheck compiles once and then keeps is compiled before all of them, and `cold` has its price. The
error is ‖n − g‖/‖g‖ against backpropagation; a ReLU whose kink lies within the step spoils it for
all ways alike, and a sample may miss that parameter. ``fastcheck.check`` is the whole check with a
step of its own: trace, cross-check, error bars, verdict.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import plots, results
from benchmarks.cases import MNIST, Case, sample
from benchmarks.machine import describe, environment
from benchmarks.options import add_common, add_network, positive
from benchmarks.options import seconds as budget_in_seconds
from benchmarks.passes import Passes, best_passes, obstacle
from benchmarks.tables import error, factor, named, seconds, spread, table
from benchmarks.timing import PAUSE, Contender, Sampled, Timing, interleave, ratio
from benchmarks.ways import (
    CHECK,
    PASSES,
    Indices,
    Skipped,
    in_place_loop,
    naive_loop,
    prepared,
    public,
    relative_error,
    whole_check,
)
from fastcheck.commands.naive import to_vector
from fastcheck.problems import Problem

SUMMARY = "the naive loop of 2N forward passes against fastcheck's engines, on several networks"
HEADERS = ("way", "median", "range", "relative error", "times faster (range)")

CASES = (
    Case(),
    Case(data="digits"),
    Case(batch=1024, repeats=3),
    Case(sizes=(784, 100, 10), sample=2000, repeats=3),
    Case(sizes=(784, 512, 512, 10), batch=32, sample=300, repeats=2),
)
Engines = dict[str, dict[str, str]]
"""Way → tensor → the name of its engine."""

QUICK = Case(sizes=(64, 10, 10), batch=32, repeats=3)


@dataclass(frozen=True)
class Measured:
    """One case: its timings, and what was left out."""

    case: Case
    timings: list[Timing]
    skipped: list[Skipped]
    rows: list[dict[str, Any]]
    engines: Engines

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            **self.case.to_dict(),
            "engines": self.engines,
            "rows": self.rows,
            "not_run": [vars(one) for one in self.skipped],
        }


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_network(parser)
    parser.add_argument(
        "--sample", type=positive, metavar="N", help="time the loops on so many parameters only"
    )
    parser.add_argument(
        "--budget",
        type=budget_in_seconds,
        default=30.0,
        metavar="S",
        help="leave out an engine that is estimated to take longer for one gradient",
    )
    add_common(parser, "one case, 64-10-10 with 32 samples, 3 rounds")


def run(arguments: Namespace) -> list[dict[str, Any]]:
    """Measure every case, print the tables, and return them as plain data."""
    results.prepare(arguments)
    machine = environment()
    print(describe(machine))
    measured = [measure(case, arguments) for case in _cases(arguments)]
    found = [one.to_dict() for one in measured]
    if arguments.save:
        settings = {name: getattr(arguments, name) for name in ("step", "seed", "budget", "quick")}
        print(f"\n{results.save('naive', machine, settings, found, arguments.out)}")
        print(_plot(machine, measured, arguments.out))
    return found


def _cases(arguments: Namespace) -> list[Case]:
    """Return the suite, or the one case that was described."""
    given = {
        name: getattr(arguments, name)
        for name in ("sizes", "batch", "data", "sample")
        if getattr(arguments, name) is not None
    }
    rounds = {} if arguments.repeats is None else {"repeats": arguments.repeats}
    if arguments.quick:
        return [Case(**{**vars(QUICK), **given, **rounds})]
    if given:
        return [Case(**{"sizes": MNIST, **given, **rounds})]
    return [Case(**{**vars(case), **rounds}) for case in CASES]


def measure(case: Case, arguments: Namespace) -> Measured:
    """Time one case and print its table."""
    problem = case.problem(arguments.seed)
    picked = sample(problem, case.sample, arguments.seed)
    print(f"\n{_heading(case, arguments.step, picked.size)}\n")
    passes = best_passes(problem, arguments.step)
    contenders, skipped = _contenders(case, problem, picked, passes, arguments)
    timings = interleave(contenders, case.repeats, pause=0.0 if arguments.quick else PAUSE)
    rows = _rows(timings, problem, picked)
    print(table(HEADERS, [_cells(*pair) for pair in zip(timings, rows, strict=True)]))
    engines = {"auto": Passes(problem, "auto", arguments.step).engines, PASSES: passes.engines}
    print(*_notes(timings, picked.size, engines), *skipped, sep="\n")
    return Measured(case, timings, skipped, rows, engines)


def _contenders(
    case: Case, problem: Problem, picked: Indices, passes: Passes, arguments: Namespace
) -> tuple[list[Contender | Sampled], list[Skipped]]:
    step = arguments.step
    chosen: list[Contender | Sampled] = [
        naive_loop(problem, step, picked),
        in_place_loop(problem, step, picked),
    ]
    skipped: list[Skipped] = []
    if case.sample is None:
        chosen.append(public(problem, step, "loop"))
    else:
        skipped.append(Skipped("fastcheck, loop", "it takes as long as the loop in place"))
    for engine in ("replay", "fused", "auto"):
        why = obstacle(problem, engine, step, arguments.budget)
        if why:
            skipped.append(Skipped(f"fastcheck, {engine}", why))
        else:
            chosen.append(public(problem, step, engine))
    # What chooses its own engine takes as long as the fastest; both stand for "auto".
    if any(one.name == "fastcheck, auto" for one in skipped):
        return chosen, [*skipped, Skipped(PASSES, "as auto"), Skipped(CHECK, "as auto")]
    return [*chosen, prepared(passes), whole_check(problem)], skipped


def _rows(timings: Sequence[Timing], problem: Problem, picked: Indices) -> list[dict[str, Any]]:
    """Return each contender's times, its error, and how much faster it is than the naive loop."""
    exact = to_vector(problem.gradients())
    naive = timings[0]
    return [
        {
            **timing.to_dict(),
            "relative_error": relative_error(timing.outcome, exact, picked),
            "times_faster": vars(ratio(naive, timing)),
        }
        for timing in timings
    ]


def _cells(timing: Timing, row: dict[str, Any]) -> list[str]:
    faster = row["times_faster"]
    return [
        named(timing),
        seconds(timing.median),
        spread(timing),
        error(row["relative_error"]),
        factor(faster),
    ]


def _heading(case: Case, step: float, timed: int) -> str:
    count = case.parameters
    loops = "" if timed == count else f"; loops timed on {timed:,} parameters"
    return (
        f"{case.label}, float64, step {step:g}: {count:,} parameters, {2 * count:,} forward "
        f"passes; {case.repeats} rounds{loops}"
    )


def _notes(timings: Sequence[Timing], timed: int, engines: Engines) -> list[str]:
    notes = [f"{way}: {' and '.join(sorted(set(used.values())))}" for way, used in engines.items()]
    if any(timing.extrapolated for timing in timings):
        notes.insert(
            0,
            f"*: extrapolated: the median of {timed:,} parameters, drawn from all tensors, times N",
        )
    return notes


def _plot(machine: dict[str, Any], measured: Sequence[Measured], folder: Path) -> Path:
    panels = [
        plots.Panel(one.case.label, [plots.dot(t, _kind(t.name)) for t in one.timings])
        for one in measured
    ]
    title = "One numerical gradient of all parameters"
    return plots.dots(folder / "naive.png", plots.heading(title, machine), panels)


def _kind(name: str) -> str:
    return "fastcheck" if "fastcheck" in name or name == PASSES else "loop"
