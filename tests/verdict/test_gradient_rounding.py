"""A right gradient that is mostly rounding does not fail, and a wrong one never passes for it."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace
from fastcheck.verdict.gradient_rounding import differently_rounded, gradient_rounding

U64, U32 = 2.0**-53, 2.0**-24


class Softmax:
    """A linear softmax classifier, its gradient by p − y in the dtype of its weights."""

    def __init__(self, X, Y, W):
        self.X, self.Y, self.W = X, Y, W

    def loss(self, W):
        S = self.X @ W
        S = S - S.max(axis=1, keepdims=True)
        logs = S - np.log(np.sum(np.exp(S), axis=1, keepdims=True))
        return -np.sum(self.Y * logs) / len(self.X)

    def stacked(self, W):
        S = np.einsum("mi,bij->bmj", self.X, W)
        S = S - S.max(axis=2, keepdims=True)
        logs = S - np.log(np.sum(np.exp(S), axis=2, keepdims=True))
        return -np.sum(self.Y * logs, axis=(1, 2)) / len(self.X)

    def grads(self):
        S = self.X @ self.W
        E = np.exp(S - S.max(axis=1, keepdims=True))
        P = E / E.sum(axis=1, keepdims=True)
        return (self.X.T @ ((P - self.Y) / len(self.X))).astype(self.W.dtype)


def certain(margin, seed, dtype):
    """A classifier that is certain of every sample by a margin of at least so much."""
    rng = np.random.default_rng(seed)
    X, W = (rng.standard_normal(shape).astype(dtype) for shape in ((3, 2), (2, 3)))
    scores = np.sort(X @ W, axis=1)
    Y = np.eye(3, dtype=dtype)[np.argmax(X @ W, axis=1)]
    return Softmax(X, Y, (W * dtype(margin / np.min(scores[:, -1] - scores[:, -2]))).astype(dtype))


@pytest.mark.parametrize(("dtype", "margin"), [(np.float32, 9), (np.float32, 13), (np.float64, 34)])
@pytest.mark.parametrize("engine", ["replay", "loop", "batched"])
def test_p_less_y_of_a_certain_softmax_does_not_fail(dtype, margin, engine):
    for seed in range(6):
        net = certain(margin, seed, dtype)
        options = {"batched": True} if engine == "batched" else {"engine": engine}
        loss = net.stacked if engine == "batched" else net.loss
        report = fastcheck.check(loss, net.W, net.grads(), **options)
        assert report.verdict is not Verdict.FAIL, str(report)
        for wrong in (2 * net.grads(), -net.grads()):
            found = fastcheck.check(loss, net.W, wrong, **options)
            assert found.verdict is not Verdict.PASS, str(found)


def test_one_certain_sample_among_others_is_no_reason_to_fail():
    net = Softmax(np.eye(2), np.eye(2)[[0, 0]], np.array([[36.6, 0.0], [12.0, 0.0]]))
    assert fastcheck.check(net.loss, net.W, net.grads()).passed
    wrong = net.grads()
    wrong[1, 0] *= 1.001
    assert fastcheck.check(net.loss, net.W, wrong).failed


def regression(size, seed):
    rng = np.random.default_rng(seed)
    X, w = rng.uniform(1, 2, (8, 4)).astype(np.float32), rng.uniform(1, 2, 4).astype(np.float32)
    b = np.array([size * rng.uniform(1, 2)], dtype=np.float32)
    y = (X.astype(float) @ w + b + 1e-4 * rng.standard_normal(8)).astype(np.float32)
    r = X @ w + b - y

    def loss(p):
        return 0.5 * np.sum((X @ p["w"] + p["b"] - y) ** 2)

    return loss, {"w": w, "b": b}, {"w": X.T @ r, "b": np.array([r.sum()])}


@pytest.mark.parametrize("size", [0.001, 0.1, 1.0])
def test_the_rounding_of_other_tensors_counts(size):
    for seed in range(10):
        loss, params, grads = regression(size, seed)
        report = fastcheck.check(loss, params, grads)
        assert report.verdict is not Verdict.FAIL, str(report)
        wrong = {name: 2 * value for name, value in grads.items()}
        assert not fastcheck.check(loss, params, wrong).passed


def test_it_is_what_roundings_do_to_the_gradient():
    net = certain(9, 0, np.float32)
    tree = ParamTree.from_user(net.W)
    graph = simplify(trace(net.loss, tree))
    found = {
        unit: gradient_rounding(graph, unit, np.random.default_rng(0))["params"]
        for unit in (U64, U32)
    }
    exact = fastcheck.numerical_gradient(net.loss, net.W.astype(float)).ravel()
    off = np.abs(net.grads().ravel() - exact)
    assert np.all(off <= found[U32] + U32 * np.abs(exact))
    # In proportion to the unit, and no excuse for more than some of them.
    ratio = found[U32] / found[U64]
    assert np.all((ratio > 1e7) & (ratio < 3e10))
    assert np.max(found[U32]) < 100 * U32 * np.max(np.abs(net.X)) / len(net.X) * 3


def test_two_backward_passes_tell_the_norm():
    ratios = []
    for seed in range(10):
        net = certain(9, seed, np.float64)
        graph = simplify(trace(net.loss, ParamTree.from_user(net.W)))
        careful, rough = (
            np.linalg.norm(
                gradient_rounding(graph, U64, np.random.default_rng(seed), rough=rough)["params"]
            )
            for rough in (False, True)
        )
        ratios.append(rough / careful)
    assert all(0.05 < ratio < 5 for ratio in ratios)
    assert 0.4 < np.median(ratios) < 2


def test_without_a_backward_rule_nothing_is_said():
    tree = ParamTree.from_user(np.array([0.5, 0.25]))
    graph = trace(lambda w: np.prod(w), tree)
    assert gradient_rounding(graph, U64, np.random.default_rng(0)) == {}


def test_a_wrong_gradient_is_told_from_rounding_without_a_second_opinion():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), rng.normal(size=20)

    def loss(w):
        return np.mean((np.tanh(X @ w) - y) ** 2)

    w = rng.normal(size=4)
    t = np.tanh(X @ w)
    right = 2 * X.T @ ((t - y) * (1 - t**2)) / 20
    assert fastcheck.check(loss, w, right).passed
    for factor in (1.0 + 1e-5, 0.5, -1.0):
        assert fastcheck.check(loss, w, factor * right).failed


def test_what_is_nearly_tied_in_float32_is_no_failure() -> None:
    """A backward pass in float32 may give the derivative to the other of two near equals."""
    x = np.array([[0.5, 0.5000000149]])  # equal in float32

    def loss(p):
        return np.sum((x * p["w"]).max(axis=1) * p["v"])

    params = {"w": np.ones(2, np.float32), "v": np.full(1, 2.0, np.float32)}
    other = {"w": np.array([1.0, 0.0], np.float32), "v": np.array([0.5], np.float32)}
    report = fastcheck.check(loss, params, other)
    assert report.verdict is not fastcheck.Verdict.FAIL, report
    wrong = {**other, "w": np.array([1.0, 1.0], np.float32)}
    for grads in (wrong, {**other, "v": 1.01 * other["v"]}):
        assert fastcheck.check(loss, params, grads).verdict is not fastcheck.Verdict.PASS
    apart = {"w": np.array([1.0, 0.9], np.float32), "v": params["v"]}
    assert fastcheck.check(loss, apart, {**other, "w": other["w"][::-1]}).failed == ("w",)


def test_cells_that_are_read_before_they_are_written():
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((4, 3)), rng.standard_normal((3, 3))

    def loss(w):
        D = ((A[:, None] * w - B[None]) ** 2).sum(-1)
        R = np.full((5, 4), 1e8)
        R[0, 0] = 0
        for i in range(1, 5):
            for j in range(1, 4):
                z = np.array([R[i - 1, j], R[i, j - 1], R[i - 1, j - 1]])
                m = z.min()
                R[i, j] = D[i - 1, j - 1] + m - np.log(np.exp(-(z - m)).sum())
        return R[4, 3]

    w = rng.standard_normal(3)
    right = fastcheck.numerical_gradient(loss, w)
    assert fastcheck.check(loss, w, right, tolerance=1e-5).passed
    assert fastcheck.check(loss, w, 1.001 * right, tolerance=1e-5).failed
    written = trace(loss, ParamTree.from_user(w))
    for graph in (written, simplify(written)):
        found = gradient_rounding(graph, U64, np.random.default_rng(0))["params"]
        assert np.all((found > 0) & (found < 1e-11 * np.abs(right).max()))


def test_what_needs_no_second_pass_is_not_passed_twice():
    def plain(w):
        return ((np.array([w[0] * w[1], w[1] * 2.0]) + w) ** 2).sum()

    def softmax(w):
        return np.log(np.exp(w).sum()) - w[0]

    for loss, count in ((plain, 1), (softmax, 2)):
        graph = trace(loss, ParamTree.from_user(np.array([0.5, 0.25])))
        assert len(differently_rounded(graph, simplify(graph))) == count


def test_passes_that_fill_memory_are_taken_one_by_one(monkeypatch):
    graph = trace(lambda w: np.tanh(w).sum(), ParamTree.from_user(np.linspace(-1, 1, 50)))
    together = gradient_rounding(graph, U64, np.random.default_rng(0))["params"]
    monkeypatch.setattr("fastcheck.verdict.gradient_rounding._MOST_HELD", 1)
    alone = gradient_rounding(graph, U64, np.random.default_rng(0))["params"]
    assert 0.5 < np.linalg.norm(alone) / np.linalg.norm(together) < 2
