"""Stacks of perturbed copies, held as differences from the base value and pinned where they can be.

A stack of B copies of an array of shape (n₀, n₁, …) is its value at θ, held once, and a `Delta`: a
difference per copy. A copy that differs in one position only along an axis is *pinned* there: the
axis has size 1 in `values` and a `Pin` says which position each copy differs in (it is zero
elsewhere). An axis of size 1 without a pin means that the difference is the same all along it.

So one perturbed weight per copy costs B numbers, not B matrices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any  # an array of the namespace in use: NumPy's or CuPy's
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pin:
    """The position along one axis in which each copy differs.

    `index` stays on the host, where questions about it cost nothing; `on` takes it to the device,
    once. `single` is the position when it is the same for all copies, which saves the gathers.
    """

    index: NDArray[np.int64]
    single: int | None = None
    _moved: list[Array] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def of(cls, index: NDArray[np.int64]) -> Pin:
        """Pin at `index`, (B,) integers."""
        first = int(index[0])
        return cls(index, first if bool((index == first).all()) else None)

    def on(self, xp: Any) -> Array:
        """Return `index` as an array of the namespace."""
        if xp is np:
            return self.index
        if not self._moved:
            self._moved.append(xp.asarray(self.index))
        return self._moved[0]

    def same_as(self, other: Pin) -> bool:
        """Whether both pin every copy at the same position."""
        if self is other or self.index is other.index:
            return True
        if self.single is not None or other.single is not None:
            return self.single == other.single
        return bool((self.index == other.index).all())


Pins = dict[int, Pin]


@dataclass(frozen=True, eq=False)
class Delta:
    """The difference of B copies from the base value.

    Attributes
    ----------
    values : (B, d₀, d₁, …)
        Each dᵢ is the axis's full size, or 1: pinned, or the same along the axis.
    pins : dict of int to Pin
        The pinned axes of the array (the copy axis not counted). Axes of size 1 have no pin.
    """

    values: Array
    pins: Pins


def unpin(xp: Any, delta: Delta, shape: Shape, axes: Any = None) -> Delta:
    """Write out pinned axes (all of them, or those in `axes`), zero but where the pin was."""
    values, pins = delta.values, dict(delta.pins)
    for axis in sorted(delta.pins):
        if axes is not None and axis not in axes:
            continue
        pin = pins.pop(axis)
        full = xp.zeros(
            (*values.shape[: axis + 1], shape[axis], *values.shape[axis + 2 :]), values.dtype
        )
        if pin.single is not None:
            full[(slice(None),) * (axis + 1) + (slice(pin.single, pin.single + 1),)] = values
        else:
            copies = xp.arange(values.shape[0])
            moved = xp.moveaxis(values, axis + 1, 1)[:, 0]
            xp.moveaxis(full, axis + 1, 1)[copies, pin.on(xp)] = moved
        values = full
    return Delta(values, pins)


def spread(xp: Any, delta: Delta, shape: Shape) -> Array:
    """Return the difference as a plain (B, *shape) array (read-only where it repeats)."""
    values = unpin(xp, delta, shape).values
    full = (values.shape[0], *shape)
    return values if values.shape == full else xp.broadcast_to(values, full)


def align(delta: Delta, shape: Shape, ndim: int) -> Delta:
    """Put size-1 axes in front, as broadcasting does, so that the array has `ndim` axes."""
    lead = ndim - len(shape)
    if not lead:
        return delta
    values = delta.values.reshape(delta.values.shape[:1] + (1,) * lead + delta.values.shape[1:])
    return Delta(values, {axis + lead: pin for axis, pin in delta.pins.items()})


def joint_shape(one: Shape, other: Shape) -> Shape:
    """Return the shape that two of as many axes are broadcast to; quicker than asking NumPy."""
    if one == other:
        return one
    return tuple([m if n == 1 else n for n, m in zip(one, other, strict=True)])


def unify(xp: Any, deltas: list[Delta | None], shape: Shape) -> tuple[list[Array | None], Pins]:
    """Give several differences of one shape the same pins, writing out those they do not share."""
    present = [delta for delta in deltas if delta is not None]
    if len(present) == 1:
        return [None if delta is None else delta.values for delta in deltas], present[0].pins
    common: Pins = {
        axis: pin
        for axis, pin in present[0].pins.items()
        if all(axis in other.pins and pin.same_as(other.pins[axis]) for other in present[1:])
    }
    values = [
        None
        if delta is None
        else unpin(xp, delta, shape, [axis for axis in delta.pins if axis not in common]).values
        for delta in deltas
    ]
    return values, common


def _by_position(values: Array, places: Array, axis: int) -> Array:
    """Take by positions in memory, which is several times as quick as by one index an axis."""
    same = len(places) == 1  # then the same of every copy
    flat: Array = 0
    stride = 1
    for place in range(values.ndim - 1, 0 if same else -1, -1):
        size = values.shape[place]
        if place == axis:
            flat = flat + places * stride
        elif size > 1:
            flat = flat + np.arange(size).reshape((-1,) + (1,) * (values.ndim - 1 - place)) * stride
        stride *= size
    if not same:
        return values.reshape(-1).take(flat)
    rows = values.reshape((len(values), -1))
    return rows.take(flat.reshape(-1), axis=1).reshape((len(values), *flat.shape[1:]))


def along(xp: Any, values: Array, places: Array, axis: int) -> Array:
    """Take one element along `axis` for each position of the other axes; size 1 is left of it.

    `values` and `places` broadcast against each other over the other axes.
    """
    if xp is np and values.flags.c_contiguous and len(values) >= len(places):
        return _by_position(values, places, axis)
    both = [max(a, b) for a, b in zip(values.shape, places.shape, strict=True)]
    ours, theirs = list(both), list(both)
    ours[axis], theirs[axis] = values.shape[axis], 1
    return xp.take_along_axis(
        xp.broadcast_to(values, tuple(ours)), xp.broadcast_to(places, tuple(theirs)), axis=axis
    )
