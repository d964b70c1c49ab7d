"""Whether diagnoses name what was planted, on so many networks each, and assert nothing untrue.

Every planted bug of the list is made in as many networks, at their initialisation and when trained;
so is every mistake of `benchmarks.trusted.outside`, which no diagnosis can know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.trusted.counts import Rate
from benchmarks.trusted.outside import STRANGERS, Stranger, untrue
from benchmarks.trusted.spot import FIRST_SEED, Spot, spots
from benchmarks.trusted.trial import Trial, check, planted_at, trial
from fastcheck.planted import BUGS

NETWORKS = 20
_SEEDS = FIRST_SEED + 100_000_000
"""These networks are not those of the trajectories."""
_MOST_SEEDS = 400
_CHECKERS = "shallow-copy"
"""A bug of the checker, which spoils no gradient."""
_ENGINE = "auto"


@dataclass(frozen=True)
class Strange:
    """What was said of one mistake outside the list.

    Attributes
    ----------
    mistake
        Its name.
    seed, iteration
        The spot.
    said
        The causes that the diagnosis is certain of.
    untrue
        Whether one of its findings is wrong.
    """

    mistake: str
    seed: int
    iteration: int
    said: tuple[str, ...]
    untrue: bool


@dataclass(frozen=True)
class Causes:
    """What diagnoses say of the bugs of the list, and of mistakes outside it.

    Attributes
    ----------
    planted
        Trials of the bugs of the list.
    strange
        What was said of the others.
    """

    planted: list[Trial]
    strange: list[Strange]

    @classmethod
    def measure(cls, networks: int, seed: int, mapped: Any = map) -> Causes:
        """Plant everything in so many networks."""
        planted, strange = mapped(partial(_part, networks, seed), (True, False))
        return cls(planted, strange)

    @property
    def failed(self) -> list[Trial]:
        """The planted bugs that failed: of these a cause is asked."""
        return [one for one in self.planted if one.outcome == "fail" and not one.below]

    @property
    def named(self) -> Rate:
        """How many causes were named right."""
        return Rate(sum(one.cause == "right" for one in self.failed), len(self.failed))

    @property
    def misnamed(self) -> Rate:
        """How many were given the cause of another bug."""
        return Rate(sum(one.cause == "wrong" for one in self.failed), len(self.failed))

    @property
    def untrue(self) -> Rate:
        """How many mistakes outside the list were given a cause that they do not have."""
        return Rate(sum(one.untrue for one in self.strange), len(self.strange))


def _part(networks: int, seed: int, of_list: bool) -> Any:
    return plant_list(networks, seed) if of_list else make_strangers(networks, seed)


def ends(seed: int) -> list[Spot]:
    """Return a network as it was drawn, and as it is when trained."""
    every = list(spots(seed))
    return [] if len(every) < 2 else [every[0], every[-1]]


def plant_list(networks: int = NETWORKS, seed: int = 0) -> list[Trial]:
    """Return trials of every bug of the list in so many networks, untrained and trained."""
    labels = [variant.label for bug in BUGS for variant in bug.variants if bug.name != _CHECKERS]
    made: Counter[str] = Counter()
    found = []
    for number in range(_MOST_SEEDS):
        if min(made[label] for label in labels) >= networks:
            break
        for_both = [
            (spot, {bug.label: bug for bug in planted_at(spot)})
            for spot in ends(_SEEDS + seed + number)
        ]
        # The first iteration has none before it, and so no stale gradient.
        for label in labels:
            planted = [(spot, bugs[label]) for spot, bugs in for_both if label in bugs]
            if made[label] >= networks or not planted:
                continue
            made[label] += 1
            found += [trial(spot, _ENGINE, bug, {}) for spot, bug in planted]
    return found


def make_strangers(networks: int = NETWORKS, seed: int = 0) -> list[Strange]:
    """Return what is said of every mistake outside the list in so many networks, where it FAILs."""
    made: Counter[str] = Counter()
    found = []
    for number in range(_MOST_SEEDS):
        if min(made[stranger.name] for stranger in STRANGERS) >= networks:
            break
        both = ends(_SEEDS + seed + number)
        for stranger in STRANGERS:
            if made[stranger.name] < networks:
                said = [one for spot in both for one in _said(stranger, spot)]
                made[stranger.name] += bool(said)
                found += said
    return found


def _said(stranger: Stranger, spot: Spot) -> Iterator[Strange]:
    rng = np.random.default_rng(spot.seed)
    with np.errstate(all="ignore"):
        grads = stranger.make(spot, rng)
    if grads is None:
        return
    report, _ = check(spot, grads, _ENGINE)
    if report.diagnosis is None:
        return
    findings = report.diagnosis.findings
    yield Strange(
        stranger.name,
        spot.seed,
        spot.iteration,
        tuple(f.cause for f in findings if f.certainty == "exact"),
        any(untrue(finding, stranger, spot, grads) for finding in findings),
    )
