"""The verdict on one tensor, with what the verdict on the model needs of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.report.data import Verdict, Worst
from fastcheck.verdict.comparison import Projection
from fastcheck.verdict.tolerances import Tolerance


@dataclass(frozen=True)
class Judgement:
    """The verdict on one tensor.

    Attributes
    ----------
    name : str
    verdict : Verdict
    reason : str
        Sentences: what was found, or why not more; empty for an ordinary pass.
    relative_error : float
        ‖g − n‖/(‖g‖ + ‖n‖) over the checked elements; 0 where both are zero, NaN where g is not
        finite.
    worst : Worst or None
        The element furthest outside its error bar; None if nothing was checked.
    resolution : float
        ρ; infinite where both gradients are zero but not exactly known. For a FAIL that of its
        evidence, where that is finer: always below the relative error.
    on_kinks : (m,) int64
        Flat indices of the elements set apart because they lie on a kink.
    kinked : int
        Elements set apart.
    step : float
        The median step; NaN if nothing was checked.
    checked : int
        Elements compared.
    loss_calls : int
        Calls of the user's function, those of the second look included.
    indices : (k,) int64
        Flat indices of the elements compared.
    analytic, values, error_bar : (k,) float64
        The user's gradient, as it was given; the numerical one after the second look, and how far
        that may be off.
    floor : float
        What rounding alone may leave of a derivative that vanishes.
    leans : bool
        Whether elements differ by more than is allowed but for that.
    projection : Projection
        This tensor's share of the model's projection.
    difference, sizes : float, tuple of float
        ‖g − n‖ and (‖g‖, ‖n‖), for the relative error of the model.
    reacts, hidden : bool
        Whether the loss changed with these parameters; whether its rounding hid that.
    tolerance : Tolerance
    note : str
        What a reader should know of a pass that is not quite one.
    """

    name: str
    verdict: Verdict
    reason: str
    relative_error: float
    worst: Worst | None
    resolution: float
    on_kinks: IndexArray = field(repr=False)
    kinked: int
    step: float
    checked: int
    loss_calls: int
    indices: IndexArray = field(repr=False)
    analytic: FloatArray = field(repr=False)
    values: FloatArray = field(repr=False)
    error_bar: FloatArray = field(repr=False)
    floor: float
    leans: bool
    projection: Projection = field(repr=False)
    difference: float
    sizes: tuple[float, float]
    reacts: bool
    hidden: bool
    tolerance: Tolerance = field(repr=False)
    note: str = ""
