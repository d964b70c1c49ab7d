"""Analytic against numerical gradient, element by element and as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray, IndexArray
from fastcheck.verdict.bars import largest, largest_size
from fastcheck.verdict.measurement import Measurement
from fastcheck.verdict.tolerances import Tolerance

_UNRESOLVED = 1e4
"""A derivative that keeps fewer digits than this when its step changes is taken for rounding."""

_LEAST_SQUARE, _MOST_SQUARE = 2.0**-900, 2.0**900
"""Sums of squares between these have lost nothing that counts below or above the range."""

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
    """

    analytic: FloatArray
    measured: Measurement
    tolerance: Tolerance
    floor: float
    negligible: float
    weak: BoolArray
    open_kinks: BoolArray

    @classmethod
    def of(
        cls, analytic: FloatArray, measured: Measurement, tolerance: Tolerance, floor: float
    ) -> Comparison:
        """Compare, with elements on a kink held against their one-sided derivatives."""
        kinks = _on_kinks(analytic, measured, tolerance)
        return cls(
            analytic,
            kinks.measured,
            tolerance,
            max(floor, measured.floor),
            _FAR_BELOW * floor,
            kinks.weak,
            kinks.open,
        )

    @cached_property
    def lost(self) -> BoolArray:
        """Elements without a numerical derivative: the loss is not finite around θ."""
        return ~np.isfinite(self.measured.values)

    @cached_property
    def any_lost(self) -> bool:
        """Whether there are any of these."""
        return bool(self.lost.any())

    @cached_property
    def any_kinked(self) -> bool:
        """Whether any element is set apart because it lies on a kink."""
        return bool(self.measured.kinked.any())

    @cached_property
    def deviation(self) -> FloatArray:
        """|g − n|."""
        difference: FloatArray = self.analytic - self.measured.values
        return np.abs(difference, out=difference)

    @cached_property
    def allowed(self) -> FloatArray:
        """B + rtol·max(|g|, |n|) + γS."""
        slack = _slack(self.analytic, self.measured.values, self.tolerance)
        slack += self.measured.error_bar
        return slack

    @property
    def ratio(self) -> FloatArray:
        """|g − n| in units of what is allowed; NaN for lost elements."""
        ratio: FloatArray = np.maximum(self.allowed, 1e-300)
        return np.divide(self.deviation, ratio, out=ratio)

    @cached_property
    def outside(self) -> BoolArray:
        """Elements, also on kinks, whose two derivatives differ by more than is allowed."""
        return self.deviation > self.allowed

    @cached_property
    def candidates(self) -> BoolArray:
        """Elements off the kinks that differ by more than is allowed."""
        return self.outside & ~self.measured.kinked if self.any_kinked else self.outside

    @cached_property
    def any_candidates(self) -> bool:
        """Whether there are any of these."""
        return bool(self.candidates.any())

    @cached_property
    def wrong(self) -> BoolArray:
        """Candidates that differ by more than rounding may leave of a vanishing derivative."""
        if not self.any_candidates:
            return self.candidates
        return self.candidates & (self.deviation > self.allowed + self.floor)

    @cached_property
    def scale(self) -> float:
        """max(‖g‖, ‖n‖)."""
        whole = norm(self.analytic) if self.any_lost else self.sizes[0]
        return max(whole, self.sizes[1])

    @cached_property
    def resolution(self) -> float:
        """ρ, the smallest relative error that could have been seen: ‖B‖/max(‖g‖, ‖n‖).

        The floor counts as part of B if it is needed to explain any element. If it is not, an
        error that it explains would have passed all the same, unless that had made ρ too coarse.
        """
        coarsest = self.coarsest
        if self.any_candidates or not coarsest > self.tolerance.rho_max:
            return coarsest
        return self._share(self.measured.error_bar)

    @cached_property
    def coarsest(self) -> float:
        """What ρ is if the floor is needed to explain an element."""
        return self._share(self.measured.error_bar + self.floor)

    def _share(self, bars: FloatArray) -> float:
        """Return ‖bars‖/max(‖g‖, ‖n‖); 0 for 0/0."""
        endless = not math.isfinite(bars.max(initial=0.0)) and bool(np.isinf(bars).any())
        bar = math.inf if endless else norm(bars)
        if self.scale > 0:
            return bar / self.scale
        return 0.0 if bar == 0 else math.inf

    def floor_in_use(self) -> float:
        """Return the floor if it is needed to explain any element, else 0."""
        return self.floor if self.any_candidates else 0.0

    def has_evidence(self) -> bool:
        """Whether some element that is not zero was compared with a derivative it must equal."""
        return not self.weak.any() or bool(self.analytic.any() or self.measured.values.any())

    @cached_property
    def relative_error(self) -> float:
        """‖g − n‖/(‖g‖ + ‖n‖) over the elements that have both; 0 for 0 = 0."""
        total = sum(self.sizes)
        return self.difference / total if total > 0 else 0.0

    @cached_property
    def difference(self) -> float:
        """‖g − n‖ over the elements that have both."""
        return norm(self.deviation)

    @cached_property
    def sizes(self) -> tuple[float, float]:
        """(‖g‖, ‖n‖) over the elements that have both."""
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

    @cached_property
    def projection(self) -> Projection:
        """The sums for the scale β, without the elements that are lost or on a kink."""
        m, g = self.measured, self.analytic
        if self.any_lost or self.any_kinked:
            there = ~self.lost & ~m.kinked
            m, g = m.part(there), g[there]
        r, fixed = m.roundoff, m.truncation + m.gradient_noise
        fixed += self.floor
        terms = np.abs(g)  # a buffer for all sums: fresh memory costs more than they do
        with np.errstate(over="ignore"):
            buried = terms < r
            if m.stairs:
                # Stairs err the same way in many elements: their errors do not average out.
                fixed, r = fixed + r, np.zeros(len(r))
            fixed *= terms
            product = np.multiply(g, m.values, out=terms).sum()
            square = np.multiply(g, g, out=terms).sum()
            below = terms[buried].sum() if buried.any() else 0.0
            np.multiply(g, r, out=terms)
            random = np.multiply(terms, terms, out=terms).sum()
            return Projection(
                float(product), float(square), float(random), float(fixed.sum() + below)
            )

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
        if largest(m.values) > most or largest(self.analytic) > most:
            return False
        unresolved = np.abs(m.values) <= _UNRESOLVED * (m.truncation + m.roundoff)
        return bool(np.all(unresolved))

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
        )

    def with_elements(self, places: IndexArray, other: Measurement) -> Comparison:
        """Return the comparison with some elements measured anew."""
        top = largest(self.measured.values)
        kinks = _on_kinks(self.analytic[places], other, self.tolerance, top)
        weak, still_open = self.weak.copy(), self.open_kinks.copy()
        weak[places], still_open[places] = kinks.weak, kinks.open
        measured = self.measured.with_elements(places, kinks.measured)
        return replace(self, measured=measured, weak=weak, open_kinks=still_open)


