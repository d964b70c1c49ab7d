"""argmax, argmin and sorting: equal to the function itself, copy by copy, ties included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcheck.differences import Delta
from fastcheck.trace.primitives import ARGMAX, ARGMIN, ARGPARTITION, ARGSORT

from .conftest import COPIES

BASES = {
    "apart": np.array([[0.3, -1.2, 2.0, 0.1], [1.5, 0.2, -0.4, 0.9], [-3.0, 1.1, 0.6, 2.2]]),
    "ties": np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.5, 1.0], [0.0, -1.0, 0.0, -1.0]]),
    "infinite": np.array([[-np.inf, 1.0, 0.5, 2.0], [np.inf, 0.0, 1.0, np.inf], [1.0, 2, 3, 4]]),
}


def _same(lab: Any, node: Any, delta: Delta) -> None:
    wanted, _ = lab.plain(node, delta)
    found = lab.propagate(node, delta)
    np.testing.assert_array_equal(lab.stack(found, node), wanted)
    flat = (wanted != 0).reshape(COPIES, -1).any(axis=1)
    assert lab.kinked == flat.tolist()


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("primitive", [ARGMAX, ARGMIN], ids=str)
def test_where_the_extreme_is(lab, base, axis, keepdims, primitive) -> None:
    rng = np.random.default_rng(3)
    node = lab.node(primitive, lab.parameter(base), axis=axis, keepdims=keepdims)
    for scale in (1e-9, 0.3, 4.0):
        for _ in range(10):
            _same(lab, node, lab.delta(rng, node.operands[0], scale))


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_orders(lab, base, axis) -> None:
    rng = np.random.default_rng(4)
    x = lab.parameter(base)
    for node in (lab.node(ARGSORT, x, axis=axis), lab.node(ARGPARTITION, x, kth=1, axis=axis)):
        for scale in (1e-9, 0.3, 4.0):
            for _ in range(10):
                _same(lab, node, lab.delta(rng, x, scale))


def test_a_winner_by_a_margin_costs_no_look_at_the_copies(lab, monkeypatch) -> None:
    x = lab.parameter(BASES["apart"])
    delta = lab.delta(np.random.default_rng(0), x, 1e-3)
    node = lab.node(ARGSORT, x, axis=-1)
    calls: list[Any] = []
    monkeypatch.setitem(vars(ARGSORT), "evaluate", lambda *a, **k: calls.append(a))
    assert lab.propagate(node, delta) is None
    assert not calls


def test_masks_and_integers(lab) -> None:
    x = lab.node(ARGSORT, lab.parameter([0.3, 0.1, 0.2]), axis=-1)
    node = lab.node(ARGMAX, x, axis=None, keepdims=False)
    change = np.zeros((COPIES, 3))
    change[1] = [1.0, -2.0, 1.0]
    _same(lab, node, Delta(change, {}))
