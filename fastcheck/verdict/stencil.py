"""Finite-difference formulae: a derivative, and what is wrong with it, from a few losses."""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import Differences, FloatArray

Z = 6.0
"""How many standard deviations of the loss's noise an error bar spans."""


def three_point(near: Differences) -> tuple[FloatArray, FloatArray]:
    """Return the central difference n and E, half the gap between the one-sided ones.

    E equals the error of n exactly for one kink within ±h, and h|J''|/2 for a smooth loss.
    """
    with np.errstate(all="ignore"):
        return derivatives(near), half_gap(near)


def half_gap(near: Differences) -> FloatArray:
    """Return E; the caller looks after floating-point errors."""
    gap = near.plus / near.step_plus
    gap -= near.minus / near.step_minus
    np.abs(gap, out=gap)
    gap /= 2
    return gap


def derivatives(near: Differences) -> FloatArray:
    """Return the central difference n; the caller looks after floating-point errors."""
    n: FloatArray = near.plus + near.minus
    n /= near.step_plus + near.step_minus
    return n


def five_point(near: Differences, far: Differences) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return n* (fourth order), T and K from differences at ±h and ±2h.

    T is the truncation of the central difference at ±2h less that at ±h, times ⅔; K is a quarter of
    the fourth difference over h, which a kink anywhere within ±2h cannot hide from.
    """
    with np.errstate(all="ignore"):
        h = mean_step(near)
        n1, _ = three_point(near)
        n2, _ = three_point(far)
        truncation = np.abs(n2 - n1) * (2 / 3)
        kink = np.abs(fourth_difference(near, far)) / (4 * h)
        return n1 + (n1 - n2) / 3, truncation, kink


def fourth_difference(near: Differences, far: Differences) -> FloatArray:
    """Return J₂ − 4J₁ + 6J₀ − 4J₋₁ + J₋₂, written with differences from J₀."""
    with np.errstate(all="ignore"):
        outer: FloatArray = (far.plus - far.minus) - 4 * (near.plus - near.minus)
    return outer


def mean_step(differences: Differences) -> FloatArray:
    """Return the step of each parameter: the mean of the two that were really taken."""
    mean: FloatArray = (differences.step_plus + differences.step_minus) / 2
    return mean
