"""The ways to compute a whole numerical gradient, as contenders.

Two loops: the one that courses teach, which flattens the parameters, copies the vector and cuts it
up again for every pass, and a more careful one that changes each parameter in place. Both call the
very function that fastcheck is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastcheck
from benchmarks.passes import Passes
from benchmarks.timing import Contender, Sampled
from fastcheck.commands.naive import derivative, to_vector
from fastcheck.problems import Problem

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]
Piece = Callable[[int], float]

NAIVE = "naive loop"
IN_PLACE = "loop in place"
PASSES = "kernel passes alone"
CHECK = "fastcheck.check"


def naive_loop(problem: Problem, step: float, picked: Indices) -> Contender | Sampled:
    """Return the loop of the courses, on the parameters at `picked`."""
    vector = to_vector(problem.params)

    def piece(k: int) -> float:
        return derivative(problem.loss, vector, problem.params, int(picked[k]), step)

    return _loop(NAIVE, piece, len(picked), vector.size)


def in_place_loop(problem: Problem, step: float, picked: Indices) -> Contender | Sampled:
    """Return the loop that changes one parameter and puts it back, on those at `picked`."""
    params = {name: value.copy() for name, value in problem.params.items()}
    places = _places(params, picked)

    def piece(k: int) -> float:
        return _in_place(problem.loss, params, *places[k], step)

    return _loop(IN_PLACE, piece, len(picked), to_vector(params).size)


def _loop(name: str, piece: Piece, timed: int, total: int) -> Contender | Sampled:
    if timed < total:
        return Sampled(name, piece, timed, total)
    return Contender(name, lambda: np.array([piece(k) for k in range(total)]))


def _places(params: dict[str, Any], picked: Indices) -> list[tuple[Vector, int]]:
    """Return each picked parameter as a flat view of its tensor and a position in it."""
    flats = [value.reshape(-1) for value in params.values()]
    starts = np.cumsum([0, *(flat.size for flat in flats)])
    tensors = np.searchsorted(starts, picked, side="right") - 1
    return [
        (flats[tensor], int(i - starts[tensor])) for tensor, i in zip(tensors, picked, strict=True)
    ]


def _in_place(
    loss: Callable[[Any], float], params: dict[str, Any], flat: Vector, index: int, step: float
) -> float:
    value = flat[index]
    flat[index] = value + step
    plus = loss(params)
    flat[index] = value - step
    minus = loss(params)
    flat[index] = value
    return float(plus - minus) / (2 * step)


def public(problem: Problem, step: float, engine: str) -> Contender:
    """Return `fastcheck.numerical_gradient` as a user calls it: it traces and checks its trace."""

    def run() -> Vector:
        return to_vector(
            fastcheck.numerical_gradient(problem.loss, problem.params, step=step, engine=engine)
        )

    return Contender(f"fastcheck, {engine}", run)


def prepared(passes: Passes) -> Contender:
    """Return the passes with tracing and assigning done before."""
    return Contender(PASSES, passes.gradient)


def whole_check(problem: Problem) -> Contender:
    """Return `fastcheck.check` as a user calls it, with a step of its own choice.

    Raises
    ------
    FastcheckError
        When run, if the gradient, which is right, does not pass.
    """

    def run() -> None:
        report = fastcheck.check(problem.loss, problem.params, problem.grads)
        if not report:
            raise fastcheck.FastcheckError(f"the check of a right gradient did not pass:\n{report}")

    return Contender(CHECK, run)


def relative_error(numeric: Any, exact: Vector, picked: Indices | None = None) -> float | None:
    """Return ‖n − g‖/‖g‖, on the sampled parameters where a sample was computed; None without n."""
    if not isinstance(numeric, np.ndarray):
        return None
    if picked is not None and numeric.size == picked.size:
        exact = exact[picked]
    return float(np.linalg.norm(numeric - exact) / np.linalg.norm(exact))


@dataclass(frozen=True)
class Skipped:
    """A way that was not run, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"not run: {self.name}, {self.why}"
