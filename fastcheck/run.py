"""One run over the tensors: the loss at θ, the plan, and a measurement of each tensor."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcheck.engines.assignment import Assignment, Plan
from fastcheck.engines.base import Engine, FloatArray, IndexArray
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.plan import Planner
from fastcheck.engines.rounding import jitter_noise
from fastcheck.engines.stacked_loss import StackedLoss
from fastcheck.engines.trust import Trust
from fastcheck.errors import FastcheckError, InputError
from fastcheck.options import Options
from fastcheck.params import ParamTree, Tensor
from fastcheck.report.progress import Progress
from fastcheck.trace.arithmetic import coarsest
from fastcheck.verdict.judge import Excuse
from fastcheck.verdict.measure import Measurement, Remeasure, measure, second_look
from fastcheck.verdict.noise import estimate_noise
from fastcheck.verdict.tolerances import Tolerance, coarsened

if TYPE_CHECKING:
    from fastcheck.verdict.diagnosis.unguarded import Unguarded

# Tracing and putting things back touch the user's modules and objects: two checks must not do so at
# the same time. A loss may check a gradient itself.
ONE_AT_A_TIME = threading.RLock()
if hasattr(os, "register_at_fork"):  # another thread may have held it when the process forked
    os.register_at_fork(after_in_child=ONE_AT_A_TIME._at_fork_reinit)  # type: ignore[attr-defined]


class Run:
    """The numerical gradient of a loss, tensor by tensor.

    As a context manager it gives the memory of other devices back at the end.

    Parameters
    ----------
    loss : callable
        The user's function.
    tree : ParamTree
    options : Options
    tolerance : Tolerance
    trust : Trust, optional
        What earlier runs of the same loss have shown; by default nothing.

    Attributes
    ----------
    plan : Plan
        The trace, or why there is none, and the engines assigned so far.
    loss : LossFunction
    options : Options
    tolerance : Tolerance
        That of the parameters, or a coarser one where the loss computes in a coarser type.
    tolerance_of_parameters : Tolerance
        What was given.
    coarsest : Node or None
        An operation of the loss in the coarsest type, where that is coarser than float64.

    Raises
    ------
    InputError, InputTypeError
        If the loss is not one finite number, or gives two values for the same parameters.
    """

    def __init__(
        self,
        loss: Callable[[Any], Any],
        tree: ParamTree,
        options: Options,
        tolerance: Tolerance,
        trust: Trust | None = None,
    ) -> None:
        self._tree = tree
        self.options = options
        self.tolerance = self.tolerance_of_parameters = tolerance
        self._rng = np.random.default_rng(options.seed)
        self._noise: float | None = None
        self._shown: float | None = None
        self._noises: dict[str, float] = {}
        self._roundings: dict[bool, dict[str, FloatArray]] = {}
        self._unguarded: list[Unguarded] | None = None
        if options.batched:
            _refuse_with_batched(options, tree)
        self.loss: LossFunction = (StackedLoss if options.batched else LossFunction)(loss, tree)
        with noting("`loss` is called as loss(params), with float64 copies of `params`."):
            self._planner = Planner(
                self.loss,
                tree,
                engine=options.engine,
                devices=options.devices,
                choose_device=options.choose_device,
                precision=options.precision,
                memory=options.memory,
                noise=self.noise,
                rng=self._rng,
                trust=Trust() if trust is None else trust,
            )
            remedy = "" if trust is None else OF_A_MONITOR
            refuse_randomness(self.loss, self._planner.plan.loop.loss, remedy)
        self.plan: Plan = self._planner.prepare()
        self.coarsest = coarsest(self.plan.traced)
        if self.coarsest is not None:
            self.tolerance = coarsened(tolerance, self.coarsest.value.dtype)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._planner.close()

    def noise(self) -> float:
        """Return σ of the loss, measured the first time that it is asked for."""
        if self._noise is None:
            measured = estimate_noise(self.loss, self._tree, self._rng)
            self._noise = max(measured, self._rounding())
        return self._noise

    def _rounding(self) -> float:
        """Return what the trace shows of rounding: a few points need not show terms that cancel."""
        if self._shown is None:
            plan = self._planner.plan
            shown = 0.0 if plan.traced is None else jitter_noise(plan.traced, self._rng)
            self._shown = max(shown, 2.0**-53 * plan.loop.magnitude)
        return self._shown

    def assign(self, tensor: Tensor, count: int | None = None, trial: bool = False) -> Assignment:
        """Choose the engine of a tensor, of which `count` elements are to be perturbed."""
        return self._planner.assign(tensor, tensor.size if count is None else count, trial)

    def assign_loop(self, tensor: Tensor, count: int, why: str) -> Assignment:
        """Leave a tensor to the loop engine after all."""
        return self._planner.by_loop(tensor, count, why)

    def measure(
        self,
        tensor: Tensor,
        indices: IndexArray,
        assignment: Assignment,
        progress: Progress | None = None,
    ) -> tuple[Measurement, Remeasure]:
        """Measure a tensor; also return how to measure some of its elements again."""
        common: dict[str, Any] = {
            "method": self.options.method,
            "step": self.options.step,
            "tolerance": self.tolerance,
            "rng": self._rng,
            **self._noise_for(assignment.engine, tensor),
        }
        advance = None if progress is None else progress.advance
        first = measure(assignment.engine, tensor, indices, progress=advance, **common)
        return first, second_look(assignment.engine, tensor, indices, first, **common)

    def gradient_rounding(self, tensor: Tensor, rough: bool = False) -> FloatArray | None:
        """Return how far rounding may move the tensor's analytic derivatives, flat in C order.

        It is found out once for all tensors; None where the trace does not tell. A `rough` answer
        is good for norms over tensors, and quick.
        """
        known = self._roundings.get(False)
        if known is None:
            known = self._roundings.get(rough)
        if known is None:
            # Right gradients seldom need it.
            from fastcheck.verdict.gradient_rounding import differently_rounded, gradient_rounding

            # As it was written, and as a backward pass by hand takes it: with p − y, say.
            graphs = differently_rounded(*self._planner.graphs())
            unit = self.tolerance.unit
            found = [gradient_rounding(graph, unit, self._rng, rough=rough) for graph in graphs]
            names = {name for one in found for name in one}
            known = self._roundings[rough] = {
                name: np.max([one[name] for one in found if name in one], axis=0) for name in names
            }
        if known and tensor.name not in known:
            return np.zeros(tensor.size)  # the loss ignores it
        return known.get(tensor.name)

    def excuses(self, tensor: Tensor, indices: IndexArray) -> Iterator[Excuse]:
        """Yield the gradients of the loss without numerical guards, at these flat indices.

        They are found out once for all tensors; none where the trace does not tell.
        """
        if self._unguarded is None:
            # Right gradients seldom need it.
            from fastcheck.verdict.diagnosis.unguarded import unguarded

            self._unguarded = []
            written, _ = self._planner.graphs()
            with suppress(Exception):  # a verdict is not to be lost for want of an excuse
                self._unguarded += [] if written is None else unguarded(written)
        name = tensor.name
        for one in self._unguarded:
            if name in one.shift and one.shift[name].size == tensor.size:
                shift, right = one.shift[name][indices], one.right[name][indices]
                yield Excuse(one.said, one.way == 0, one.whole(), shift, right)

    def _noise_for(self, engine: Engine, tensor: Tensor) -> dict[str, float]:
        """Return σ of the loss when this tensor is moved, and the largest of any tensor."""
        if engine.exact or not tensor.size:
            return {"noise": 0.0, "stairs": 0.0}
        if not self._noises:
            self._noises = {
                t.name: estimate_noise(self.loss, self._tree, self._rng, t.name)
                for t in self._tree
                if t.size
            }
        noise = max(self._noises[tensor.name], self._rounding())
        return {"noise": noise, "stairs": max(self._noises.values())}


def _refuse_with_batched(options: Options, tree: ParamTree) -> None:
    """Refuse keywords about stacks that are not ours but the user's own function's."""
    if options.engine != "auto":
        raise InputError(
            f"`engine` is '{options.engine}', but with batched=True `loss` itself computes the "
            "stacks: leave engine='auto', or give a `loss` of single parameters and "
            "batched=False."
        )
    if options.precision != "float64":
        raise InputError(
            f"`precision` is '{options.precision}', but with batched=True `loss` itself computes "
            "the stacks: leave precision='float64', and convert inside `loss` if you want to."
        )
    if tree.has_complex:
        names = ", ".join(tensor.name for tensor in tree if tensor.is_complex)
        raise InputError(
            f"`batched` is True, but stacks of complex parameters ({names}) are not supported: "
            "give a `loss` of single parameters and batched=False, or parameters made of two float "
            "arrays, the real and the imaginary parts."
        )
    where = [tensor.place for tensor in tree if tensor.place is not None]
    there = f"gpu:{where[0].device.id}" if where else "cpu"
    if not options.choose_device and [device.name for device in options.devices] != [there]:
        kind = f"CuPy arrays on {there}" if where else "NumPy arrays"
        other = "" if where else ", or give CuPy arrays as `params`"
        raise InputError(
            f"`device` is {','.join(device.name for device in options.devices)}, but with "
            f"batched=True the stacks are {kind} like `params`: leave device='auto'{other}."
        )


OF_A_MONITOR = "; or give the monitor `rng`, the generator that `loss` draws from"


def refuse_randomness(loss: LossFunction, first: float, remedy: str = "") -> None:
    """Raise where J(θ) is not `first` again; `remedy` is one more thing to do about it."""
    difference = loss.repeatability(first)
    if difference != 0:
        raise InputError(
            f"`loss` gave two different values for the same parameters; they differ by "
            f"{difference:.3g}. Hold its randomness still: draw a dropout mask (or the batch) once "
            f"outside `loss`, or seed the generator anew inside it{remedy}. If nothing is random, "
            "it carries something from call to call (a hidden state): reset that inside `loss`."
        )


@contextmanager
def noting(note: str) -> Iterator[None]:
    """Add a note to an error of the user's own function: how it came to be called."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, FastcheckError):
            error.add_note(note)
        raise


@contextmanager
def moving(tensor: Tensor) -> Iterator[None]:
    """Note in an error that the loss raises that elements of `tensor` were moved."""
    try:
        yield
    except Exception as error:
        if _raised_by_loss(error):
            error.add_note(
                f"`loss` was called with {tensor.name} moved a little away from your values, as a "
                "numerical gradient needs: it must be defined there too."
            )
        raise


def _raised_by_loss(error: Exception) -> bool:
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    calls = (LossFunction.evaluate.__code__, StackedLoss.losses.__code__)
    return any(code in frames for code in calls) and not isinstance(error, FastcheckError)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = perf_counter()

    def total(self) -> float:
        return perf_counter() - self._start
