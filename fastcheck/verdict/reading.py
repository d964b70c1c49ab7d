"""What the differences at one step say: derivatives, how curved the loss is, and its rounding."""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import BoolArray, Differences, Engine, FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.bars import FLOOR, ROUNDINGS, U, largest_size, noise_from, sizes_at
from fastcheck.verdict.lazily import lazily
from fastcheck.verdict.machine import sweeps
from fastcheck.verdict.stencil import derivatives, half_gap

FLAT = 1e-3
"""Beside the largest derivative, elements with smaller ones are not curved for being small."""


class Site:
    """The elements of one tensor, and what their differences are read with.

    Parameters
    ----------
    tensor : Tensor
    indices : (k,) int64
        Flat C-order indices.
    scale : float
        Of the tensor (`scale_of`).
    unit : float
        Unit roundoff of the analytic gradient.
    engine : Engine
        Computes the differences.

    Attributes
    ----------
    machine : bool
        Whether machine code reads them, where they are ordinary.
    """

    def __init__(
        self, tensor: Tensor, indices: IndexArray, scale: float, unit: float, engine: Engine
    ) -> None:
        roundoff = engine.unit_roundoff
        self._tensor, self._indices, self._scale = tensor, indices, scale
        self.factor = ROUNDINGS * unit * math.sqrt(tensor.size)
        self.floor = FLOOR * roundoff
        self.coarse = roundoff > U
        self.machine = not self.coarse and sweeps.at_hand(engine)

    @lazily
    def sizes(self) -> FloatArray:
        """max(|θᵢ|, scale) of each element."""
        return sizes_at(self._tensor, self._indices, self._scale)

    def read(self, near: Differences, steps: FloatArray) -> Reading:
        """Return what differences say that were taken at these steps."""
        found = None
        if self.machine:
            given = (self._scale, self.factor, FLAT)
            found = sweeps.read(near, self._tensor.value.ravel(), self._indices, given)
        return Reading(self, near, steps, found)


class Reading:
    """Derivatives at some steps, read by machine code or else by NumPy.

    Attributes
    ----------
    values : (k,) float64
        n.
    top : float
        S, the largest |n| that is finite.
    ordinary : bool
        Whether everything is finite, and no element has met a kink.
    bent : float
        About the eighth largest of the bends, where it is known; else infinite.
    """

    def __init__(
        self, site: Site, near: Differences, steps: FloatArray, found: sweeps.Read | None
    ) -> None:
        self._site, self._near, self._steps, self._found = site, near, steps, found
        if found is not None:
            self.values, self.top, self.bent = found.values, found.top, found.bent
            self.ordinary = True
            return
        self.values, self.bent = derivatives(near), math.inf
        sizes = np.abs(self.values)
        self.top = float(sizes.max(initial=0.0))
        self.ordinary = math.isfinite(self.top) and not np.count_nonzero(near.kinked)
        if not self.ordinary:
            self.top = largest_size(sizes)

    @lazily
    def gap(self) -> FloatArray:
        """Half the distance between the one-sided derivatives."""
        gap = half_gap(self._near)
        if self._site.coarse:
            # What may be the rounding of float32 does not count as curvature.
            np.maximum(gap - self._site.floor * self.top, 0.0, out=gap)
        return gap

    @lazily
    def bends(self) -> FloatArray:
        """How curved the loss is in each element."""
        if self._found is not None:
            return self._found.bends
        bends = np.abs(self.values)
        bends += FLAT * self.top
        np.divide(self.gap, bends, out=bends)
        if not math.isfinite(bends.max(initial=0.0)):
            bends[~np.isfinite(bends)] = 0.0
        return bends

    def noise(self, apart: BoolArray | None = None) -> FloatArray:
        """Return what rounding does to an analytic derivative; nothing to those set apart."""
        if self._found is not None and apart is None:
            return self._found.noise
        site = self._site
        return noise_from(site.sizes, self.gap, self._steps, site.factor, apart)
