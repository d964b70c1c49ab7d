"""What a monitor writes down of one check: plain numbers, as they go into a line of JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastcheck.report.data import Verdict


@dataclass(frozen=True)
class Record:
    """One check inside a training loop.

    Attributes
    ----------
    step : int
        The training step, counted from 0.
    verdict : Verdict
    mode : {"full", "sample", "directions"}
        What was compared: all elements, some of every tensor, or derivatives along random
        directions.
    loss : float
        J at this step's parameters and batch.
    relative_difference : float
        ‖g − n‖ / (‖g‖ + ‖n‖) over all that was compared; NaN if there is none.
    error_bar : float
        How much of that the numerical gradient may be off by itself, ‖B‖ over the same.
    smallest_gradient, largest_gradient : float
        The absolute values of the smallest element of the analytic gradient that is not zero, and
        of the largest.
    tensors : dict of str to Verdict
    compared : int
        How many elements, or how many directions.
    seconds : float
        What the check took.
    training_seconds : float
        What the training has taken so far, without checks.
    share : float
        All checks so far relative to `training_seconds`.
    notes : tuple of str
        What else there is to know: the cause of a failure, what the canary showed.
    """

    step: int
    verdict: Verdict
    mode: str
    loss: float
    relative_difference: float
    error_bar: float
    smallest_gradient: float
    largest_gradient: float
    tensors: dict[str, Verdict]
    compared: int
    seconds: float
    training_seconds: float
    share: float
    notes: tuple[str, ...] = field(default=())
