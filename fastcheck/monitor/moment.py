"""What a training step hands over to be checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fastcheck.bound import Bound
from fastcheck.engines.base import FloatArray
from fastcheck.options import Known
from fastcheck.params import ParamTree
from fastcheck.verdict.tolerances import Tolerance


@dataclass(frozen=True, eq=False)
class Moment:
    """One step of a training.

    Attributes
    ----------
    loss : Bound
        The user's loss with the batch of this step.
    params : tree
        The user's own parameters, which have to be kept.
    tree : ParamTree
        The same as a tree of copies.
    gradients : mapping
        The analytic gradients, in the shapes of the tensors.
    tolerance : Tolerance
    known : Known
        What a diagnosis may use besides.
    """

    loss: Bound
    params: Any
    tree: ParamTree
    gradients: Mapping[str, FloatArray]
    tolerance: Tolerance
    known: Known = field(default_factory=Known)

    def with_gradients(self, gradients: Mapping[str, FloatArray]) -> Moment:
        """Return the same step with other gradients, of which nothing else is known."""
        return replace(self, gradients=gradients, known=Known())
