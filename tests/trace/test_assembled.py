"""What was written into an array part by part is read part by part."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.params import ParamTree
from fastcheck.trace.graph import Graph
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(8)
X = RNG.standard_normal((5, 6, 3))
W = RNG.standard_normal((3, 4))
PARAMS = {"W": W, "U": RNG.standard_normal((4, 4)) / 2}


def states(p: Any) -> Any:
    h = np.zeros((6, 6, 4))
    for t in range(5):
        h[t + 1] = np.tanh(X[t] @ p["W"] + h[t] @ p["U"])
    return h


def last_state(p: Any) -> Any:
    return np.sum(states(p)[-1] ** 2)


def initial_state_at_the_end(p: Any) -> Any:
    h = np.zeros((6, 6, 4))
    for t in range(5):
        h[t] = np.tanh(X[t] @ p["W"] + h[t - 1] @ p["U"])
    return np.sum(h[4] ** 2)


def every_state(p: Any) -> Any:
    return np.sum(states(p)[1:] @ p["U"])


def gates(p: Any) -> Any:
    a = np.zeros((5, 6, 4))
    for t in range(5):
        z = X[t] @ p["W"]
        a[t, :, :3] = np.exp(-z[:, :3])
        a[t, :, 3:] = np.tanh(z[:, 3:])
    parts = [np.split(a[t], 4, axis=1) for t in range(5)]
    return sum(np.sum(i * f + o * g) for i, f, o, g in parts)


def written_twice(p: Any) -> Any:
    a = np.zeros((6, 4))
    a[1:5] = X[0][:4] @ p["W"]
    a[2:4, 1] = 3.0
    a[0] = a[1] * a[4]
    return np.sum(a[1:3] ** 2) + np.sum(a[0]) + np.sum(a[:, 1:3] ** 3)


def broadcast(p: Any) -> Any:
    a = np.ones((2, 6, 4))
    a[:, 2:] = p["W"][0]
    a[1, ..., None, 0] = 2 * p["W"][1, 0]
    return np.sum(a[1] ** 2) + np.sum(a[0, 3] * a[1, 2])


def columns(p: Any) -> Any:
    a = np.zeros((4, 6, 5))
    for t in range(5):
        a[:, :, t] = np.tanh(X[t] @ p["W"]).T
    return np.sum(a[:, :, 2] * a[:, :, -1]) + np.sum(a**2)


def scattered(p: Any) -> Any:
    a = np.zeros((6, 4))
    a[::2] = X[0][::2] @ p["W"]
    a[[1, 3]] = X[1][:2] @ p["W"]
    a[5] = a[0] * a[3]
    return np.sum(a[4:] ** 2) + np.sum(a[1])


def stacked(p: Any) -> Any:
    h, hs = np.zeros((6, 4)), []
    for x in X:
        h = np.tanh(x @ p["W"] + h @ p["U"])
        hs.append(h)
    s = np.stack(hs, axis=1)
    joined = np.concatenate([hs[0], hs[1]], axis=1)
    return np.sum(s[:, -1] ** 2) + np.sum(s[:, 1:3] ** 3) + np.sum(joined[:, 2:7])


LOSSES = (
    last_state,
    initial_state_at_the_end,
    every_state,
    gates,
    written_twice,
    broadcast,
    columns,
    scattered,
    stacked,
)
SEEN_THROUGH = (last_state, initial_state_at_the_end, gates)


def graph_of(loss: Any) -> Graph:
    return simplify(trace(loss, ParamTree.from_user(PARAMS)))


def operations(graph: Graph) -> set[str]:
    return {node.primitive.name for node in graph if not node.constant}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_the_rewritten_graph_is_the_same_function(loss: Any) -> None:
    graph = graph_of(loss)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        moved = {name: value + rng.standard_normal(value.shape) for name, value in PARAMS.items()}
        assert graph.evaluate(moved) == pytest.approx(float(loss(moved)), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
def test_replay_equals_the_loop_at_large_steps(loss: Any) -> None:
    replay, loop = (
        fastcheck.numerical_gradient(loss, PARAMS, step=0.1, engine=engine)
        for engine in ("replay", "loop")
    )
    for name in PARAMS:
        scale = max(1.0, np.abs(loop[name]).max())
        np.testing.assert_allclose(replay[name], loop[name], rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("loss", SEEN_THROUGH, ids=lambda f: f.__name__)
def test_nothing_is_left_of_a_buffer_that_is_read_part_by_part(loss: Any) -> None:
    assert not operations(graph_of(loss)) & {"write", "concatenate"}


def test_a_buffer_that_is_read_as_a_whole_is_joined_once() -> None:
    graph = graph_of(every_state)
    assert "write" not in operations(graph)
    assert sum(node.primitive.name == "concatenate" for node in graph) == 1


def test_what_is_written_in_another_type_keeps_its_rounding() -> None:
    def loss(p: Any) -> Any:
        a = np.zeros((6, 4), dtype=np.float32)
        a[:3] = X[0][:3] @ p["W"]
        return np.sum(a[1].astype(np.float64) ** 2)

    assert graph_of(loss).evaluate(PARAMS) == float(loss(PARAMS))


@pytest.mark.parametrize("engine", ["replay", "auto"])
def test_a_gradient_that_stops_at_the_buffer_fails(engine: str) -> None:
    right = fastcheck.numerical_gradient(last_state, PARAMS)
    assert fastcheck.check(last_state, PARAMS, right, engine=engine)
    h = states(PARAMS)
    dz = 2 * h[5] * (1 - h[5] ** 2)
    truncated = {"W": X[4].T @ dz, "U": h[4].T @ dz}
    report = fastcheck.check(last_state, PARAMS, truncated, engine=engine)
    assert {t.verdict.name for t in report.tensors.values()} == {"FAIL"}


@pytest.mark.parametrize("write", ["one by one", "two by two"])
def test_filling_a_long_array_takes_no_longer_for_each_element(write) -> None:
    def operations(length: int) -> int:
        """Count the calls that simplifying a recurrence over a buffer makes."""

        def recurrence(p: Any) -> Any:
            h = np.zeros(2 * length + 2)
            for t in range(length):
                if write == "one by one":
                    h[t + 1] = np.tanh(p["w"][0] * h[t])
                else:
                    h[2 * t + 2 : 2 * t + 4] = np.tanh(p["w"] * h[2 * t : 2 * t + 2])
            return np.sum(h**2)

        graph = trace(recurrence, ParamTree.from_user({"w": np.array([0.5])}))
        counted = 0

        def count(*_: Any) -> None:
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            simplify(graph)
        finally:
            sys.setprofile(None)
        return counted

    assert operations(400) < 4.4 * operations(100)
