"""Rules for x[index], x[index] = value, and scatter-add."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, Pin, Pins, spread, unpin
from fastcheck.differences.rules import Deltas, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import ACCUMULATE_AT, DIAGONAL, INDEX, WRITE

Shape = tuple[int, ...]


_GAP = "gap"
"""Where an ellipsis was."""


@dataclass(frozen=True)
class Normal:
    """An index in normal form: one entry an axis of the array, and where each result axis is from.

    `basic` maps an axis to an int or slice; `advanced` maps an axis to an integer array (all of one
    broadcast shape). `result` lists the result's axes: an axis number, "new", or "advanced" (which
    stands for as many axes as the index arrays have).
    """

    basic: dict[int, int | slice]
    advanced: dict[int, Array]
    result: tuple[int | str, ...]


def normal_form(index: Any, ndim: int) -> Normal:
    """Bring a NumPy index into normal form."""
    parts = _expanded(index if isinstance(index, tuple) else (index,), ndim)
    basic: dict[int, int | slice] = {}
    advanced: dict[int, Any] = {}
    result: list[int | str] = []
    places: list[int] = []  # positions in the index of advanced entries (ints count among them)
    has_arrays = any(isinstance(part, np.ndarray) for part in parts)
    axis = 0
    for place, part in enumerate(parts):
        if part is _GAP:
            continue
        if part is None:
            result.append("new")
            continue
        if isinstance(part, slice):
            basic[axis] = part
            result.append(axis)
        elif has_arrays:
            advanced[axis] = np.asarray(part)
            if not places:
                result.append("advanced")
            places.append(place)
        else:
            basic[axis] = operator.index(part)
        axis += 1
    if places and places[-1] - places[0] != len(places) - 1:
        # Index arrays apart from each other: NumPy puts their axes first.
        result.remove("advanced")
        result.insert(0, "advanced")
    if advanced:
        shape = np.broadcast_shapes(*[array.shape for array in advanced.values()])
        advanced = {one: np.broadcast_to(array, shape) for one, array in advanced.items()}
    return Normal(basic, advanced, tuple(result))


def _expanded(index: tuple[Any, ...], ndim: int) -> list[Any]:
    """Replace masks by positions and the ellipsis by slices; fill up with slices."""
    parts: list[Any] = []
    for part in index:
        if isinstance(part, (np.ndarray, list, bool, np.bool_)):
            array = np.asarray(part)
            if array.dtype == bool:
                parts += list(array.nonzero()) if array.ndim else [_flag(array)]
            elif array.ndim == 0:
                parts.append(int(array) if isinstance(part, np.generic) else array)
            else:
                parts.append(array)
        else:
            parts.append(part)
    used = sum(part is not None and part is not Ellipsis for part in parts)
    rest = [slice(None)] * (ndim - used)
    for place, part in enumerate(parts):
        if part is Ellipsis:
            # Index arrays on its two sides stand apart even where it stands for no axis.
            return [*parts[:place], _GAP, *rest, *parts[place + 1 :]]
    return parts + rest


def _flag(array: Array) -> Any:
    raise TypeError(f"an index of a single {bool(array)} should have been refused by the trace")


@rule(INDEX, DIAGONAL)
def _index(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    (delta,) = deltas
    assert delta is not None
    shape = node.operands[0].shape
    form = _form(context, node, len(shape))
    picked = _pick_basic(context.xp, delta, shape, form)
    if picked is None:
        return None
    values, pins = picked
    if form.advanced:
        return _pick_advanced(context.xp, values, pins, shape, form)
    return _placed(values, pins, form)


def _form(context: Context, node: Node, ndim: int) -> Normal:
    form = context.bases.derived((node, "form"), lambda: normal_form(node.params["index"], ndim))
    assert isinstance(form, Normal)
    return form


def _pick_basic(xp: Any, delta: Delta, shape: Shape, form: Normal) -> tuple[Array, Pins] | None:
    """Apply slices and ints axis by axis, keeping all axes; None if no copy is inside."""
    values, pins = delta.values, dict(delta.pins)
    copies = values.shape[0]
    inside: Any = None
    cut: list[Any] = [slice(None)] * (len(shape) + 1)
    for axis, part in form.basic.items():
        if axis in pins:
            hit, pin = _pin_inside(pins.pop(axis), part, shape[axis])
            inside = hit if inside is None else inside & hit
            if pin is not None:
                pins[axis] = pin
        elif values.shape[axis + 1] == shape[axis]:
            if isinstance(part, int):
                part = slice(part % shape[axis], part % shape[axis] + 1)
            cut[axis + 1] = part
        elif isinstance(part, slice) and not len(range(*part.indices(shape[axis]))):
            cut[axis + 1] = slice(0, 0)
    values = values[tuple(cut)]
    if inside is not None and not bool(inside.all()):
        if not bool(inside.any()):
            return None
        values = values * inside.reshape((copies,) + (1,) * len(shape))
    return values, pins


def _pin_inside(pin: Pin, part: int | slice, size: int) -> tuple[Array, Pin | None]:
    """Return which copies an int or slice catches, and the pin along the sliced axis."""
    if isinstance(part, int):
        return pin.index == part % size, None
    span = range(*part.indices(size))
    offset = pin.index - span.start
    place = offset // span.step
    hit = (offset % span.step == 0) & (place >= 0) & (place < len(span))
    if len(span) <= 1:
        return hit, None
    if span.step == 1 and span.start == 0 and len(span) == size:
        return hit, pin
    return hit, Pin.of(place.clip(0, len(span) - 1))


def _placed(values: Array, pins: Pins, form: Normal) -> Delta:
    """Drop axes taken by ints, add new ones."""
    dims = [values.shape[0]]
    out_pins: Pins = {}
    for source in form.result:
        if isinstance(source, int):
            if source in pins:
                out_pins[len(dims) - 1] = pins[source]
            dims.append(values.shape[source + 1])
        else:
            dims.append(1)
    return Delta(values.reshape(dims), out_pins)


def _pick_advanced(xp: Any, values: Array, pins: Pins, shape: Shape, form: Normal) -> Delta | None:
    """Pick by index arrays: where an indexed axis is pinned, the copies' positions must match."""
    copies = values.shape[0]
    arrays = {axis: xp.asarray(array) % shape[axis] for axis, array in form.advanced.items()}
    spots = next(iter(arrays.values())).shape
    match: Any = None
    for axis in [axis for axis in arrays if axis in pins]:
        pin = pins.pop(axis).index.reshape((copies,) + (1,) * len(spots))
        match = arrays[axis][None] == pin if match is None else match & (arrays[axis][None] == pin)
    if match is not None and not bool(match.any()):
        return None
    # Indexed axes of size 1 (pinned, or the same all along) have their one element picked.
    picks = {
        axis: array if values.shape[axis + 1] == shape[axis] else None
        for axis, array in arrays.items()
    }
    order = [axis for axis in range(len(shape)) if axis not in arrays]
    moved = xp.transpose(values, (0, *[axis + 1 for axis in (*arrays, *order)]))
    if all(array is None for array in picks.values()):
        head = (copies, *(1,) * len(spots))
        moved = moved.reshape(head + moved.shape[1 + len(arrays) :])
    else:
        zeros = xp.zeros(spots, dtype=np.int64)
        index = tuple(zeros if array is None else array for array in picks.values())
        moved = moved[(slice(None), *index)]
    if match is not None:
        moved = moved * match.reshape(match.shape + (1,) * len(order))
    return _arranged(xp, moved, pins, form, order, len(spots))


