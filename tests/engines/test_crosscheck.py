"""The cross-check lets the rounding of a right trace pass, near a solution too, and no leak."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict
from fastcheck.engines.crosscheck import disagreement
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.rounding import jitter_noise
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace


class LeastSquares:
    """A regression, its parameters a solution but for a residual of a given size."""

    def __init__(self, residual, seed, bias=1e-3):
        rng = np.random.default_rng(seed)
        self.X = rng.uniform(1, 2, (8, 4))
        self.params = {"w": rng.uniform(1, 2, 4) * 10, "b": bias * rng.uniform(1, 2, 1)}
        self.y = self._out(self.params) + residual * rng.standard_normal(8)

    def _out(self, p):
        return self.X @ p["w"] + p["b"]

    def loss(self, p):
        return 0.5 * np.sum((self._out(p) - self.y) ** 2)

    def grads(self):
        r = self._out(self.params) - self.y
        return {"w": self.X.T @ r, "b": np.array([r.sum()])}

    def leaking(self, share, name):
        """Return the loss with a slope in a tensor that is such a share of its change."""
        start = self.params[name].copy()
        step = 2.0**-8 * np.sqrt(np.mean(start**2))
        moved = {**self.params, name: start + step}
        slope = share * (self.loss(moved) - self.loss(self.params)) / (step * len(start))
        return lambda p: self.loss(p) + np.sum(slope * (p[name] - start))


def differing(traced, called, params, name, seed=0):
    """Cross-check the trace of one function against another function."""
    tree, rng = ParamTree.from_user(params), np.random.default_rng(seed)
    graph = trace(traced, tree)
    loss = LossFunction(called, tree)
    loop = LoopEngine(loss, tree)
    tensor = tree[name]
    replay = ReplayEngine(simplify(graph), tensor, loop.loss, 10**8, lambda *_: None)
    return disagreement(
        replay, loop, loss, tree, tensor, lambda: jitter_noise(graph, rng), rng, graph
    )


@pytest.mark.parametrize("residual", [1.0, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 0.0])
def test_a_right_trace_is_trusted_near_a_solution(residual):
    for seed in range(12):
        net = LeastSquares(residual, seed)
        report = fastcheck.check(net.loss, net.params, net.grads(), engine="replay")
        assert report.verdict is not Verdict.FAIL, str(report)
        for name in net.params:
            assert differing(net.loss, net.loss, net.params, name, seed) is None


@pytest.mark.parametrize("name", ["w", "b"])
def test_a_leak_of_a_few_billionths_is_seen(name):
    for seed in range(12):
        net = LeastSquares(1.0, seed, bias=10.0)
        leaking = net.leaking(1e-8, name)
        found = differing(net.loss, leaking, net.params, name, seed)
        assert found is not None
        assert f"moving all of {name} changes" in found or f"moving {name}[" in found


@pytest.mark.parametrize("residual", [1e-6, 1e-8, 1e-10])
def test_near_a_solution_a_leak_above_the_rounding_is_seen(residual):
    for seed in range(12):
        net = LeastSquares(residual, seed)
        for name in net.params:
            leaking = net.leaking(1e-5, name)
            assert differing(net.loss, leaking, net.params, name, seed) is not None


def test_the_rounding_of_a_loss_is_that_of_where_it_is_moved_to():
    net = LeastSquares(1e-10, 0)
    tree = ParamTree.from_user(net.params)
    graph = trace(net.loss, tree)
    rng = np.random.default_rng(0)
    at_the_solution = jitter_noise(graph, rng)
    moved = {"w": net.params["w"] + 1e-3}
    there = jitter_noise(graph, rng, moved)
    assert there > 1e4 * at_the_solution
    plain, exact = (squares(net, moved["w"], kind) for kind in (np.float64, np.longdouble))
    assert there > abs(float(plain / 2 - exact / 2))
    assert there < 1e-9 * float(plain)


def squares(net, w, kind):
    """Return Σr² in the arithmetic of a type."""
    return np.sum((net.X @ w.astype(kind) + net.params["b"] - net.y.astype(kind)) ** 2)
