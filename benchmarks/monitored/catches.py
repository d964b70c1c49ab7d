"""How soon bugs are caught with a budget of one percent, on a clock that no other process slows.

Each seed trains a network and stops at a few places; there the monitor is called with the gradient
of that place, wrong or right, until it has made a check. On the clock a training step takes one
unit and a forward pass a part of it, so that what the budget affords is the same on any machine.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck import Monitor, Verdict
from fastcheck.monitor import budget as budgets
from fastcheck.planted import BUGS, passes
from fastcheck.problems import mlp

SIZES = (784, 10, 10)
SAMPLES = 64
BUDGET = 0.01
CHECKS = 5
"""Within so many a bug has to be caught."""
PLACES = (0, 10, 40, 80, 120)
"""Training steps after which the gradient is handed over."""
A_PASS = 0.4
"""Of a training step: a forward pass, which the step has one of, beside the way back."""

Grads = dict[str, np.ndarray[Any, np.dtype[np.float64]]]


@dataclass(frozen=True)
class Place:
    """The parameters and the gradient at one place of a training."""

    params: Grads
    grads: Grads
    batch: tuple[Any, Any]


def _planted(name: str, **options: Any) -> Callable[[Place], Grads]:
    def spoil(place: Place) -> Grads:
        wrong: Grads = BUGS[name].but(**options)(
            place.grads,
            params=place.params,
            batch_size=SAMPLES,
            backward=passes.of_mlp(place.params, *place.batch),
        )
        return wrong

    return spoil


WRONG: dict[str, Callable[[Place], Grads]] = {
    **{f"1% in {name}": _planted("scale", factor=1.01, tensors=name) for name in mlp.init(SIZES)},
    "sign": _planted("sign"),
    "one row": _planted("one-row"),
    "missing mask": _planted("missing-mask"),
    "one element ×2": _planted("one-element", factor=2.0),
}
RIGHT = "right"


@dataclass(frozen=True)
class Caught:
    """What became of one gradient.

    Attributes
    ----------
    seed
        Of the network and of the monitor.
    bug
        Its name, or `RIGHT`.
    after
        At which check it failed, counted from 1; 0 if at none.
    modes
        What was compared, each time.
    """

    seed: int
    bug: str
    after: int
    modes: tuple[str, ...]


class Clock:
    """Time in training steps. It is kept where checks, which put objects back, do not look."""

    def __init__(self) -> None:
        self._now = array("d", [0.0])

    def __call__(self) -> float:
        """Return the time."""
        return self._now[0]

    def tick(self, steps: float) -> None:
        """Let time pass."""
        self._now[0] += steps


def caught(seed: int, bugs: tuple[str, ...] = (RIGHT, *WRONG)) -> list[Caught]:
    """Watch one training of this seed, once with each bug."""
    places = list(_places(seed))
    return [_watch(seed, bug, places) for bug in bugs]


def _places(seed: int) -> Iterator[Place]:
    params = mlp.init(SIZES, seed)
    done = 0
    for steps in PLACES:
        X, Y = mlp.make_batch(SIZES, SAMPLES, seed=1000 * seed + steps)
        params = mlp.train(params, X, Y, steps - done)
        done = steps
        yield Place(params, mlp.gradients(params, X, Y), (X, Y))


def _watch(seed: int, bug: str, places: list[Place]) -> Caught:
    clock = Clock()

    def loss(params: Any, batch: Any) -> float:
        clock.tick(A_PASS)
        return mlp.loss(params, *batch)

    with _on(clock):
        monitor = Monitor(
            loss, budget=BUDGET, every=100, seed=seed, on_fail="record", batch_size=SAMPLES
        )
        for number, place in enumerate(places, start=1):
            grads = place.grads if bug == RIGHT else WRONG[bug](place)
            while len(monitor.history) < number:
                clock.tick(1.0)
                monitor(place.params, grads, batch=place.batch)
            if monitor.history[-1].verdict is Verdict.FAIL:
                break
    failed = monitor.history[-1].verdict is Verdict.FAIL
    modes = tuple(one.mode for one in monitor.history)
    return Caught(seed, bug, len(monitor.history) if failed else 0, modes)


@contextmanager
def _on(clock: Clock) -> Iterator[None]:
    """Measure training and checks by this clock."""
    real = budgets.perf_counter
    budgets.perf_counter = clock
    try:
        yield
    finally:
        budgets.perf_counter = real
