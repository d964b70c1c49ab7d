"""The first source system, checked before every one of its 250 training steps from ten starts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import fastcheck
from fastcheck.problems import sigmoid_231 as source

WAYS = {"trace": "auto", "black box": "loop"}
"""How fastcheck sees the loss → the engine."""


@dataclass(frozen=True)
class Run:
    """One training run with right gradients throughout.

    Attributes
    ----------
    seed
        Of the initial weights.
    outcomes
        Way → verdict → how often.
    accepted
        How often the author's rule accepts.
    """

    seed: int
    outcomes: dict[str, dict[str, int]]
    accepted: int


def run(seed: int, iterations: int = source.ITERATIONS) -> Run:
    """Train with the author's momentum, and check each step's gradient in both ways."""
    net = source.Net(*source.samples(), seed=seed)
    outcomes: dict[str, Counter[str]] = {way: Counter() for way in WAYS}

    def watch(iteration: int, net: source.Net) -> None:
        weights = net.get_weights()
        gradient = net.gradient_at(weights.copy())
        for way, engine in WAYS.items():
            report = fastcheck.check(net.cost_at, weights, gradient, engine=engine)
            outcomes[way][report.verdict.value] += 1

    history = source.train(net, iterations=iterations, watch=watch)
    accepted = iterations - len(history.failures())
    return Run(seed, {way: dict(counts) for way, counts in outcomes.items()}, accepted)


def accepted_by_rule(runs: list[Run]) -> int:
    """Return how often the author's rule accepts, over all runs."""
    return sum(one.accepted for one in runs)


def total(runs: list[Run], way: str, verdict: str) -> int:
    """Return how often a way came to a verdict, over all runs."""
    return sum(one.outcomes[way].get(verdict, 0) for one in runs)
