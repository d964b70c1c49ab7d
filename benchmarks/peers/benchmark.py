"""fastcheck and the naive loop against other tools, interleaved, on one network.

Each peer is set up as its users would: compiled, at the best of some chunk sizes, with its own
default of threads, and warmed before it is timed. Not all do the same work, so each says what it
does. A peer that computes a gradient is compared with `fastcheck.numerical_gradient`, one that
checks with `fastcheck.check`; all of them also with fastcheck's passes alone, since the time of a
compiled peer has no tracing in it either.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import plots, results
from benchmarks.cases import MNIST, Case
from benchmarks.machine import describe, environment
from benchmarks.options import add_common, add_network
from benchmarks.passes import best_passes
from benchmarks.peers import of_jax, of_numpy, of_torch
from benchmarks.peers.base import CHECK, DIRECTION, GRADIENT, Peer, Ready, Task
from benchmarks.tables import error, factor, seconds, spread, table
from benchmarks.timing import Contender, Sampled, Timing, interleave, ratio
from benchmarks.ways import PASSES, naive_loop, prepared, public, relative_error, whole_check
from fastcheck.commands.naive import to_vector
from fastcheck.problems import Problem

SUMMARY = "PyTorch, JAX, SciPy and numdifftools against fastcheck, those that are installed"
HEADERS = (
    "way",
    "kind",
    "median",
    "range",
    "relative error",
    "times slower than fastcheck",
    "than its passes",
)
PEERS = (*of_numpy.PEERS, *of_torch.PEERS, *of_jax.PEERS)
CHUNKS = (8, 16, 32, 64, 128, 256, 1024)
_PAUSE = 0.3  # more libraries than elsewhere, each with threads of its own
_TITLES = {
    GRADIENT: "numerical gradient of all parameters",
    CHECK: "check of all parameters",
    DIRECTION: "check along one random direction: finds most errors, but not where",
}


@dataclass(frozen=True)
class Row:
    """A contender with what is said beside its time; `ready` is None for fastcheck and the loop."""

    contender: Contender | Sampled
    kind: str
    does: str
    ready: Ready | None = None


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_network(parser)
    add_common(parser, "12-5-3 with 8 samples, 2 rounds")


def run(arguments: Namespace) -> list[dict[str, Any]]:
    """Measure, print the table, and return its rows as plain data."""
    results.prepare(arguments)
    case = _case(arguments)
    machine = environment()
    print(describe(machine), f"\n{_heading(case, arguments.step)}\n", sep="\n")
    problem = case.problem(arguments.seed)
    rows = _rows(_task(problem, arguments))
    timings = interleave(
        [row.contender for row in rows], case.repeats, pause=0.0 if arguments.quick else _PAUSE
    )
    found = _summarise(rows, timings, problem)
    absent = [{"name": peer.name, "not_run": "not installed"} for peer in PEERS if _absent(peer)]
    print(table(HEADERS, [*map(_cells, timings, found), *map(_absence, absent)]))
    print("", *(f"{one['name']}: {one['does']}" for one in found if one["does"]), sep="\n")
    if arguments.save:
        settings = {**case.to_dict(), "step": arguments.step, "seed": arguments.seed}
        print(f"\n{results.save('peers', machine, settings, [*found, *absent], arguments.out)}")
        print(_plot(machine, case, rows, timings, arguments.out))
    return [*found, *absent]


def _case(arguments: Namespace) -> Case:
    usual = Case((12, 5, 3), 8, repeats=2) if arguments.quick else Case(MNIST)
    given = {
        name: getattr(arguments, name)
        for name in ("sizes", "batch", "data", "repeats")
        if getattr(arguments, name) is not None
    }
    return Case(**{**vars(usual), **given})


def _heading(case: Case, step: float) -> str:
    count = case.parameters
    return f"{case.label}, float64, step {step:g}: {count:,} parameters; {case.repeats} rounds"


def _task(problem: Problem, arguments: Namespace) -> Task:
    batch = problem.loss.keywords  # type: ignore[attr-defined]  # a partial of the network's loss
    chunks = (8,) if arguments.quick else CHUNKS
    return Task(problem, batch["X"], batch["Y"], arguments.step, chunks)


def _rows(task: Task) -> list[Row]:
    """Return the loop, the peers that are installed, set up, and fastcheck."""
    problem, step = task.problem, task.step
    passes = best_passes(problem, step)  # what is compiled for the others is compiled here too
    every = np.arange(to_vector(problem.params).size)
    return [
        Row(naive_loop(problem, step, every), GRADIENT, "2N forward passes one by one in NumPy"),
        *(_peer_row(peer, task) for peer in PEERS if not _absent(peer)),
        Row(
            prepared(passes),
            GRADIENT,
            "fastcheck's differences for 2N forward passes, traced and cross-checked before",
        ),
        Row(
            public(problem, step, "auto"),
            GRADIENT,
            "stands for 2N forward passes: tracing, its cross-check, and all differences; "
            "compiling is not timed",
        ),
        Row(
            whole_check(problem),
            CHECK,
            "the same with a step of its own, error bars of the differences, and a verdict",
        ),
    ]


def _peer_row(peer: Peer, task: Task) -> Row:
    print(f"setting up {peer.name} …", flush=True)
    ready = peer.prepare(task)
    does = f"{peer.does}; {ready.setting}" if ready.setting else peer.does
    return Row(Contender(peer.name, ready.run), peer.kind, does, ready)


def _absent(peer: Peer) -> bool:
    return find_spec(peer.package) is None


def _summarise(
    rows: Sequence[Row], timings: Sequence[Timing], problem: Problem
) -> list[dict[str, Any]]:
    exact = to_vector(problem.gradients())
    ours = {row.kind: timing for row, timing in zip(rows, timings, strict=True) if _is_ours(row)}
    alone = next(timing for timing in timings if timing.name == PASSES)
    return [
        {
            **timing.to_dict(),
            "kind": row.kind,
            "does": row.does,
            "passed": timing.outcome if isinstance(timing.outcome, bool) else None,
            "relative_error": relative_error(_numeric(row, timing), exact),
            "times_slower": vars(ratio(timing, ours[GRADIENT if row.kind == GRADIENT else CHECK])),
            "times_slower_than_passes": vars(ratio(timing, alone)),
        }
        for row, timing in zip(rows, timings, strict=True)
    ]


def _is_ours(row: Row) -> bool:
    return row.contender.name.startswith("fastcheck") or row.contender.name == PASSES


def _numeric(row: Row, timing: Timing) -> Any:
    """Return the numerical gradient of a row, computed apart for a check that keeps it."""
    if row.ready is not None and row.ready.numeric is not None:
        return row.ready.numeric()
    return timing.outcome


def _cells(timing: Timing, found: dict[str, Any]) -> list[str]:
    return [
        timing.name + (" (FAILED)" if found["passed"] is False else ""),
        found["kind"],
        seconds(timing.median),
        spread(timing),
        error(found["relative_error"]),
        factor(found["times_slower"]),
        factor(found["times_slower_than_passes"]),
    ]


def _absence(absent: dict[str, str]) -> list[str]:
    return [absent["name"], *["–"] * (len(HEADERS) - 2), absent["not_run"]]


def _plot(
    machine: dict[str, Any],
    case: Case,
    rows: Sequence[Row],
    timings: Sequence[Timing],
    folder: Path,
) -> Path:
    panels = []
    for kind, title in _TITLES.items():
        pairs = zip(rows, timings, strict=True)
        drawn = [plots.dot(t, _colour(row)) for row, t in pairs if row.kind == kind]
        if drawn:
            panels.append(plots.Panel(title, drawn))
    title = plots.heading(f"Other tools and fastcheck: {case.label}", machine)
    return plots.dots(folder / "peers.png", title, panels)


def _colour(row: Row) -> str:
    if row.ready is not None:
        return "peer"
    return "fastcheck" if _is_ours(row) else "loop"
