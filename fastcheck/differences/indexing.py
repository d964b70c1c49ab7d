"""Rules for x[index], x[index] = value, and scatter-add."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Array, Delta, Pin, Pins, spread, unpin
from fastcheck.differences.index_form import Normal, normal_form
from fastcheck.differences.rules import Deltas, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import ACCUMULATE_AT, DIAGONAL, INDEX, WRITE

Shape = tuple[int, ...]


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
        arrays = _arrays(context, node, shape)
        return _pick_advanced(context, arrays, values, pins, shape, form)
    return _placed(values, pins, form)


def _form(context: Context, node: Node, ndim: int) -> Normal:
    form = context.bases.derived((node, "form"), lambda: normal_form(node.params["index"], ndim))
    assert isinstance(form, Normal)
    return form


def _arrays(context: Context, node: Node, shape: Shape) -> dict[int, Array]:
    """Return the node's index arrays on the device, by axis: positions from 0 on."""
    form, bases = _form(context, node, len(shape)), context.bases

    def positive(axis: int) -> Array:
        return bases.derived((node, "positions", axis), lambda: form.advanced[axis] % shape[axis])

    return {axis: positive(axis) for axis in form.advanced}


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
        values = values * xp.asarray(inside).reshape((copies,) + (1,) * len(shape))
    return values, pins


def _pin_inside(pin: Pin, part: int | slice, size: int) -> tuple[Array, Pin | None]:
    """Return which copies an int or slice catches (on the host), and the pin of the sliced axis."""
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


def _pick_advanced(
    context: Context,
    arrays: dict[int, Array],
    values: Array,
    pins: Pins,
    shape: Shape,
    form: Normal,
) -> Delta | None:
    """Pick by index arrays: where an indexed axis is pinned, the copies' positions must match."""
    xp, copies = context.xp, values.shape[0]
    spots = next(iter(arrays.values())).shape
    match: Any = None
    for axis in [axis for axis in arrays if axis in pins]:
        pin = pins.pop(axis).on(xp).reshape((copies,) + (1,) * len(spots))
        match = arrays[axis][None] == pin if match is None else match & (arrays[axis][None] == pin)
    if match is not None and not context.any(match):
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
        change = arrange(unpin(context.xp, value, node.operands[1].shape).values)
        index, change = _last_writes(context, node, index, change)
        view[index] = change
    return Delta(out, {})


def _last_writes(
    context: Context, node: Node, index: tuple[Any, ...], change: Array
) -> tuple[tuple[Any, ...], Array]:
    """Leave one write a place, the last one, as NumPy does; a GPU has no order of writes."""
    form = _form(context, node, node.ndim)
    if not form.advanced:
        return index, change
    last = context.bases.derived((node, "last writes"), lambda: _last_of_equals(form, node.shape))
    if last is False:
        return index, change
    count, spots = len(form.advanced), index[1]
    flat = [array.reshape(-1)[last] for array in index[1 : 1 + count]]
    change = change.reshape((change.shape[0], spots.size, *change.shape[1 + spots.ndim :]))
    change = change[:, last]
    return (index[0], *flat, *index[1 + count :]), change


def _last_of_equals(form: Normal, shape: Shape) -> Any:
    """Return which of the flattened spots stand last at their place; False if no two are equal."""
    axes = list(form.advanced)
    places = np.ravel_multi_index(
        tuple(form.advanced[axis].ravel() % shape[axis] for axis in axes),
        tuple(shape[axis] for axis in axes),
    )
    _, first_from_behind = np.unique(places[::-1], return_index=True)
    if len(first_from_behind) == len(places):
        return False
    return np.sort(len(places) - 1 - first_from_behind)


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
        return context.zeros((context.copies, *node.shape))
    return xp.array(spread(xp, base, node.shape), dtype=context.dtype)


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
    arrays = _arrays(context, node, node.shape)
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
