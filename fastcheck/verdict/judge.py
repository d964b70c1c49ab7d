"""From a measured numerical gradient to a verdict on one tensor.

FAIL needs proof: an element that other steps confirm, or a scale of the whole gradient beyond all
errors. PASS needs resolution: error bars so narrow that an error would have been seen. Everything
else is INCONCLUSIVE, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray, IndexArray
from fastcheck.params.complex_parts import element_place
from fastcheck.report.data import Verdict, Worst
from fastcheck.verdict import reasons
from fastcheck.verdict.comparison import Comparison, Projection, norm
from fastcheck.verdict.floors import rounding_floors
from fastcheck.verdict.judgement import Judgement
from fastcheck.verdict.looks import Looks
from fastcheck.verdict.measure import Remeasure
from fastcheck.verdict.measurement import Measurement
from fastcheck.verdict.model import overall, relative_error, revise
from fastcheck.verdict.tolerances import Tolerance

Rounding = Callable[[], FloatArray | None]
"""Asks how far rounding may move the analytic derivatives, (k,); None where nobody knows."""


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
_MOST_EXCUSED = 1e-4
"""Of a tensor's gradient. What a sample adds differs by ε/p: so much at p = 1e-4, if ε is 1e-8."""
_TINY = 1e-5
_ACCEPTABLE = 1e-2
_FINEST = 1e-12

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
    names = _Names(name, shape, indices, is_complex)

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


