"""What a full check costs the second time, beside the first and beside `fastcheck.check`."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmarks.timing import Contender, Timing, interleave
from fastcheck import Monitor, check
from fastcheck.problems import mlp, training

SIZES = (784, 10, 10)
FIRST, AGAIN, PLAIN = "monitor's first", "monitor's next", "fastcheck.check"


def measure(repeats: int, batch: int = 128) -> tuple[list[Timing], dict[str, int]]:
    """Time full checks of one network in turns; also count the loss's calls in each."""
    params, samples = mlp.init(SIZES), mlp.make_batch(SIZES, batch)
    grads = mlp.gradients(params, *samples)
    calls: dict[str, int] = {}
    seasoned = Monitor(training.loss, every=1)
    seasoned(params, grads, batch=samples)

    def counted(name: str, report: Any) -> float:
        calls[name] = report.loss_calls
        return float(report.relative_error)

    def first() -> float:
        return counted(FIRST, Monitor(training.loss, every=1)(params, grads, batch=samples))

    def again() -> float:
        return counted(AGAIN, seasoned(params, grads, batch=samples))

    def plain() -> float:
        X, Y = samples
        return counted(PLAIN, check(partial(mlp.loss, X=X, Y=Y), params, grads))

    contenders = [Contender(FIRST, first), Contender(AGAIN, again), Contender(PLAIN, plain)]
    return interleave(contenders, repeats, clock=time.perf_counter), calls
