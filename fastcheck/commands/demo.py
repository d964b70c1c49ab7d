"""``fastcheck demo``: train a small network for a moment and check every parameter of it.

``fastcheck demo training`` checks it while it trains: see `demo_training`.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import isqrt
from typing import TYPE_CHECKING

from fastcheck.commands import output
from fastcheck.commands.naive import NaiveSample, time_naive
from fastcheck.commands.terminal import Terminal
from fastcheck.devices import resolve_devices
from fastcheck.devices.cpu import usable_cores
from fastcheck.errors import InputError
from fastcheck.problems import Problem, mlp
from fastcheck.report import Report, Verdict

if TYPE_CHECKING:
    from fastcheck.problems.mlp import Array, Data, Parameters

ITERATIONS = 50
SAMPLES = 500
LIST = "list"
NETWORK, TRAINING = "network", "training"
_BUSY = 0.5
_WORTH_REPEATING = 2.0
"""Seconds up to which the check is run once more to time it."""


@dataclass(frozen=True)
class Trained:
    """The network after its moment of training, and the batch that the gradient is checked on."""

    params: Parameters
    previous: Parameters  # one step earlier: what a stale gradient would belong to
    X: Array
    Y: Array


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Run the demo and return the exit status of its report."""
    if arguments.what == TRAINING:
        from fastcheck.commands import demo_training

        return demo_training.run(arguments, terminal)
    if arguments.bug == LIST:
        terminal.line(list_of_bugs())
        return output.PASS
    _require_known(arguments.bug)
    output.require_writable(arguments.json)
    network = _prepare(arguments, terminal)
    problem = _problem(arguments, network, terminal)
    report = _check(arguments, problem, terminal)
    _explain(arguments, problem, terminal)
    naive = time_naive(problem.loss, network.params)
    _compare(report, _seconds_again(arguments, problem, report), naive, terminal)
    terminal.line(terminal.bold(closing(report, _spoilt(arguments.bug, network))))
    output.save(report.to_json(), arguments.json, terminal)
    return output.status_of(report)


def list_of_bugs() -> str:
    """Return the bugs that ``--bug`` can plant, one a line."""
    from fastcheck.problems.bugs import BUGS

    width = max(map(len, BUGS))
    lines = (f"  {name.ljust(width)}  {bug.description}" for name, bug in BUGS.items())
    return "\n".join(["Bugs that `fastcheck demo --bug NAME` can plant:", *lines])


def _require_known(bug: str | None) -> None:
    from fastcheck.problems.bugs import BUGS

    if bug is not None and bug not in BUGS:
        raise InputError(f"`--bug`: there is no bug called {bug!r}.\n{list_of_bugs()}")


def _prepare(arguments: Namespace, terminal: Terminal) -> Trained:
    resolve_devices(arguments.device)  # says what is missing before anything is trained
    sizes, seed = arguments.sizes, arguments.seed
    data = _load(arguments.data, arguments.batch)
    count = SAMPLES if data is None else len(data[1])
    X, Y = mlp.make_batch(sizes, arguments.batch, data, seed)
    samples, targets = mlp.make_batch(sizes, count, data, seed)
    _title(sizes, terminal)
    terminal.field("Data", _describe_data(arguments.data, samples))
    params, previous = _train(mlp.init(sizes, seed), samples, targets, terminal)
    return Trained(params, previous, X, Y)


def _train(
    params: Parameters, X: Array, Y: Array, terminal: Terminal
) -> tuple[Parameters, Parameters]:
    """Return the parameters after training, and those one step before the end."""
    from fastcheck.report.progress import Progress

    previous, before, start = params, mlp.loss(params, X, Y), time.perf_counter()
    with Progress(ITERATIONS, "training") as progress:
        for _ in range(ITERATIONS):
            previous, params = params, mlp.train(params, X, Y, iterations=1)
            progress.advance(1)
    seconds, after = time.perf_counter() - start, mlp.loss(params, X, Y)
    terminal.field(
        "Training",
        f"{ITERATIONS} steps of gradient descent in {seconds:.2f} s; "
        f"the loss fell from {before:.3f} to {after:.3f}",
    )
    return params, previous


def _title(sizes: tuple[int, ...], terminal: Terminal) -> None:
    name = "-".join(map(str, sizes))
    count = sum((inputs + 1) * units for inputs, units in pairwise(sizes))
    terminal.line(terminal.bold(f"Checking all {count:,} parameters of a {name} network"))
    terminal.line()


def _load(path: str | None, batch: int) -> Data | None:
    if path is None:
        return None
    from fastcheck.problems import load_idx

    return load_idx(path, count=max(batch, 4 * SAMPLES))


def _describe_data(path: str | None, X: Array) -> str:
    samples = f"{X.shape[1]:,} samples"
    if path is not None:
        return f"{samples} from {path}"
    # Only an input as large as a square image can show the digits; others get random numbers.
    is_image = isqrt(len(X)) ** 2 == len(X) and len(X) >= 64
    return f"{samples} of {'the embedded handwritten digits (UCI)' if is_image else 'random noise'}"


