"""Rules that move differences about: reshape, transpose, broadcast, concatenate."""

from __future__ import annotations

from typing import Any

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Delta, Pin, Pins, unpin
from fastcheck.differences.rules import Deltas, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import BROADCAST, CONCATENATE, RESHAPE, TRANSPOSE

Shape = tuple[int, ...]


@rule(TRANSPOSE)
def _transpose(context: Context, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    axes = node.params["axes"]
    values = context.xp.transpose(delta.values, (0, *[axis + 1 for axis in axes]))
    return Delta(values, {axes.index(axis): pin for axis, pin in delta.pins.items()})


@rule(BROADCAST)
def _broadcast(context: Context, node: Node, deltas: Deltas) -> Delta:
    """Nothing is repeated: a size-1 axis already means "the same all along"."""
    (delta,) = deltas
    assert delta is not None
    lead = node.ndim - node.operands[0].ndim
    values = delta.values.reshape((delta.values.shape[0], *(1,) * lead, *delta.values.shape[1:]))
    return Delta(values, {axis + lead: pin for axis, pin in delta.pins.items()})


@rule(RESHAPE)
def _reshape(context: Context, node: Node, deltas: Deltas) -> Delta:
    """Split the reshape into groups of axes that hold the same elements, and treat each alone."""
    (delta,) = deltas
    assert delta is not None
    old, new = node.operands[0].shape, node.shape
    copies = delta.values.shape[0]
    if 0 in old:
        return Delta(context.zeros((copies, *new)), {})
    dims: list[int] = []
    pins: Pins = {}
    for before, after in groups(old, new):
        delta = _prepared(context.xp, delta, old, before, after)
        dims += _group(delta, old, new, before, after, pins)
    return Delta(delta.values.reshape((copies, *dims)), pins)


def groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Return the smallest runs of axes, old and new, whose sizes have equal products."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        before, after = [i] if i < len(old) else [], [j] if j < len(new) else []
        left = old[i] if before else 1
        right = new[j] if after else 1
        i, j = i + len(before), j + len(after)
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
                before.append(i - 1)
            else:
                right, j = right * new[j], j + 1
                after.append(j - 1)
        found.append((before, after))
    return found


def _is_plain(delta: Delta, old: Shape, before: list[int]) -> str:
    """Say how a group of axes is held: 'pinned', 'constant' or 'full' throughout, or 'mixed'."""
    kinds = set()
    for axis in before:
        if old[axis] == 1:
            continue
        if axis in delta.pins:
            kinds.add("pinned")
        else:
            kinds.add("full" if delta.values.shape[axis + 1] == old[axis] else "constant")
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "full"


def _prepared(xp: Any, delta: Delta, old: Shape, before: list[int], after: list[int]) -> Delta:
    """Write out what a group that splits or joins axes cannot keep."""
    if _is_plain(delta, old, before) != "mixed":
        return delta
    delta = unpin(xp, delta, old, before)
    full = list(delta.values.shape)
    for axis in before:
        full[axis + 1] = old[axis]
    return Delta(xp.broadcast_to(delta.values, tuple(full)), delta.pins)


def _group(
    delta: Delta,
    old: Shape,
    new: Shape,
    before: list[int],
    after: list[int],
    pins: Pins,
) -> list[int]:
    """Return the new dims of one group, adding its pins."""
    kind = _is_plain(delta, old, before)
    if kind == "full":
        return [new[axis] for axis in after]
    if kind == "pinned":
        sizes = tuple(old[axis] for axis in before)
        flat: Any = 0
        for axis, size in zip(before, sizes, strict=True):
            flat = flat * size + (delta.pins[axis].index if axis in delta.pins else 0)
        pins.update(_split_pin(delta, before, after, old, new, flat))
    return [1 for _ in after]


def _split_pin(
    delta: Delta, before: list[int], after: list[int], old: Shape, new: Shape, flat: Any
) -> Pins:
    wide_before = [axis for axis in before if old[axis] > 1]
    wide_after = [axis for axis in after if new[axis] > 1]
    if len(wide_before) == 1 == len(wide_after):
        return {wide_after[0]: delta.pins[wide_before[0]]}
    pins: Pins = {}
    for axis in reversed(after):
        if new[axis] > 1:
            pins[axis] = Pin.of(flat % new[axis])
            flat = flat // new[axis]
    return pins


@rule(CONCATENATE)
def _concatenate(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    axis = node.params["axis"]
    present = [k for k, delta in enumerate(deltas) if delta is not None]
    if len(present) == 1 and axis in (only := deltas[present[0]]).pins:  # type: ignore[union-attr]
        assert only is not None
        start = sum(operand.shape[axis] for operand in node.operands[: present[0]])
        pin = only.pins[axis]
        shifted = Pin(pin.index + start, None if pin.single is None else pin.single + start)
        return Delta(only.values, {**only.pins, axis: shifted})
    return _joined(context, node, deltas, axis)


def _joined(context: Context, node: Node, deltas: Deltas, axis: int) -> Delta:
    """Write the parts side by side, keeping the pins that all of them share."""
    xp = context.xp
    shapes = [operand.shape for operand in node.operands]
    moved = [
        None if delta is None else unpin(xp, delta, shape, [axis])
        for delta, shape in zip(deltas, shapes, strict=True)
    ]
    present = [delta for delta in moved if delta is not None]
    common = {
        one: pin
        for one, pin in present[0].pins.items()
        if all(one in other.pins and pin.same_as(other.pins[one]) for other in present[1:])
    }
    parts = [
        None
        if delta is None
        else unpin(xp, delta, shape, [one for one in delta.pins if one not in common]).values
        for delta, shape in zip(moved, shapes, strict=True)
    ]
    dims = [max(p.shape[a + 1] for p in parts if p is not None) for a in range(node.ndim)]
    dims[axis] = node.shape[axis]
    out = context.bases.pool.empty((present[0].values.shape[0], *dims))
    start = 0
    for part, shape in zip(parts, shapes, strict=True):
        place = (slice(None),) * (axis + 1) + (slice(start, start + shape[axis]),)
        out[place] = 0.0 if part is None else part
        start += shape[axis]
    return Delta(out, common)