def _with_rounding(
    names: _Names,
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
    found = _judged(names, analytic, measurement, tolerance, remeasure, floor=floor, step=step)
    if rounding is None:
        return found
    if found.verdict is Verdict.PASS and measurement.delicate and found.checked:
        return _with_resolution(found, rounding())
    if found.verdict is not Verdict.FAIL or not np.isfinite(analytic).all():
        return found
    noise = rounding()
    if noise is None or not _may_explain(noise, analytic, found):
        return found
    return _judged(
        names,
        analytic,
        measurement.with_noise(noise),
        tolerance,
        _widened(remeasure, indices, noise),
        floor=floor,
        step=step,
    )


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


def _judged(
    name_of: _Names,
    analytic: FloatArray,
    measurement: Measurement,
    tolerance: Tolerance,
    remeasure: Remeasure,
    *,
    floor: float,
    step: float | None,
) -> Judgement:
    indices = name_of.indices
    if not len(indices):
        return _nothing(name_of, measurement, tolerance)
    finite = np.isfinite(analytic)
    if not finite.all():
        usable = np.where(finite, analytic, 0.0)
        comparison = Comparison.of(usable, measurement, tolerance, floor)
        return _not_finite(name_of, comparison, analytic)
    comparison = Comparison.of(analytic, measurement, tolerance, floor)
    looks = Looks(comparison, indices, remeasure)
    looks.settle()
    verdict, reason = _decide(looks, name_of, step)
    wrong = looks.worst_of(looks.confirmed) if looks.confirmed.any() else None
    found = _judgement(name_of, looks.comparison, verdict, reason, wrong)
    if verdict is Verdict.PASS and reason and looks.comparison.vanishes():
        return replace(found, resolution=looks.comparison.coarsest)
    if verdict is not Verdict.FAIL:
        return found
    return replace(
        found,
        reason=" ".join([reason, *_tiny(looks.comparison)]),
        resolution=min(found.resolution, _finest(looks.comparison, wrong)),
    )


class _Names:
    """Element positions of one tensor as names for sentences."""

    def __init__(
        self, name: str, shape: tuple[int, ...], indices: IndexArray, is_complex: bool
    ) -> None:
        self.name, self.shape, self.indices, self.is_complex = name, shape, indices, is_complex

    def place(self, position: int) -> tuple[tuple[int, ...], str]:
        """Return the index in the tensor of the element at a position, and which part it is."""
        return element_place(self.shape, int(self.indices[position]), self.is_complex)

    def first(self, where: BoolArray) -> str:
        """Return the name of the first element of a mask, such as ``W1[0, 3]``."""
        return self.at(int(np.argmax(where)))

    def at(self, position: int) -> str:
        """Return the name of the element at a position."""
        return self.name + reasons.place(*self.place(position))


def _decide(looks: Looks, names: _Names, step: float | None) -> tuple[Verdict, str]:
    """Return the verdict on elements that have all been looked at as far as that helps."""
    c = looks.comparison
    if looks.confirmed.any():
        worst = looks.worst_of(looks.confirmed)
        count = int(np.count_nonzero(c.wrong | looks.confirmed))
        return Verdict.FAIL, reasons.wrong_elements(c, names.at(worst), worst, count)
    projection = c.projection
    # Errors of stairs add up in one direction: they may pass for a scale, not for an element.
    independent = not c.measured.stairs
    if independent and projection.is_off(c.tolerance) and looks.confirms_scale():
        text = reasons.wrong_scale(projection.scale(), projection.uncertainty())
        return Verdict.FAIL, text
    if c.any_lost:
        count = int(np.count_nonzero(c.lost))
        h = float(np.max(c.measured.steps[c.lost]))
        return Verdict.INCONCLUSIVE, reasons.lost(count, names.first(c.lost), h)
    if c.scale == 0 and not c.weak.any():
        if c.measured.hidden:
            return Verdict.INCONCLUSIVE, reasons.hidden(c.measured.exact)
        return Verdict.PASS, reasons.zero(c.measured.reacts)
    if c.vanishes():
        return Verdict.PASS, reasons.vanishing(c)
    return _weigh(looks, names, step)


def _weigh(looks: Looks, names: _Names, step: float | None) -> tuple[Verdict, str]:
    """Return PASS if nothing is left open and the error bars are narrow, else why not."""
    c = looks.comparison
    if c.wrong.any():
        worst = looks.worst_of(c.wrong)
        count = int(np.count_nonzero(c.wrong))
        return Verdict.INCONCLUSIVE, reasons.unconfirmed(count, names.at(worst), c.measured.exact)
    if c.open_kinks.any():
        return Verdict.INCONCLUSIVE, reasons.kinks(c, names.first(c.open_kinks))
    if not c.has_evidence():
        return Verdict.INCONCLUSIVE, reasons.all_on_kinks()
    rho = c.resolution
    if rho > c.tolerance.rho_max:
        return Verdict.INCONCLUSIVE, reasons.resolution(c, rho, step)
    return Verdict.PASS, reasons.passed(c, step)


def _judgement(
    names: _Names, comparison: Comparison, verdict: Verdict, reason: str, worst: int | None = None
) -> Judgement:
    c = comparison
    return Judgement(
        name=names.name,
        verdict=verdict,
        reason=reason,
        relative_error=c.relative_error,
        worst=_worst(names, c, _furthest(c) if worst is None else worst),
        resolution=c.resolution,
        on_kinks=names.indices[c.measured.kinked] if c.any_kinked else names.indices[:0],
        kinked=int(np.count_nonzero(c.measured.kinked)),
        step=_median(c.measured.steps),
        checked=len(names.indices),
        loss_calls=c.measured.loss_calls,
        indices=names.indices,
        analytic=c.analytic,
        values=c.measured.values,
        error_bar=c.measured.error_bar,
        floor=c.floor,
        projection=_share(c),
        difference=c.difference,
        sizes=c.sizes,
        reacts=c.measured.reacts,
        hidden=c.measured.hidden,
        tolerance=c.tolerance,
    )


def _median(steps: FloatArray) -> float:
    """Return the median; most often all are the same, which is quick to see."""
    return float(steps[0] if (steps == steps[0]).all() else np.median(steps))


def _tiny(comparison: Comparison) -> list[str]:
    """Return what to add to a FAIL whose deviations are tiny: nothing, or one sentence."""
    error = comparison.relative_error
    least = 2 * comparison.accepting()
    if not (error < _TINY and 0 < least < _ACCEPTABLE):
        return []
    return [reasons.tiny(error, 10.0 ** math.ceil(math.log10(max(least, error, _FINEST))))]


def _finest(comparison: Comparison, wrong: int | None) -> float:
    """Return the least relative error of the tensor that the evidence for a FAIL could show."""
    c = comparison
    total = norm(c.analytic) + norm(c.measured.values)
    if wrong is None:
        return c.projection.uncertainty() * norm(c.analytic) / total
    return float(c.measured.error_bar[wrong]) / total


def _share(comparison: Comparison) -> Projection:
    """Return what the tensor adds to the model's projection: nothing that it could not confirm."""
    dependent = comparison.measured.stairs or comparison.scale_is_off()
    return Projection() if dependent else comparison.projection


def _furthest(comparison: Comparison) -> int:
    """Return the position of the element furthest outside its error bar, off kinks if possible."""
    c, ratio = comparison, comparison.ratio
    if c.any_lost:
        ratio[c.lost] = -1.0
    if c.any_kinked and (~c.lost & ~c.measured.kinked).any():
        ratio[c.measured.kinked & ~c.open_kinks] = -1.0
    return int(ratio.argmax())


def _worst(names: _Names, comparison: Comparison, position: int) -> Worst:
    m = comparison.measured
    index, part = names.place(position)
    return Worst(
        index,
        float(comparison.analytic[position]),
        float(m.values[position]),
        float(m.error_bar[position]),
        part,
    )


def _not_finite(names: _Names, comparison: Comparison, analytic: FloatArray) -> Judgement:
    """Return FAIL for an analytic gradient that holds NaN or Inf."""
    bad = ~np.isfinite(analytic)
    position = int(np.argmax(bad))
    reason = reasons.not_finite_analytic(
        names.at(position), float(analytic[position]), int(np.count_nonzero(bad))
    )
    found = _judgement(names, comparison, Verdict.FAIL, reason)
    worst = replace(_worst(names, comparison, position), analytic=float(analytic[position]))
    return replace(
        found,
        worst=worst,
        analytic=analytic,
        relative_error=math.nan,
        difference=math.nan,
        projection=Projection(),
        resolution=min(found.resolution, 1.0),
    )


def _nothing(names: _Names, measurement: Measurement, tolerance: Tolerance) -> Judgement:
    """Return a pass that says that there was nothing to check."""
    return Judgement(
        name=names.name,
        verdict=Verdict.PASS,
        reason=reasons.empty(math.prod(names.shape)),
        relative_error=0.0,
        worst=None,
        resolution=0.0,
        on_kinks=np.zeros(0, dtype=np.int64),
        kinked=0,
        step=math.nan,
        checked=0,
        loss_calls=measurement.loss_calls,
        indices=np.zeros(0, dtype=np.int64),
        analytic=np.zeros(0),
        values=np.zeros(0),
        error_bar=np.zeros(0),
        floor=0.0,
        projection=Projection(),
        difference=0.0,
        sizes=(0.0, 0.0),
        reacts=False,
        hidden=False,
        tolerance=tolerance,
    )
