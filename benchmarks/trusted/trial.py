"""One check of a right gradient or of one with a planted bug, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import fastcheck
from benchmarks.trusted.causes import certain_causes, named
from benchmarks.trusted.rules import RULES, Vector, numeric_gradients, vector
from benchmarks.trusted.spot import STOPS, Spot, spots
from fastcheck.errors import InputError
from fastcheck.planted import BUGS, Bug
from fastcheck.verdict.tolerances import Tolerance, tolerance_for

BUGS_A_SPOT = 2
_ENGINES = ("replay", "loop", "auto")


@dataclass(frozen=True)
class Trial:
    """What one check came to.

    Attributes
    ----------
    family, dtype, engine
        The network, the dtype of its parameters, and what computed the differences.
    seed, iteration
        The spot: `benchmarks.trusted.spot.spots` makes it again.
    bug
        The planted bug and its options; empty where the gradient is right.
    outcome
        The verdict: "pass", "fail" or "inconclusive"; or "error", where the check raised one.
    below
        Why a bug cannot be expected to be seen: "tolerance", where it is within what the check
        allows; "resolution", where the report passes and says that it could not have seen it.
    elsewhere
        Whether a tensor was called wrong that the bug leaves right.
    cause
        Of a planted bug: whether the diagnosis names it "right", "wrong", or not at all ("none").
    said
        The causes that it is certain of, where these are wrong.
    rules
        Which of the other rules accept the gradient.
    reason
        The first words of a report that is not as it should be.
    """

    family: str
    dtype: str
    engine: str
    seed: int
    iteration: int
    bug: str
    outcome: str
    below: str = ""
    elsewhere: bool = False
    cause: str = "none"
    said: tuple[str, ...] = ()
    rules: dict[str, bool] = field(default_factory=dict)
    reason: str = ""

    @property
    def alarming(self) -> bool:
        """Whether the check said something that is not so, or could not be done."""
        if self.outcome == "error":
            return True
        if not self.bug:
            return self.outcome == "fail"
        return (self.outcome == "pass" and not self.below) or self.elsewhere


def trials(seed: int, most: int = STOPS, *, compare: bool = True) -> list[Trial]:
    """Return the trials of one trajectory.

    Parameters
    ----------
    seed
        Of the trajectory.
    most
        The most places along it.
    compare
        Whether the other rules judge the same gradients.
    """
    rng = np.random.default_rng([seed, 1])
    fused = bool(rng.random() < 0.15)  # for whole trajectories: they share their kernels
    found: list[Trial] = []
    for spot in spots(seed, most):
        engine = "fused" if fused else _engine(rng, spot)
        found.extend(_at(spot, engine, rng, compare))
    return found


def _engine(rng: np.random.Generator, spot: Spot) -> str:
    return str(rng.choice([*_ENGINES, "batched"] if spot.network.stacks else _ENGINES))


def _at(spot: Spot, engine: str, rng: np.random.Generator, compare: bool) -> Iterator[Trial]:
    numeric: dict[float, Vector] = {}
    if compare:
        numeric = numeric_gradients(spot.network.loss, spot.params, (r.step for r in RULES))
    yield trial(spot, engine, None, numeric)
    applicable = planted_at(spot)
    count = min(BUGS_A_SPOT, len(applicable))
    for place in rng.choice(len(applicable), count, replace=False):
        yield trial(spot, engine, applicable[place], numeric)


def planted_at(spot: Spot) -> list[Bug]:
    """Return all variants of bugs that change something at this spot."""
    known = spot.known
    return [
        variant for bug in BUGS for variant in bug.variants if variant.applies(spot.grads, **known)
    ]


def trial(spot: Spot, engine: str, bug: Bug | None, numeric: dict[float, Vector]) -> Trial:
    """Check once."""
    grads: dict[str, Any] = spot.grads if bug is None else bug(spot.grads, **spot.known)
    try:
        report, engine = check(spot, grads, engine)
    except Exception as error:
        return _of(spot, engine, bug, outcome="error", reason=f"{type(error).__name__}: {error}")
    spoilt = () if bug is None else bug.spoils(spot.grads, **spot.known)
    cause = "none" if bug is None else named(report, bug)
    flat = vector(grads)
    found = _of(
        spot,
        engine,
        bug,
        outcome=report.verdict.value,
        below="" if bug is None else below(spot, grads, report, spoilt),
        elsewhere=bug is not None and not set(report.failed) <= set(spoilt),
        cause=cause,
        said=certain_causes(report) if cause == "wrong" else (),
        rules={rule.name: rule.accepts(flat, numeric[rule.step]) for rule in RULES}
        if numeric
        else {},
    )
    return _with_reason(found, report) if found.alarming else found


def _of(spot: Spot, engine: str, bug: Bug | None, **outcome: Any) -> Trial:
    return Trial(
        family=spot.network.family,
        dtype=spot.dtype,
        engine=engine,
        seed=spot.seed,
        iteration=spot.iteration,
        bug="" if bug is None else bug.label,
        **outcome,
    )


def _with_reason(found: Trial, report: fastcheck.Report) -> Trial:
    said = [f"{name}: {one.reason}" for name, one in report.tensors.items() if one.reason]
    return Trial(**{**vars(found), "reason": " ".join([*report.notes, *said])[:600]})


def check(spot: Spot, grads: dict[str, Any], engine: str) -> tuple[fastcheck.Report, str]:
    """Return the report, and the engine asked for: "auto" where there are no kernels."""
    once = partial(
        fastcheck.check,
        spot.network.loss,
        spot.params,
        grads,
        batch_size=spot.network.batch_size,
        previous_grads=spot.previous,
    )
    if engine == "batched":
        return once(batched=True), engine
    if engine == "fused":
        with suppress(InputError):  # a tensor has no kernel
            return once(engine="fused"), engine
        engine = "auto"
    return once(engine=engine), engine


def below(
    spot: Spot, grads: dict[str, Any], report: fastcheck.Report, spoilt: tuple[str, ...]
) -> str:
    """Say why a bug is too small to be seen; nothing if it is not."""
    tolerance = tolerance_for([value.dtype for value in spot.params.values()])
    pairs = {name: (np.asarray(spot.grads[name], dtype=np.float64), grads[name]) for name in spoilt}
    seen = {name: pair for name, pair in pairs.items() if not _tolerated(*pair, tolerance)}
    if not seen:
        return "tolerance"
    passed = report.verdict is fastcheck.Verdict.PASS
    unseen = all(
        _relative(right, wrong) <= report.tensors[name].resolution
        for name, (right, wrong) in seen.items()
    )
    return "resolution" if passed and unseen else ""


def _tolerated(right: Any, wrong: Any, tolerance: Tolerance) -> bool:
    """Whether a check allows the difference, element by element and as a whole."""
    larger = np.maximum(np.abs(right), np.abs(wrong))
    slack = tolerance.rtol * larger + tolerance.gamma * np.max(np.abs(right), initial=0.0)
    square = float(np.sum(wrong * wrong))
    scale = float(np.sum(wrong * right)) / square if square > 0 else 1.0
    each = bool(np.all(np.abs(wrong - right) <= slack))
    return each and abs(scale - 1) <= tolerance.rtol + tolerance.gamma


def _relative(right: Any, wrong: Any) -> float:
    larger = max(float(np.linalg.norm(right)), float(np.linalg.norm(wrong)))
    return float(np.linalg.norm(wrong - right)) / larger if larger > 0 else 0.0
