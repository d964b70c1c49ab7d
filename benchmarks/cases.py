"""The network that is differentiated: sizes, samples, data, and how much of the loop is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.problems import Problem
from fastcheck.problems.mlp import mlp_problem

DATA = ("digits", "dense")
MNIST = (784, 10, 10)


@dataclass(frozen=True)
class Case:
    """One network on one batch.

    Attributes
    ----------
    sizes
        Units of each layer, inputs first.
    batch
        Samples M.
    data
        "digits" are images, most of whose pixels are black; "dense" is Gaussian noise
        without a zero. A method that can skip zeros gains on the first only.
    sample
        How many parameters the loops are timed on; None for all of them.
    repeats
        Rounds.
    """

    sizes: tuple[int, ...] = MNIST
    batch: int = 128
    data: str = "dense"
    sample: int | None = None
    repeats: int = 5

    @property
    def label(self) -> str:
        """The case in one line."""
        return f"{'-'.join(map(str, self.sizes))}, M = {self.batch}, {self.data}"

    @property
    def parameters(self) -> int:
        """The number of parameters N."""
        return sum((a + 1) * b for a, b in zip(self.sizes, self.sizes[1:], strict=False))

    def problem(self, seed: int = 0) -> Problem:
        """Make the network and its batch."""
        data = _noise(self.sizes, self.batch, seed) if self.data == "dense" else None
        return mlp_problem(self.sizes, self.batch, data, seed)

    def to_dict(self) -> dict[str, Any]:
        """Return the case as plain data."""
        return {"case": self.label, "parameters": self.parameters, **vars(self)}


def _noise(
    sizes: tuple[int, ...], batch: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, sizes[0])), rng.integers(0, sizes[-1], batch)


def sample(problem: Problem, count: int | None, seed: int = 0) -> NDArray[np.int64]:
    """Draw parameters, stratified over the tensors.

    Parameters
    ----------
    problem
        Its parameters are a flat dict of arrays.
    count
        How many, roughly: each tensor gives its share, and at least one. None for all.
    seed
        Seeds the draw.

    Returns
    -------
    (n,) int64
        Positions in the vector of all parameters, in rising order.
    """
    sizes = [value.size for value in problem.params.values()]
    total = sum(sizes)
    if count is None or count >= total:
        return np.arange(total)
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0, *sizes[:-1]])
    drawn = [
        start + rng.choice(size, max(1, round(count * size / total)), replace=False)
        for start, size in zip(starts, sizes, strict=True)
    ]
    return np.sort(np.concatenate(drawn))
