"""Running an engine over many elements: in slices, counted, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fastcheck.engines.base import BoolArray, Differences, Engine, FloatArray, IndexArray

Progress = Callable[[int], object]
"""Called with the number of parameters done since the last call."""

_FIRST_SLICE = {True: 8192, False: 64}
_FIRST_SLICE_ON_GPU = 2**20
_SECONDS = 0.2


@dataclass
class Probe:
    """One tensor of an engine, with a count of the user's calls.

    Attributes
    ----------
    engine : Engine
    tensor : str
        The tensor's name.
    loss_calls : int
        Calls of the user's function so far.
    """

    engine: Engine
    tensor: str
    loss_calls: int = 0

    def differences(
        self,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
        progress: Progress | None = None,
    ) -> Differences:
        """Return the engine's differences, computed in slices that take a moment each."""
        parts: list[Differences] = []
        start, length = 0, _FIRST_SLICE[self.engine.exact]
        if self.engine.device != "cpu" and self.engine.exact:
            length = _FIRST_SLICE_ON_GPU
        while start < len(indices):
            began = perf_counter()
            part = slice(start, start + length)
            # A step may lead out of the domain of the loss; NaN and Inf are dealt with.
            with np.errstate(all="ignore"):
                parts.append(
                    self.engine.differences(
                        self.tensor, indices[part], steps[part], central=central
                    )
                )
            if progress is not None:
                progress(len(indices[part]))
            start += length
            if perf_counter() - began < _SECONDS:
                length *= 2
        if len(parts) == 1:
            self.loss_calls += parts[0].loss_calls
            return parts[0]
        self.loss_calls += sum(part.loss_calls for part in parts)
        return _joined(parts) if parts else _NONE

    def at_each(self, indices: IndexArray, steps: Sequence[FloatArray]) -> list[Differences]:
        """Return the differences of the same elements at each of several steps.

        The engine is asked once: that is quicker than once for every step.
        """
        count = len(indices)
        together = self.differences(np.concatenate([indices] * len(steps)), np.concatenate(steps))
        firsts = range(0, count * len(steps), count) if count else [0] * len(steps)
        return [take(together, slice(first, first + count)) for first in firsts]


def take(differences: Differences, places: NDArray[np.int64] | slice) -> Differences:
    """Return the differences of some elements only."""
    d = differences
    return Differences(
        d.plus[places],
        d.minus[places],
        d.step_plus[places],
        d.step_minus[places],
        d.kinked[places],
        loss_calls=0,
    )


def put(target: Differences, places: NDArray[np.int64], source: Differences) -> None:
    """Overwrite the differences at `places` with `source`."""
    for name in _ARRAYS:
        getattr(target, name)[places] = getattr(source, name)


def finite(differences: Differences) -> BoolArray:
    """Return where both differences are finite: (n,) bool."""
    both: BoolArray = np.isfinite(differences.plus)
    both &= np.isfinite(differences.minus)
    return both


def reacts(differences: Differences) -> bool:
    """Whether any perturbation changed the loss."""
    return bool(differences.plus.any() or differences.minus.any())


def _joined(parts: list[Differences]) -> Differences:
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return Differences(**arrays, loss_calls=sum(part.loss_calls for part in parts))


_NO_FLOATS = np.zeros(0)
_NONE = Differences(
    _NO_FLOATS, _NO_FLOATS, _NO_FLOATS, _NO_FLOATS, kinked=np.zeros(0, dtype=bool), loss_calls=0
)
_ARRAYS = tuple(field.name for field in fields(Differences) if field.name != "loss_calls")
