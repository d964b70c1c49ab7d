"""The ways to a numerical gradient that are compared on a GPU: fastcheck's, and the plain loops.

Every way ends with its numbers on the host, so that a clock around it sees all of its work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

import fastcheck
from benchmarks.ongpu.launches import watched
from benchmarks.passes import Passes, best_passes
from benchmarks.timing import Clock, Contender, Measured
from benchmarks.ways import Indices, Vector, naive_loop
from fastcheck.commands.naive import to_vector
from fastcheck.errors import FastcheckError
from fastcheck.problems import Problem, mlp

PASSES, EVENTS, CALL = "passes, GPU", "launches by events, GPU", "numerical_gradient, GPU"
REPLAY = "replay passes, CuPy"
CPU_PASSES, CPU_CALL = "passes, CPU", "numerical_gradient, CPU"
NAIVE, CUPY_LOOP = "naive loop, NumPy", "naive loop, CuPy"

FLOAT32_STEP = 2.0**-8
"""Where differences cancel, float32 needs a large step: about the cube root of its rounding."""


def own_step(precision: str, step: float) -> float:
    """Return the step of a way whose differences cancel; fastcheck's do not, at any step."""
    return step if precision == "float64" else FLOAT32_STEP


@dataclass(frozen=True)
class Way:
    """A contender, and what is said of it.

    Attributes
    ----------
    contender
        Its name ends with the precision.
    kind
        Its colour in plots.
    name
        Without the precision.
    precision
        The floating-point type of its arithmetic.
    step
        The step h.
    picked
        The parameters whose derivatives it returns, as positions in the vector of all.
    setting
        What was chosen for it.
    """

    contender: Measured
    kind: str
    name: str
    precision: str
    step: float
    picked: Indices
    setting: str = ""


@dataclass(frozen=True)
class Parts:
    """A way of one part for each tensor, of which some elements are computed.

    All passes of a tensor cost the same, so the time of each part is scaled to the whole tensor.

    Attributes
    ----------
    name
        Its name in tables and results.
    runs
        Computes the derivatives of each part.
    scales
        The size of each tensor over its computed elements.
    count
        How many elements are computed.
    """

    name: str
    runs: Sequence[Callable[[], Any]]
    scales: Sequence[float]
    count: int

    @property
    def timed(self) -> int | None:
        """How many parameters are computed; None for all."""
        return None if all(scale == 1.0 for scale in self.scales) else self.count

    def measure(self, clock: Clock) -> tuple[float, Any]:
        """Return the seconds of the whole, and the derivatives of the parts."""
        found, seconds = [], 0.0
        for run, scale in zip(self.runs, self.scales, strict=True):
            start = clock()
            found.append(np.asarray(run(), dtype=np.float64))
            seconds += (clock() - start) * scale
        return seconds, np.concatenate(found)


@dataclass(frozen=True)
class Synchronised(Contender):
    """A contender between whose beginning and end the device does its work and no other."""

    def measure(self, clock: Clock) -> tuple[float, Any]:
        """Return the seconds of one run, and its outcome."""
        wait = import_module("cupy").cuda.runtime.deviceSynchronize
        wait()
        start = clock()
        outcome = self.run()
        wait()
        return clock() - start, outcome


@dataclass(frozen=True)
class ByEvents(Contender):
    """The same as seen by the device: the times between events around each launch, added up.

    On an idle device the latency of a launch is in it.
    """

    def measure(self, clock: Clock) -> tuple[float, Any]:
        """Return the seconds of the launches of one run, and its outcome."""
        with watched() as launches:
            outcome = self.run()
        return sum(launches.seconds), outcome


def passes_alone(problem: Problem, step: float, precision: str, passes: Passes) -> list[Way]:
    """Return the prepared passes on the GPU by both clocks."""
    every = np.arange(to_vector(problem.params).size)
    setting = "; ".join(f"{tensor}: {place}" for tensor, place in passes.places.items())
    return [
        Way(
            kind(f"{name}, {precision}", passes.gradient),
            "gpu",
            name,
            precision,
            step,
            every,
            setting,
        )
        for kind, name in ((Synchronised, PASSES), (ByEvents, EVENTS))
    ]


