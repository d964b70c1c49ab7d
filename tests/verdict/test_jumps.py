"""Losses that jump near θ: a threshold decides which terms count. Right passes, wrong fails."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict
from fastcheck.engines.replay import ReplayEngine
from fastcheck.params import ParamTree
from fastcheck.trace.tracer import trace
from fastcheck.verdict.jumps import Origin, origin
from fastcheck.verdict.probing import Probe
from fastcheck.verdict.stairs import Ladder, height, longest_step

RNG = np.random.default_rng(5)
X, Y, LABELS = RNG.standard_normal((40, 5)), RNG.standard_normal(40), RNG.integers(0, 3, 40)
W = RNG.standard_normal(5)
WRONG = (1.01, 2.0, -1.0)


def softmax_loss(p):
    z = X @ p
    e = np.exp(z - z.max(1, keepdims=True))
    P = e / e.sum(1, keepdims=True)
    return P, -np.log(P[np.arange(len(X)), LABELS])


def hard_examples(how):
    p = 0.3 * np.random.default_rng(1).standard_normal((5, 3))
    cutoff = 0.7

    def loss(p):
        each = softmax_loss(p)[1]
        if how == "masked":
            return np.sum(each * (each > cutoff)) / 40
        if how == "chosen":
            return np.sum(each[each > cutoff]) / 40
        return np.sum(np.where(each > cutoff, each, 0.0)) / 40

    P, each = softmax_loss(p)
    return loss, p, X.T @ ((P - np.eye(3)[LABELS]) * (each > cutoff)[:, None]) / 40


def trimmed():
    r = X @ W - Y
    inside = np.abs(r) < 1.5

    def loss(w):
        return np.sum(np.where(np.abs(X @ w - Y) < 1.5, (X @ w - Y) ** 2, 0.0)) / 40

    return loss, W, 2 * X.T @ (r * inside) / 40


def gate():
    V = np.random.default_rng(2).standard_normal((5, 6))

    def loss(v):
        h = np.tanh(X @ v)
        return np.mean(((h * (np.abs(h) > 0.3)).sum(1) - Y) ** 2)

    h = np.tanh(X @ V)
    open_ = np.abs(h) > 0.3
    r = 2 * ((h * open_).sum(1) - Y) / 40
    return loss, V, X.T @ (r[:, None] * open_ * (1 - h * h))


def nearest_code():
    codes = np.random.default_rng(3).standard_normal((4, 3))
    V = np.random.default_rng(2).standard_normal((5, 3))
    few = X[:6]

    def nearest(z):
        return np.argmin(((z[:, None] - codes) ** 2).sum(-1), axis=1)

    def loss(v):
        z = few @ v
        return np.mean((codes[nearest(z)] - np.tanh(z)) ** 2)

    z = few @ V
    d = 2 * (np.tanh(z) - codes[nearest(z)]) / z.size
    return loss, V, few.T @ (d * (1 - np.tanh(z) ** 2))


def replaced():
    w = np.array([1.61, -0.05, 0.02])
    return (lambda w: np.sum(3 * np.where(w > 0, w, 2.0))), w, 3.0 * (w > 0)


def sawtooth():
    w = np.array([-1.24])
    return (lambda w: np.sum(1.9 * w) + 1.2 * np.sum(np.remainder(w, 0.7))), w, np.array([3.1])


def branch():
    w = np.array([0.8, 0.3])

    def loss(w):
        total = np.sum(w**3)
        if w[0] > 0.75:
            total = total + 5 * w[1] ** 2
        return total

    return loss, w, 3 * w**2 + np.array([0.0, 10 * w[1]])


CASES = {
    "hard examples, masked": lambda: hard_examples("masked"),
    "hard examples, chosen": lambda: hard_examples("chosen"),
    "hard examples, where": lambda: hard_examples("where"),
    "trimmed residuals": trimmed,
    "a gate": gate,
    "the nearest code": nearest_code,
    "values replaced": replaced,
    "a sawtooth": sawtooth,
    "a branch": branch,
}


def jumps_in_sight(loss, params):
    """Whether the loss jumps within the steps of a second look."""
    tree = ParamTree.from_user(params)
    graph = trace(loss, tree)
    tensor = tree.tensors[0]

    def by_the_user(indices, steps):
        moved = np.tile(tensor.value.ravel(), (len(indices), 1))
        moved[np.arange(len(indices)), indices] += steps
        return np.array([loss(m.reshape(tensor.shape)) for m in moved]) - loss(tensor.value)

    engine = ReplayEngine(graph, tensor, float(loss(params)), 2**30, by_the_user)
    probe, at = Probe(engine, tensor.name), np.arange(tensor.size)
    found = 0.0
    for index in at:
        one = np.array([index])
        ladder = Ladder.climb(probe, tensor, one, np.array([longest_step(tensor) * 2.0**-28]))
        leaps = ladder.leaps(0.0, 0.0, 1e-12)
        found = max(found, height(probe, one, ladder, leaps, 0.0))
    return found > 0


@pytest.mark.parametrize("case", CASES)
def test_a_traced_loss_that_jumps_close_by_is_judged(case):
    loss, params, right = CASES[case]()
    assert jumps_in_sight(loss, params)
    report = fastcheck.check(loss, params, right)
    assert report.passed, str(report)
    for factor in WRONG:
        report = fastcheck.check(loss, params, factor * right)
        assert report.verdict is Verdict.FAIL, (factor, str(report))


def leaky(distance):
    """One of nine values is this far from where the slope, and the value, change."""
    x = np.linspace(-2, 2, 9)
    x[3] = -0.5 - distance

    def loss(a):
        h = a * x
        return np.sum((np.where(h < -0.5, 0.5 * h, h) - Y[:9]) ** 2)

    slope = np.where(x < -0.5, 0.5, 1.0)
    return loss, np.array(1.0), np.array(np.sum(2 * (slope * x - Y[:9]) * slope * x))


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-5, 1e-8])
def test_a_jump_however_close_does_not_matter(distance):
    loss, theta, right = leaky(distance)
    assert fastcheck.check(loss, theta, right).passed
    assert fastcheck.check(loss, theta, -right).verdict is Verdict.FAIL


TABLE = np.linspace(-9, 9, 512)
ROUNDED = {
    "round": lambda x: np.round(x, 4),
    "floor": lambda x: np.floor(x * 1e4) / 1e4,
    "whole numbers": lambda x: (x * 1e4).astype(np.int64) / 1e4,
    "remainder": lambda x: x - np.remainder(x, 1e-4),
    "a table": lambda x: TABLE[np.argmin(np.abs(x[:, None] - TABLE), axis=1)],
    "a sorted table": lambda x: TABLE[np.searchsorted(TABLE, x)],
    "comparisons": lambda x: np.sum(x[:, None] > TABLE, axis=1) * (TABLE[1] - TABLE[0]) - 9,
}


@pytest.mark.parametrize("penalty", [0.0, 0.1])
@pytest.mark.parametrize("how", ROUNDED)
def test_stairs_are_not_taken_for_a_few_jumps(how, penalty):
    """The gradient is that of what is rounded; a derivative between two stairs proves nothing."""

    def loss(w):
        return np.mean(ROUNDED[how](few @ w) ** 2) + penalty * np.sum(w**2)

    few = X[:12]
    right = 2 * few.T @ (few @ W) / 12 + 2 * penalty * W
    for factor in (1.0, 2.0):
        report = fastcheck.check(loss, W, factor * right)
        assert report.verdict is Verdict.INCONCLUSIVE, (factor, str(report))


def test_stairs_finer_than_the_curvature_at_the_longest_step_are_seen():
    """Far off, stairs of 1e-5 are nothing beside the curvature of the loss."""
    w = np.array([0.4, 1.3])

    def loss(w):
        square = np.sum(w**2)
        return square - np.remainder(square, 1e-5) + np.sum(w**2)

    assert fastcheck.check(loss, w, 4 * w).verdict is Verdict.INCONCLUSIVE


def origin_of(loss, params=W):
    tree = ParamTree.from_user(params)
    engine = ReplayEngine(trace(loss, tree), tree.tensors[0], 0.0, 2**30, lambda *_: np.zeros(0))
    return origin(engine.slice)


@pytest.mark.parametrize(
    ("loss", "made_by"),
    [
        (lambda w: np.sum(w * (w > 0.1)), Origin.SWITCHES),
        (lambda w: np.sum(np.where(w > 0.1, w, 2.0)), Origin.SWITCHES),
        (lambda w: np.sum(w * (w > 0)) / np.maximum(np.sum(w > 0), 1), Origin.SWITCHES),
        (lambda w: np.sum(w * np.heaviside(w - 0.1, 0.0)), Origin.SWITCHES),
        (lambda w: np.sum(1 / w), Origin.SWITCHES),
        (lambda w: np.sum(w**2) + np.sum(w > 0.1), Origin.STEPS),
        (lambda w: np.sum(np.where(w > 0.1, w, w > 0)), Origin.STEPS),
        (lambda w: np.sum(np.remainder(w, 0.3)), Origin.STEPS),
        (lambda w: np.sum(w**2) + np.sum(np.round(w, 1)), Origin.ROUNDING),
        (lambda w: np.sum(w * np.sign(w - 0.1)), Origin.ROUNDING),
        (lambda w: np.sum(w) + np.sum(w // 0.1), Origin.ROUNDING),
        (lambda w: np.sum(w) + np.sum((10 * w).astype(int)), Origin.ROUNDING),
        (lambda w: np.mean((w > 0) * X), Origin.ROUNDING),
    ],
)
def test_what_makes_a_loss_jump_is_read_off_its_trace(loss, made_by):
    assert origin_of(loss) is made_by


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_a_black_box_that_jumps_says_so(factor):
    loss, params, right = leaky(1e-3)
    report = fastcheck.check(loss, params, factor * right, engine="loop")
    (tensor,) = report.tensors.values()
    assert tensor.verdict is Verdict.INCONCLUSIVE
    assert "it jumps, or it jitters" in tensor.reason
    assert "threshold" in tensor.reason
    assert "so small" not in tensor.reason


def test_behind_gates_that_are_shut_derivatives_are_zero():
    params = {"shut": np.array([-0.05, -0.1, -1.0]), "b": np.array([0.4, 0.7])}

    def loss(p):
        return np.sum(np.where(p["shut"] > 0, p["shut"], 2.0)) + np.sum(p["b"] ** 2)

    nothing = np.zeros(3)
    assert fastcheck.check(loss, params, {"shut": nothing, "b": 2 * params["b"]}).passed
    wrong = fastcheck.check(loss, params, {"shut": nothing + 1, "b": 2 * params["b"]})
    assert wrong.tensors["shut"].verdict is Verdict.FAIL


def test_of_a_loss_that_only_counts_zero_derivatives_prove_nothing():
    params = {"w": np.array([-0.05, 0.1, 0.3]), "b": np.array([0.4, 0.7])}

    def loss(p):
        return np.mean(X[:, :3] @ p["w"] > 0) + np.sum(p["b"] ** 2)

    report = fastcheck.check(loss, params, {"w": np.zeros(3), "b": 2 * params["b"]})
    assert report.tensors["w"].verdict is Verdict.INCONCLUSIVE
    assert "stands still" in report.tensors["w"].reason
