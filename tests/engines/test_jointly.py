"""One direction of all tensors spares them their own, but for those that it tells nothing of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.differences import Bases
from fastcheck.engines.crosscheck import disagreement
from fastcheck.engines.jointly import Jointly
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import PROBE_STEP, ReplayEngine
from fastcheck.engines.rounding import roundings
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((16, 5)), RNG.standard_normal((16, 3))


def parameters() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "W1": rng.standard_normal((5, 8)),
        "b1": rng.standard_normal(8),
        "W2": rng.standard_normal((8, 3)),
        "s": 0.5,
    }


def loss(p: Any) -> Any:
    out = np.tanh(X @ p["W1"] + p["b1"]) @ p["W2"] * p["s"]
    return np.mean((out - T) ** 2)


class Compared:
    """Cross-checks the trace of one function against another function, tensor by tensor."""

    def __init__(self, traced: Any, called: Any, params: Any) -> None:
        self.tree = ParamTree.from_user(params)
        self.calls = 0

        def counted(p: Any) -> Any:
            self.calls += 1
            return called(p)

        self.loss = LossFunction(counted, self.tree)
        self.loop = LoopEngine(self.loss, self.tree)
        self.graph = simplify(trace(traced, self.tree))
        self.rng = np.random.default_rng(0)
        self.joint = Jointly(
            self.graph,
            self.loss,
            self.loop.loss,
            self.tree,
            roundings(abs(self.loop.loss)),
            Bases(),
            self.rng,
        )

    def replay(self, name: str) -> ReplayEngine:
        tensor = self.tree[name]
        return ReplayEngine(self.graph, tensor, self.loop.loss, 10**8, lambda *_: np.zeros(1))

    def covers(self, name: str) -> bool:
        return self.joint.covers(self.tree[name], self.replay(name).survey.slope(PROBE_STEP))

    def disagreement(self, name: str) -> str | None:
        return disagreement(
            self.replay(name),
            self.loop,
            self.loss,
            self.tree,
            self.tree[name],
            lambda: 0.0,
            self.rng,
            None,
            self.joint,
        )


def test_a_right_trace_takes_one_call_for_all_tensors() -> None:
    compared = Compared(loss, loss, parameters())
    before = compared.calls
    assert all(compared.covers(name) for name in compared.tree.names)
    assert compared.calls == before + 1
    assert [compared.disagreement(name) for name in compared.tree.names] == [None] * 4
    assert compared.calls == before + 1 + 3 + 3 + 3 + 1  # and a few elements of each


@pytest.mark.parametrize("name", ["W1", "b1", "W2", "s"])
def test_a_leak_is_seen_and_the_right_tensor_named(name: str) -> None:
    """The trace takes one element of a tensor for a constant."""
    start = np.array(parameters()[name], dtype=float)

    def leaking(p: Any) -> Any:
        return loss(p) + 1e-3 * (np.ravel(p[name]) - start.ravel())[-1]

    compared = Compared(loss, leaking, parameters())
    assert not any(compared.covers(one) for one in compared.tree.names)
    found = {one: compared.disagreement(one) for one in compared.tree.names}
    assert [one for one, what in found.items() if what is not None] == [name]


def test_a_tensor_of_little_weight_is_moved_by_itself() -> None:
    def with_whisper(p: Any) -> Any:
        return loss(p) + 1e-9 * np.sum(p["tiny"] ** 2)

    def leaking(p: Any) -> Any:
        return with_whisper(p) + 1e-11 * (p["tiny"][0] - 1.0)

    params = {**parameters(), "tiny": np.ones(50)}
    right, wrong = (Compared(with_whisper, called, params) for called in (with_whisper, leaking))
    assert right.covers("W1")
    assert not right.covers("tiny")
    assert right.disagreement("tiny") is None
    assert wrong.disagreement("W1") is None
    assert "moving all of tiny" in str(wrong.disagreement("tiny"))


def test_where_a_branch_is_met_each_tensor_is_moved_by_itself() -> None:
    def branching(p: Any) -> Any:
        if abs(p["s"] - 0.5) > 1e-6:
            return 2 * loss(p)
        return loss(p)

    params = parameters()
    compared = Compared(branching, branching, params)
    assert not compared.covers("W1")
    assert compared.disagreement("W1") is None
    report = fastcheck.check(branching, params, fastcheck.numerical_gradient(branching, params))
    assert report


def test_one_tensor_is_covered_as_several_are() -> None:
    params = np.ones(3)
    right = Compared(lambda w: np.sum(w**2), lambda w: np.sum(w**2), params)
    assert right.covers("params")
    wrong = Compared(lambda w: np.sum(w**2), lambda w: np.sum(w**2) + 1e-3 * (w[1] - 1), params)
    assert not wrong.covers("params")
    before = right.calls
    assert right.disagreement("params") is None
    assert right.calls == before + 2 + 3  # in both directions of its own, and three elements


def test_a_tensor_that_must_not_be_moved_so_far_leaves_the_others() -> None:
    def picky(p: Any) -> Any:
        if abs(p["s"] - 0.5) > 1e-6:
            raise ValueError("not so far")
        return loss(p)

    compared = Compared(loss, picky, parameters())
    assert not any(compared.covers(name) for name in compared.tree.names)
    assert [compared.disagreement(name) for name in ("W1", "b1", "W2")] == [None] * 3
