"""How a hoisted constant lies in memory for a kernel.

``[pins][vector blocks][looped labels][unrolled labels][lanes]``: within a block of samples
everything that one copy needs of an array is contiguous, at offsets known when the kernel is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastcheck.fusion.dims import Dim, Label, Pin
from fastcheck.fusion.hoisted import Hoisted
from fastcheck.fusion.schedule import WIDTH, Schedule


@dataclass(frozen=True, eq=False)
class Layout:
    """The memory layout of one hoisted constant.

    Attributes
    ----------
    zeros : bool
        Whether samples past the last are zero; they repeat the last one otherwise.
    """

    hoisted: Hoisted
    schedule: Schedule
    zeros: bool

    @cached_property
    def pins(self) -> tuple[Pin, ...]:
        """Return its pins, outermost first."""
        return self.hoisted.pins

    @cached_property
    def vectorised(self) -> bool:
        """Whether it varies along the vector."""
        return self.schedule.vector is not None and self.schedule.vector in self.hoisted.labels

    @cached_property
    def looped(self) -> tuple[Label, ...]:
        """Return the labels that are loops, but for the vector."""
        return self._labels(inside=True)

    @cached_property
    def unrolled(self) -> tuple[Label, ...]:
        """Return the labels that are unrolled."""
        return self._labels(inside=False)

    def _labels(self, inside: bool) -> tuple[Label, ...]:
        return tuple(
            dim
            for dim in self.hoisted.dims
            if isinstance(dim, Label)
            and dim is not self.schedule.vector
            and (dim in self.schedule.loops) == inside
        )

    @cached_property
    def inner(self) -> int:
        """Return the elements of one iteration of all loops: unrolled labels and lanes."""
        lanes = WIDTH if self.vectorised else 1
        return lanes * int(np.prod([label.size for label in self.unrolled], dtype=np.int64))

    def offset(self, places: dict[Label, int]) -> int:
        """Return where the given elements of the unrolled labels lie within an iteration."""
        place = 0
        for label in self.unrolled:
            place = place * label.size + places[label]
        return place * (WIDTH if self.vectorised else 1)

    def arranged(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return an array over `hoisted.dims` in this layout, contiguous."""
        dims = list(self.hoisted.dims)
        order: list[Dim] = [*self.pins, *self.looped, *self.unrolled]
        if not self.vectorised:
            return np.ascontiguousarray(array.transpose([dims.index(dim) for dim in order]))
        vector = self.schedule.vector
        assert vector is not None
        array = array.transpose([dims.index(dim) for dim in [*order, vector]])
        array = self._padded(array)
        blocks = array.shape[-1] // WIDTH
        array = array.reshape((*array.shape[:-1], blocks, WIDTH))
        return np.ascontiguousarray(np.moveaxis(array, -2, len(self.pins)))

    def _padded(self, array: NDArray[np.float64]) -> NDArray[np.float64]:
        missing = -array.shape[-1] % WIDTH
        if not missing:
            return array
        filling = np.zeros_like(array[..., -1:]) if self.zeros else array[..., -1:]
        return np.concatenate([array, *[filling] * missing], axis=-1)
