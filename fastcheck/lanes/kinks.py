"""Functions with kinks and jumps: linear as long as nothing crosses over, and that is checked.

A copy for which a comparison comes out differently than at θ is refused: the replay engine computes
it, and counts the kink.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.lanes.delta import Delta
from fastcheck.lanes.opcodes import Op
from fastcheck.lanes.rules import Deltas, Site, formula, real, rule
from fastcheck.lanes.smooth import EXP, log_growth
from fastcheck.lanes.structure import reduced_places
from fastcheck.lanes.writer import Room, Writer
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import LOG_SOFTMAX, LOGSUMEXP, MAX, MIN, WHERE

# The bounds of checks are computed with rounding of their own.
_SAFE = 1.0 - 2.0**-40


def bound(x: Any, y: Any) -> Any:
    """Return how far two operands may come together. Equal infinities never part."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(x - y)
    gap = np.maximum(np.nextafter(gap, -np.inf), 0.0) * _SAFE
    return np.where((x == y) & np.isinf(x * np.ones_like(y)), np.inf, gap)


def _check_tie(site: Site) -> None:
    """Refuse copies for which the operands change places."""
    one, other = site.deltas
    (gap,) = site.constants("gap", lambda: [bound(site.value(0), site.value(1))])
    if one is not None and other is not None:
        apart = site.write(Op.SUBTRACT, [site.room(0), site.room(1)])
        site.writer.within(apart, gap)
        site.writer.release(apart)
        return
    site.writer.within(site.room(0 if other is None else 1), gap)


def _extreme(wins: Callable[[Any, Any], Any]) -> Callable[[Site], Delta]:
    def apply(site: Site) -> Delta:
        _check_tie(site)
        return _chosen(site, lambda: wins(site.value(0), site.value(1)), (0, 1))

    return apply


def _chosen(site: Site, mask: Callable[[], Any], operands: tuple[int, int]) -> Delta:
    """Return the difference of one operand where a mask holds, and of the other elsewhere."""
    shares = {
        operands[0]: mask,
        operands[1]: lambda: np.logical_not(mask()),
    }
    parts = [
        site.scaled(operand, f"chosen {operand}", share)
        for operand, share in shares.items()
        if site.deltas[operand] is not None
    ]
    if len(parts) == 1:
        return site.result(parts[0])
    total = site.write(Op.ADD, parts)
    for part in parts:
        site.writer.release(part)
    return site.result(total)


formula(np.maximum, np.fmax)(_extreme(lambda x, y: (x > y) | (y != y)))
formula(np.minimum, np.fmin)(_extreme(lambda x, y: (x < y) | (y != y)))


@formula(np.absolute, np.fabs)
def _absolute(site: Site) -> Delta:
    _check_zero(site)
    return site.result(site.scaled(0, "sign", lambda: np.sign(site.value(0))))


def _check_zero(site: Site) -> None:
    (gap,) = site.constants("gap", lambda: [bound(site.value(0), 0.0)])
    site.writer.within(site.room(0), gap)


@formula(np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)
def _compare(site: Site) -> None:
    _check_tie(site)
    site.close()


@formula(np.sign, np.signbit)
def _sign(site: Site) -> None:
    _check_zero(site)
    site.close()


@formula(np.isnan, np.isinf, np.isfinite)
def _never_changes(site: Site) -> None:
    # A copy that is not finite is refused in any case.
    return


@rule(WHERE)
def _where(writer: Writer, node: Node, deltas: Deltas) -> Delta | None:
    if deltas[1] is None and deltas[2] is None:
        return None
    site = Site(writer, node, deltas)
    mask = node.operands[0].value
    return _chosen(site, lambda: np.asarray(mask, dtype=bool), (1, 2))


# -- the largest along some axes -------------------------------------------------------------------


