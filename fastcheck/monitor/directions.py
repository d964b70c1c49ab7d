"""Derivatives along directions: two forward passes say something of every element of a tensor.

Along a direction v, J(θ+hv) − J(θ−hv) must be what the analytic gradient makes of the same move.
The elements of v are ±U[0.5, 1.5]: none is near zero, so none is left out, and unlike ±1 they do
not cancel two equal errors half of the time. The error bar is 2·|J₊ − 2J₀ + J₋| for truncation,
which equals the error at one kink, and 6σ·√2 for the noise of two losses.

What seems wrong here is a suspicion and no verdict: it is looked into element by element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.params import ParamTree, Tensor
from fastcheck.verdict.comparison import norm
from fastcheck.verdict.steps import scale_of
from fastcheck.verdict.tolerances import Tolerance

FIRST_STEP = 2.0**-24
"""In units of the parameters' size: where noise and curvature are usually alike."""
_LARGEST_STEP, _SMALLEST_STEP = 2.0**-8, 2.0**-40
_DEVIATIONS = 6.0
_ROUNDINGS = 64
_MOST_WEIGHT = 2.0**10
_TRIES = 3

Moves = Mapping[str, FloatArray]
"""By tensor, a change of it in its own shape, for a step of one."""


@dataclass(frozen=True)
class Along:
    """The change of the loss along a direction, J(θ+hd) − J(θ−hd), by both gradients.

    Attributes
    ----------
    analytic, numeric : float
        In units of the loss.
    bar, slack : float
        How far `numeric` may be off, and what is allowed besides.
    size : float
        The typical change that such a direction makes, which resolution is relative to.
    curvature : float
        |J₊ − 2J₀ + J₋| / h².
    parts : dict of str to float
        The `size` of each tensor's contribution.
    """

    analytic: float
    numeric: float
    bar: float
    slack: float
    size: float
    curvature: float
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        return self.numeric - self.analytic

    @property
    def known(self) -> bool:
        """Whether the numerical one is a number, and how far it may be off."""
        return math.isfinite(self.numeric + self.bar + self.slack)

    @property
    def suspicious(self) -> bool:
        """Whether the two differ by more than can be excused."""
        if not math.isfinite(self.analytic):
            return True
        return self.known and abs(self.gap) > self.bar + self.slack

    @property
    def resolution(self) -> float:
        """The smallest relative error that shows along a typical direction."""
        return self.bar / self.size if self.size > 0 else 0.0 if self.bar == 0 else math.inf

    def less(self, part: Along) -> Along:
        """Return the same for the rest of the direction, known from a part of it."""
        return Along(
            analytic=self.analytic - part.analytic,
            numeric=self.numeric - part.numeric,
            bar=self.bar + part.bar,
            slack=self.slack + part.slack,
            size=_leg(self.size, part.size),
            curvature=self.curvature + part.curvature,
        )

    def would_notice(self, change: float) -> bool:
        """Whether another analytic value, off by `change`, would be suspicious."""
        return self.known and abs(self.gap - change) > self.bar + self.slack


