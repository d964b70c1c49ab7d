"""Elements on kinks, moved together: what each of them may be alone, they need not be jointly.

Of two equal inputs of a maximum, each alone has the one-sided derivatives 0 and 1, so that (1, 0),
(0, 1) and (½, ½) pass element by element, and so do (1, 1) and (½, 0), which are wrong. Moved
together they raise the maximum by as much as themselves: their derivatives must add up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcheck.engines.base import Engine, FloatArray, IndexArray
from fastcheck.params import ParamTree, Tensor
from fastcheck.report.data import Verdict
from fastcheck.verdict import reasons
from fastcheck.verdict.judgement import Judgement
from fastcheck.verdict.steps import scale_of

_STEP = 2.0**-22
"""Of the parameters' size: the rounding of the loss and its curvature stay far below a jump."""
_RELATIVE = 1e-6
_DEVIATIONS = 6.0

Evaluate = Callable[[Any], float]
"""The user's loss of the user's nesting, which may be NaN."""


@dataclass(frozen=True)
class _Slopes:
    """How the loss changes per unit of a common move, to either side, and how well that is known.

    Attributes
    ----------
    ahead, behind : float
        Derivatives to the right and to the left.
    error : float
    """

    ahead: float
    behind: float
    error: float

    def contains(self, slope: float) -> bool:
        """Whether a derivative may lie between them; anything may, where they are not known."""
        low, high = sorted((self.ahead, self.behind))
        return not math.isfinite(self.error) or low - self.error <= slope <= high + self.error

    def agrees(self, other: _Slopes) -> bool:
        """Whether they are the same."""
        error = self.error + other.error
        gap = max(abs(self.ahead - other.ahead), abs(self.behind - other.behind))
        return not gap > error


@dataclass(frozen=True)
class _Group:
    """Elements that are on kinks and moved together: their flat indices by tensor, and one step."""

    places: Mapping[str, IndexArray]
    step: float


def together(
    judgements: Sequence[Judgement],
    engines: Mapping[str, Engine],
    tree: ParamTree,
    evaluate: Evaluate,
    base: float,
    noise: Callable[[], float],
) -> list[Judgement]:
    """Return the judgements, a pass being none where its elements on kinks do not fit together.

    The elements of each tensor are moved as one, and those of all tensors. Where that changes the
    loss as the sum of their own moves does, they share no kink. Where it does not, the analytic
    derivatives must add up to something between the two slopes of the common move. That they do not
    is no proof of a mistake: max(x, 0) − max(−x, 0) is x, and backpropagation makes 0 of it at 0.

    Parameters
    ----------
    judgements : sequence of Judgement
        One a tensor.
    engines : mapping
        By tensor, what computed its differences.
    tree : ParamTree
        The parameters θ.
    evaluate : callable
        Called with moved copies of them, four times a tensor with elements on kinks.
    base : float
        J(θ).
    noise : callable
        Returns σ of the loss; called only if there are elements on kinks.
    """
    there = {
        one.name: one.on_kinks
        for one in judgements
        if one.verdict is Verdict.PASS and len(one.on_kinks)
    }
    if sum(map(len, there.values())) < 2:
        return list(judgements)
    loss = _Moved(tree, engines, evaluate, base, noise())
    analytic = {one.name: _analytic(one) for one in judgements if one.name in there}
    groups = [{name: places} for name, places in there.items() if len(places) > 1]
    doubts = _doubts(loss, groups, analytic)
    if not doubts and len(there) > 1:
        doubts = _doubts(loss, [there], analytic)
    return [_doubted(one, doubts.get(one.name, "")) for one in judgements]


def _analytic(judgement: Judgement) -> FloatArray:
    order = np.argsort(judgement.indices, kind="stable")
    places = np.searchsorted(judgement.indices, judgement.on_kinks, sorter=order)
    return judgement.analytic[order[places]]


def _doubts(
    loss: _Moved, groups: Sequence[Mapping[str, IndexArray]], analytic: Mapping[str, FloatArray]
) -> dict[str, str]:
    """Return, by tensor, the reason for which its pass is none."""
    doubts = {}
    for places in groups:
        group = loss.group(places)
        jointly = loss.jointly(group)
        slope = float(sum(analytic[name].sum() for name in places))
        if jointly.contains(slope) or jointly.agrees(loss.one_by_one(group)):
            continue
        count = sum(map(len, places.values()))
        reason = reasons.not_together(count, sorted(places), jointly.ahead, jointly.behind, slope)
        doubts.update(dict.fromkeys(places, reason))
    return doubts


def _doubted(judgement: Judgement, reason: str) -> Judgement:
    if not reason:
        return judgement
    return replace(judgement, verdict=Verdict.INCONCLUSIVE, reason=reason)


class _Moved:
    """The loss with elements moved."""

    def __init__(
        self,
        tree: ParamTree,
        engines: Mapping[str, Engine],
        evaluate: Evaluate,
        base: float,
        noise: float,
    ) -> None:
        self._tree, self._engines = tree, engines
        self._evaluate, self._base, self._noise = evaluate, base, noise

    def group(self, places: Mapping[str, IndexArray]) -> _Group:
        """Return elements with the step that suits the smallest of their tensors."""
        return _Group(places, _STEP * min(scale_of(self._tree[name]) for name in places))

    def jointly(self, group: _Group) -> _Slopes:
        """Return the slopes of a common move, from two steps, which show its curvature."""
        h = group.step
        with np.errstate(all="ignore"):
            ahead, further = (self._at(group, k * h) - self._base for k in (1, 2))
            behind, back = (self._base - self._at(group, -k * h) for k in (1, 2))
            bend = max(abs(further - 2 * ahead), abs(back - 2 * behind)) / h
            size = _RELATIVE * (abs(ahead) + abs(behind))
            error = bend + (_DEVIATIONS * self._noise + size) / h
            return _Slopes(ahead / h, behind / h, error)

    def one_by_one(self, group: _Group) -> _Slopes:
        """Return what the slopes were if no two elements shared a kink."""
        ahead = behind = error = 0.0
        for name, places in group.places.items():
            engine = self._engines[name]
            with np.errstate(all="ignore"):
                found = engine.differences(name, places, np.full(len(places), group.step))
                plus, minus = found.plus / found.step_plus, found.minus / found.step_minus
            ahead += float(plus.sum())
            behind += float(minus.sum())
            error += _RELATIVE * float(np.abs(plus).sum() + np.abs(minus).sum())
            if not engine.exact:
                error += _DEVIATIONS * self._noise * math.sqrt(len(places)) / group.step
        return _Slopes(ahead, behind, error)

    def _at(self, group: _Group, step: float) -> float:
        return self._evaluate(self._tree.build({t.name: _leaf(t, group, step) for t in self._tree}))


def _leaf(tensor: Tensor, group: _Group, step: float) -> Any:
    """Return a tensor as the loss takes it, its elements of the group moved; the memory is new."""
    moved = tensor.value.copy(order="K")
    if tensor.name in group.places:
        # `flat` counts in C order whatever the memory layout is.
        moved.flat[group.places[tensor.name]] += step
    return moved[()] if tensor.scalar else moved
