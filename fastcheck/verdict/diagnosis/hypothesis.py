"""One way in which a wrong gradient may have come about, and whether it fits to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray, IndexArray
from fastcheck.verdict.diagnosis.evidence import ALL, Places, TensorFacts

_SHARP = 0.1
"""What is left unexplained must be small beside what is explained, or nothing is shown."""
_CLOSE = 0.01
"""So little left is telling in itself, whatever might have been left."""
_TIGHT = 1e-4
_BY_ROUNDING = 0.01
"""Of rtol: what rounding leaves of right code. The room is what it may leave at worst."""
_TELLING = 10.0
_EQUAL = 1e-9
_ROUNDINGS = 64
_MOST_DIGITS = 16.0

Predict = Callable[[Places], tuple[FloatArray, FloatArray]]
"""From positions to the predicted gradient there, and how far that may be off."""


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """What the gradient of one tensor would be if some mistake had been made.

    Attributes
    ----------
    cause : str
        The mistake's name: ``"scale"``, ``"transpose"``.
    key : tuple
        Hypotheses on several tensors that have the same key are one mistake.
    complexity : float
        How much it assumes; of two that fit the simpler one is taken.
    predict : callable
        See `Predict`.
    free : int
        How many numbers were fitted.
    figures : dict
        What the sentences need.
    support : (m,) int64, optional
        The positions that it says are wrong; by default all.
    given : bool
        Whether the prediction is an array of the user's own: g must equal it but for rounding.
    hint : bool
        Whether it is too vague to be asserted, however well it fits.
    worth : float
        The digits that one element can tell at most: a sign is no more than a bit.
    plain : bool
        Whether its constant factor, if it has one, is the whole of the mistake.
    beside : callable, optional
        The prediction without the term that the mistake is in, where that is not all of it: the
        term has to be seen by itself, however much else there is.
    """

    cause: str
    key: tuple[Any, ...]
    complexity: float
    predict: Predict
    free: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    support: IndexArray | None = None
    given: bool = False
    hint: bool = False
    plain: bool = False
    beside: Callable[[Places], FloatArray] | None = None
    worth: float = _MOST_DIGITS


@dataclass(frozen=True)
class Fit:
    """How well a hypothesis predicts the gradient of a tensor.

    Attributes
    ----------
    exact : bool
        Every element lies within what error bars and tolerance allow, and these are so narrow
        that this shows something.
    residual : float
        ‖g − ĝ‖ relative to ‖g − n‖, or to ‖g‖ if that is smaller; of a sample where that ruled it
        out.
    telling : int
        How many elements are known to a digit or better.
    digits : tuple of float
        All digits that elements are known to, together, and those of the best known one: what a
        fitted number may use up.
    possible : bool
        Every element lies within what error bars and tolerance allow, however wide these are.
    inside : bool
        The same, though the hypothesis may be too vague to be asserted.
    visible : bool
        What is predicted can be told from zero, or g is zero.
    """

    exact: bool
    residual: float
    telling: int
    digits: tuple[float, float] = (0.0, 0.0)
    possible: bool = False
    inside: bool = False
    visible: bool = False


def fit(facts: TensorFacts, hypothesis: Hypothesis) -> Fit:
    """Hold a hypothesis against the gradient, first in a sample of its elements."""
    if facts.sample is not ALL:
        first = _fit_at(facts, hypothesis, facts.sample)
        if not first.exact:
            return first
    return _fit_at(facts, hypothesis, ALL)


def _fit_at(facts: TensorFacts, hypothesis: Hypothesis, places: Places) -> Fit:
    sampled = places is not ALL
    with np.errstate(all="ignore"):
        predicted, bars = hypothesis.predict(places)
        g, n = facts.analytic[places], facts.numeric[places]
        room = facts.allowed(places, predicted, bars)
        if hypothesis.given:
            equal = max(_EQUAL, _ROUNDINGS * facts.tolerance.unit)
            room = np.full(g.shape, equal * float(np.max(np.abs(predicted), initial=0.0)))
        left, effect = np.abs(g - predicted), np.abs(g - n)
        # A zero where there should be none tells as much as a number.
        known = np.maximum(np.abs(g), effect)
        if hypothesis.beside is not None:
            known = np.abs(g - hypothesis.beside(places))
    meant = _support(facts, hypothesis)[places]
    expected = facts.usual(places)
    if not facts.finite:
        usable = facts.usable[places]
        g, room, left, effect = g[usable], room[usable], left[usable], effect[usable]
        predicted, bars = predicted[usable], np.broadcast_to(bars, usable.shape)[usable]
        expected = np.broadcast_to(expected, usable.shape)[usable]
        meant, known = meant[usable], known[usable]
    total = float(np.linalg.norm(effect))
    whole = min(total, float(np.linalg.norm(g)))
    residual = float(np.linalg.norm(left)) / whole if whole > 0 else float("inf")
    telling = int(np.count_nonzero(known > _TELLING * room))
    inside = bool(np.all(left <= room))
    if sampled or not inside:
        return Fit(inside, residual, telling)
    visible = bool(np.any(np.abs(predicted) > room)) or not g.any()
    # What is left may be far less than what might be.
    closest = np.minimum(room, float(np.linalg.norm(left)))
    telling = int(np.count_nonzero(known > _TELLING * closest))
    digits = _digits(known, closest, hypothesis.worth)
    if hypothesis.support is not None:
        # The rest is not right if more may be wrong there.
        if float(np.linalg.norm(effect[~meant])) > float(np.linalg.norm(effect[meant])):
            return Fit(False, residual, telling)
        room, effect = room[meant], effect[meant]
        total = float(np.linalg.norm(effect))
    sharp = float(np.linalg.norm(room)) <= _SHARP * total or residual <= _CLOSE
    rounding = max(_ROUNDINGS * facts.tolerance.unit, _BY_ROUNDING * facts.tolerance.rtol)
    slack = rounding * float(np.linalg.norm(g))
    usual = float(np.linalg.norm(bars * expected)) + slack
    # Where it is no less than the mistake, rounding of the whole excuses nothing.
    within = slack <= _SHARP * total and float(np.linalg.norm(left)) <= usual
    sharp = sharp and (residual <= _TIGHT or within)
    if hypothesis.beside is not None:
        term = float(np.linalg.norm(known))
        sharp = sharp and float(np.linalg.norm(np.minimum(room, closest))) <= _SHARP * term
    exact = sharp and total > 0 and not hypothesis.hint
    possible = total > 0 and not hypothesis.hint
    return Fit(exact, residual, telling, digits, possible, total > 0, visible)


def _support(facts: TensorFacts, hypothesis: Hypothesis) -> BoolArray:
    if hypothesis.support is None:
        return np.broadcast_to(np.True_, len(facts.indices))
    meant = np.zeros(len(facts.indices), dtype=bool)
    meant[hypothesis.support] = True
    return meant


def _digits(known: FloatArray, apart: FloatArray, worth: float) -> tuple[float, float]:
    """Return all digits that values are known to, and those of the best known."""
    with np.errstate(all="ignore"):
        each = np.clip(np.log10(np.where(known > 0, known / apart, 1.0)), 0.0, worth)
    return float(np.sum(each)), float(np.max(each, initial=0.0))
