"""The derivatives of a traced loss by one backward pass through it, to hold engines against.

A backward pass gives all derivatives of all tensors at once, so every answer of an engine can be
compared, at less than what a few perturbed copies cost. It is no part of a verdict: what an engine
is found to disagree with here is computed in another way, and a gradient is judged by differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fastcheck.engines.base import BoolArray, FloatArray, IndexArray
from fastcheck.trace.backward import pull_back
from fastcheck.trace.graph import Graph

_SMALL, _TINY = 2.0**-24, 2.0**-33
"""Beside the largest element, steps with which a difference of differences is a derivative to nine
digits; and about the one that exact engines take."""
_FAR = 2.0**-13
"""Programs refuse longer steps, however large the parameters are."""
_RELATIVE = 1e-9
_SLACK = 2.0**-46
"""Of the largest derivative of any tensor: so much rounding may leave where terms cancel."""


@dataclass(frozen=True, eq=False)
class Expected:
    """The derivatives of one tensor.

    Attributes
    ----------
    values : (size,) float64
        In C order.
    slack : float
        How far any of them may be off by rounding.
    scale : float
        The size of the tensor's largest element.
    """

    values: FloatArray
    slack: float
    scale: float = 1.0

    @property
    def tiny(self) -> float:
        """A step at which a difference of differences is a derivative."""
        return min(_TINY * (self.scale or 1.0), _FAR)

    def compares(self, steps: FloatArray) -> bool:
        """Whether differences at these steps are derivatives, so that they can be held against."""
        return float(np.abs(steps).max(initial=0.0)) <= _SMALL * (self.scale or 1.0)

    @cached_property
    def largest(self) -> float:
        """The largest size of any."""
        return float(np.abs(self.values).max(initial=0.0))

    @cached_property
    def typical(self) -> float:
        """Their root mean square."""
        if not self.largest:
            return 0.0
        return self.largest * float(np.sqrt(np.mean((self.values / self.largest) ** 2)))

    def unlike(
        self, indices: IndexArray, steps: FloatArray, changes: FloatArray, left_out: BoolArray
    ) -> str | None:
        """Say in which of some elements an engine found another derivative; None if in none.

        Parameters
        ----------
        indices : (k,) int64
            Flat C-order indices.
        steps : (k,) float64
            h; where these are not small, nothing is compared.
        changes : (k,) float64
            What the engine says of J(θ+h) − J(θ−h).
        left_out : (k,) bool
            Elements of which it says nothing.
        """
        if not self.compares(steps):
            return None
        right = self.values[indices]
        with np.errstate(invalid="ignore"):  # of what is left out
            found = changes / (2.0 * steps)
            wrong = ~(np.abs(found - right) <= _RELATIVE * self.largest + self.slack)
        wrong &= ~left_out
        if not wrong.any():
            return None
        place = int(np.argmax(wrong))
        return (
            f"its derivative of element {indices[place]} is {found[place]:.12g}, and that of a "
            f"backward pass {right[place]:.12g}"
        )


class Adjoint:
    """The derivatives of all tensors of a graph, found when they are first asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def of(self, tensor: str) -> Expected | None:
        """Return those of a tensor; None where an operation has no rule, or some are not finite."""
        return self._every.get(tensor)

    @cached_property
    def _every(self) -> dict[str, Expected]:
        graph = self._graph
        assert graph.output is not None
        if any(node.value.dtype.kind == "c" for node in graph.nodes):
            return {}
        try:
            known = pull_back(graph.nodes, {graph.output: np.ones(graph.output.shape)})
        except Exception:  # no rule, no memory: then it is no help
            return {}
        flat = {
            name: np.asarray(known[node], dtype=np.float64).ravel()
            if node in known
            else np.zeros(node.value.size)
            for name, node in graph.parameters.items()
        }
        tops = [float(np.abs(values).max(initial=0.0)) for values in flat.values()]
        slack = _SLACK * max((top for top in tops if np.isfinite(top)), default=0.0)
        scales = {n: float(np.abs(p.value).max(initial=0.0)) for n, p in graph.parameters.items()}
        return {n: Expected(v, slack, scales[n]) for n, v in flat.items() if np.isfinite(v).all()}
