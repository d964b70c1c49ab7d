"""Jumps of a traced loss: which are stairs, and which leave the derivative at θ what it is.

A loss that is rounded inside stands still between its jumps, and these make up for its slope: what
is measured between two of them says nothing of the loss that was meant. A threshold that decides
which terms count (hard examples, trimmed residuals, gates) is another thing. It switches terms that
have a slope of their own, and where none is switched the derivative is that of the terms that are.
The trace tells one from the other; what it cannot tell is looked at over the whole ladder, where
stairs repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

from fastcheck.engines.base import Engine, FloatArray, IndexArray
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import (
    ARGMAX,
    ARGMIN,
    ARGPARTITION,
    ARGSORT,
    CAST,
    CONTRACT,
    ELEMENTWISE,
    INDEX,
    WHERE,
)
from fastcheck.trace.slices import Slice
from fastcheck.verdict.probing import Probe

_NO_ROUNDING = (ARGMAX, ARGMIN, ARGSORT, ARGPARTITION)
"""Discrete functions of numbers that move whose result is a choice, as that of a comparison is."""
_SAWTEETH = frozenset(("remainder", "fmod"))
_GATES = (*(ELEMENTWISE[u] for u in (np.multiply, np.divide)), CONTRACT, INDEX)
_POINTS = 32
_LOOKED_AT = 4
_FEW = 4
# Half the spacing leaves a quarter of what curvature makes of a second difference, half of what
# kinks do, and all of what stairs do.
_SMOOTHER = 0.7
_ROUNDINGS = 2.0**-44


class Origin(Enum):
    """What may make a traced loss jump.

    Attributes
    ----------
    SWITCHES
        Comparisons that switch terms with a slope, poles and branch cuts: never stairs.
    STEPS
        Comparisons whose outcome is a term itself, and sawteeth: stairs if there are many.
    ROUNDING
        Functions that round: stairs.
    """

    SWITCHES = 0
    STEPS = 1
    ROUNDING = 2


def slice_of(engine: Engine) -> Slice | None:
    """Return what an engine has traced between its tensor and the loss, if it can be seen."""
    seen: object = engine.careful
    for _ in range(4):
        found = getattr(seen, "slice", None)
        if isinstance(found, Slice):
            return found
        parts = getattr(seen, "parts", None)
        seen = parts[0] if parts else getattr(seen, "host", None)
    return None


def origin(part: Slice) -> Origin:
    """Say what may make the loss jump where no branch of the user's own code comes out otherwise.

    Every node either moves with the parameters or is a step: it depends on them by comparisons
    alone, and stands still between two jumps.
    """
    moves: dict[Node, bool] = {part.parameter: True}
    found = Origin.SWITCHES
    for node in part.nodes:
        moving = any(moves.get(operand, False) for operand in node.operands)
        if moving and _rounds(node):
            return Origin.ROUNDING
        moves[node] = moving and not _stands_still(node)
        if not moves[node]:
            continue
        if node.primitive.name in _SAWTEETH or not _switches(node, moves):
            found = Origin.STEPS
    # A loss that is but a step stands still wherever it is.
    return found if moves.get(part.output, False) else Origin.ROUNDING


def isolated(probe: Probe, indices: IndexArray, reaches: Sequence[float], *, flat: bool) -> bool:
    """Whether no stairs are behind jumps that exact differences have come upon.

    Parameters
    ----------
    probe : Probe
        A traced engine on a tensor.
    indices : (n,) int64
        Elements, the most telling first.
    reaches : sequence of float
        How far to move them: stairs are to be seen where that is some of their widths, and hide
        behind the curvature of the loss further off.
    flat : bool
        Whether all derivatives are zero: of a loss that stands still, steps are all that there is.
    """
    part = slice_of(probe.engine)
    made_by = Origin.ROUNDING if part is None else origin(part)
    if part is None or made_by is Origin.ROUNDING:
        return False
    if made_by is Origin.SWITCHES and not part.guards:
        return True
    before = probe.loss_calls
    lines = [_line(probe, int(i), reach) for i in indices[:_LOOKED_AT] for reach in reaches]
    if made_by is Origin.SWITCHES and probe.loss_calls == before:
        return True  # no branch came out otherwise than at θ, or the loss had been called
    return not flat and all(map(_few_jumps, lines))


def _rounds(node: Node) -> bool:
    """Whether a node makes numbers of numbers that move, but only so many of them."""
    kind = node.value.dtype.kind
    if kind == "b":
        return False
    if node.primitive is CAST:
        return kind in "iu"
    return node.primitive.discrete and node.primitive not in _NO_ROUNDING


def _stands_still(node: Node) -> bool:
    still = node.primitive.discrete or node.primitive is ELEMENTWISE[np.heaviside]
    return still or node.value.dtype.kind not in "fc"


def _switches(node: Node, moves: dict[Node, bool]) -> bool:
    """Whether the steps among a node's operands do no more than switch what moves."""
    steps = [place for place, one in enumerate(node.operands) if moves.get(one) is False]
    if not steps or node.primitive in _GATES:
        return True
    return node.primitive is WHERE and steps == [0]


def _line(probe: Probe, index: int, reach: float) -> FloatArray:
    """Return the changes of the loss at equal distances on both sides of θ."""
    steps = reach * np.arange(1, _POINTS + 1) / _POINTS
    look = probe.differences(np.full(_POINTS, index, dtype=np.int64), steps)
    return np.concatenate([-look.minus[::-1], [0.0], look.plus])


def _few_jumps(line: FloatArray) -> bool:
    """Whether the loss is smooth along a line, but for a few jumps and some kinks."""
    if not np.isfinite(line).all():
        return False
    fine, coarse = (np.sort(np.abs(np.diff(part, 2))) for part in (line, line[::2]))
    # A jump is in two second differences: what is next in size is no jump if there are few.
    rest, other = (float(part[-1 - 2 * _FEW]) for part in (fine, coarse))
    return rest <= max(_SMOOTHER * other, _ROUNDINGS * float(np.abs(line).max()))
