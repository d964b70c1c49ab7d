"""The first source system under a monitor at every step: right, and with every bug that applies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck import Monitor
from fastcheck.planted import BUGS, Bug, passes
from fastcheck.problems import sigmoid_231 as source

RIGHT = "right"


@dataclass(frozen=True)
class Run:
    """One training, checked at every step with and without each bug.

    Attributes
    ----------
    seed
        Of the initial weights.
    outcomes
        Bug, or `RIGHT` → verdict → how often.
    rejected
        How often the author's rule rejects the right gradient.
    """

    seed: int
    outcomes: dict[str, dict[str, int]]
    rejected: int


class Wrong:
    """Gradients of the first source with one bug in them, step by step."""

    def __init__(self, bug: Bug) -> None:
        self._bug = bug
        self._previous: Any = None

    def __call__(self, net: source.Net, grads: Any) -> Any:
        """Return the gradient with the bug; None at a step that leaves it nothing to spoil."""
        known = {
            "params": {"W1": net.W1, "W2": net.W2},
            "previous": self._previous,
            "backward": passes.of_sigmoid_231(net),
        }
        self._previous = grads
        return self._bug(grads, **known) if self._bug.applies(grads, **known) else None


def run(seed: int, iterations: int = source.ITERATIONS) -> Run:
    """Train with the author's momentum under one monitor for each bug, and one without."""
    net = source.Net(*source.samples(), seed=seed)
    wrongs = {bug.name: Wrong(bug) for bug in BUGS if isinstance(bug, Bug)}

    def loss(params: Any) -> Any:
        return net.cost_at(np.concatenate((params["W1"].ravel(), params["W2"].ravel())))

    monitors = {
        name: Monitor(loss, every=1, on_fail="record", seed=seed) for name in (RIGHT, *wrongs)
    }

    def watch(iteration: int, net: source.Net) -> None:
        params = {"W1": net.W1.copy(), "W2": net.W2.copy()}
        right = net.backward()
        grads = {"W1": right[:6].reshape(2, 3), "W2": right[6:].reshape(3, 1)}
        monitors[RIGHT](params, grads)
        for name, wrong in wrongs.items():
            spoilt = wrong(net, grads)
            if spoilt is not None:
                monitors[name](params, spoilt)

    history = source.train(net, iterations=iterations, watch=watch)
    outcomes = {
        name: dict(Counter(one.verdict.value for one in monitor.history))
        for name, monitor in monitors.items()
        if monitor.history
    }
    return Run(seed, outcomes, len(history.failures()))


def total(runs: list[Run], name: str) -> Counter[str]:
    """Return how often a gradient came to each verdict, over all runs."""
    counts: Counter[str] = Counter()
    for one in runs:
        counts.update(one.outcomes.get(name, {}))
    return counts
