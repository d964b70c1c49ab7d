"""The dimensions of what a kernel computes: pins and labels.

A perturbed copy differs from θ in one element. Along a *pin* the copy has one position, which comes
from the element that is perturbed; along a *label* it has all of them, and the kernel loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, eq=False)
class Pin:
    """An axis of the perturbed tensor: one position a copy."""

    number: int
    size: int

    def __repr__(self) -> str:
        return f"pin{self.number}[{self.size}]"


@dataclass(frozen=True, eq=False)
class Label:
    """A loop of the kernel."""

    number: int
    size: int

    def __repr__(self) -> str:
        return f"label{self.number}[{self.size}]"


Dim: TypeAlias = Pin | Label


def in_order(dims: set[Dim] | frozenset[Dim]) -> tuple[Dim, ...]:
    """Sort dimensions: pins first, each kind in the order in which it was made."""
    return tuple(sorted(dims, key=lambda dim: (isinstance(dim, Label), dim.number)))


class NotFusable(Exception):  # noqa: N818  (an answer, not a failure)
    """Why a slice cannot be one kernel; the replay engine does it then."""
