"""From a measured numerical gradient to a verdict on one tensor, and what excuses a deviation.

Before anything fails it is asked what rounding may do to the analytic derivatives, and whether they
are those of the loss without its numerical guards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcheck.engines.base import U64, FloatArray, IndexArray
from fastcheck.report.data import Verdict
from fastcheck.verdict import reasons
from fastcheck.verdict.bars import largest
from fastcheck.verdict.comparison import norm
from fastcheck.verdict.decision import Names, judged
from fastcheck.verdict.floors import rounding_floors, underflow
from fastcheck.verdict.judgement import Judgement
from fastcheck.verdict.measure import Remeasure
from fastcheck.verdict.measurement import Measurement
from fastcheck.verdict.model import overall, relative_error, revise
from fastcheck.verdict.tolerances import Tolerance

Rounding = Callable[[bool], FloatArray | None]
"""Asks how far rounding may move the analytic derivatives, (k,); None where nobody knows.

Roughly if that is True: good for their norm, and quick.
"""


@dataclass(frozen=True)
class Excuse:
    """Another gradient that an analytic one may be: that of the loss without numerical guards.

    Attributes
    ----------
    said : str
        Without which.
    throughout : bool
        Whether it is that; else only some of its derivatives leave the guards out.
    whole : float
        By how much it differs from the right gradient over all tensors.
    shift, right : (k,) float64
        By how much it does here, and the right gradient as the same backward pass has it.
    """

    said: str
    throughout: bool
    whole: float
    shift: FloatArray
    right: FloatArray


Excuses = Callable[[], Iterable[Excuse]]
"""Asks for these."""
Attempt = Callable[[FloatArray, Measurement, Remeasure], Judgement]
"""Judges an analytic gradient by a measurement."""

_WORTH_THE_NAME = 0.01
_LEFT = 0.1
_OF_NOISE = 4.0
"""Other backward passes round elsewhere than the one that was tried."""
_MOST_EXCUSED = 1e-4
"""Of a tensor's gradient. What a sample adds differs by ε/p: so much at p = 1e-4, if ε is 1e-8."""

__all__ = ["Judgement", "judge", "overall", "relative_error", "revise", "rounding_floors"]


def judge(
    name: str,
    shape: tuple[int, ...],
    analytic: FloatArray,
    indices: IndexArray,
    measurement: Measurement,
    tolerance: Tolerance,
    remeasure: Remeasure,
    *,
    floor: float = 0.0,
    step: float | None = None,
    rounding: Rounding | None = None,
    excuses: Excuses | None = None,
    is_complex: bool = False,
) -> Judgement:
    """Compare the analytic with the numerical gradient of one tensor.

    Parameters
    ----------
    name, shape
        The tensor's; the shape is that of the user's array.
    analytic : (k,) float64
        The user's derivatives at `indices`; may hold NaN.
    indices : (k,) int64
        Flat C-order indices.
    measurement : Measurement
        The numerical derivatives there.
    tolerance : Tolerance
        Of the whole tree.
    remeasure : callable
        Measures flat indices again (`second_look`); called for elements that deviate only.
    floor : float
        From `rounding_floors`: differences below it are never called wrong.
    step : float, optional
        The user's own step, for the wording.
    rounding : callable, optional
        How far rounding may move the analytic derivatives; asked before anything fails, and where
        a pass is to say what it would have been blind to.
    excuses : callable, optional
        The gradients of the loss without its guards; asked before anything fails.
    is_complex : bool
        Whether the derivatives are by the parts of complex elements.
    """
    names = Names(name, shape, indices, is_complex)

    def attempt(analytic: FloatArray, measured: Measurement, again: Remeasure) -> Judgement:
        options: dict[str, Any] = {"floor": floor, "step": step, "rounding": rounding}
        return _with_rounding(names, analytic, measured, tolerance, again, **options)

    found = attempt(analytic, measurement, remeasure)
    if excuses is None or not _may_be_excused(found):
        return found
    for excuse in excuses():
        excused = _excused(found, excuse, attempt, measurement, remeasure)
        if excused is not None:
            return excused
    return found


def _most_excused(tolerance: Tolerance) -> float:
    """Return the largest part of a gradient that guards may be; a pass needs its resolution."""
    return min(_MOST_EXCUSED, tolerance.rho_max)


def _may_be_excused(found: Judgement) -> bool:
    """Whether a gradient that fails is no further from the right one than guards may bring it."""
    if found.verdict is not Verdict.FAIL or not np.isfinite(found.difference):
        return False
    return found.difference <= 2 * _most_excused(found.tolerance) * max(found.sizes)


