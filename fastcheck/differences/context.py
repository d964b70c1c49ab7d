"""What a rule works with: base values on the device, things derived from them once, and kinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.devices.base import Device
from fastcheck.devices.cpu import cpu_device
from fastcheck.differences.delta import Array, Pins, joint_shape
from fastcheck.differences.pool import Pool
from fastcheck.differences.short import elementwise
from fastcheck.trace.graph import Node

_WORTH_A_WAIT = 2**18
"""Elements of a stack from which a question to a GPU, some 20 µs, pays for what it may save."""


class Bases:
    """Base values of a graph in one array namespace, moved there once and kept between chunks.

    What a rule computes from base values alone (a reciprocal, a sign) is kept here too, so that it
    is hoisted out of the loop over chunks. It is computed on the host, by NumPy and in float64:
    what goes to the device has been rounded once, whatever the precision of the stacks.

    Parameters
    ----------
    device
        Where the stacks are; by default the CPU.
    dtype
        The floating-point type of stacks and of base values on the device.
    """

    def __init__(self, device: Device | None = None, dtype: Any = np.float64) -> None:
        self.device = cpu_device() if device is None else device
        self.xp = self.device.xp
        self.dtype = np.dtype(dtype)
        self.pool = Pool(self.xp, self.dtype)
        self._exact: dict[Node, Array] = {}
        self._values: dict[Node, Array] = {}
        self._derived: dict[tuple[Any, ...], Any] = {}

    def exact(self, node: Node) -> Array:
        """Return the node's value at θ on the host, floats in float64."""
        value = self._exact.get(node)
        if value is None:
            value = np.asarray(node.value)
            if value.dtype.kind == "f":  # sums of constants in float32 would round as such
                value = value.astype(np.float64, copy=False)
            self._exact[node] = value
        return value

    def clear(self) -> None:
        """Give the memory of all base values back; they are moved there again when needed."""
        self.pool.clear()
        self._values.clear()
        self._derived.clear()

    def value(self, node: Node) -> Array:
        """Return the node's value at θ as an array of the namespace, floats in `dtype`."""
        value = self._values.get(node)
        if value is None:
            value = self._values[node] = self._moved(self.exact(node))
        return value

    def real(self, node: Node) -> Array:
        """Return the node's value at θ as an array of the namespace in `dtype`, whatever it was."""
        if node.value.dtype.kind == "f":
            return self.value(node)
        return self.derived((node, "real"), lambda: self.exact(node).astype(np.float64))

    def derived(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what `make` computes from exact base values, computing it only once.

        Arrays are moved to the device, floats among them in `dtype`; anything else is kept as is.
        """
        value = self._derived.get(key)
        if value is None:
            with np.errstate(all="ignore"):
                value = make()
            if isinstance(value, np.ndarray | np.generic):
                value = self._moved(np.asarray(value))
            self._derived[key] = value
        return value

    def kept(self, key: tuple[Any, ...], make: Callable[[], Array]) -> Array:
        """Return what `make` makes of arrays that are on the device already, keeping it."""
        value = self._derived.get(key)
        if value is None:
            value = self._derived[key] = make()
        return value

    def gather(self, array: Array, pins: Pins) -> Array:
        """Return (B or 1, …) of a base array, taken at the pinned positions.

        `array` must be one that is kept here: its reordered copies are kept too.
        """
        axes = [axis for axis in sorted(pins) if array.shape[axis] > 1]
        if not axes:
            return array[None]
        # Rows gathered from a contiguous copy with the pinned axes in front cost one read each.
        front = self._fronted(array, axes)
        index = tuple(
            p.on(self.xp) if p.single is None else p.single for p in (pins[a] for a in axes)
        )
        taken = front[index]
        lead = 1 if all(pins[axis].single is not None for axis in axes) else taken.shape[0]
        dims = [1 if axis in axes else size for axis, size in enumerate(array.shape)]
        return taken.reshape((lead, *dims))

    def _fronted(self, array: Array, axes: list[int]) -> Array:
        xp = self.xp
        return self.kept(
            ("front", id(array), *axes),
            lambda: xp.ascontiguousarray(xp.moveaxis(array, axes, range(len(axes)))),
        )

    def _moved(self, value: Array) -> Array:
        if value.dtype.kind == "f":
            with np.errstate(all="ignore"):  # beyond float32's range is Inf: see `Context`
                value = value.astype(self.dtype, copy=False)
        return self.xp.asarray(value)


class Context:
    """One chunk of copies on its way through a slice."""

    def __init__(self, bases: Bases, copies: int) -> None:
        self.bases = bases
        self.xp = bases.xp
        self.dtype = bases.dtype
        self.copies = copies
        self.kinked: Array = bases.xp.zeros(copies, dtype=bool)
        self.kinks: dict[Node, Array] = {}
        self.node: Node | None = None

    def ufunc(self, ufunc: Callable[..., Array], *operands: Array) -> Array:
        """Apply a floating-point ufunc of the namespace, its result in pooled memory."""
        shape = operands[0].shape
        for operand in operands[1:]:
            shape = joint_shape(shape, operand.shape)
        return elementwise(self.xp, ufunc, operands, self.bases.pool.empty(shape))

    def within(self, ufunc: Callable[..., Array], change: Array, other: Array) -> Array:
        """Apply a ufunc of two operands, its result in the memory of the first if it fits.

        Nobody else may need the first one.
        """
        if joint_shape(change.shape, other.shape) == change.shape:
            return elementwise(self.xp, ufunc, (change, other), change)
        return self.ufunc(ufunc, change, other)

    def zeros(self, shape: tuple[int, ...]) -> Array:
        """Return a stack of zeros."""
        return self.xp.zeros(shape, dtype=self.dtype)

    def floats(self, values: Array) -> Array:
        """Return a stack in the floating-point type of stacks."""
        return values.astype(self.dtype, copy=False)

    def asks(self, stack: Array) -> bool:
        """Whether a question about a stack's values is worth its answer.

        The host waits for a GPU to answer, and the GPU runs dry meanwhile: for a small stack it is
        cheaper to do what may not have been necessary.
        """
        return not self.bases.device.is_gpu or stack.size >= _WORTH_A_WAIT

    def any(self, flags: Array) -> bool:
        """Whether any of `flags` is set; True without looking where the question is not worth it.

        For what is right, if needless, where none is set.
        """
        return bool(flags.any()) if self.asks(flags) else True

    def reach(self, *stacks: Array | None) -> float:
        """Return the sum of the stacks' largest absolute values."""
        total: Any = 0.0
        for stack in stacks:
            if stack is not None:
                total = total + self.xp.maximum(stack.max(), -stack.min())
        return float(total)

    def mark_kinks(self, flips: Array) -> None:
        """Note the copies for which any of `flips`, (B, …) bool, is set, and at which node."""
        crossed = flips.reshape((flips.shape[0], -1)).any(axis=1)
        self.kinked |= crossed
        if self.node is not None:
            known = self.kinks.get(self.node)
            self.kinks[self.node] = crossed if known is None else known | crossed