def norm(values: FloatArray) -> float:
    """Return the Euclidean norm of the finite elements, safe from overflow and underflow."""
    with np.errstate(all="ignore"):
        square = float(values.dot(values))
    if _LEAST_SQUARE < square < _MOST_SQUARE:
        return math.sqrt(square)
    peak = largest(values)
    if peak == 0:
        return 0.0
    squares = (values / peak) ** 2
    square = float(squares.sum())
    if not math.isfinite(square):
        square = float(squares[np.isfinite(values)].sum())
    return peak * math.sqrt(square)


def _slack(
    analytic: FloatArray, values: FloatArray, tolerance: Tolerance, top: float | None = None
) -> FloatArray:
    """Return rtol·max(|g|, |n|) + γS; S is `top`, or the largest of the values."""
    sizes = np.abs(values)
    scale = largest_size(sizes) if top is None else top
    slack: FloatArray = np.maximum(np.abs(analytic), sizes, out=sizes)
    slack *= tolerance.rtol
    slack += tolerance.gamma * scale
    return slack


@dataclass(frozen=True)
class _Kinks:
    """Elements on a kink, held against g: how they are measured now, and which are what."""

    measured: Measurement
    weak: BoolArray
    open: BoolArray


def _on_kinks(
    analytic: FloatArray, measured: Measurement, tolerance: Tolerance, top: float | None = None
) -> _Kinks:
    """Replace n on a kink by the one-sided derivative, or the mean of both, that g equals.

    Frameworks and people take one of these by convention (ReLU'(0) = 0, 1 or ½). Where g is one of
    them to the last digits, nothing is left open, and the jump leaves the error bar.

    Where the one-sided derivatives are equal the kinks do not matter (the maximum that a softmax
    subtracts, say) and the element is like any other. They may also cancel, between samples
    below a ReLU whose weights are all zero; then 0 and 2n are right by convention, and left open.
    """
    m = measured
    none = np.zeros(len(m.values), dtype=bool)
    if not m.kinked.any():
        return _Kinks(m, none, none)
    top = largest(m.values) if top is None else top
    choices = m.values + np.array([[-1.0], [0.0], [1.0]]) * m.jump
    distance = np.abs(analytic - choices)
    best = choices[np.argmin(distance, axis=0), np.arange(len(analytic))]
    bar = 2 * m.roundoff + m.gradient_noise
    slack = bar + _slack(analytic, best, tolerance, top)
    equal = m.kinked & (distance.min(axis=0) <= slack)
    smooth = m.kinked & (m.jump <= bar + _slack(m.values, m.values, tolerance, top))
    by_convention = (np.abs(analytic) <= slack) | (np.abs(analytic - 2 * m.values) <= slack)
    ordinary = smooth & (equal | ~by_convention)
    settled = replace(
        m,
        values=np.where(equal, best, m.values),
        error_bar=np.where(equal | ordinary, bar, m.error_bar),
        truncation=np.where(equal | ordinary, 0.0, m.truncation),
        jump=np.where(equal | ordinary, 0.0, m.jump),
        kinked=m.kinked & ~ordinary,
    )
    weak = equal & ~ordinary & (np.abs(best) <= bar) & (m.jump > bar)
    return _Kinks(settled, weak, settled.kinked & ~equal)