def _excused(
    found: Judgement,
    excuse: Excuse,
    attempt: Attempt,
    measurement: Measurement,
    remeasure: Remeasure,
) -> Judgement | None:
    """Return a pass if the gradient is that of the loss without guards, and hardly another.

    It is judged as any other, by the numerical gradient moved by what the guards make of it. That
    this is known right is shown by the gradient of the loss with its guards, found the same way.
    """
    size = max(found.sizes)
    share = norm(excuse.shift) / size if size > 0 else math.inf
    if not np.isfinite(excuse.shift).all() or not 0 < share <= _most_excused(found.tolerance):
        return None
    if not _explains(excuse.shift, found):
        return None
    shift = _by_index(found.indices, excuse.shift)
    moved = attempt(
        found.analytic,
        measurement.shifted(excuse.shift),
        lambda again: remeasure(again).shifted(shift(again)),
    )
    resolution = moved.resolution + share
    if moved.verdict is not Verdict.PASS or resolution > found.tolerance.rho_max:
        return None
    if attempt(excuse.right, measurement, remeasure).verdict is not Verdict.PASS:
        return None
    return replace(
        found,
        verdict=Verdict.PASS,
        reason=reasons.without_guards(excuse.said, excuse.throughout, share),
        note=reasons.unguarded(excuse.said, excuse.throughout, excuse.whole),
        resolution=resolution,
        projection=moved.projection,
    )


def _explains(shift: FloatArray, found: Judgement) -> bool:
    """Whether a shift may explain a deviation: to judge by one that does not would take long."""
    left = np.abs(found.analytic - found.values - shift)
    tolerated = found.tolerance.rtol * max(found.sizes) + norm(found.error_bar + found.floor)
    return norm(left) <= max(_LEFT * found.difference, tolerated)


def _with_rounding(
    names: Names,
    analytic: FloatArray,
    measurement: Measurement,
    tolerance: Tolerance,
    remeasure: Remeasure,
    *,
    floor: float,
    step: float | None,
    rounding: Rounding | None,
) -> Judgement:
    """Return the verdict that allows for what rounding may do to the analytic derivatives."""
    indices = names.indices
    found = judged(names, analytic, measurement, tolerance, remeasure, floor=floor, step=step)
    if rounding is None:
        return found
    if found.leans and found.verdict is not Verdict.FAIL and tolerance.unit > U64:
        # In a coarse type that may be most of a gradient: what it really is can be found out.
        least = max(_least_floor(rounding(False)), underflow(tolerance.unit))
        if least < found.floor:
            floor = min(floor, least)
            measurement = replace(measurement, floor=min(measurement.floor, least))
            found = judged(
                names, analytic, measurement, tolerance, remeasure, floor=floor, step=step
            )
    if found.verdict is Verdict.PASS and measurement.delicate and found.checked:
        return _with_resolution(found, rounding(True))
    if found.verdict is not Verdict.FAIL or not np.isfinite(analytic).all():
        return found
    noise = rounding(False)
    if noise is None or not _may_explain(noise, analytic, found):
        return found
    return judged(
        names,
        analytic,
        measurement.with_noise(noise),
        tolerance,
        _widened(remeasure, indices, noise),
        floor=floor,
        step=step,
    )


def _least_floor(noise: FloatArray | None) -> float:
    """Return what rounding may leave of a derivative that is really zero, by trying it out."""
    return math.inf if noise is None else _OF_NOISE * largest(noise)


def _with_resolution(found: Judgement, noise: FloatArray | None) -> Judgement:
    """Return a pass that reckons with errors that would have been excused as rounding.

    Only if these had left it a pass: one that is too coarse is none.
    """
    if noise is None or not max(found.sizes) > 0:
        return found
    coarsest = norm(found.error_bar + noise + found.floor) / max(found.sizes)
    if not found.resolution < coarsest <= found.tolerance.rho_max:
        return found
    return replace(found, resolution=coarsest)


def _may_explain(noise: FloatArray, analytic: FloatArray, found: Judgement) -> bool:
    """Whether rounding is a part worth the name of what deviates."""
    deviation = np.abs(analytic - found.values)
    excess = np.where(np.isfinite(deviation), deviation, 0.0) > found.error_bar
    return bool(np.any(noise[excess] > _WORTH_THE_NAME * deviation[excess]))


def _widened(remeasure: Remeasure, indices: IndexArray, noise: FloatArray) -> Remeasure:
    """Return second looks whose error bars allow for the rounding of the analytic gradient."""
    of = _by_index(indices, noise)
    return lambda again: remeasure(again).with_noise(of(again))


def _by_index(indices: IndexArray, values: FloatArray) -> Callable[[IndexArray], FloatArray]:
    """Return how to look values up by the flat indices that they belong to."""
    order = np.argsort(indices, kind="stable")

    def of(again: IndexArray) -> FloatArray:
        return values[order[np.searchsorted(indices, again, sorter=order)]]

    return of