def _problem(arguments: Namespace, network: Trained, terminal: Terminal) -> Problem:
    X, Y = network.X, network.Y
    grads = partial(mlp.gradients, X=X, Y=Y)
    problem = Problem(partial(mlp.loss, X=X, Y=Y), network.params, grads)
    if arguments.bug is not None:
        from fastcheck.problems.bugs import BUGS, spoilt_problem

        problem = spoilt_problem(problem, X, Y, arguments.bug, network.previous)
        problem.gradients()  # says at once where this bug cannot occur
        terminal.field("Planted bug", BUGS[arguments.bug].description)
    terminal.field("Check", f"backpropagation against central differences, {X.shape[1]} samples")
    terminal.line()
    return problem


def _check(arguments: Namespace, problem: Problem, terminal: Terminal) -> Report:
    import fastcheck

    report = fastcheck.check(
        problem.loss,
        problem.params,
        problem.grads,
        engine=arguments.engine,
        device=arguments.device,
        precision=arguments.precision,
        seed=arguments.seed,
    )
    output.show(report, terminal)
    terminal.line()
    return report


def _explain(arguments: Namespace, problem: Problem, terminal: Terminal) -> None:
    """Show which engine each tensor has, and what it and the others were estimated to take."""
    import fastcheck
    from fastcheck.report.explanation import choice

    plan = fastcheck.explain(
        problem.loss,
        problem.params,
        engine=arguments.engine,
        device=arguments.device,
        precision=arguments.precision,
    )
    for number, tensor in enumerate(plan.tensors):
        title = "" if number else "Engines"
        terminal.field(title, f"{tensor.name} {tensor.engine}, {choice(tensor)}")


def _seconds_again(arguments: Namespace, problem: Problem, report: Report) -> float | None:
    """Time a second check, its kernels compiled, as in a training loop; None for a long one."""
    import fastcheck

    if report.seconds > _WORTH_REPEATING:
        return None
    names = ("engine", "device", "precision", "seed")
    options = {name: getattr(arguments, name) for name in names}
    return fastcheck.check(problem.loss, problem.params, problem.grads, **options).seconds


def _compare(report: Report, again: float | None, naive: NaiveSample, terminal: Terminal) -> None:
    passes = f"{2 * naive.parameters:,} forward passes"
    terminal.field(
        "Naive loop",
        f"about {duration(naive.extrapolated)} for its {passes} (timed on {naive.timed:,} of "
        f"{naive.parameters:,} parameters)",
    )
    if is_busy():
        terminal.field("", "This machine is busy: threads of BLAS slow the loop down more than us.")
    terminal.field(
        "fastcheck",
        f"{duration(report.seconds)} for the whole check: "
        f"{ratio(naive.extrapolated, report.seconds)}",
    )
    if again is not None:
        terminal.field(
            "", f"{duration(again)} for the next one: {ratio(naive.extrapolated, again)}"
        )
    terminal.line()


def is_busy() -> bool:
    """Whether other work takes a good part of the cores."""
    try:
        return os.getloadavg()[0] > _BUSY * usable_cores()
    except (AttributeError, OSError):  # not everywhere to be had
        return False


def duration(seconds: float) -> str:
    """Write a time for a reader: ``"32 ms"``, ``"1.73 s"``, ``"3.8 h"``."""
    if seconds < 0.1:
        return f"{seconds * 1e3:.2g} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    for limit, scale, unit in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / scale:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def ratio(naive: float, ours: float) -> str:
    """Say how many times faster, or slower, the check was than the naive loop."""
    if 0.95 < ours / naive < 1.05:
        return "about the same"
    if ours < naive:
        return f"{naive / ours:.1f} times faster"
    return f"{ours / naive:.1f} times slower"


def _spoilt(bug: str | None, network: Trained) -> tuple[str, ...]:
    if bug is None:
        return ()
    from fastcheck.problems.bugs import BUGS, Context

    context = Context(network.params, network.X, network.Y, network.previous)
    return BUGS[bug].breaks(context)


def closing(report: Report, spoilt: tuple[str, ...]) -> str:
    """Return the last sentence: what this report means, with or without a planted bug."""
    if not spoilt:
        return _closing_without_bug(report)
    if report.verdict is not Verdict.FAIL:
        return f"The bug planted in {_names(spoilt)} was not found."
    failed = report.failed
    if set(failed) == set(spoilt):
        return f"The planted bug is found: {_names(failed)}, exactly where it was planted."
    return f"A bug is found in {_names(failed)}; it was planted in {_names(spoilt)}."


def _closing_without_bug(report: Report) -> str:
    if report.verdict is Verdict.PASS:
        return f"The backward pass is right in all {report.checked:,} parameters."
    if report.verdict is Verdict.FAIL:
        return f"The backward pass is wrong in {_names(report.failed)}."
    return "This check could not decide; the reasons are above."


def _names(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
