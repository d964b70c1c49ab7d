"""What rounding may leave of a derivative that is really zero."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.params import ParamTree
from fastcheck.verdict.bars import largest
from fastcheck.verdict.steps import scale_of
from fastcheck.verdict.tolerances import Tolerance

_ROUNDINGS = 16
_SPACINGS = {2.0**-24: 2.0**-149, 2.0**-11: 2.0**-24}
"""Of subnormal numbers, by the unit roundoff. Nothing underflows in float64 that means anything."""
_UNDERFLOWS = 64


def underflow(unit: float) -> float:
    """Return what underflow may leave of a derivative in float32 and float16."""
    return _UNDERFLOWS * _SPACINGS.get(unit, 0.0)


def rounding_floors(
    tree: ParamTree, gradients: Mapping[str, FloatArray], tolerance: Tolerance
) -> dict[str, float]:
    """Return per tensor what rounding may leave of a derivative whose terms cancel.

    A bias ahead of a normalisation has gradient zero, yet backward passes return some 1e-18 for
    it. The terms that cancel are as large as derivatives elsewhere in the model, so the floor is
    16 units of roundoff of the largest of those, in the tensor's own units where these are finer.

    Parameters
    ----------
    tree : ParamTree
        The parameters at θ.
    gradients : mapping
        Tensor name → analytic gradient, of any shape.
    tolerance : Tolerance
        Its `unit` is the roundoff of the analytic gradient.
    """
    tops = {t.name: (largest(np.asarray(gradients[t.name])), scale_of(t)) for t in tree}
    least = underflow(tolerance.unit)
    return {
        name: max(
            least,
            _ROUNDINGS
            * tolerance.unit
            * max(top * max(1.0, other / scale) for top, other in tops.values()),
        )
        for name, (_, scale) in tops.items()
    }