class _Winners:
    """The largest number along some axes at θ, and how far the others are behind it."""

    def __init__(self, writer: Writer, node: Node, room: Room, x: Any) -> None:
        self._writer, self._node, self._x = writer, node, x
        self._axes = node.params["axes"]
        places = writer.hoisted.table(
            (x.shape, "reduced", self._axes), lambda: reduced_places(x.shape, self._axes)
        )
        self.places = places
        winners = writer.hoisted.table((node, "winners"), lambda: self._first(places))
        self.room = writer.gathered(room, winners)
        everywhere = writer.hoisted.table((node, "everywhere"), lambda: self._spread(places))
        spread = writer.gathered(self.room, everywhere)
        self.behind = writer.elementwise(Op.SUBTRACT, x.size, [room, spread])
        writer.release(spread)

    def _first(self, places: Any) -> Any:
        best = self._x.reshape(-1)[places].argmax(axis=1)
        return places[np.arange(len(places)), best]

    @staticmethod
    def _spread(places: Any) -> Any:
        """Return for every number the place of its winner among the winners."""
        spread = np.empty(places.size, dtype=np.int64)
        spread[places] = np.arange(len(places))[:, None]
        return spread

    def grown(self) -> Room:
        """Write log(Σ shareₖ·exp(behindₖ)): by how much the logarithm of the sum moves too."""
        writer, x = self._writer, self._x

        def shares() -> list[Any]:
            e = np.exp(x - np.max(x, axis=self._axes, keepdims=True))
            share = np.ascontiguousarray(e / np.sum(e, axis=self._axes, keepdims=True))
            return [share * factor for factor in EXP]

        factors = writer.hoisted.once((self._node, "shares"), shares)
        one = writer.hoisted.constants(("number", 1.0), lambda: [1.0])
        parts = writer.series(self.behind, one, factors)
        total = writer.summed(parts, self.places)
        growth = log_growth(writer, total)
        writer.release(parts)
        writer.release(total)
        return growth


def _winner(sign: float) -> Callable[[Writer, Node, Deltas], Delta]:
    def apply(writer: Writer, node: Node, deltas: Deltas) -> Delta:
        (delta,) = deltas
        assert delta is not None
        x = sign * real(node.operands[0].value)
        winners = _Winners(writer, node, delta.dense(writer), x)

        def gap() -> Any:
            gaps = bound(np.max(x, axis=node.params["axes"], keepdims=True), x).reshape(-1)
            gaps[winners._first(winners.places)] = np.inf
            return gaps

        writer.within(winners.behind, writer.hoisted.constants((node, "gap"), gap))
        writer.release(winners.behind)
        return Delta(node.shape, winners.room)

    return apply


rule(MAX)(_winner(1.0))
rule(MIN)(_winner(-1.0))


@rule(LOGSUMEXP)
def _logsumexp(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    """With w the winner, log Σ exp x moves by δx_w + log1p(Σ pₖ·expm1(δxₖ − δx_w))."""
    (delta,) = deltas
    assert delta is not None
    winners = _Winners(writer, node, delta.dense(writer), real(node.operands[0].value))
    growth = winners.grown()
    result = writer.elementwise(Op.ADD, growth.size, [winners.room, growth])
    for room in (growth, winners.room, winners.behind):
        writer.release(room)
    return Delta(node.shape, result)


@rule(LOG_SOFTMAX)
def _log_softmax(writer: Writer, node: Node, deltas: Deltas) -> Delta:
    (delta,) = deltas
    assert delta is not None
    winners = _Winners(writer, node, delta.dense(writer), real(node.operands[0].value))
    growth = winners.grown()
    everywhere = writer.hoisted.table((node, "everywhere"), lambda: winners._spread(winners.places))
    spread = writer.gathered(growth, everywhere)
    result = writer.elementwise(Op.SUBTRACT, spread.size, [winners.behind, spread])
    for room in (growth, spread, winners.room, winners.behind):
        writer.release(room)
    return Delta(node.shape, result)