def on_gpu(problem: Problem, step: float, precision: str) -> Passes:
    """Return the passes prepared on the first GPU, by kernels where there are any.

    Raises
    ------
    FastcheckError
        If some of them would be made on the host after all.
    """
    return _none_on_the_host(best_passes(problem, step, device="gpu", precision=precision))


def _none_on_the_host(passes: Passes) -> Passes:
    left = [f"{name} by {passes.places[name]}" for name, d in passes.devices.items() if d == "cpu"]
    if left:
        raise FastcheckError(f"the host computes {'; '.join(left)}")
    return passes


def call(problem: Problem, step: float, precision: str, device: str) -> Way:
    """Return `fastcheck.numerical_gradient` as a user calls it."""
    name, kind = (CPU_CALL, "fastcheck") if device == "cpu" else (CALL, "gpu")
    contender = Contender if device == "cpu" else Synchronised

    def run() -> Vector:
        return to_vector(
            fastcheck.numerical_gradient(
                problem.loss, problem.params, step=step, device=device, precision=precision
            )
        )

    every = np.arange(to_vector(problem.params).size)
    return Way(contender(f"{name}, {precision}", run), kind, name, precision, step, every)


def cpu_passes(problem: Problem, step: float, passes: Passes) -> Way:
    """Return the passes prepared on the CPU."""
    every = np.arange(to_vector(problem.params).size)
    contender = Contender(f"{CPU_PASSES}, float64", passes.gradient)
    return Way(contender, "fastcheck", CPU_PASSES, "float64", step, every)


def replay(problem: Problem, step: float, precision: str, most: int) -> Way:
    """Return the replay engine's passes in CuPy, on at most so many elements of each tensor."""
    passes = _none_on_the_host(Passes(problem, "replay", step, device="gpu", precision=precision))
    setting = "; ".join(f"{tensor}: {place}" for tensor, place in passes.places.items())
    return in_parts(REPLAY, "gpu", problem, step, precision, passes.parts(most), setting)


def in_parts(
    name: str,
    kind: str,
    problem: Problem,
    step: float,
    precision: str,
    parts: Sequence[tuple[Indices, Callable[[], Any]]],
    setting: str = "",
) -> Way:
    """Return a way that is made of some elements of each tensor, and how to compute these."""
    sizes = [tensor.size for tensor in problem.params.values()]
    starts = np.cumsum([0, *sizes[:-1]])
    picked = np.concatenate(
        [start + chosen for start, (chosen, _) in zip(starts, parts, strict=True)]
    )
    scales = [size / len(chosen) for size, (chosen, _) in zip(sizes, parts, strict=True)]
    runs = [run for _, run in parts]
    contender = Parts(f"{name}, {precision}", runs, scales, picked.size)
    return Way(contender, kind, name, precision, step, picked, setting)


def numpy_loop(problem: Problem, step: float, picked: Indices) -> Way:
    """Return the loop of the courses in NumPy, on the parameters at `picked`."""
    contender = _renamed(naive_loop(problem, step, picked), f"{NAIVE}, float64")
    return Way(contender, "loop", NAIVE, "float64", step, picked)


def cupy_loop(problem: Problem, step: float, precision: str, picked: Indices) -> Way:
    """Return the same loop with the parameters and the batch in CuPy."""
    cupy = import_module("cupy")
    batch = problem.loss.keywords  # type: ignore[attr-defined]  # a partial of the network's loss
    X, Y = (cupy.asarray(batch[name].astype(precision)) for name in "XY")
    params = {name: cupy.asarray(v.astype(precision)) for name, v in problem.params.items()}
    moved = Problem(partial(mlp.loss, X=X, Y=Y), params, problem.grads)
    h = own_step(precision, step)
    contender = _renamed(naive_loop(moved, h, picked), f"{CUPY_LOOP}, {precision}")
    return Way(contender, "cupy", CUPY_LOOP, precision, h, picked)


def _renamed(contender: Any, name: str) -> Any:
    return type(contender)(**{**vars(contender), "name": name})


def largest_error(numeric: Any, reference: Vector, picked: Indices) -> float:
    """Return max |n − r| over the picked parameters, relative to the largest element of r."""
    difference = np.abs(np.asarray(numeric, dtype=np.float64) - reference[picked])
    return float(difference.max() / np.abs(reference).max())
