"""What a rule works with: base values on the device, things derived from them once, and kinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.devices.base import Device
from fastcheck.devices.cpu import cpu_device
from fastcheck.differences.delta import Array, Pins
from fastcheck.differences.pool import Pool
from fastcheck.trace.graph import Node


class Bases:
    """Base values of a graph in one array namespace, moved there once and kept between chunks.

    What a rule computes from base values alone (a reciprocal, a sign) is kept here too, so that it
    is hoisted out of the loop over chunks.
    """

    def __init__(self, device: Device | None = None, dtype: Any = np.float64) -> None:
        self.device = cpu_device() if device is None else device
        self.xp = self.device.xp
        self.dtype = np.dtype(dtype)
        self.pool = Pool(self.xp)
        self._values: dict[Node, Array] = {}
        self._derived: dict[tuple[Any, ...], Array] = {}

    def value(self, node: Node) -> Array:
        """Return the node's value at θ as an array of the namespace, floats in float64."""
        value = self._values.get(node)
        if value is None:
            value = self.xp.asarray(node.value)
            if value.dtype.kind == "f":  # sums of constants in float32 would round as such
                value = value.astype(np.float64, copy=False)
            self._values[node] = value
        return value

    def derived(self, key: tuple[Any, ...], make: Callable[[], Array]) -> Array:
        """Return what `make` computes from base values, computing it only once."""
        value = self._derived.get(key)
        if value is None:
            with np.errstate(all="ignore"):
                value = self._derived[key] = make()
        return value

    def gather(self, array: Array, pins: Pins) -> Array:
        """Return (B or 1, …) of a base array, taken at the pinned positions.

        `array` must be one that `value` or `derived` returned: its reordered copies are kept.
        """
        axes = [axis for axis in sorted(pins) if array.shape[axis] > 1]
        if not axes:
            return array[None]
        # Rows gathered from a contiguous copy with the pinned axes in front cost one read each.
        front = self.derived(("front", id(array), *axes), lambda: self._fronted(array, axes))
        index = tuple(p.index if p.single is None else p.single for p in (pins[a] for a in axes))
        taken = front[index]
        lead = 1 if all(pins[axis].single is not None for axis in axes) else taken.shape[0]
        dims = [1 if axis in axes else size for axis, size in enumerate(array.shape)]
        return taken.reshape((lead, *dims))

    def _fronted(self, array: Array, axes: list[int]) -> Array:
        return self.xp.ascontiguousarray(self.xp.moveaxis(array, axes, range(len(axes))))


class Context:
    """One chunk of copies on its way through a slice."""

    def __init__(self, bases: Bases, copies: int) -> None:
        self.bases = bases
        self.xp = bases.xp
        self.copies = copies
        self.kinked: Array = bases.xp.zeros(copies, dtype=bool)

    def ufunc(self, ufunc: Callable[..., Array], *operands: Array) -> Array:
        """Apply a float64 ufunc of the namespace, its result in pooled memory."""
        shape = np.broadcast_shapes(*[operand.shape for operand in operands])
        return ufunc(*operands, out=self.bases.pool.empty(shape))

    def mark_kinks(self, flips: Array) -> None:
        """Note the copies for which any of `flips`, (B, …) bool, is set."""
        self.kinked |= flips.any(axis=tuple(range(1, flips.ndim)))