class Lines:
    """The loss along directions from θ.

    Parameters
    ----------
    evaluate : callable
        ``J(params)`` of the user's nesting, which may be NaN or infinite.
    tree : ParamTree
        The parameters θ.
    gradients : mapping
        The analytic gradients, in the shapes of the tensors.
    base : float
        J(θ).
    noise : float
        σ of the loss.
    tolerance : Tolerance

    Attributes
    ----------
    passes : int
        Forward passes so far.
    """

    def __init__(
        self,
        evaluate: Callable[[Any], float],
        tree: ParamTree,
        gradients: Mapping[str, FloatArray],
        base: float,
        noise: float,
        tolerance: Tolerance,
    ) -> None:
        self.tree = tree
        self.gradients = gradients
        self.base = base
        self.noise = noise
        self.passes = 0
        self._evaluate = evaluate
        self._tolerance = tolerance

    def along(self, moves: Moves, step: float) -> Along:
        """Compare the gradients along a direction, with one step."""
        ahead = self._moved(moves, step)
        behind = self._moved(moves, -step)
        plus = self._evaluate(self._filled(ahead))
        minus = self._evaluate(self._filled(behind))
        self.passes += 2
        analytic = grain = 0.0
        parts: dict[str, float] = {}
        for name in moves:
            # The step that was really taken: θ ± hd is rounded.
            taken = ahead[name] - behind[name]
            terms = self.gradients[name] * taken
            analytic += float(np.sum(terms))
            parts[name] = norm(terms.ravel())
            peak = float(np.max(np.abs(self.gradients[name]), initial=0.0))
            grain = math.hypot(grain, peak * norm(taken.ravel()))
        bend = abs(plus - 2 * self.base + minus)
        size, t = math.hypot(*parts.values()), self._tolerance
        return Along(
            analytic=analytic,
            numeric=plus - minus,
            bar=2 * bend + _DEVIATIONS * math.sqrt(2) * self.noise,
            # The elements of a right gradient are off by rounding, each for itself.
            slack=t.rtol * (abs(analytic) + _DEVIATIONS * size)
            + min(t.gamma, _ROUNDINGS * t.unit) * _DEVIATIONS * grain,
            size=size,
            curvature=bend / step**2,
            parts=parts,
        )

    def resolved(self, moves: Moves, step: float, most: float) -> tuple[Along, float]:
        """Compare with a step that suits the noise and the curvature; also return that step.

        Another one is tried where the first finds no number, or a resolution coarser than `most`.
        """
        found = self.along(moves, step)
        for _ in range(_TRIES - 1):
            if found.known and (found.resolution <= most or found.suspicious):
                break
            better = self.better_step(found, step)
            if better == step:
                break
            step = better
            found = self.along(moves, step)
        return found, step

    def better_step(self, found: Along, step: float) -> float:
        """Return the step at which noise and curvature widen the bar alike."""
        if not found.known:
            return max(step / 2**8, _SMALLEST_STEP)
        noise = _DEVIATIONS * math.sqrt(2) * self.noise
        # Curvature that does not rise above the noise may be any smaller one.
        curvature = max(found.curvature, 1e-3 * noise / step**2)
        wanted = math.sqrt(noise / (2 * curvature)) if noise > 0 and curvature > 0 else step / 16
        return float(min(max(2.0 ** round(math.log2(wanted)), _SMALLEST_STEP), _LARGEST_STEP))

    def _moved(self, moves: Moves, step: float) -> dict[str, FloatArray]:
        return {name: self.tree[name].value + step * move for name, move in moves.items()}

    def _filled(self, moved: dict[str, FloatArray]) -> Any:
        """Return the user's nesting, none of its arrays ours: the loss may write into them."""
        leaves: dict[str, Any] = {}
        for tensor in self.tree:
            value = moved.get(tensor.name, tensor.value)
            leaves[tensor.name] = value[()] if tensor.scalar else value.copy(order="K")
        return self.tree.build(leaves)


def _leg(longest: float, other: float) -> float:
    """Return √(a² − b²), whose squares may leave the range of floats; 0 for a < b."""
    return math.sqrt(max(longest - other, 0.0)) * math.sqrt(longest + other)


def directions(tree: ParamTree, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Return ±U[0.5, 1.5] for each element of each tensor, in units of the tensor's size."""
    # One draw gives both: the sign from which half it is in, the size from where in that half.
    draws = rng.random(tree.size)
    draws -= 0.5
    sizes = np.copysign(0.5, draws)
    draws *= 2.0
    sizes += draws
    moves, first = {}, 0
    for tensor in tree:
        part = sizes[first : first + tensor.size]
        part *= _size_of(tensor)
        moves[tensor.name] = part.reshape(tensor.shape)
        first += tensor.size
    return moves


def only(move: FloatArray, places: IndexArray) -> FloatArray:
    """Return a move of the elements with these flat indices alone."""
    kept = np.zeros(move.size)
    kept[places] = move.reshape(-1)[places]
    return kept.reshape(move.shape)


def _size_of(tensor: Tensor) -> float:
    """Return the root mean square of a tensor; 1 if it is all zero."""
    values = tensor.value.reshape(-1)
    square = float(values @ values) / max(values.size, 1)
    # Squares may leave the range of floats.
    return math.sqrt(square) if 2.0**-800 < square < 2.0**800 else scale_of(tensor)


def joint(lines: Lines, moves: Moves) -> dict[str, FloatArray]:
    """Weigh the directions of several tensors so that each changes the loss alike.

    A wrong gradient of a tensor that hardly moves the loss would be lost among the others.
    """
    sizes = {
        name: float(np.linalg.norm(lines.gradients[name] * move)) for name, move in moves.items()
    }
    top = max((s for s in sizes.values() if math.isfinite(s)), default=0.0)
    weights = {
        name: min(top / size, _MOST_WEIGHT) if size > 0 and top > 0 else 1.0
        for name, size in sizes.items()
    }
    least = min(weights.values(), default=1.0)
    return {name: move * (weights[name] / least) for name, move in moves.items()}
