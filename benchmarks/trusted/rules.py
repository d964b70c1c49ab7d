"""The rules that gradients are usually checked by, each with the step that goes with it.

All of them are given numerical derivatives from a loop in float64, whatever the parameters are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """A way to call a gradient right.

    Attributes
    ----------
    name
        In tables.
    step
        The step of the central differences.
    accepts
        ``accepts(analytic, numeric)`` of all parameters as vectors.
    """

    name: str
    step: float
    accepts: Callable[[Vector, Vector], bool]


def _allclose(a: Vector, n: Vector) -> bool:
    return bool(np.allclose(a, n, rtol=1e-3, atol=1e-5))


def _largest_element(threshold: float) -> Callable[[Vector, Vector], bool]:
    def accepts(a: Vector, n: Vector) -> bool:
        larger = np.maximum(np.abs(a), np.abs(n))
        # 0 = 0 is right, as the notes say.
        ratio = np.divide(np.abs(a - n), larger, out=np.zeros_like(a), where=larger > 0)
        return bool(ratio.max(initial=0.0) < threshold)

    return accepts


def _norms(threshold: float) -> Callable[[Vector, Vector], bool]:
    def accepts(a: Vector, n: Vector) -> bool:
        total = np.linalg.norm(a) + np.linalg.norm(n)
        # As published: `if difference > threshold` is the mistake, and 0/0 is not larger.
        return not np.linalg.norm(a - n) > threshold * total

    return accepts


def _norm_of_the_sum(a: Vector, n: Vector) -> bool:
    return bool(np.linalg.norm(a - n) < 1e-7 * np.linalg.norm(a + n))


RULES = (
    Rule("allclose, rtol 1e-3, atol 1e-5 (torch gradcheck)", 1e-6, _allclose),
    Rule("each element below 1e-7 (CS231n)", 1e-5, _largest_element(1e-7)),
    Rule("each element below 1e-4 (CS231n, lenient)", 1e-5, _largest_element(1e-4)),
    Rule("norms below 1e-7 (deeplearning.ai)", 1e-7, _norms(1e-7)),
    Rule("norms below 2e-7 (deeplearning.ai, lenient)", 1e-7, _norms(2e-7)),
    Rule("norm of the sum, 1e-7 (author of 2-3-1)", 1e-3, _norm_of_the_sum),
)


def numeric_gradients(
    loss: Callable[[Any], Any], params: dict[str, Any], steps: Iterable[float]
) -> dict[float, Vector]:
    """Return for each step the central differences of all parameters, from the plain loop."""
    moved = {name: np.array(value, dtype=np.float64) for name, value in params.items()}
    places = [value.reshape(-1)[i : i + 1] for value in moved.values() for i in range(value.size)]
    return {
        h: np.array([_derivative(loss, moved, place, h) for place in places])
        for h in dict.fromkeys(steps)
    }


def vector(grads: dict[str, Any]) -> Vector:
    """Return all derivatives as one vector."""
    return np.concatenate([np.asarray(g, dtype=np.float64).ravel() for g in grads.values()])


def _derivative(loss: Callable[[Any], Any], moved: Any, place: Vector, h: float) -> float:
    value = place[0]
    place[0] = value + h
    plus = float(loss(moved))
    place[0] = value - h
    minus = float(loss(moved))
    place[0] = value
    return (plus - minus) / (2 * h)