def _arranged(
    xp: Any, moved: Array, pins: Pins, form: Normal, order: list[int], spots: int
) -> Delta:
    """Put (copy, index-array axes, remaining axes) into the order of the result."""
    axes: list[int] = [0]
    out_pins: Pins = {}
    dims: list[int] = [moved.shape[0]]
    for source in form.result:
        if source == "advanced":
            axes += range(1, spots + 1)
            dims += moved.shape[1 : spots + 1]
        elif isinstance(source, int):
            if source in pins:
                out_pins[len(dims) - 1] = pins[source]
            axes.append(1 + spots + order.index(source))
            dims.append(moved.shape[axes[-1]])
        else:
            dims.append(1)
    return Delta(xp.transpose(moved, axes).reshape(dims), out_pins)


@rule(WRITE)
def _write(context: Context, node: Node, deltas: Deltas) -> Delta:
    """Copy the array's own difference and overwrite what was written, with zero if unchanged."""
    base, value = deltas
    out = _own_difference(context, node, base)
    view, index, arrange = _written_part(context, node, out)
    if value is None:
        view[index] = 0.0
    else:
        view[index] = arrange(unpin(context.xp, value, node.operands[1].shape).values)
    return Delta(out, {})


@rule(ACCUMULATE_AT)
def _accumulate_at(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    base, value = deltas
    if value is None:
        return base
    out = _own_difference(context, node, base)
    view, index, arrange = _written_part(context, node, out)
    change = arrange(unpin(context.xp, value, node.operands[1].shape).values)
    context.xp.add.at(view, index, change)
    return Delta(out, {})


def _own_difference(context: Context, node: Node, base: Delta | None) -> Array:
    """Return the difference that the array had before the write, in memory of its own."""
    xp = context.xp
    if base is None:
        return xp.zeros((context.copies, *node.shape))
    return xp.array(spread(xp, base, node.shape), dtype=np.float64)


Arrange = Callable[[Array], Array]


def _written_part(
    context: Context, node: Node, out: Array
) -> tuple[Array, tuple[Any, ...], Arrange]:
    """Return a view of `out`, an index into it, and how to arrange (B, …) values to fit there.

    Indexed axes go right behind the copy axis, because NumPy moves the axes of index arrays that
    stand apart from each other to the very front.
    """
    xp, ndim = context.xp, node.ndim
    form = _form(context, node, ndim)
    arrays = {axis: xp.asarray(array) for axis, array in form.advanced.items()}
    rest = [axis for axis in range(ndim) if axis not in arrays]
    view = xp.transpose(out, (0, *[axis + 1 for axis in (*arrays, *rest)]))
    index = (slice(None), *arrays.values(), *[form.basic[axis] for axis in rest])
    spots = next(iter(arrays.values())).shape if arrays else ()

    def arrange(values: Array) -> Array:
        shape = _result_shape(form, node.shape, spots)
        lead = len(shape) + 1 - values.ndim
        if lead < 0:  # NumPy lets a value have extra axes of size 1 in front
            values = values.reshape(values.shape[:1] + values.shape[1 - lead :])
        else:
            values = values.reshape(values.shape[:1] + (1,) * lead + values.shape[1:])
        values = xp.broadcast_to(values, (values.shape[0], *shape))
        return _advanced_first(xp, values, form, len(spots))

    return view, index, arrange


def _result_shape(form: Normal, shape: Shape, spots: Shape) -> Shape:
    """Return the shape that x[index] has."""
    dims: list[int] = []
    for source in form.result:
        if source == "advanced":
            dims += spots
        elif isinstance(source, int):
            part = form.basic[source]
            assert isinstance(part, slice)
            dims.append(len(range(*part.indices(shape[source]))))
        else:
            dims.append(1)
    return tuple(dims)


def _advanced_first(xp: Any, values: Array, form: Normal, spots: int) -> Array:
    """Order (B, *result axes) as copy axis, index-array axes, the others; drop new axes."""
    front: list[int] = []
    others: list[int] = []
    place = 1
    for source in form.result:
        if source == "advanced":
            front += range(place, place + spots)
            place += spots
        elif source == "new":
            values = values.take(0, axis=place)
        else:
            others.append(place)
            place += 1
    return xp.transpose(values, (0, *front, *others))
