"""How the time grows: with the parameters N at one batch, and with the samples M at one network.

The network is 784-h-10 on dense data; N grows with h. The loops are timed on a sample of parameters
and extrapolated, since all of their passes cost the same; fastcheck's rows are whole calls of
`fastcheck.numerical_gradient`, tracing included. What would take longer than the budget of a point
is left out and named.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import plots, results
from benchmarks.cases import Case, sample
from benchmarks.machine import describe, environment
from benchmarks.options import add_common, add_step
from benchmarks.options import seconds as budget_in_seconds
from benchmarks.passes import obstacle
from benchmarks.tables import error, factor, named, seconds, spread, table
from benchmarks.timing import PAUSE, Contender, Sampled, Timing, interleave, ratio
from benchmarks.ways import (
    Indices,
    Skipped,
    in_place_loop,
    naive_loop,
    public,
    relative_error,
)
from fastcheck.commands.naive import to_vector
from fastcheck.problems import Problem

SUMMARY = "times against the number of parameters and of samples, from 1e3 to 1e6 and 16 to 1024"
HEADERS = ("network", "way", "median", "range", "relative error", "times faster (range)")
WIDTHS = (1, 4, 13, 40, 126, 400, 1258)
BATCHES = (16, 32, 64, 128, 256, 512, 1024)
WIDTH, BATCH = 10, 128
ENGINES = ("replay", "fused", "auto")
_FEWEST, _MOST, _LOOP_SECONDS = 8, 300, 10.0

Loop = Callable[[Problem, float, Indices], Contender | Sampled]


@dataclass(frozen=True)
class Point:
    """One network and batch: its timings, and what was left out."""

    case: Case
    timings: list[Timing]
    rows: list[dict[str, Any]]
    skipped: list[Skipped]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        not_run = [vars(one) for one in self.skipped]
        return {**self.case.to_dict(), "rows": self.rows, "not_run": not_run}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--widths", type=whole_numbers, metavar="H,H,…", help="hidden units")
    parser.add_argument("--batches", type=whole_numbers, metavar="M,M,…", help="samples")
    parser.add_argument(
        "--budget",
        type=budget_in_seconds,
        default=60.0,
        metavar="S",
        help="seconds that all rounds of one way may take at one point",
    )
    add_step(parser)
    add_common(parser, "two widths, two batches, 1 round")


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read ``1,4,13``."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 1,4,13")
    return tuple(map(int, parts))


def run(arguments: Namespace) -> list[dict[str, Any]]:
    """Measure every point, print the table, and return the points as plain data."""
    results.prepare(arguments)
    machine = environment()
    print(describe(machine), "", sep="\n")
    points = [_announced(case, arguments) for case in cases(arguments)]
    print("", table(HEADERS, [line for point in points for line in _lines(point)]), sep="\n")
    print("*: extrapolated: the median of a sample of parameters, drawn from all tensors, times N")
    print(*_left_out(points), sep="\n")
    found = [point.to_dict() for point in points]
    if arguments.save:
        settings = {name: getattr(arguments, name) for name in ("step", "seed", "budget", "quick")}
        print(f"\n{results.save('scaling', machine, settings, found, arguments.out)}")
        print(_plot(machine, points, arguments.out))
    return found


def cases(arguments: Namespace) -> list[Case]:
    """Return the points of both lines, the one that they share once."""
    quick = arguments.quick
    widths = arguments.widths or ((1, 2) if quick else WIDTHS)
    batches = arguments.batches or ((8, 16) if quick else BATCHES)
    batch, width = (8, 2) if quick else (BATCH, WIDTH)
    rounds = arguments.repeats or (1 if quick else 3)
    inputs = 20 if quick else 784
    along = [(h, batch) for h in widths] + [(width, m) for m in batches]
    return [Case((inputs, h, 10), m, repeats=rounds) for h, m in dict.fromkeys(along)]


def _announced(case: Case, arguments: Namespace) -> Point:
    print(f"{case.label}: {case.parameters:,} parameters …", flush=True)
    return measure(case, arguments)


def measure(case: Case, arguments: Namespace) -> Point:
    """Time everything that fits the budget at one point."""
    problem = case.problem(arguments.seed)
    rounds = case.repeats + 1
    contenders: list[Contender | Sampled] = []
    skipped: list[Skipped] = []
    picked = _affordable(problem, rounds, arguments)
    if picked is None:
        skipped.append(Skipped("loops", "a few parameters alone would take the budget"))
    else:
        contenders += [loop(problem, arguments.step, picked) for loop in _LOOPS]
    for engine in ENGINES:
        why = obstacle(problem, engine, arguments.step, arguments.budget, rounds)
        if why:
            skipped.append(Skipped(f"fastcheck, {engine}", why))
        else:
            contenders.append(public(problem, arguments.step, engine))
    pause = 0.0 if arguments.quick else PAUSE
    timings = interleave(contenders, case.repeats, pause=pause) if contenders else []
    return Point(case, timings, _rows(timings, problem, picked), skipped)


_LOOPS: tuple[Loop, ...] = (naive_loop, in_place_loop)


def _affordable(problem: Problem, rounds: int, arguments: Namespace) -> Indices | None:
    """Return as many parameters as a loop can do in its share of the budget; None if too few."""
    probe = sample(problem, _FEWEST, arguments.seed)
    trial = naive_loop(problem, arguments.step, probe)
    trial.measure(perf_counter)
    each = trial.measure(perf_counter)[0] / to_vector(problem.params).size
    if _FEWEST * each * rounds > arguments.budget:
        return None
    count = int(min(arguments.budget, _LOOP_SECONDS) / (each * rounds))
    return sample(problem, min(max(count, _FEWEST), _MOST), arguments.seed)


def _rows(
    timings: Sequence[Timing], problem: Problem, picked: Indices | None
) -> list[dict[str, Any]]:
    exact = to_vector(problem.gradients())
    naive = timings[0] if timings and picked is not None else None
    return [
        {
            **timing.to_dict(),
            "relative_error": relative_error(timing.outcome, exact, picked),
            "times_faster": None if naive is None else vars(ratio(naive, timing)),
        }
        for timing in timings
    ]


def _lines(point: Point) -> Iterable[list[str]]:
    where = f"{point.case.label}, N = {point.case.parameters:,}"
    for timing, row in zip(point.timings, point.rows, strict=True):
        faster = row["times_faster"]
        yield [
            where,
            named(timing),
            seconds(timing.median),
            spread(timing),
            error(row["relative_error"]),
            "–" if faster is None else factor(faster),
        ]


def _left_out(points: Sequence[Point]) -> list[str]:
    """Name what was not run, in one line for all points where the reason is the same."""
    where: dict[str, list[str]] = {}
    for point in points:
        for one in point.skipped:
            where.setdefault(str(one), []).append(point.case.label)
    return [
        what if len(labels) == len(points) else f"{what} ({'; '.join(labels)})"
        for what, labels in where.items()
    ]


def _plot(machine: dict[str, Any], points: Sequence[Point], folder: Path) -> Path:
    # The two lines cross at one point; what shares its batch lies on the first.
    batch = points[0].case.batch
    width = points[-1].case.sizes[1]
    along_n = [point for point in points if point.case.batch == batch]
    along_m = [point for point in points if point.case.sizes[1] == width]
    panels = [
        plots.Axes(
            f"784-h-10, M = {batch}",
            "parameters N",
            _curves(along_n, lambda point: point.case.parameters),
        ),
        plots.Axes(
            f"784-{width}-10",
            "samples M",
            _curves(along_m, lambda point: point.case.batch),
        ),
    ]
    title = plots.heading("One numerical gradient of all parameters, dense data", machine)
    return plots.curves(folder / "scaling.png", title, panels)


def _curves(points: Sequence[Point], along: Callable[[Point], float]) -> list[plots.Curve]:
    by_name: dict[str, list[tuple[float, Timing]]] = {}
    for point in points:
        for timing in point.timings:
            by_name.setdefault(timing.name, []).append((along(point), timing))
    return [
        plots.Curve(
            f"{name} (sampled)" if found[0][1].extrapolated else name,
            sorted(found, key=lambda pair: pair[0]),
            found[0][1].extrapolated,
        )
        for name, found in by_name.items()
    ]
