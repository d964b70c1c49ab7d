"""The whole numerical gradient: the loop that everybody writes, against fastcheck's engines.

All of them take the same step and stand for the same 2N forward passes of the same function, on
float64 arrays, in one interleaved run. The error is ‖n − g‖/‖g‖ against backpropagation. The last
row is a whole ``fastcheck.check`` with its own step: trace, cross-check, error bars and verdict.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

import numpy as np

import fastcheck
from benchmarks.harness import (
    Contender,
    Timing,
    describe,
    environment,
    interleave,
    ratio,
    save,
    seconds,
    spread,
    table,
)
from fastcheck.cli import sizes
from fastcheck.commands.naive import naive_gradient, to_vector
from fastcheck.problems import Problem, mlp

SUMMARY = "the naive loop of 2N forward passes against fastcheck's loop and replay engines"
HEADERS = ("way", "median", "range", "relative error", "times faster (range)")
NAIVE = "naive loop"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sizes", type=sizes, default=(784, 10, 10), metavar="N-N-N")
    parser.add_argument("--batch", type=int, default=128, metavar="M")
    parser.add_argument("--step", type=float, default=1e-6, metavar="H")
    parser.add_argument("--repeats", type=int, default=5, metavar="R", help="rounds after warming")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="64-10-10 with 32 samples, 3 rounds")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/naive.json")


def run(arguments: Namespace) -> list[dict[str, Any]]:
    """Measure, print the table, and return its rows as plain data."""
    if arguments.quick:
        arguments.sizes, arguments.batch, arguments.repeats = (64, 10, 10), 32, 3
    problem = mlp.mlp_problem(arguments.sizes, arguments.batch, seed=arguments.seed)
    machine = environment()
    print(_heading(arguments, problem), describe(machine), "", sep="\n")
    timings = interleave(contenders(problem, arguments.step), max(1, arguments.repeats))
    results = summarise(timings, problem)
    print(table(HEADERS, [_row(timing, one) for timing, one in zip(timings, results, strict=True)]))
    if arguments.save:
        print(f"\nWritten to {save('naive', machine, _settings(arguments), results)}.")
    return results


def contenders(problem: Problem, step: float) -> list[Contender]:
    """Return the ways to compute the gradient; each returns it as one vector."""

    def with_engine(engine: str) -> Contender:
        def gradient() -> Any:
            return fastcheck.numerical_gradient(
                problem.loss, problem.params, step=step, engine=engine
            )

        return Contender(f"fastcheck, {engine}", lambda: to_vector(gradient()))

    return [
        Contender(NAIVE, lambda: naive_gradient(problem.loss, problem.params, step)),
        with_engine("loop"),
        with_engine("replay"),
        Contender("fastcheck.check", lambda: _checked(problem)),
    ]


def _checked(problem: Problem) -> None:
    report = fastcheck.check(problem.loss, problem.params, problem.grads)
    if not report:
        raise fastcheck.FastcheckError(f"the check of a correct gradient did not pass:\n{report}")


def summarise(timings: Sequence[Timing], problem: Problem) -> list[dict[str, Any]]:
    """Return each contender's times, its error, and how much faster it is than the naive loop."""
    exact = to_vector(problem.gradients())
    naive = timings[0]
    return [
        {
            **timing.to_dict(),
            "relative_error": _relative_error(timing.outcome, exact),
            "times_faster": vars(ratio(naive, timing)),
        }
        for timing in timings
    ]


def _relative_error(numeric: Any, exact: Any) -> float | None:
    if numeric is None:
        return None
    return float(np.linalg.norm(numeric - exact) / np.linalg.norm(exact))


def _row(timing: Timing, result: dict[str, Any]) -> list[str]:
    error, faster = result["relative_error"], result["times_faster"]
    return [
        timing.name,
        seconds(timing.median),
        spread(timing),
        "–" if error is None else f"{error:.1e}",
        f"{faster['median']:.2f} ({faster['low']:.2f} – {faster['high']:.2f})",
    ]


def _heading(arguments: Namespace, problem: Problem) -> str:
    count = sum(value.size for value in problem.params.values())
    return (
        f"{problem.name}, M = {arguments.batch}, float64, step {arguments.step:g}: "
        f"{count:,} parameters, {2 * count:,} forward passes; {max(1, arguments.repeats)} rounds"
    )


def _settings(arguments: Namespace) -> dict[str, Any]:
    names = ("sizes", "batch", "step", "repeats", "seed")
    return {name: getattr(arguments, name) for name in names}
