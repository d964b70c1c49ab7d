"""What a peer is: a tool's own way to the same end, set up as its users would set it up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.problems import Problem

Vector = NDArray[np.float64]
GRADIENT, CHECK, DIRECTION = "gradient", "check", "direction"


@dataclass(frozen=True)
class Task:
    """What every peer does: differentiate this network with this step.

    Attributes
    ----------
    problem
        The loss in NumPy, its parameters and its gradient.
    X, Y
        The batch, samples in columns, for peers that need the network in their own arrays.
    step
        The step h.
    chunks
        The numbers of perturbed copies at a time that a vectorised peer tries.
    """

    problem: Problem
    X: Vector
    Y: Vector
    step: float
    chunks: Sequence[int]

    @property
    def params(self) -> list[Vector]:
        """The tensors: weights and biases in turns."""
        return list(self.problem.params.values())


@dataclass(frozen=True)
class Ready:
    """A peer with everything compiled and chosen.

    Attributes
    ----------
    run
        Does the work once. Returns the gradient as one vector, or whether the check passed.
    setting
        What was chosen for it, for the table.
    numeric
        For a check: returns the numerical gradient that it compares with, to judge its error by;
        None where it forms none.
    """

    run: Callable[[], Any]
    setting: str = ""
    numeric: Callable[[], Vector | None] | None = None


@dataclass(frozen=True)
class Peer:
    """A way of another tool.

    Attributes
    ----------
    name
        Its name in the table.
    package
        What must be installed.
    kind
        "gradient" if it computes the numerical gradient, "check" if it judges all of an analytic
        one, "direction" if it judges a random projection of it.
    does
        How many passes of what kind it makes: not all do the same work.
    prepare
        Sets it up, outside the timing.
    """

    name: str
    package: str
    kind: str
    does: str
    prepare: Callable[[Task], Ready]


def best_chunk(make: Callable[[int], Callable[[], Any]], chunks: Sequence[int]) -> Ready:
    """Try the chunk sizes and return the fastest: the better of two runs after one that warms."""
    seconds = {}
    runs = {}
    for chunk in chunks:
        runs[chunk] = make(chunk)
        runs[chunk]()
        seconds[chunk] = min(_seconds(runs[chunk]) for _ in range(2))
    best = min(seconds, key=seconds.__getitem__)
    return Ready(runs[best], f"chunk {best} of {', '.join(map(str, chunks))}")


def _seconds(run: Callable[[], Any]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start
