"""Where a tensor's elements enter the slice.

A flat vector θ is cut and reshaped before it is used: `W1 = θ[:7840].reshape(10, 784)`. Each such
piece, in which every element of the tensor stands at most once, is a *root*: the element is
perturbed there, at one position along each of the root's axes. Elements that enter through the same
roots share a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastcheck.fusion.dims import NotFusable, Pin
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import DIAGONAL, INDEX, RESHAPE, TRANSPOSE
from fastcheck.trace.slices import Slice

_CUTS = (INDEX, RESHAPE, TRANSPOSE, DIAGONAL)
_MOST_GROUPS = 32
Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Group:
    """Elements of a tensor that enter the slice through the same roots.

    Attributes
    ----------
    elements : (n,) int64 array or None
        Flat indices into the tensor; None for all of them.
    roots : dict of Node to tuple of (Pin or None)
        What each axis of a root follows; None for an axis of size 1.
    positions : dict of Pin to (size of the tensor,) int64 array
        The position of each element along a pin.
    pieces : frozenset of Node
        The nodes that only cut or reshape the tensor, roots or not.
    """

    elements: Positions | None
    roots: Mapping[Node, tuple[Pin | None, ...]]
    positions: Mapping[Pin, Positions]
    pieces: frozenset[Node]


def groups_of(part: Slice) -> list[Group]:
    """Find the roots of a slice and group the tensor's elements by them.

    Raises
    ------
    NotFusable
        There are too many different groups.
    """
    images = _images(part)
    roots = [node for node in images if _is_used(node, images, part)]
    size = int(np.prod(part.parameter.shape, dtype=np.int64))
    pieces = frozenset(images)
    if roots == [part.parameter]:
        pins, positions = _pins(roots, images, size)
        return [Group(None, pins, positions, pieces)]
    if len(roots) > 62:
        raise NotFusable(f"the tensor is taken apart into {len(roots)} pieces")
    members = np.zeros(size, dtype=np.int64)
    for place, root in enumerate(roots):
        members[images[root].reshape(-1)] |= 1 << place
    codes = [int(code) for code in np.unique(members) if code]
    if len(codes) > _MOST_GROUPS:
        raise NotFusable(f"the tensor is taken apart into {len(codes)} kinds of pieces")
    groups = []
    for code in codes:
        taking_part = [root for place, root in enumerate(roots) if code >> place & 1]
        pins, positions = _pins(taking_part, images, size, members == code)
        groups.append(Group(np.flatnonzero(members == code), pins, positions, pieces))
    return groups


def _images(part: Slice) -> dict[Node, Positions]:
    """Return the pieces: which element of the tensor stands where in them."""
    shape = part.parameter.shape
    images = {part.parameter: np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)}
    for node in part.nodes:
        if node.primitive in _CUTS and node.operands[0] in images:
            image = np.asarray(node.primitive.evaluate(images[node.operands[0]], **node.params))
            if image.size <= images[part.parameter].size and _once_each(image):
                images[node] = image
    return images


def _once_each(image: Positions) -> bool:
    return bool(np.bincount(image.reshape(-1), minlength=1).max(initial=0) <= 1)


def _is_used(node: Node, images: Mapping[Node, Positions], part: Slice) -> bool:
    """Whether anything but another piece is computed from a piece."""
    if node is part.output or any(node is guard.node for guard in part.guards):
        return True
    return any(node in user.operands and user not in images for user in part.nodes)


def _pins(
    roots: list[Node],
    images: Mapping[Node, Positions],
    size: int,
    members: NDArray[np.bool_] | None = None,
) -> tuple[dict[Node, tuple[Pin | None, ...]], dict[Pin, Positions]]:
    """Give every axis of every root a pin; axes along which all positions agree share one."""
    axes: dict[Node, tuple[Pin | None, ...]] = {}
    positions: dict[Pin, Positions] = {}
    for root in roots:
        image = images[root]
        places = np.unravel_index(np.arange(image.size), image.shape) if image.ndim else ()
        pins: list[Pin | None] = []
        for axis, place in enumerate(places):
            where = np.full(size, -1, dtype=np.int64)
            where[image.reshape(-1)] = place
            pins.append(_pin(where, image.shape[axis], positions, members))
        axes[root] = tuple(pins)
    return axes, positions


def _pin(
    where: Positions,
    length: int,
    positions: dict[Pin, Positions],
    members: NDArray[np.bool_] | None,
) -> Pin | None:
    if length == 1:
        return None
    for pin, other in positions.items():
        chosen = slice(None) if members is None else members
        if pin.size == length and np.array_equal(where[chosen], other[chosen]):
            return pin
    pin = Pin(len(positions), length)
    positions[pin] = where
    return pin
