"""Python loops over samples become one pass over all of them, and stay the same function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.params import ParamTree
from fastcheck.trace.graph import Graph
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(12)
N = 20
X, Y = RNG.standard_normal((N, 5)), RNG.standard_normal((N, 3))
LABELS = RNG.integers(3, size=N)
WORDS = RNG.integers(12, size=(N, 2))
PARAMS = {
    "W": RNG.standard_normal((4, 5)),
    "b": RNG.standard_normal((4, 1)),
    "V": RNG.standard_normal((3, 4)),
    "E": RNG.standard_normal((12, 3)),
}


def scores(p: Any, x: Any) -> Any:
    h = 1 / (1 + np.exp(-(p["W"] @ x.reshape(-1, 1) + p["b"])))
    return p["V"] @ h


def columns(p: Any) -> Any:
    total = 0.0
    for x, y in zip(X, Y, strict=True):
        total += 0.5 * np.linalg.norm(scores(p, x) - y.reshape(-1, 1)) ** 2
    return total / N


def a_list(p: Any) -> Any:
    losses = []
    for x, label in zip(X, LABELS, strict=True):
        z = scores(p, x).ravel()
        e = np.exp(z - z.max())
        losses.append(-np.log(e[label] / e.sum()))
    return np.mean(losses)


def subtracted(p: Any) -> Any:
    total = 0.0
    for x, label in zip(X, LABELS, strict=True):
        z = scores(p, x)[:, 0]
        total -= z[label] - np.log(np.sum(np.exp(z)))
    return total


def with_branches(p: Any) -> Any:
    total = 0.0
    for x, label in zip(X, LABELS, strict=True):
        z = scores(p, x)[:, 0]
        for k in range(3):
            margin = z[k] - z[label] + 1.0
            if k != label and margin > 0:
                total += margin
    return total


def pairs_of_words(p: Any) -> Any:
    total = 0.0
    for one, other in WORDS:
        total = total + np.logaddexp(0, -np.dot(p["E"][one], p["E"][other]))
    return total


def rows_joined(p: Any) -> Any:
    rows = [np.concatenate([p["V"] @ np.tanh(p["W"] @ x), [1.0]]) for x in X]
    return np.sum(np.stack(rows, axis=1) ** 2) + np.sum(np.concatenate(rows[3:12]))


def other_orders(p: Any) -> Any:
    found = [np.tanh(p["W"] @ x) for x in X]
    total = 0.0
    for k in range(N):
        total += np.sum(found[k] * found[(3 * k + 1) % N]) + np.max(found[k - 1][1:3])
    return total


def parts_of_weights(p: Any) -> Any:
    total = 0.0
    for k in range(N):
        total += np.tanh(X[k, 0] * p["W"][k % 4, k // 4]) * p["b"][k % 4, 0]
        total += np.sum(np.square(p["W"][:, k % 5] - X[k, 1]))
    return total


def windows(p: Any) -> Any:
    out = np.zeros((6, 4))
    for i in range(6):
        for j in range(3):
            out[i, j] = np.sum(X[i : i + 4, j : j + 3] * p["E"][1:5, :])
    total = 0.0
    for i in range(0, 6, 2):
        for j in range(0, 3, 2):
            total += np.max(out[i : i + 2, j : j + 2])
    return total + np.sum(out**2)


def over_time(p: Any) -> Any:
    h, total = np.zeros(4), 0.0
    for x, y in zip(X, Y, strict=True):
        h = np.tanh(p["W"] @ x + p["b"][:, 0] * h)
        total += np.sum((p["V"] @ h - y) ** 2)
    return total


def cumulative(p: Any) -> Any:
    total = 0.0
    for x in X:
        z = np.tanh(p["W"] @ x)
        total += np.sum(np.cumsum(z) ** 2) + np.prod(z) + np.sum(np.broadcast_to(z, (2, 4)) ** 2)
        total += np.sum(np.where(z > 0, z, 0.1 * z)) + np.sum(z[:, None].T @ p["V"].T)
    return total


LOSSES = (
    columns,
    a_list,
    subtracted,
    with_branches,
    pairs_of_words,
    rows_joined,
    other_orders,
    parts_of_weights,
    windows,
    over_time,
    cumulative,
)


def graph_of(loss: Any) -> Graph:
    return simplify(trace(loss, ParamTree.from_user(PARAMS)))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_the_rolled_graph_is_the_same_function(loss: Any) -> None:
    graph = graph_of(loss)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        near = {n: v + 1e-3 * rng.standard_normal(v.shape) for n, v in PARAMS.items()}
        assert graph.evaluate(near) == pytest.approx(float(loss(near)), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_every_value_is_the_one_that_the_operands_give(loss: Any) -> None:
    with np.errstate(all="ignore"):
        for node in graph_of(loss):
            if node.operands:
                values = [operand.value for operand in node.operands]
                found = node.primitive.evaluate(*values, **node.params)
                assert np.shape(found) == node.shape
                np.testing.assert_allclose(found, node.value, rtol=1e-12, atol=1e-12)
                assert node.tensors == frozenset().union(*[x.tensors for x in node.operands])


@pytest.mark.parametrize("step", [1e-3, 0.1])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_replay_equals_the_loop(loss: Any, step: float) -> None:
    replay, loop = (
        fastcheck.numerical_gradient(loss, PARAMS, step=step, engine=engine)
        for engine in ("replay", "loop")
    )
    for name in PARAMS:
        scale = max(1.0, np.abs(loop[name]).max(), abs(float(loss(PARAMS))))
        np.testing.assert_allclose(replay[name], loop[name], rtol=0, atol=1e-12 * scale / step)


@pytest.mark.parametrize(
    ("loss", "most"), [(columns, 24), (a_list, 24), (subtracted, 24), (pairs_of_words, 16)]
)
def test_a_loop_over_samples_becomes_a_few_operations(loss: Any, most: int) -> None:
    assert len(graph_of(loss)) <= most


def test_a_short_loop_stays_as_it_is_written() -> None:
    def loss(p: Any) -> Any:
        return sum(np.sum(np.tanh(p["W"] @ x)) for x in X[:5])

    assert sum(node.primitive.name == "tanh" for node in graph_of(loss)) == 5


def test_a_partial_sum_that_is_used_again_is_kept() -> None:
    def loss(p: Any) -> Any:
        total, products = 0.0, 0.0
        for x in X:
            total = total + np.tanh(np.sum(p["W"] @ x))
            products = products + total**2
        return products

    moved = {name: value + 0.1 for name, value in PARAMS.items()}
    assert graph_of(loss).evaluate(moved) == pytest.approx(float(loss(moved)), rel=1e-12)


@pytest.mark.parametrize("loss", [columns, a_list, subtracted, pairs_of_words])
def test_a_gradient_without_one_sample_fails(loss: Any) -> None:
    right = fastcheck.numerical_gradient(loss, PARAMS)
    assert fastcheck.check(loss, PARAMS, right)
    name = "E" if loss is pairs_of_words else "V"
    wrong = {n: g.copy() for n, g in right.items()}
    wrong[name][0, 0] *= 1 - 1 / N
    report = fastcheck.check(loss, PARAMS, wrong)
    assert report.tensors[name].verdict.name == "FAIL"
    assert {t.engine for t in report.tensors.values()} <= {"replay", "fused"}
