"""fastcheck's 2N passes with everything prepared: what its engines do, and nothing around it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import seconds
from fastcheck.engines.base import Engine
from fastcheck.engines.plan import ENGINES
from fastcheck.errors import FastcheckError
from fastcheck.options import Options
from fastcheck.params import ParamTree, Tensor
from fastcheck.problems import Problem
from fastcheck.run import Run
from fastcheck.verdict.tolerances import tolerance_for


def offered(engine: str) -> bool:
    """Whether this version of fastcheck has an engine of that name."""
    return engine in ENGINES


def obstacle(problem: Problem, engine: str, step: float, budget: float, runs: int = 1) -> str:
    """Say why an engine is not run: not there, not able, or too slow; nothing where it is.

    Parameters
    ----------
    problem, engine, step
        As for `Passes`.
    budget
        Seconds that all runs may take.
    runs
        How many there are to be.
    """
    if not offered(engine):
        return "this version of fastcheck does not have it"
    try:
        needed = runs * Passes(problem, engine, step).estimate()
    except FastcheckError as error:
        return str(error)
    if needed <= budget:
        return ""
    many = "one run" if runs == 1 else f"{runs} runs"
    return f"{many} estimated at {seconds(needed)}, over the budget of {seconds(budget)}"


def best_passes(
    problem: Problem, step: float, *, device: str = "auto", precision: str = "float64"
) -> Passes:
    """Return the passes by compiled kernels where there are any, otherwise by what "auto" takes.

    What "auto" takes depends on the work that the process has done before, since compiling pays
    from some amount on. Kernels compiled here are at hand for every later call.
    """
    if offered("fused"):
        with suppress(FastcheckError):
            return Passes(problem, "fused", step, device=device, precision=precision)
    return Passes(problem, "auto", step, device=device, precision=precision)


def spread_evenly(size: int, most: int) -> NDArray[np.int64]:
    """Return `size` positions, or `most` of them from the first to the last."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.int64))


class Passes:
    """A problem traced, cross-checked and assigned to engines, ready to be differentiated.

    Parameters
    ----------
    problem : Problem
    engine : str
        As for `fastcheck.check`.
    step : float
        The step h.
    device, precision : str
        As for `fastcheck.check`.
    """

    def __init__(
        self,
        problem: Problem,
        engine: str,
        step: float,
        *,
        device: str = "auto",
        precision: str = "float64",
    ) -> None:
        self._tree = ParamTree.from_user(problem.params)
        options = Options.validated(
            self._tree,
            method="central",
            step=step,
            engine=engine,
            device=device,
            precision=precision,
            batched=False,
            memory=None,
            progress=False,
            seed=0,
        )
        tolerance = tolerance_for([tensor.dtype for tensor in self._tree])
        run = Run(problem.loss, self._tree, options, tolerance)
        self._step = step
        self._assigned = {t.name: run.assign(t) for t in self._tree}
        self._engines: dict[str, Engine] = {
            name: assigned.engine for name, assigned in self._assigned.items()
        }

    @property
    def engines(self) -> dict[str, str]:
        """The name of each tensor's engine."""
        return {tensor: engine.name for tensor, engine in self._engines.items()}

    @property
    def devices(self) -> dict[str, str]:
        """Where each tensor's engine computes."""
        return {tensor: engine.device for tensor, engine in self._engines.items()}

    @property
    def places(self) -> dict[str, str]:
        """The engine of each tensor, where it computes, and why it is this one."""
        return {
            tensor: f"{assigned.engine.name} on {assigned.engine.device}: {assigned.reason}"
            for tensor, assigned in self._assigned.items()
        }

    def gradient(self) -> NDArray[np.float64]:
        """Return the numerical gradient of all parameters as one vector."""
        return np.concatenate([self._some(t, np.arange(t.size)) for t in self._tree])

    def parts(self, most: int) -> list[tuple[NDArray[np.int64], Callable[[], Any]]]:
        """Return for each tensor at most so many elements of it, and what computes those."""

        def part(tensor: Tensor) -> tuple[NDArray[np.int64], Callable[[], Any]]:
            chosen = spread_evenly(tensor.size, most)
            return chosen, lambda: self._some(tensor, chosen)

        return [part(tensor) for tensor in self._tree]

    def estimate(self) -> float:
        """Return about how many seconds `gradient` takes, as `fastcheck.explain` says."""
        return sum(a.costs.of(a.engine.name) for a in self._assigned.values())

    def _some(self, tensor: Tensor, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        steps = np.full(len(indices), self._step)
        found = self._engines[tensor.name].differences(tensor.name, indices, steps)
        return (found.plus + found.minus) / (found.step_plus + found.step_minus)
