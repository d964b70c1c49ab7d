"""``fastcheck demo training``: a training under a monitor, right or with a bug that waits."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fastcheck.commands import output
from fastcheck.commands.terminal import Terminal
from fastcheck.errors import InputError
from fastcheck.problems import training
from fastcheck.report import Report, Verdict

if TYPE_CHECKING:
    from fastcheck.monitor.monitor import Monitor
    from fastcheck.monitor.record import Record
    from fastcheck.problems.mlp import Parameters

BUG = "aliased-momentum"
EVERY = 100
BUDGET = 0.01


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Train, print every check, and return the exit status of the last one."""
    if arguments.bug == "list":
        terminal.line(list_of_bugs())
        return output.PASS
    _refuse(arguments)
    output.require_writable(arguments.json)
    _title(arguments, terminal)
    monitor = _monitor(arguments)
    failure, seconds = _train(arguments, _watching(monitor, terminal))
    terminal.line()
    if failure is not None:
        output.show(failure, terminal)
        terminal.line()
    _summary(monitor, seconds, terminal)
    terminal.line(terminal.bold(closing(monitor.history, arguments.bug is not None)))
    return output.status_of(monitor.history[-1]) if monitor.history else output.INCONCLUSIVE


def _monitor(arguments: Namespace) -> Monitor:
    import fastcheck

    monitor = fastcheck.Monitor(
        training.loss,
        every=EVERY,
        budget=BUDGET,
        engine=arguments.engine,
        device=arguments.device,
        seed=arguments.seed,
        batch_size=arguments.batch,
    )
    if arguments.json is not None:
        monitor.to_jsonl(arguments.json)
    return monitor


def _watching(monitor: Monitor, terminal: Terminal) -> training.Watch:
    """Return what is called in every step: the monitor, each of whose records is printed."""
    from fastcheck.monitor.screen import line

    def watch(params: Parameters, grads: Parameters, batch: training.Batch) -> None:
        known = len(monitor.history)
        try:
            monitor(params, grads, batch=batch)
        finally:
            for record in monitor.history[known:]:
                # What is wrong follows in the report.
                shown = replace(record, notes=()) if record.verdict is Verdict.FAIL else record
                terminal.line(f"  {line(shown)}")

    return watch


def _train(arguments: Namespace, watch: training.Watch) -> tuple[Report | None, float]:
    """Train to the end or to the first failure; return its report, and the seconds."""
    from fastcheck import GradientError

    start = time.perf_counter()
    failure = None
    try:
        training.train(
            watch,
            aliased=arguments.bug is not None,
            sizes=arguments.sizes,
            batch=arguments.batch,
            seed=arguments.seed,
        )
    except GradientError as error:
        failure = error.report
    return failure, time.perf_counter() - start


def list_of_bugs() -> str:
    """Return the only bug that ``--bug`` can plant here."""
    return f"Bugs that `fastcheck demo training --bug NAME` can plant:\n  {BUG}  {training.ALIASED}"


def _refuse(arguments: Namespace) -> None:
    if arguments.bug not in (None, BUG):
        raise InputError(f"`--bug`: there is no bug called {arguments.bug!r}.\n{list_of_bugs()}")
    if arguments.data is not None:
        raise InputError("`--data`: the training demo has its own digits; leave it out.")
    if arguments.precision != "float64":
        raise InputError("`--precision`: a monitor checks in float64; leave it out.")


def _title(arguments: Namespace, terminal: Terminal) -> None:
    name = "-".join(map(str, arguments.sizes))
    terminal.line(terminal.bold(f"Training a {name} network under a monitor"))
    terminal.line()
    terminal.field(
        "Schedule",
        f"{training.ITERATIONS:,} steps; Nesterov's momentum from step {training.MOMENTUM_FROM}",
    )
    if arguments.bug is not None:
        terminal.field("Planted bug", training.ALIASED)
    terminal.field("Monitor", f"fastcheck.Monitor(loss, every={EVERY}, budget={BUDGET})")
    terminal.line()


def _summary(monitor: Monitor, seconds: float, terminal: Terminal) -> None:
    from fastcheck.monitor.summary import details

    steps = f"{monitor.step_number:,} steps in {seconds:.2f} s, checks included"
    terminal.field("Training", steps)
    if monitor.history:
        terminal.field("Checks", details(monitor.history))
    terminal.line()


def closing(history: Sequence[Record], planted: bool) -> str:
    """Return the last sentence: what the checks mean, with or without the planted bug."""
    from fastcheck.monitor.summary import sentence

    if not history:
        return "No check could be afforded in this training; larger steps earn more time."
    if not planted:
        return sentence(history)
    first = training.MOMENTUM_FROM
    if history[-1].verdict is not Verdict.FAIL:
        return f"The bug, which began at step {first}, was not found."
    late = sum(record.step >= first for record in history)
    which = "the first check after it" if late == 1 else f"check {late} after it"
    return f"The bug, which began at step {first}, is caught at step {history[-1].step}, {which}."
