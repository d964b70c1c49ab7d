"""A numerical gradient with its error bar, element by element."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastcheck.engines.base import BoolArray, FloatArray


class Plain(NamedTuple):
    """Parts of an error bar that are the same for every element."""

    roundoff: float
    truncation: float


@dataclass(frozen=True)
class Measurement:
    """The numerical gradient of k elements of one tensor, and how far it can be trusted.

    Attributes
    ----------
    values : (k,) float64
        The numerical derivatives n. NaN where the loss was not finite around θ.
    error_bar : (k,) float64
        B: the sum of the four parts below. The true derivative lies within n ± B.
    roundoff : (k,) float64
        R, random and independent between elements: the noise of the loss over the step.
    truncation : (k,) float64
        Systematic: truncation of the difference quotient, and kinks within the step.
    gradient_noise : (k,) float64
        What rounding does to any *analytic* gradient here: u times the curvature times the size
        of the parameters. It matters only where a gradient has nearly vanished.
    jump : (k,) float64
        For elements set apart, half the distance between the one-sided derivatives; else zero.
    steps : (k,) float64
        The steps h of the values.
    kinked : (k,) bool
        Set apart: the element sits on a kink of the loss, where no derivative exists.
    loss_calls : int
        How often the user's function was called for this.
    reacts : bool
        Whether the loss changed at all when any of these elements was perturbed.
    hidden : bool
        No element changed the loss at its step, but larger steps show that the loss does
        depend on them: the change is lost in the loss's rounding.
    exact : bool
        Whether the differences were propagated without cancellation.
    floor : float
        What rounding may leave in an analytic derivative that saturation makes small: some u·|J|
        over the scale of the tensor, so that a parameter moved by its own size changes the last
        digits of the loss only.
    noise : float
        σ of the loss that the measurement reckoned with; 0 where differences are exact.
    stairs : bool
        Whether the loss moves in stairs: its noise is not independent between elements then.
    coarse : bool
        Whether the differences were computed in float32.
    delicate : bool
        Whether the loss is so small beside its curvature that the rounding of an analytic gradient
        may count: near a solution, where the terms of its derivatives all but cancel.
    plain : Plain or None
        Where all is ordinary: every n is finite, nothing is set apart, and there is machine code to
        sum it up with.
    """

    values: FloatArray
    error_bar: FloatArray
    roundoff: FloatArray
    truncation: FloatArray
    gradient_noise: FloatArray
    jump: FloatArray
    steps: FloatArray
    kinked: BoolArray
    loss_calls: int
    reacts: bool
    hidden: bool
    exact: bool
    floor: float
    noise: float = 0.0
    stairs: bool = False
    coarse: bool = False
    delicate: bool = False
    plain: Plain | None = None

    def noted(self, **known: Any) -> Measurement:
        """Return it with other values of some attributes: `dataclasses.replace`, but quick."""
        twin = object.__new__(Measurement)
        twin.__dict__.update(self.__dict__, **known)
        return twin

    def with_noise(self, noise: FloatArray) -> Measurement:
        """Return it with wider bars, for what rounding does to an analytic gradient."""
        return replace(
            self,
            error_bar=self.error_bar + noise,
            gradient_noise=self.gradient_noise + noise,
        )

    def shifted(self, shift: FloatArray) -> Measurement:
        """Return what it would be of a loss whose gradient differs by `shift`."""
        return replace(self, values=self.values + shift)

    def part(self, places: BoolArray | NDArray[np.int64]) -> Measurement:
        """Return the measurement of some of the elements."""
        chosen = {name: getattr(self, name)[places] for name in _ARRAYS}
        return replace(self, **chosen)

    def with_elements(self, places: NDArray[np.int64], other: Measurement) -> Measurement:
        """Return this measurement with the elements at `places` taken from `other`, in order."""
        arrays = {name: getattr(self, name).copy() for name in _ARRAYS}
        for name, mine in arrays.items():
            mine[places] = getattr(other, name)
        return replace(
            self,
            **arrays,
            loss_calls=self.loss_calls + other.loss_calls,
            reacts=self.reacts or other.reacts,
            noise=max(self.noise, other.noise),
            stairs=self.stairs or other.stairs,
            plain=None,
        )


_ARRAYS = (
    "values",
    "error_bar",
    "roundoff",
    "truncation",
    "gradient_noise",
    "jump",
    "steps",
    "kinked",
)


def assemble(
    *,
    values: FloatArray,
    roundoff: FloatArray | float,
    truncation: FloatArray | float,
    gradient_noise: FloatArray,
    steps: FloatArray,
    loss_calls: int,
    exact: bool,
    reacts: bool,
    kinked: BoolArray | None = None,
    jump: FloatArray | None = None,
    hidden: bool = False,
    floor: float = 0.0,
    finite: bool = False,
    plain: bool = False,
) -> Measurement:
    """Return a Measurement; the error bar is the sum of its parts, NaN where n is not finite.

    Parts that are the same for every element may be given as a number. It may be known that every
    n is `finite`, and that machine code may sum it up, because all is `plain`.
    """
    count = len(values)
    bar = gradient_noise + (roundoff + truncation)
    if jump is None:
        jump = np.zeros(count)
    else:
        bar += jump
    if kinked is None:
        kinked = np.zeros(count, dtype=bool)
    if not finite:
        known = np.isfinite(values)
        kinked = kinked & known
        bar[~known] = np.nan
        values = np.where(known, values, np.nan)
    return Measurement(
        values=values,
        error_bar=bar,
        roundoff=_everywhere(roundoff, count),
        truncation=_everywhere(truncation, count),
        gradient_noise=gradient_noise,
        jump=jump,
        steps=steps,
        kinked=kinked,
        loss_calls=loss_calls,
        reacts=reacts,
        hidden=hidden,
        exact=exact,
        floor=floor,
        plain=Plain(float(roundoff), float(truncation)) if plain else None,
    )


def _everywhere(part: FloatArray | float, count: int) -> FloatArray:
    if isinstance(part, np.ndarray):
        return part
    same = np.empty(count)
    same.fill(part)
    return same
