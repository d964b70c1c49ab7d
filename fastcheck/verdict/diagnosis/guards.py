"""Numerical guards of a forward pass: small constants that keep something away from zero.

They are added, as in ``np.log(p + 1e-8)``, ``x / (norm + 1e-12)`` and ``np.sqrt(var + 1e-5)``, or
are limits, as in ``np.clip(p, 1e-7, 1 - 1e-7)`` and ``np.where(p < 1e-9, 1e-9, p)``, and a
logarithm, a root or a division comes behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.primitives import (
    BROADCAST,
    CAST,
    CONCATENATE,
    DIAGONAL,
    INDEX,
    RESHAPE,
    SUM,
    TRANSPOSE,
    WHERE,
    elementwise,
)

_LARGEST = 1.0000001e-5  # 1e-5 in float32, too
_MOST_STEPS = 6

_ADD, _SUBTRACT = elementwise(np.add), elementwise(np.subtract)
_MULTIPLY, _DIVIDE = elementwise(np.multiply), elementwise(np.divide)
LIMITS = tuple(map(elementwise, (np.maximum, np.minimum, np.fmax, np.fmin)))
_LOGARITHMS = tuple(map(elementwise, (np.log, np.log2, np.log10)))
_POWERS = tuple(map(elementwise, (np.power, np.float_power)))
_ROOTS = tuple(map(elementwise, (np.sqrt, np.cbrt, np.reciprocal)))
_THROUGH = (
    *(RESHAPE, TRANSPOSE, BROADCAST, INDEX, DIAGONAL, CAST, CONCATENATE, SUM, WHERE),
    *(_ADD, _SUBTRACT, _MULTIPLY, *LIMITS),
    *map(elementwise, (np.negative, np.positive, np.absolute)),
)
"""What may lie between a guard and the operation that it guards."""

Users = dict[Node, list[tuple[Node, int]]]


@dataclass(frozen=True, eq=False)
class Guarded:
    """One constant that keeps something away from zero, or below one.

    Attributes
    ----------
    node : Node
        The operation that brings it in: ``p + 1e-8``, ``maximum(p, 1e-12)``.
    place : int
        Which of the operands it is.
    value : float
    nominal : float
        What the formula has in its place: 0 or 1.
    operation : str
        What it guards: ``log``, ``sqrt``, ``divide``, ``power``, ``reciprocal``.
    region : frozenset of Node
        The operations from it to the last one that it guards.
    """

    node: Node
    place: int
    value: float
    nominal: float
    operation: str
    region: frozenset[Node]


def guards_of(graph: Graph) -> list[Guarded]:
    """Return the guards of a forward pass, in its order."""
    users: Users = {}
    for node in graph:
        for place, operand in enumerate(node.operands):
            if not operand.constant:
                users.setdefault(operand, []).append((node, place))
    found = []
    for node in graph:
        if node.constant or not (constant := _small_constant(node)):
            continue
        operation, region = _guarded(node, users)
        if operation:
            found.append(Guarded(node, *constant, operation, region))
    return found


def _small_constant(node: Node) -> tuple[int, float, float] | None:
    """Return which operand brings a small constant in, the constant, and what it stands for."""
    if node.primitive is WHERE:
        places: Sequence[int] = (1, 2)
    elif node.primitive in (_ADD, _SUBTRACT, *LIMITS):
        places = (0, 1)
    else:
        return None
    for place in places:
        value = _number(node.operands[place])
        other = node.operands[sum(places) - place]
        if value is None or other.constant or _cuts(node, other):
            continue
        nominal = 1.0 if abs(value) > 0.5 else 0.0
        if 0 < abs(value - nominal) <= _LARGEST:
            return place, value, nominal
    return None


def _cuts(node: Node, other: Node) -> bool:
    """Whether a choice between a number and something has more elements than the latter."""
    return node.primitive is WHERE and other.shape != node.shape


def _number(node: Node) -> float | None:
    """Return the one number that a constant holds, if it does."""
    value = np.asarray(node.value)
    if not node.constant or not value.size or value.dtype.kind != "f":
        return None
    first = float(value.flat[0])
    return first if value.size == 1 or bool(np.all(value == first)) else None


def _guarded(start: Node, users: Users) -> tuple[str, frozenset[Node]]:
    """Return the first operation that a guard guards, and all up to the last; "" for none."""
    first, region, ahead = "", {start}, [(start, False)]
    for _ in range(_MOST_STEPS):
        reached = []
        for node, behind in ahead:
            for user, place in users.get(node, []):
                name, goes_on = _guards(user, place)
                first = first or name
                if user in region or not (name or goes_on):
                    continue
                region.add(user)
                # What a root or reciprocal is multiplied with ends what is guarded.
                if goes_on and not (behind and is_formula(user) and not name):
                    reached.append((user, behind or bool(name)))
        ahead = reached
    return first, frozenset(region)


def _guards(user: Node, place: int) -> tuple[str, bool]:
    """Return the name of an operation if it is one to be guarded; and whether to look behind it."""
    primitive = user.primitive
    if primitive in _LOGARITHMS:
        return "log", False
    if primitive is _DIVIDE:
        alone = user.operands[1 - place].constant
        return ("divide" if place == 1 else ""), alone
    if primitive in _ROOTS:
        return primitive.name, True
    if primitive in _POWERS and place == 0:
        power = _number(user.operands[1])
        guarded = power is not None and (power < 0 or power != round(power))
        return ("power" if guarded else ""), guarded
    return "", primitive in _THROUGH


def is_formula(node: Node) -> bool:
    """Whether the derivatives of an operation depend on the values that it takes."""
    if node.primitive is _MULTIPLY:
        return not any(operand.constant for operand in node.operands)
    if node.primitive is _DIVIDE:
        return not node.operands[1].constant
    return node.primitive in (*_LOGARITHMS, *_ROOTS, *_POWERS)
