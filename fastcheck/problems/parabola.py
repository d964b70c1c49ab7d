"""f(x) = x² at 3, and the relative-error recipe with its threshold of 1e-7.

The source states a step of 1e-2 but prints 6.000000000012662, which is what a step of 1e-4 gives in
float64; with 1e-2 the same line gives 5.999999999999872. A parabola has no truncation error, so the
whole difference is roundoff, which grows as the step shrinks.

The recipe is right for a single number. Its steps shift *all* weights at once, so for more than
one weight it yields the sum of the gradient instead of the gradient; `recipe` keeps that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.problems.problem import Problem

POINT = 3.0
STEP = 1e-2
PRINTED_STEP = 1e-4
PRINTED = 6.000000000012662
THRESHOLD = 1e-7


def f(x: Any) -> Any:
    """Return x²."""
    return x**2


def slope(x: Any) -> Any:
    """Return the derivative of x², by the power rule."""
    return 2 * x


def central_difference(function: Callable[[Any], Any], x: Any, step: float = STEP) -> Any:
    """Return (f(x+h) − f(x−h)) / 2h."""
    return (function(x + step) - function(x - step)) / (2 * step)


def relative_error(analytic: Any, numeric: Any) -> float:
    """Return ‖a − n‖ / (‖a‖ + ‖n‖)."""
    scale = np.linalg.norm(analytic) + np.linalg.norm(numeric)
    return float(np.linalg.norm(analytic - numeric) / scale)


def recipe(function: Callable[[Any], Any], x: Any, analytic: Any, step: float = STEP) -> bool:
    """Return whether the recipe calls the analytic gradient correct."""
    return relative_error(analytic, central_difference(function, x, step)) < THRESHOLD


def problem() -> Problem:
    """Return f at 3, a plain float, with its derivative."""
    return Problem(
        loss=f, params=POINT, grads=slope(POINT), name="parabola", description="x² at 3."
    )


def sum_of_squares_problem() -> Problem:
    """Return f summed over three weights: the smallest case in which the recipe goes wrong."""
    weights = np.array([3.0, -1.0, 0.5])
    return Problem(
        loss=lambda w: np.sum(f(w)),
        params=weights,
        grads=slope(weights),
        name="sum of squares",
        description="x² summed over three weights.",
    )
