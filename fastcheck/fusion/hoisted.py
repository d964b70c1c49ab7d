"""Constants of a kernel: what no perturbation reaches, computed by NumPy before the kernel runs.

A `Hoisted` is an array with named dimensions. It may depend on the position of a pin (a row of W2
for each hidden unit), and is then computed for the positions that the copies at hand have: all of
them, or a block where all would not fit the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.fusion.dims import Dim, Label, NotFusable, Pin, in_order

Array = NDArray[np.float64]
_AT_ONCE = 4096
"""Elements up to which what is made of known arrays alone is computed at once."""


@dataclass(frozen=True, eq=False)
class Hoisted:
    """An array over `dims`, pins first.

    `compute(arrays)` gives it from its operands' arrays. `depth` is the length of the longest chain
    of operands.
    """

    dims: tuple[Dim, ...]
    operands: tuple[Hoisted, ...]
    compute: Callable[[list[Array]], Array]
    known: Array | None = None
    depth: int = field(init=False)

    def __post_init__(self) -> None:
        below = max([operand.depth for operand in self.operands], default=0)
        object.__setattr__(self, "depth", below + 1)

    @property
    def pins(self) -> tuple[Pin, ...]:
        return tuple(dim for dim in self.dims if isinstance(dim, Pin))

    @property
    def labels(self) -> frozenset[Label]:
        return frozenset(dim for dim in self.dims if isinstance(dim, Label))

    def size(self, without: Pin | None = None) -> int:
        """Return the number of elements, for one position of the pin `without`."""
        return int(np.prod([dim.size for dim in self.dims if dim is not without], dtype=np.int64))


class Values:
    """The arrays of hoisted constants for the given positions of the pins.

    Parameters
    ----------
    positions : dict of Pin to (n,) int64 array
        Where a pin is evaluated; at all of its positions if it is not named.
    lasting : Values, optional
        Where arrays are kept that do not depend on these pins.
    """

    def __init__(
        self, positions: Mapping[Pin, NDArray[np.int64]], lasting: Values | None = None
    ) -> None:
        self._positions = positions
        self._lasting = lasting
        self._arrays: dict[Hoisted, Array] = {}

    def of(self, hoisted: Hoisted) -> Array:
        """Return the array, its axes in the order of `hoisted.dims`."""
        if self._lasting is not None and not any(pin in self._positions for pin in hoisted.pins):
            return self._lasting.of(hoisted)
        array = self._arrays.get(hoisted)
        if array is None:
            array = self._arrays[hoisted] = self._made(hoisted)
        return array

    def _made(self, hoisted: Hoisted) -> Array:
        if hoisted.known is None:
            with np.errstate(all="ignore"):
                return hoisted.compute([self.of(operand) for operand in hoisted.operands])
        array = hoisted.known
        for axis, dim in enumerate(hoisted.dims):
            if isinstance(dim, Pin) and dim in self._positions:
                array = array.take(self._positions[dim], axis=axis)
        return array


def known(array: Any, dims: Iterable[Dim | None]) -> Hoisted:
    """Return an array whose axes are `dims`; None is for an axis of size 1, which is dropped."""
    array, dims = np.asarray(array, dtype=np.float64), tuple(dims)
    array = array.reshape([n for n, dim in zip(array.shape, dims, strict=True) if dim is not None])
    kept = [dim for dim in dims if dim is not None]
    if len(set(kept)) < len(kept):
        raise NotFusable("two axes of one array follow the same index")
    order = in_order(set(kept))
    array = array.transpose([kept.index(dim) for dim in order])
    return Hoisted(order, (), _nothing, array)


def _nothing(_: list[Array]) -> Array:
    raise TypeError("a known array is not computed")


def number(value: float) -> Hoisted:
    """Return a constant without dimensions."""
    return known(value, ())


def elementwise(function: Callable[..., Array], *operands: Hoisted) -> Hoisted:
    """Apply a function of arrays, broadcasting over the dimensions that an operand lacks."""
    dims = in_order(frozenset(dim for operand in operands for dim in operand.dims))

    def compute(arrays: list[Array]) -> Array:
        lined_up = [
            _lined_up(array, operand.dims, dims)
            for array, operand in zip(arrays, operands, strict=True)
        ]
        return function(*lined_up)

    return Hoisted(dims, operands, compute)


def _at_once(hoisted: Hoisted) -> Hoisted:
    """Return a small constant computed, if it is made of known arrays alone.

    It is then seen to be zero where parts are taken of arrays that are zero elsewhere.
    """
    arrays = []
    for operand in hoisted.operands:
        if operand.known is None or operand.known.size > _AT_ONCE:
            return hoisted
        arrays.append(operand.known)
    if hoisted.size() > _AT_ONCE:
        return hoisted
    with np.errstate(all="ignore"):
        array = hoisted.compute(arrays)
    return Hoisted(hoisted.dims, (), _nothing, array)


def _lined_up(array: Array, dims: tuple[Dim, ...], wanted: tuple[Dim, ...]) -> Array:
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if dim in dims else 1 for dim in wanted])


def product(*operands: Hoisted) -> Hoisted:
    """Return the elementwise product."""
    if len(operands) == 1:
        return operands[0]
    return _at_once(elementwise(lambda *arrays: _multiplied(list(arrays)), *operands))


def _multiplied(arrays: list[Array]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total * array
    return total


def contraction(a: Hoisted, b: Hoisted, over: Iterable[Label]) -> Hoisted:
    """Return Σ a·b over labels."""
    summed = set(over)
    every = in_order({*a.dims, *b.dims})
    dims = tuple(dim for dim in every if dim not in summed)
    names = {dim: place for place, dim in enumerate(every)}

    def compute(arrays: list[Array]) -> Array:
        subscripts = [[names[dim] for dim in group] for group in (a.dims, b.dims, dims)]
        operands: Any = (arrays[0], subscripts[0], arrays[1], subscripts[1], subscripts[2])
        result = np.einsum(*operands, optimize=True)
        return np.asarray(result)

    return Hoisted(dims, (a, b), compute)


def total(operand: Hoisted, over: Iterable[Label]) -> Hoisted:
    """Return the sum over labels."""
    return _reduced(operand, over, lambda array, axes: np.sum(array, axis=axes))


def smallest(operand: Hoisted, over: Iterable[Label]) -> Hoisted:
    """Return the minimum over labels."""
    return _reduced(operand, over, lambda array, axes: np.min(array, axis=axes))


def _reduced(
    operand: Hoisted, over: Iterable[Label], function: Callable[[Array, tuple[int, ...]], Array]
) -> Hoisted:
    gone = set(over) & set(operand.dims)
    if not gone:
        return operand
    axes = tuple(axis for axis, dim in enumerate(operand.dims) if dim in gone)
    dims = tuple(dim for dim in operand.dims if dim not in gone)
    return Hoisted(dims, (operand,), lambda arrays: np.asarray(function(arrays[0], axes)))


def renamed(operand: Hoisted, old: Label, new: Label) -> Hoisted:
    """Give a label another name."""
    if old not in operand.dims:
        return operand
    if new in operand.dims:
        raise NotFusable("two axes of one array follow the same index")
    dims = in_order({new if dim is old else dim for dim in operand.dims})
    source = [old if dim is new else dim for dim in dims]
    order = [operand.dims.index(dim) for dim in source]
    return Hoisted(dims, (operand,), lambda arrays: arrays[0].transpose(order))


def taken(operand: Hoisted, label: Label, index: Any, new: Label | None) -> Hoisted:
    """Index one label with a slice, or with a number (`new` is None then)."""
    if label not in operand.dims:
        return operand
    axis = operand.dims.index(label)
    where = (slice(None),) * axis + (index,)
    if new is None:
        dims = tuple(dim for dim in operand.dims if dim is not label)
        return _at_once(Hoisted(dims, (operand,), lambda arrays: arrays[0][where]))
    named = [new if dim is label else dim for dim in operand.dims]
    dims = in_order(set(named))
    order = [named.index(dim) for dim in dims]
    return _at_once(Hoisted(dims, (operand,), lambda arrays: arrays[0][where].transpose(order)))


Places = Mapping[Label, Hoisted]
"""Where to look along labels: positions, as whole numbers over other dimensions."""


def gathered(operand: Hoisted, places: Places) -> Hoisted:
    """Return the elements of an array at `places` along some of its labels.

    What the places depend on takes the place of the labels; a dimension that the array has as well
    is followed by both at once.
    """
    at = {label: where for label, where in places.items() if label in operand.dims}
    if not at:
        return operand
    new = {dim for where in at.values() for dim in where.dims}
    rest = [dim for dim in operand.dims if dim not in at and dim not in new]
    front = [dim for dim in operand.dims if dim not in rest]
    found = in_order(new)
    dims = in_order({*rest, *found})
    into = [operand.dims.index(dim) for dim in (*front, *rest)]
    out = [(*found, *rest).index(dim) for dim in dims]

    def compute(arrays: list[Array]) -> Array:
        array = arrays[0].transpose(into)
        lined_up = {
            label: _lined_up(positions, where.dims, found).astype(np.int64)
            for (label, where), positions in zip(at.items(), arrays[1:], strict=True)
        }
        index: list[Any] = []
        for dim, size in zip(front, array.shape, strict=False):
            if isinstance(dim, Label) and dim in lined_up:
                index.append(lined_up[dim])
            else:
                index.append(_lined_up(np.arange(size), (dim,), found))
        return np.asarray(array[tuple(index)].transpose(out))

    return _at_once(Hoisted(dims, (operand, *at.values()), compute))
