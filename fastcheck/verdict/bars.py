"""The parts of an error bar that more than one way of measuring needs."""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import BoolArray, Differences, FloatArray, IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.steps import scale_of

U = 2.0**-53
ROUNDINGS = 4.0
LEAST_SQUARE, MOST_SQUARE = 2.0**-900, 2.0**900
"""Sums of squares between these have lost nothing that counts below or above the range."""
FLOOR = 64.0
"""So many units of roundoff of the largest derivative differences, propagated exactly, are off."""


def any_of(where: BoolArray) -> bool:
    """Whether any is True: the same as its method, only quicker."""
    return bool(np.count_nonzero(where))


def largest(values: FloatArray) -> float:
    """Return S = max |n| over the finite elements; 0 if there are none."""
    return largest_size(np.abs(values))


def largest_size(sizes: FloatArray) -> float:
    """Return the largest of |n| that is finite; 0 if there are none."""
    top = float(sizes.max(initial=0.0))
    # Nearly always all are finite; NaN and Inf show in the maximum.
    return top if math.isfinite(top) else float(sizes[np.isfinite(sizes)].max(initial=0.0))


def floor(values: FloatArray, unit: float = U) -> float:
    """Return 64u·max|n|: what differences, propagated exactly, are trusted to."""
    return FLOOR * unit * largest(values)


def noise_at(differences: Differences, loss: float, noise: float) -> FloatArray:
    """Return σ for each element: the noise at θ, or u·|J| where the step leads to a larger loss."""
    with np.errstate(all="ignore"):
        highest = np.maximum(np.abs(loss + differences.plus), np.abs(loss - differences.minus))
    sigma: FloatArray = np.fmax(noise, U * np.where(np.isfinite(highest), highest, 0.0))
    return sigma


def gradient_noise(
    tensor: Tensor,
    indices: IndexArray,
    gap: FloatArray,
    steps: FloatArray,
    unit: float,
    apart: BoolArray | None = None,
) -> FloatArray:
    """Return what the rounding of θ, with unit roundoff `unit`, does to each derivative.

    Rounding in a forward and backward pass acts like relative changes by u in the parameters; these
    move derivative i by u·√Σⱼ(Hᵢⱼθⱼ)² ≤ u·√(Hᵢᵢ·Σⱼ Hⱼⱼθⱼ²) for a convex loss, and the diagonal
    of H is at hand: the gap between the one-sided derivatives is h·Hᵢᵢ. So a gradient that has all
    but vanished is not called wrong for differing from another in its last digits.
    """
    factor = ROUNDINGS * unit * math.sqrt(tensor.size)
    with np.errstate(all="ignore"):
        return noise_from(sizes_at(tensor, indices), gap, steps, factor, apart)


def sizes_at(tensor: Tensor, indices: IndexArray, scale: float | None = None) -> FloatArray:
    """Return max(|θ|, the scale of the tensor) of some elements."""
    sizes: FloatArray = tensor.value.ravel().take(indices)
    np.abs(sizes, out=sizes)
    return np.maximum(sizes, scale_of(tensor) if scale is None else scale, out=sizes)


def noise_from(
    sizes: FloatArray,
    gap: FloatArray,
    steps: FloatArray,
    factor: float,
    apart: BoolArray | None = None,
) -> FloatArray:
    """Return factor·√Hᵢᵢ·√(mean Hⱼⱼθⱼ²), with H from the gap; where it is not known it is zero."""
    curvature = 2 * gap
    curvature /= steps
    if apart is not None:
        curvature[apart] = 0.0
    # Square roots first: products of curvatures may leave the range of floats.
    bar = np.sqrt(curvature)
    terms = sizes * bar
    square, peak = float(terms.dot(terms)), 1.0
    if not LEAST_SQUARE < square < MOST_SQUARE:
        curvature[~np.isfinite(curvature)] = 0.0
        np.sqrt(curvature, out=bar)
        np.multiply(sizes, bar, out=terms)
        peak = largest_size(terms) or 1.0
        terms /= peak
        square = float(terms.dot(terms))
    bar *= factor * (peak * math.sqrt(square / max(len(bar), 1)))
    return bar
