"""Second looks: which elements to measure again, and what to make of the answer."""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import BoolArray, IndexArray
from fastcheck.verdict.comparison import Comparison
from fastcheck.verdict.measure import Remeasure

_BATCHES = (16, 64, 256)
# A sixteenth: kinks are few, and a step that suits few elements is to be said, not mended.
_REFINED = 16


class Looks:
    """Elements of one tensor that are measured again before a verdict.

    Parameters
    ----------
    comparison : Comparison
        After the first measurement.
    indices : (k,) int64
        The elements' flat indices.
    remeasure : callable
        Measures some of these again.

    Attributes
    ----------
    comparison : Comparison
        With everything that second looks have settled.
    confirmed : (k,) bool
        Elements that deviate in both looks.
    any_confirmed : bool
        Whether there are any.
    """

    def __init__(self, comparison: Comparison, indices: IndexArray, remeasure: Remeasure) -> None:
        self.comparison = comparison
        self.confirmed: BoolArray = np.zeros(len(indices), dtype=bool)
        self.any_confirmed = False
        self._indices, self._remeasure = indices, remeasure
        self._seen = np.zeros(len(indices), dtype=bool)

    def settle(self) -> None:
        """Look at candidates, the worst first, until one is confirmed or none is left.

        Then, if the error bars of a few elements alone stand in the way of a pass, look at those.
        """
        c = self.comparison
        if not (c.any_candidates or c.any_lost or c.resolution > c.tolerance.rho_max):
            return  # as most often
        for batch in _BATCHES:
            places = self._worst_first((self.comparison.candidates | self._retry()) & ~self._seen)
            if not len(places):
                break
            self._look(places[:batch])
            if self.any_confirmed:
                return
        self._seek_gross_errors()
        if self.any_confirmed:
            return
        poor = np.flatnonzero(self._poor())
        if 0 < len(poor) <= 1 + len(self._indices) // _REFINED:
            self._look(poor)

    def confirms_scale(self) -> bool:
        """Whether the scale of the whole is still off where its heaviest elements are looked at.

        The noise of a black box may be anything but independent between elements, and stairs show
        in a second look only.
        """
        before = self.comparison
        with np.errstate(over="ignore"):
            weight = np.abs(before.analytic) * before.deviation
        weight = np.where(before.lost | before.measured.kinked, 0.0, weight)
        heaviest = np.argsort(-weight, kind="stable")[: _BATCHES[1]]
        other = self._remeasure(self._indices[heaviest])
        return before.with_elements(heaviest, other).only(heaviest).scale_is_off

    def worst_of(self, where: BoolArray) -> int:
        """Return the position of the element of a mask that is furthest outside its bar."""
        return int(self._worst_first(where)[0])

    def _look(self, places: IndexArray, *, keep_only_wrong: bool = False) -> None:
        """Measure again, and keep the answer where it confirms, clears or narrows."""
        self._seen[places] = not keep_only_wrong
        before = self.comparison
        deviation = before.deviation[places]
        bar = before.measured.error_bar[places]
        candidate = before.candidates[places]
        other = self._remeasure(self._indices[places])
        after = before.with_elements(places, other)
        self.confirmed[places] = after.proven[places]
        self.any_confirmed = bool(self.confirmed.any())
        new_bar = after.measured.error_bar[places]
        clears = np.where(candidate, new_bar < deviation, ~(new_bar >= bar))
        settled = after.measured.kinked[places] | (clears & ~after.outside[places])
        wrong = after.wrong[places]
        keep = np.isfinite(other.values) & (wrong if keep_only_wrong else settled | wrong)
        self.comparison = before.with_elements(places[keep], other.part(keep))

    def _seek_gross_errors(self) -> None:
        """Where bars are too wide for a pass, look closer at what differs most, to prove it wrong.

        A poor step hides even a doubled gradient, but not from a look that chooses its own.
        """
        c = self.comparison
        if not c.resolution > c.tolerance.rho_max:
            return
        places = np.flatnonzero(~self._seen & ~c.lost & ~c.measured.kinked & (c.deviation > 0))
        furthest = places[np.argsort(-c.deviation[places], kind="stable")][: _BATCHES[0]]
        if len(furthest):
            self._look(furthest, keep_only_wrong=True)

    def _retry(self) -> BoolArray:
        """Elements whose loss was not finite: a first look with other steps is due."""
        return self.comparison.lost

    def _poor(self) -> BoolArray:
        """Elements whose bars are too wide for a pass, if they are what stands in its way."""
        c = self.comparison
        if not c.resolution > c.tolerance.rho_max or c.scale == 0:
            return np.zeros(len(self._indices), dtype=bool)
        share = c.tolerance.rho_max * c.scale / (2 * math.sqrt(len(self._indices)))
        return (c.measured.error_bar > share) & ~c.measured.kinked & ~self._seen

    def _worst_first(self, where: BoolArray) -> IndexArray:
        places = np.flatnonzero(where)
        if len(places) < 2:
            return places
        ratio = np.nan_to_num(self.comparison.ratio[places], nan=0.0, posinf=1e308)
        return places[np.argsort(-ratio, kind="stable")]
