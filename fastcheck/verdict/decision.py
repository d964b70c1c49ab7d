"""The verdict on one tensor as its two gradients stand: who deviates, and is it confirmed?

FAIL needs proof: an element that other steps confirm, or a scale of the whole gradient beyond all
errors. PASS needs resolution: error bars so narrow that an error would have been seen. Everything
else is INCONCLUSIVE, with the reason.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray, IndexArray
from fastcheck.params.complex_parts import element_place
from fastcheck.report.data import Verdict, Worst
from fastcheck.verdict import reasons
from fastcheck.verdict.comparison import Comparison, Projection, norm
from fastcheck.verdict.judgement import Judgement
from fastcheck.verdict.looks import Looks
from fastcheck.verdict.measure import Remeasure
from fastcheck.verdict.measurement import Measurement
from fastcheck.verdict.tolerances import Tolerance

_TINY = 1e-5
_ACCEPTABLE = 1e-2
_FINEST = 1e-12


def judged(
    names: Names,
    analytic: FloatArray,
    measurement: Measurement,
    tolerance: Tolerance,
    remeasure: Remeasure,
    *,
    floor: float,
    step: float | None,
) -> Judgement:
    """Return the verdict on an analytic gradient as it is, with nothing excused.

    Parameters
    ----------
    names : Names
        The tensor and its elements.
    analytic : (k,) float64
        The user's derivatives; may hold NaN.
    measurement : Measurement
        The numerical derivatives there.
    tolerance : Tolerance
        Of the whole tree.
    remeasure : callable
        Measures flat indices again.
    floor : float
        Differences below it are never called wrong.
    step : float or None
        The user's own step, for the wording.
    """
    indices = names.indices
    if not len(indices):
        return _nothing(names, measurement, tolerance)
    comparison = Comparison.summed(analytic, measurement, tolerance, floor)
    if comparison is None:
        finite = np.isfinite(analytic)
        if not finite.all():
            usable = np.where(finite, analytic, 0.0)
            comparison = Comparison.of(usable, measurement, tolerance, floor)
            return _not_finite(names, comparison, analytic)
        comparison = Comparison.of(analytic, measurement, tolerance, floor)
    looks = Looks(comparison, indices, remeasure)
    looks.settle()
    verdict, reason = _decide(looks, names, step)
    wrong = looks.worst_of(looks.confirmed) if looks.any_confirmed else None
    found = _judgement(names, looks.comparison, verdict, reason, wrong)
    if verdict is Verdict.PASS and reason and looks.comparison.vanishes():
        return replace(found, resolution=looks.comparison.coarsest)
    if verdict is not Verdict.FAIL:
        return found
    return replace(
        found,
        reason=" ".join([reason, *_tiny(looks.comparison)]),
        resolution=min(found.resolution, _finest(looks.comparison, wrong)),
    )


class Names:
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


def _decide(looks: Looks, names: Names, step: float | None) -> tuple[Verdict, str]:
    """Return the verdict on elements that have all been looked at as far as that helps."""
    c = looks.comparison
    if looks.any_confirmed:
        worst = looks.worst_of(looks.confirmed)
        count = int(np.count_nonzero(c.wrong | looks.confirmed))
        return Verdict.FAIL, reasons.wrong_elements(c, names.at(worst), worst, count)
    # Errors of stairs add up in one direction: they may pass for a scale, not for an element.
    if not c.measured.stairs and c.scale_is_off and looks.confirms_scale():
        text = reasons.wrong_scale(c.projection.scale(), c.projection.uncertainty())
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


def _weigh(looks: Looks, names: Names, step: float | None) -> tuple[Verdict, str]:
    """Return PASS if nothing is left open and the error bars are narrow, else why not."""
    c = looks.comparison
    if c.any_wrong:
        worst = looks.worst_of(c.wrong)
        count = int(np.count_nonzero(c.wrong))
        return Verdict.INCONCLUSIVE, reasons.unconfirmed(count, names.at(worst), c.measured.exact)
    if c.any_kinked and c.open_kinks.any():
        return Verdict.INCONCLUSIVE, reasons.kinks(c, names.first(c.open_kinks))
    if not c.has_evidence():
        return Verdict.INCONCLUSIVE, reasons.all_on_kinks()
    rho = c.resolution
    if rho > c.tolerance.rho_max:
        return Verdict.INCONCLUSIVE, reasons.resolution(c, rho, step)
    unusual = c.any_kinked or step is not None
    return Verdict.PASS, reasons.passed(c, step) if unusual else ""


def _judgement(
    names: Names, comparison: Comparison, verdict: Verdict, reason: str, worst: int | None = None
) -> Judgement:
    c = comparison
    return Judgement(
        name=names.name,
        verdict=verdict,
        reason=reason,
        relative_error=c.relative_error,
        worst=_worst(names, c, c.furthest() if worst is None else worst),
        resolution=c.resolution,
        on_kinks=names.indices[c.measured.kinked] if c.any_kinked else names.indices[:0],
        kinked=int(np.count_nonzero(c.measured.kinked)) if c.any_kinked else 0,
        step=_median(c.measured.steps),
        checked=len(names.indices),
        loss_calls=c.measured.loss_calls,
        indices=names.indices,
        analytic=c.analytic,
        values=c.measured.values,
        error_bar=c.measured.error_bar,
        floor=c.floor,
        leans=c.any_candidates,
        projection=_share(c),
        difference=c.difference,
        sizes=c.sizes,
        reacts=c.measured.reacts,
        hidden=c.measured.hidden,
        tolerance=c.tolerance,
    )


def _median(steps: FloatArray) -> float:
    """Return the median; most often all are the same, which is quick to see."""
    same = np.count_nonzero(steps == steps[0]) == len(steps)
    return float(steps[0] if same else np.median(steps))


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
    dependent = comparison.measured.stairs or comparison.scale_is_off
    return Projection() if dependent else comparison.projection


def _worst(names: Names, comparison: Comparison, position: int) -> Worst:
    m = comparison.measured
    index, part = names.place(position)
    return Worst(
        index,
        float(comparison.analytic[position]),
        float(m.values[position]),
        float(m.error_bar[position]),
        part,
    )


def _not_finite(names: Names, comparison: Comparison, analytic: FloatArray) -> Judgement:
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


def _nothing(names: Names, measurement: Measurement, tolerance: Tolerance) -> Judgement:
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
        leans=False,
        projection=Projection(),
        difference=0.0,
        sizes=(0.0, 0.0),
        reacts=False,
        hidden=False,
        tolerance=tolerance,
    )
