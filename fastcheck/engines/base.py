"""What every engine answers: how the loss changes when single parameters are perturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastcheck.trace.graph import Node

FloatArray: TypeAlias = NDArray[np.float64]
U64, U32 = 2.0**-53, 2.0**-24
"""The unit roundoffs of float64 and float32."""
_LEAST_FLOAT32 = 2.0**-100
IndexArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Differences:
    """Changes of the loss J for n parameters of one tensor, each perturbed alone.

    Attributes
    ----------
    plus, minus : (n,) float64
        ``J(θ+h₊) − J(θ)`` and ``J(θ) − J(θ−h₋)``, in units of the loss. NaN or Inf where the
        loss is not finite there.
    step_plus, step_minus : (n,) float64
        The steps that were really taken, in units of the parameter: ``(θ+h) − θ`` as it comes out
        in floating point for a black box, ``h`` itself where differences are exact.
    kinked : (n,) bool
        A comparison, maximum, absolute value or branch came out differently at θ±h than at θ.
        All False from a black box, which cannot know.
    loss_calls : int
        How often the user's function was called for these differences.
    """

    plus: FloatArray
    minus: FloatArray
    step_plus: FloatArray
    step_minus: FloatArray
    kinked: BoolArray
    loss_calls: int


@dataclass(frozen=True)
class Attempt:
    """What a device computed of some differences, and what it left to others.

    Attributes
    ----------
    steps : (n,) float64
        The steps as the device's arithmetic represents them.
    changes : (1 or 2, n) float64
        J(θ+h) − J(θ), and with central differences J(θ−h) − J(θ).
    kinked : (n,) bool
        As in `Differences`.
    left : (1 or 2, n) bool
        The changes that are not known yet.
    """

    steps: FloatArray
    changes: FloatArray
    kinked: BoolArray
    left: BoolArray

    @classmethod
    def joined(cls, parts: Sequence[Attempt]) -> Attempt:
        """Put the attempts for consecutive elements together."""
        return cls(
            np.concatenate([part.steps for part in parts]),
            np.concatenate([part.changes for part in parts], axis=1),
            np.concatenate([part.kinked for part in parts]),
            np.concatenate([part.left for part in parts], axis=1),
        )

    def differences(self, loss_calls: int = 0) -> Differences:
        """Return the differences, nothing being left."""
        zeros = np.zeros(len(self.steps))
        central = len(self.changes) == 2
        return Differences(
            plus=self.changes[0],
            minus=-self.changes[1] if central else zeros,
            step_plus=self.steps,
            step_minus=self.steps.copy() if central else zeros,
            kinked=self.kinked,
            loss_calls=loss_calls,
        )


def lost_in_float32(steps: FloatArray, changes: FloatArray) -> bool:
    """Whether float32 may have lost changes of the loss below its range.

    The largest one has to be far above it: what is lost then is nothing beside that one.
    """
    sizes = np.abs(changes[np.isfinite(changes)])
    smallest = min(float(np.max(sizes, initial=0.0)), float(np.min(steps, initial=np.inf)))
    return smallest < _LEAST_FLOAT32


class Engine(Protocol):
    """One way to compute differences of the loss around θ."""

    @property
    def name(self) -> str:
        """The engine's name, as the report shows it."""
        ...

    @property
    def exact(self) -> bool:
        """Whether differences are propagated without cancellation, so that h may be tiny."""
        ...

    @property
    def loss(self) -> float:
        """J(θ)."""
        ...

    @property
    def magnitude(self) -> float:
        """The size of the largest terms that J is made of, as far as known; at least |J|."""
        ...

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "gpu:0" or "gpu:0,1"."""
        ...

    @property
    def unit_roundoff(self) -> float:
        """The unit roundoff of its arithmetic: 2⁻⁵³ for float64, 2⁻²⁴ for float32."""
        ...

    @property
    def careful(self) -> Engine:
        """The engine that looks again at what seems wrong: itself, or one with more digits."""
        ...

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return for each element the operation at which it met a kink when last computed.

        None for elements that met none, and for all of them from a black box.
        """
        ...

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements of one tensor.

        Parameters
        ----------
        tensor : str
            The tensor's name in the parameter tree.
        indices : (n,) int64
            Flat C-order indices into the tensor, not necessarily distinct.
        steps : (n,) float64
            The step h > 0 of each, in units of the parameter.
        central : bool
            False evaluates J(θ+h) only: ``minus`` and ``step_minus`` are then zero.

        Returns
        -------
        Differences
        """
        ...
