"""The dimensions of what a kernel computes: pins and labels.

A perturbed copy differs from θ in one element. Along a *pin* the copy has one position, which comes
from the element that is perturbed; along a *label* it has all of them, and the kernel loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias


@dataclass(frozen=True, eq=False)
class Pin:
    """An axis of the perturbed tensor: one position a copy.

    Where an axis was split by a reshape, its two pins are `of` that axis's pin, and their positions
    follow from its own: position // `stride` % size.
    """

    number: int
    size: int
    of: Pin | None = None
    stride: int = 1

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


@dataclass(frozen=True)
class Joint:
    """An axis made of several by a reshape, the last of them fastest.

    `parts` says what each of them follows (None where the difference is the same all along it), and
    its size.
    """

    parts: tuple[tuple[Dim | None, int], ...]

    @property
    def dims(self) -> frozenset[Dim]:
        """Return what the parts follow."""
        return frozenset(dim for dim, _ in self.parts if dim is not None)

    @property
    def is_pinned(self) -> bool:
        """Whether a copy has one position along a part."""
        return any(isinstance(dim, Pin) for dim in self.dims)

    @property
    def size(self) -> int:
        """Return the number of elements along the axis."""
        return prod(size for _, size in self.parts)


def in_order(dims: set[Dim] | frozenset[Dim]) -> tuple[Dim, ...]:
    """Sort dimensions: pins first, each kind in the order in which it was made."""
    return tuple(sorted(dims, key=lambda dim: (isinstance(dim, Label), dim.number)))


class NotFusable(Exception):  # noqa: N818  (an answer, not a failure)
    """Why a slice cannot be one kernel; the replay engine does it then."""
