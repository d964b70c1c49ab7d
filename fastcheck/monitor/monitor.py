"""A gradient check every K steps of a training loop, at a price that the user states."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from typing import Any, Protocol

import numpy as np

from fastcheck.bound import Bound
from fastcheck.engines.arithmetic import own_arithmetic
from fastcheck.engines.base import FloatArray
from fastcheck.errors import GradientError, InputTypeError, NotFiniteError
from fastcheck.keep import keep
from fastcheck.monitor.batch import NO_BATCH, arguments_of
from fastcheck.monitor.budget import Budget
from fastcheck.monitor.inspector import Found, Inspector, doubtful, no_answer
from fastcheck.monitor.jsonl import JsonLines
from fastcheck.monitor.moment import Moment
from fastcheck.monitor.previous import copied, matched
from fastcheck.monitor.prices import Choice, Prices
from fastcheck.monitor.randomness import Randomness
from fastcheck.monitor.reading import Reader
from fastcheck.monitor.record import Record
from fastcheck.monitor.settings import Settings
from fastcheck.monitor.step import Step
from fastcheck.options import Known
from fastcheck.params import ParamTree
from fastcheck.report.data import Report, Verdict

_LEEWAY = 1.25
_LATE = 10
"""Checks that were due before it is said that a budget has not afforded the first one."""
_PLANNED = 0.75
"""The part of a budget that is planned for.

The rest is for what a stopwatch in here cannot see, and for what cannot be foreseen: the call at
each of the many steps where nothing is due (0.2 % of a training of small steps), caches that a
check leaves cold (some 50 µs each), a check that takes longer than the one before.
"""
Gradients = dict[str, FloatArray]


class Writer(Protocol):
    """Where records go."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


