"""What `simplify` asks of nodes and shapes before it rewrites them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import BROADCAST, INDEX, LOGSUMEXP, RESHAPE, elementwise

_EXP, _NEGATIVE = elementwise(np.exp), elementwise(np.negative)


def is_real(node: Node) -> bool:
    """Whether a constant holds finite floats: 0·x is then 0 for every finite x."""
    return node.value.dtype.kind == "f" and bool(np.all(np.isfinite(node.value)))


def is_one(node: Node) -> bool:
    """Whether a node is 1, whatever the parameters are."""
    return node.constant and bool(np.all(np.asarray(node.value) == 1.0))


def opposite_powers(up: Node, down: Node) -> bool:
    """Whether the two are eˣ and e⁻ˣ."""
    if up.primitive is not _EXP or down.primitive is not _EXP:
        return False
    minus = down.operands[0]
    return minus.primitive is _NEGATIVE and minus.operands[0] is up.operands[0]


def reduced_shape(
    shape: tuple[int, ...], ndim: int, axes: tuple[int, ...], keepdims: bool
) -> tuple[int, ...] | None:
    """Return the shape that a reduction over `axes` gives to something the same along them."""
    full = (1,) * (ndim - len(shape)) + shape
    if any(full[axis] != 1 for axis in axes):
        return None
    return full if keepdims else tuple(n for axis, n in enumerate(full) if axis not in axes)


def only_units(node: Node) -> bool:
    """Whether a node only adds or drops axes of size 1."""
    if node.primitive is INDEX:
        index = node.params["index"]
        parts = index if isinstance(index, tuple) else (index,)
        if not all(
            part is None or part is Ellipsis or part == slice(None) for part in _plain(parts)
        ):
            return False
    elif node.primitive not in (RESHAPE, BROADCAST):
        return False
    return wide(node.operands[0].shape) == wide(node.shape)


def wide(shape: tuple[int, ...]) -> list[int]:
    """Return the sizes of a shape without those that are 1."""
    return [n for n in shape if n != 1]


def _plain(parts: Any) -> list[Any]:
    """Index arrays cannot be compared with slices; they are never only units."""
    return ["array" if isinstance(part, np.ndarray) else part for part in parts]


def without_units(node: Node) -> Node:
    """Return the node before reshapes that only add or drop axes of size 1."""
    while only_units(node):
        node = node.operands[0]
    return node


def take_the_same_away(a: Node, b: Node) -> bool:
    """Whether a = x − c and b = y − c take away the same c, lined up alike."""
    c, other = a.operands[1], b.operands[1]
    ndim = max(a.ndim, b.ndim)
    lined_up = [(1,) * (ndim - x.ndim) + x.shape for x in (c, other)]
    return without_units(c) is without_units(other) and lined_up[0] == lined_up[1]


def logsumexp_of(node: Node) -> tuple[Node | None, tuple[int, ...]]:
    """Return of what a node is the log-sum-exp, and over which axes; None if it is none."""
    origin = without_units(node)
    if origin.primitive is not LOGSUMEXP:
        return None, ()
    return origin.operands[0], origin.params["axes"]


def keeps_axes(whole: tuple[int, ...], reduced: tuple[int, ...], axes: tuple[int, ...]) -> bool:
    """Whether a reduced array lines up with the whole one as keepdims=True would make it."""
    expected = tuple(1 if axis in axes else n for axis, n in enumerate(whole))
    return (1,) * (len(whole) - len(reduced)) + reduced == expected
