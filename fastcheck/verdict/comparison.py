"""Analytic against numerical gradient, element by element and as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray, IndexArray
from fastcheck.verdict.bars import LEAST_SQUARE, MOST_SQUARE, any_of, largest
from fastcheck.verdict.conventions import on_kinks, slack
from fastcheck.verdict.lazily import lazily
from fastcheck.verdict.machine.sweeps import Sums, sums
from fastcheck.verdict.measurement import Measurement
from fastcheck.verdict.tolerances import Tolerance

_UNRESOLVED = 1e4
"""A derivative that keeps fewer digits than this when its step changes is taken for rounding."""

_FAR_BELOW = 2.0**20
"""Where all gradients of a model are rounding, none shows that a zero is right. A tensor's may be
called zero beside others a billion (16u·2²⁰) times larger."""


@dataclass(frozen=True)
class Projection:
    """Sums from which the scale β of the numerical against the analytic gradient follows.

    β = ⟨g,n⟩/⟨g,g⟩ rather than ⟨g,n⟩/⟨n,n⟩, because the noise of n would bias the latter.

    Attributes
    ----------
    product, square : float
        ⟨g,n⟩ and ⟨g,g⟩ over the elements not set apart.
    random : float
        Σ(gR)²: random errors add up in quadrature.
    systematic : float
        Σ|g|·(systematic errors) + Σg² over elements below the noise, which rounding may hold at
        zero one and all.
    """

    product: float = 0.0
    square: float = 0.0
    random: float = 0.0
    systematic: float = 0.0

    def __add__(self, other: Projection) -> Projection:
        return Projection(
            self.product + other.product,
            self.square + other.square,
            self.random + other.random,
            self.systematic + other.systematic,
        )

    def scale(self) -> float:
        """Return β, which is 1 for a right gradient; NaN if the analytic gradient is zero."""
        return self.product / self.square if self.square > 0 else math.nan

    def uncertainty(self) -> float:
        """Return how far β may be off by errors of the numerical gradient."""
        if not self.square > 0:
            return math.inf
        return (math.sqrt(self.random) + self.systematic) / self.square

    def is_off(self, tolerance: Tolerance) -> bool:
        """Whether β differs from 1 by more than errors and tolerance explain."""
        margin = tolerance.rtol + tolerance.gamma + self.uncertainty()
        return math.isfinite(margin) and abs(self.scale() - 1) > margin


@dataclass(frozen=True)
class Comparison:
    """The elements of one tensor, compared; what follows from that is computed once.

    Attributes
    ----------
    analytic : (k,) float64
        The user's derivatives g, finite.
    measured : Measurement
        The numerical ones, n ± B.
    tolerance : Tolerance
    floor : float
        What rounding alone may leave of a derivative that vanishes.
    negligible : float
        Derivatives that are this small are so beside others in the model.
    weak : (k,) bool
        Elements on a kink whose analytic value is the one-sided derivative zero: right, but so
        would be the zero of a backward pass that leaves them out.
    open_kinks : (k,) bool
        Elements on a kink whose analytic value is none of the one-sided derivatives.
    sums : Sums or None
        What follows, as machine code has computed it; None where something is out of the ordinary.
    """

    analytic: FloatArray
    measured: Measurement
    tolerance: Tolerance
    floor: float
    negligible: float
    weak: BoolArray
    open_kinks: BoolArray
    sums: Sums | None = None

    @classmethod
    def of(
        cls, analytic: FloatArray, measured: Measurement, tolerance: Tolerance, floor: float
    ) -> Comparison:
        """Compare, with elements on a kink held against their one-sided derivatives."""
        kinks = on_kinks(analytic, measured, tolerance)
        return cls(
            analytic,
            kinks.measured,
            tolerance,
            max(floor, measured.floor),
            _FAR_BELOW * floor,
            kinks.weak,
            kinks.open,
        )

    @classmethod
    def summed(
        cls, analytic: FloatArray, measured: Measurement, tolerance: Tolerance, floor: float
    ) -> Comparison | None:
        """Compare in machine code; None unless all is ordinary: finite, and off the kinks."""
        m, least = measured, max(floor, measured.floor)
        if m.plain is None:
            return None
        found = sums(
            analytic,
            m.values,
            m.error_bar,
            m.gradient_noise,
            (*m.plain, tolerance.rtol, tolerance.gamma, least),
        )
        if found is None:
            return None
        return cls(analytic, m, tolerance, least, _FAR_BELOW * floor, m.kinked, m.kinked, found)

    @lazily
    def lost(self) -> BoolArray:
        """Elements without a numerical derivative: the loss is not finite around θ."""
        return ~np.isfinite(self.measured.values)

    @lazily
    def any_lost(self) -> bool:
        """Whether there are any of these."""
        return self.sums is None and any_of(self.lost)

    @lazily
    def any_kinked(self) -> bool:
        """Whether any element is set apart because it lies on a kink."""
        return self.sums is None and any_of(self.measured.kinked)

    @lazily
    def deviation(self) -> FloatArray:
        """|g − n|."""
        difference: FloatArray = self.analytic - self.measured.values
        return np.abs(difference, out=difference)

    @lazily
    def allowed(self) -> FloatArray:
        """B + rtol·max(|g|, |n|) + γS."""
        allowed = slack(self.analytic, self.measured.values, self.tolerance)
        allowed += self.measured.error_bar
        return allowed

    @property
    def ratio(self) -> FloatArray:
        """|g − n| in units of what is allowed; NaN for lost elements."""
        ratio: FloatArray = np.maximum(self.allowed, 1e-300)
        return np.divide(self.deviation, ratio, out=ratio)

    @lazily
    def outside(self) -> BoolArray:
        """Elements, also on kinks, whose two derivatives differ by more than is allowed."""
        return self.deviation > self.allowed

    @lazily
    def candidates(self) -> BoolArray:
        """Elements off the kinks that differ by more than is allowed."""
        return self.outside & ~self.measured.kinked if self.any_kinked else self.outside

    @lazily
    def any_candidates(self) -> bool:
        """Whether there are any of these."""
        if self.sums is not None:
            return self.sums.any_outside
        return any_of(self.candidates)

    @lazily
    def wrong(self) -> BoolArray:
        """Candidates that differ by more than rounding may leave of a vanishing derivative."""
        if not self.any_candidates:
            return self.candidates
        return self.candidates & (self.deviation > self.allowed + self.floor)

    @lazily
    def any_wrong(self) -> bool:
        """Whether there are any of these."""
        return self.any_candidates and any_of(self.wrong)

    def furthest(self) -> int:
        """Return the position of the element furthest outside its bar, off kinks if possible."""
        if self.sums is not None:
            return self.sums.furthest
        ratio, kinked = self.ratio, self.measured.kinked
        if self.any_lost:
            ratio[self.lost] = -1.0
        if self.any_kinked and (~self.lost & ~kinked).any():
            ratio[kinked & ~self.open_kinks] = -1.0
        return int(ratio.argmax())

    @lazily
    def scale(self) -> float:
        """max(‖g‖, ‖n‖)."""
        whole = norm(self.analytic) if self.any_lost else self.sizes[0]
        return max(whole, self.sizes[1])

    @lazily
    def resolution(self) -> float:
        """ρ, the smallest relative error that could have been seen: ‖B‖/max(‖g‖, ‖n‖).

        The floor counts as part of B if it is needed to explain any element. If it is not, an
        error that it explains would have passed all the same, unless that had made ρ too coarse.
        """
        coarsest = self.coarsest
        if self.any_candidates or not coarsest > self.tolerance.rho_max:
            return coarsest
        return self._share(self._norm_of(0.0))

    @lazily
    def coarsest(self) -> float:
        """What ρ is if the floor is needed to explain an element."""
        return self._share(self._norm_of(self.floor))

    def _norm_of(self, floor: float) -> float:
        """Return ‖B + floor‖; infinite if a bar is."""
        if self.sums is not None:
            return self.sums.bars_and_floor if floor else self.sums.bars
        bars = self.measured.error_bar + floor
        endless = not math.isfinite(bars.max(initial=0.0)) and bool(np.isinf(bars).any())
        return math.inf if endless else norm(bars)

    def _share(self, bar: float) -> float:
        """Return bar/max(‖g‖, ‖n‖); 0 for 0/0."""
        if self.scale > 0:
            return bar / self.scale
        return 0.0 if bar == 0 else math.inf

    def floor_in_use(self) -> float:
        """Return the floor if it is needed to explain any element, else 0."""
        return self.floor if self.any_candidates else 0.0

    def has_evidence(self) -> bool:
        """Whether some element that is not zero was compared with a derivative it must equal."""
        return not self.weak.any() or bool(self.analytic.any() or self.measured.values.any())

    @lazily
    def relative_error(self) -> float:
        """‖g − n‖/(‖g‖ + ‖n‖) over the elements that have both; 0 for 0 = 0."""
        total = sum(self.sizes)
        return self.difference / total if total > 0 else 0.0

    @lazily
    def difference(self) -> float:
        """‖g − n‖ over the elements that have both."""
        return norm(self.deviation) if self.sums is None else self.sums.difference

    @lazily
    def sizes(self) -> tuple[float, float]:
        """(‖g‖, ‖n‖) over the elements that have both."""
        if self.sums is not None:
            return self.sums.sizes
        there = self.analytic[~self.lost] if self.any_lost else self.analytic
        return norm(there), norm(self.measured.values)

    def accepting(self) -> float:
        """Return the least tolerance with which no element and no scale would be wrong."""
        there = ~self.lost & ~self.measured.kinked
        g, n = self.analytic[there], self.measured.values[there]
        larger = np.maximum(np.abs(g), np.abs(n)) + largest(n)
        beyond = np.abs(g - n) - self.measured.error_bar[there]
        each = np.divide(beyond, larger, out=np.zeros(len(g)), where=larger > 0)
        sums = self.projection
        whole = (abs(sums.scale() - 1) - sums.uncertainty()) / 2
        return float(np.fmax(np.max(each, initial=0.0), whole if math.isfinite(whole) else 0.0))

    @lazily
    def projection(self) -> Projection:
        """The sums for the scale β, without the elements that are lost or on a kink."""
        if self.sums is not None:
            return Projection(*self.sums.projection)
        m, g = self.measured, self.analytic
        if self.any_lost or self.any_kinked:
            there = ~self.lost & ~m.kinked
            m, g = m.part(there), g[there]
        r, fixed = m.roundoff, m.truncation + m.gradient_noise
        fixed += self.floor
        terms = np.abs(g)  # a buffer for all sums: fresh memory costs more than they do
        with np.errstate(over="ignore"):
            buried = terms < r
            any_buried = any_of(buried)
            if m.stairs:
                # Stairs err the same way in many elements: their errors do not average out.
                fixed, r = fixed + r, np.zeros(len(r))
            fixed *= terms
            product = np.multiply(g, m.values, out=terms).sum()
            square = np.multiply(g, g, out=terms).sum()
            below = terms[buried].sum() if any_buried else 0.0
            np.multiply(g, r, out=terms)
            random = np.multiply(terms, terms, out=terms).sum()
            return Projection(
                float(product), float(square), float(random), float(fixed.sum() + below)
            )

    @lazily
    def scale_is_off(self) -> bool:
        """Whether the gradient as a whole is longer or shorter than errors and tolerance allow."""
        return self.projection.is_off(self.tolerance)

    def vanishes(self) -> bool:
        """Whether both gradients are rounding errors around zero, as far as exact differences show.

        Black boxes cannot show that: their noise would hide a small gradient that is wrong.
        """
        m = self.measured
        if not m.exact or self.any_lost or self.any_kinked:
            return False
        most = min(self.floor, self.negligible)
        if max(self.tops) > most:
            return False
        unresolved = np.abs(m.values) <= _UNRESOLVED * (m.truncation + m.roundoff)
        return bool(np.all(unresolved))

    @lazily
    def tops(self) -> tuple[float, float]:
        """(max |g|, max |n|) over what is finite."""
        if self.sums is not None:
            return self.sums.tops
        return largest(self.analytic), largest(self.measured.values)

    @property
    def proven(self) -> BoolArray:
        """Wrong elements whose own error bar is finer than what it is to prove wrong.

        In a loss that moves in stairs, kinks closer to θ than the stairs are wide stay unseen; a
        derivative that is not resolved itself shows nothing there.
        """
        m = self.measured
        size = np.abs(m.values)
        if not m.stairs:
            size = np.maximum(size, np.abs(self.analytic))
        return self.wrong & (m.error_bar < size)

    def only(self, places: IndexArray) -> Comparison:
        """Return the comparison of some elements."""
        return replace(
            self,
            analytic=self.analytic[places],
            measured=self.measured.part(places),
            weak=self.weak[places],
            open_kinks=self.open_kinks[places],
            sums=None,
        )

    def with_elements(self, places: IndexArray, other: Measurement) -> Comparison:
        """Return the comparison with some elements measured anew."""
        top = largest(self.measured.values)
        kinks = on_kinks(self.analytic[places], other, self.tolerance, top)
        weak, still_open = self.weak.copy(), self.open_kinks.copy()
        weak[places], still_open[places] = kinks.weak, kinks.open
        measured = self.measured.with_elements(places, kinks.measured)
        return replace(self, measured=measured, weak=weak, open_kinks=still_open, sums=None)


def norm(values: FloatArray) -> float:
    """Return the Euclidean norm of the finite elements, safe from overflow and underflow."""
    with np.errstate(all="ignore"):
        square = float(values.dot(values))
    if LEAST_SQUARE < square < MOST_SQUARE:
        return math.sqrt(square)
    peak = largest(values)
    if peak == 0:
        return 0.0
    squares = (values / peak) ** 2
    square = float(squares.sum())
    if not math.isfinite(square):
        square = float(squares[np.isfinite(values)].sum())
    return peak * math.sqrt(square)