class Monitor:
    """Checks the gradient of a training loop every `every` steps, and keeps a record.

    Call it once a step, with the parameters at which the gradient was computed::

        monitor = fastcheck.Monitor(loss, every=100, budget=0.01)
        for X, Y in batches:
            grads = backward(params, X, Y)
            monitor(params, grads, batch=(X, Y))  # before the update
            ...

    Parameters
    ----------
    loss : callable
        ``loss(params, batch)``, or ``loss(params)`` where no batch is given: the forward pass, as
        `fastcheck.check` takes it.
    every : int
        Steps from one check to the next.
    start : int
        The first step that may be checked; steps are counted from 0.
    mode : {"full", "sample", "directions"}, optional
        What a check compares: all elements (the default without a budget); `sample` elements, some
        of every tensor and others each time, so that all have their turn; or the derivative along
        a random direction in each tensor, at two forward passes a tensor.
    budget : float, optional
        The share of the training's own time that checks may take, such as 0.01. The monitor then
        chooses by itself what to compare, and puts a check off until three quarters of the budget
        afford it; the rest is for what it cannot foresee or see itself.
    sample : int
        How many elements a sample has (with a budget: at least).
    on_fail : {"raise", "warn", "record"} or callable
        What a FAIL does: raise `GradientError`, warn (with the report the first time), nothing but
        be recorded, or call a function with the report.
    rng : generator or list of generators, optional
        What the forward pass draws from, for a mask of dropout, say: before each forward pass of a
        check it is set back to where it stood when the step began, and afterwards to where it is
        now. `numpy.random.Generator`, `RandomState`, `random.Random`; "numpy" for `numpy.random`.
        A step begins where the monitor's last one ended, or with ``with monitor.step():``.
    hold : callable, optional
        Your own way to do the same: called before each forward pass of a check.
    engine, device, memory, tolerance, batch_size, seed
        As for `fastcheck.check`.

    Attributes
    ----------
    history : list of Record
        One a check.
    step_number : int
        How many steps there have been.

    Raises
    ------
    InputError, InputTypeError
        A keyword that cannot be used, at once; arguments of a step that cannot, when it is checked.
    GradientError
        With ``on_fail="raise"``, when a gradient is wrong.

    Notes
    -----
    Nothing of the training is disturbed: parameters, batch, random states and attributes that
    `loss` writes are put back as they were, so that training with and without a monitor gives
    the same weights to the last bit.

    The first check proves that the monitor can fail: with an error of one percent planted in a
    copy of the gradient, each tensor must be noticed; otherwise its verdict is INCONCLUSIVE.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        *,
        every: int = 100,
        start: int = 0,
        mode: str | None = None,
        budget: float | None = None,
        sample: int = 256,
        on_fail: str | Callable[[Report], object] = "raise",
        rng: Any = None,
        hold: Callable[[], object] | None = None,
        engine: str = "auto",
        device: str = "auto",
        memory: int | float | str | None = None,
        tolerance: float | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        if not callable(loss):
            raise InputTypeError(
                f"`loss` must be callable, but it is a {type(loss).__name__}: pass the function "
                "itself, loss(params, batch) or loss(params)."
            )
        self._loss = loss
        self._settings = Settings.validated(
            every=every,
            start=start,
            mode=mode,
            budget=budget,
            sample=sample,
            on_fail=on_fail,
            tolerance=tolerance,
            batch_size=batch_size,
            seed=seed,
            engine=engine,
            device=device,
            memory=memory,
        )
        self.history: list[Record] = []
        self.step_number = 0
        share = self._settings.budget
        self._budget = Budget(None if share is None else _PLANNED * share)
        self._random = Randomness(rng, hold)
        self._inspector = Inspector(self._settings)
        self._prices = Prices(self._settings.sample)
        self._reader = Reader()
        self._proven = self._said_late = False
        self._previous: Any = None
        self._target = self._settings.start
        self._wake = 0
        self._writers: list[Writer] = []

    def __call__(self, params: Any, grads: Any, batch: Any = NO_BATCH) -> Report | None:
        """Count a step, and check its gradient if that is due.

        Parameters
        ----------
        params : tree
            The parameters at which `grads` was computed: call this before they are updated.
        grads : tree or flat vector
            The analytic gradient, as `fastcheck.check` takes it.
        batch : object, optional
            The second argument of `loss`.

        Returns
        -------
        Report or None
            None at a step that was not checked.
        """
        number = self.step_number
        self.step_number = number + 1
        if number < self._wake:  # nearly always, and then nothing may cost anything
            return None
        self._budget.pause()
        try:
            with own_arithmetic():
                return self._awake(number, params, grads, batch)
        finally:
            self._random.mark()
            self._budget.resume()

    def step(self, params: Any = None, grads: Any = None, batch: Any = NO_BATCH) -> Step:
        """Return a context manager around one step of the training.

        Randomness is remembered as it stands on entry. Inside, call ``step.check(params, grads,
        batch=...)``; with `params` and `grads` given here, that happens on entry. The report, or
        None, is in ``step.report``.
        """
        given = None if params is None and grads is None else (params, grads, batch)
        return Step(self, given)

    def begin(self) -> None:
        """A step begins now: what the forward pass draws from stands where it is to be set back."""
        if self.step_number >= self._wake:
            self._random.mark()

    def to_jsonl(self, path: str | PathLike[str]) -> None:
        """Write the record to a file, one line of JSON a check, and from now on as checks are made.

        A run that is killed loses no more than the line it was writing. `fastcheck.read_jsonl`
        reads it back, and ``fastcheck watch FILE`` shows it.
        """
        self._write_to(JsonLines(path))

    def to_tensorboard(self, logdir: str | PathLike[str]) -> None:
        """Write the record for TensorBoard, from now on as checks are made.

        Raises
        ------
        InputError
            No package that writes for TensorBoard is installed.
        """
        from fastcheck.monitor.tensorboard import TensorBoardWriter

        self._write_to(TensorBoardWriter(logdir))

    def plot(self, path: str | PathLike[str]) -> None:
        """Draw loss, relative difference and range of the gradient against steps, on one page."""
        from fastcheck.monitor.plot import plot_history

        plot_history(self.history, path)

    def close(self) -> None:
        """Close the files that the record is written to; a monitor also does so when it goes."""
        for writer in self._writers:
            writer.close()
        self._writers = []

    def __del__(self) -> None:
        for writer in getattr(self, "_writers", ()):
            with suppress(Exception):
                writer.close()

    def _write_to(self, writer: Writer) -> None:
        for record in self.history:
            writer.write(record)
        self._writers.append(writer)

    # -- one step ---------------------------------------------------------------------------------

    def _awake(self, number: int, params: Any, grads: Any, batch: Any) -> Report | None:
        """Check this step if it is the one to be checked; sleep until the one before the next."""
        self._previous, previous = None, self._previous
        if number < self._target:
            self._sleep(number, grads)
            return None
        wait = self._budget.steps_until(self._prices.least(self._a_step(number)), number)
        if wait > 0:
            # What a step takes may change, so look again before long; but looking takes time too.
            every = self._settings.every
            if not self.history and number - self._settings.start >= _LATE * every:
                self._say_that_it_is_late(number + wait)
            self._target = number + math.ceil(min(max(_LEEWAY * wait, every / 2), every))
            self._sleep(number, grads)
            return None
        report = self._check(number, params, grads, batch, previous)
        past = (number - self._settings.start) // self._settings.every
        self._target = self._settings.start + (past + 1) * self._settings.every
        self._sleep(number, grads)
        self._act(report, number)
        return report

    def _say_that_it_is_late(self, expected: float) -> None:
        """Warn once that nothing has been checked: silence would look like a pass."""
        if self._said_late:
            return
        self._said_late = True
        when = f"at about step {expected:,.0f}" if math.isfinite(expected) else "later"
        warnings.warn(
            f"no gradient has been checked yet: `budget={self._settings.budget:g}` affords the "
            f"first check {when}. A larger budget affords it sooner; without one every "
            f"{self._settings.every:,}th step is checked.",
            stacklevel=4,
        )

    def _sleep(self, number: int, grads: Any) -> None:
        """Do nothing until the step before the one to be checked.

        Its gradient is kept: where the next one is wrong, it may be this one, or hold it.
        """
        if number < self._target - 1:
            self._wake = self._target - 1
            return
        self._wake = self._target
        dear = self._prices.least(self._a_step(number)) > self._budget.allowance_soon(number)
        self._previous = None if dear else copied(grads)

    def _check(self, number: int, params: Any, grads: Any, batch: Any, previous: Any) -> Report:
        """Check, and write down what came of it."""
        gradients: Gradients = {}
        try:
            tree = self._reader.params(params)
            gradients = self._reader.gradients(tree, grads)
            found = self._found(number, params, tree, gradients, batch, previous)
        except NotFiniteError as reason:
            found = no_answer(str(reason))
        self.history.append(self._record(number, found, gradients))
        self._write(self.history[-1])
        return found.report

    def _write(self, record: Record) -> None:
        """Pass a record on. A disk that is full is no reason to stop a training."""
        for writer in list(self._writers):
            try:
                writer.write(record)
            except Exception as reason:
                self._writers.remove(writer)
                warnings.warn(f"the record is no longer written: {reason}", stacklevel=6)

    def _found(
        self,
        number: int,
        params: Any,
        tree: ParamTree,
        gradients: Gradients,
        batch: Any,
        previous: Any,
    ) -> Found:
        choice = self._chosen(tree, number)
        arguments = arguments_of(self._loss, batch)
        loss = Bound(self._loss, arguments, self._random.before, self._random.generators)
        moment = Moment(
            loss=loss,
            params=params,
            tree=tree,
            gradients=gradients,
            tolerance=self._inspector.tolerance(tree),
            known=Known(self._settings.batch_size, matched(tree, previous)),
        )
        first = not self._proven
        found = self._inspector.inspect(moment, choice, first)
        self._proven = True
        if not found.escalated:
            self._prices.learn(choice, self._budget.lapse())
        if found.report.verdict is Verdict.FAIL and self._random.draws:
            with keep(loss, params):
                once = Bound(self._loss, arguments)
                if not self._random.makes_the_same_draws(lambda: once(tree.copies())):
                    return doubtful(found)
        return found

    def _record(self, number: int, found: Found, gradients: Gradients) -> Record:
        seconds, training = self._budget.lapse(), self._budget.training
        sizes = [np.abs(g[g != 0]) for g in gradients.values()]
        return Record(
            step=number,
            verdict=found.report.verdict,
            mode=found.mode,
            loss=found.report.loss,
            relative_difference=found.relative_difference,
            error_bar=found.error_bar,
            smallest_gradient=min((float(g.min()) for g in sizes if g.size), default=0.0),
            largest_gradient=max((float(g.max()) for g in sizes if g.size), default=0.0),
            tensors={name: one.verdict for name, one in found.report.tensors.items()},
            compared=found.compared,
            seconds=seconds,
            training_seconds=training,
            share=(self._budget.spent + seconds) / training if training > 0 else 0.0,
            notes=found.notes,
        )

    def _act(self, report: Report, number: int) -> None:
        """Do what the user wants done about a wrong gradient."""
        action = self._settings.on_fail
        if report.verdict is not Verdict.FAIL or action == "record":
            return
        if callable(action):
            action(report)
            return
        message = f"the gradient is wrong at step {number}.\n\n{report}"
        if action == "raise":
            raise GradientError(message, report)
        # The first time all of it; it would be much the same again.
        earlier = sum(one.verdict is Verdict.FAIL for one in self.history) > 1
        warnings.warn(message.partition("\n")[0] if earlier else message, stacklevel=4)

    def _a_step(self, number: int) -> float:
        return self._budget.training / max(number, 1)

    def _chosen(self, tree: ParamTree, number: int) -> Choice:
        mode = self._settings.mode
        if mode == "full":
            return Choice("sample", tree.size)
        if mode:
            return Choice(mode, self._settings.sample)
        a_step = self._a_step(number)
        return self._prices.choose(self._budget.allowance, a_step, len(tree), tree.size)
