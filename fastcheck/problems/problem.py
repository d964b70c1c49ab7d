"""`Problem`: a loss, its parameters and the gradients to check, in one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


# eq=False: comparing arrays has no truth value, so two problems are equal only if identical.
@dataclass(frozen=True, eq=False)
class Problem:
    """What one gradient check needs.

    Parameters
    ----------
    loss : callable
        ``loss(params)`` returns the scalar loss J(θ).
    params : array or nested dict, list or tuple of float arrays
        The point θ at which to check.
    grads : same tree as `params`, or callable
        The analytic gradient, or ``grads(params)`` that computes it.
    name : str
        A short name, for reports.
    description : str
        One sentence on what is being checked.
    """

    loss: Callable[[Any], float]
    params: Any
    grads: Any
    name: str = ""
    description: str = ""

    def gradients(self) -> Any:
        """Return the analytic gradients at `params`, computing them where `grads` is callable."""
        return self.grads(self.params) if callable(self.grads) else self.grads
