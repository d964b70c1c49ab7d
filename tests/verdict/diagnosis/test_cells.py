"""Mistakes in a cell that every step of a loop makes, and backward passes that stop early."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(0)
STEPS, SAMPLES, UNITS = 5, 3, 4
X, Y = RNG.standard_normal((STEPS, SAMPLES, 4)), RNG.standard_normal((STEPS, SAMPLES, 2))
PARAMS = {
    "W": 0.5 * RNG.standard_normal((4 + UNITS, 4 * UNITS)),
    "b": 0.1 * RNG.standard_normal(4 * UNITS),
    "V": RNG.standard_normal((UNITS, 2)),
}


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def steps(p: Any) -> list[Any]:
    h, c, found = np.zeros((SAMPLES, UNITS)), np.zeros((SAMPLES, UNITS)), []
    for x in X:
        into = np.concatenate([x, h], axis=1)
        z = into @ p["W"] + p["b"]
        i, f, o = (sigmoid(z[:, k * UNITS : (k + 1) * UNITS]) for k in range(3))
        g, before = np.tanh(z[:, 3 * UNITS :]), c
        c = f * c + i * g
        h = o * np.tanh(c)
        found.append((into, i, f, o, g, before, c, h))
    return found


def loss(p: Any) -> Any:
    return sum(0.5 * np.sum((s[-1] @ p["V"] - Y[t]) ** 2) for t, s in enumerate(steps(p)))


def backward(state: bool = True, cell: bool = True, slope: bool = True, far: int = STEPS) -> Any:
    """What flows back from each step's loss, on its own, as far as it goes."""
    made = steps(PARAMS)
    grads = {name: np.zeros_like(value) for name, value in PARAMS.items()}
    for last in range(STEPS):
        d = made[last][-1] @ PARAMS["V"] - Y[last]
        grads["V"] += made[last][-1].T @ d
        dh, dc = d @ PARAMS["V"].T, 0.0
        for t in range(last, max(-1, last - far - 1), -1):
            into, i, f, o, g, before, c, _ = made[t]
            do = dh * np.tanh(c) * (o * (1 - o) if slope else 1)
            dc = dh * o * (1 - np.tanh(c) ** 2) + dc
            parts = [dc * g * i * (1 - i), dc * before * f * (1 - f), do, dc * i * (1 - g * g)]
            dz = np.concatenate(parts, axis=1)
            grads["W"] += into.T @ dz
            grads["b"] += dz.sum(axis=0)
            dh, dc = state * (dz @ PARAMS["W"].T)[:, 4:], cell * dc * f
    return grads


def only(loss: Any, params: Any, grads: Any) -> Any:
    report = fastcheck.check(loss, params, grads)
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    (found,) = report.diagnosis.findings
    assert found.certainty == "exact"
    return found


@pytest.mark.parametrize(("state", "cell"), [(False, True), (True, False), (False, False)])
def test_a_cell_that_carries_back_less_than_all(state: bool, cell: bool) -> None:
    assert fastcheck.check(loss, PARAMS, backward())
    found = only(loss, PARAMS, backward(state, cell))
    assert (found.cause, found.tensors) == ("missing-path", ("W", "b"))
    assert ("concatenate" in found.evidence) == (not state)


def test_one_gate_of_a_cell_without_its_slope() -> None:
    found = only(loss, PARAMS, backward(slope=False))
    assert (found.cause, found.tensors) == ("activation-derivative", ("W", "b"))
    assert f"at each of {STEPS} places" in found.evidence


SERIES = RNG.standard_normal((6, 3))
WEIGHT = RNG.standard_normal((6, UNITS))
SIMPLE = {
    "U": RNG.standard_normal((UNITS, 3)),
    "W": RNG.standard_normal((UNITS, UNITS)),
    "b": 0.1 * RNG.standard_normal(UNITS),
}


def simple_states(p: Any) -> list[Any]:
    h = [np.zeros(UNITS)]
    for x in SERIES:
        h.append(np.tanh(p["U"] @ x + p["W"] @ h[-1] + p["b"]))
    return h


def simple_loss(p: Any) -> Any:
    return sum(np.sum(w * h) for w, h in zip(WEIGHT, simple_states(p)[1:], strict=True))


def truncated(far: int) -> dict[str, Any]:
    h = simple_states(SIMPLE)
    grads = {name: np.zeros_like(value) for name, value in SIMPLE.items()}
    for last in range(len(SERIES)):
        d = WEIGHT[last]
        for t in range(last, max(-1, last - far - 1), -1):
            d = d * (1 - h[t + 1] ** 2)
            grads["U"] += np.outer(d, SERIES[t])
            grads["W"] += np.outer(d, h[t])
            grads["b"] += d
            d = SIMPLE["W"].T @ d
    return grads


@pytest.mark.parametrize("far", [1, 2, 4])
def test_backpropagation_through_time_that_is_truncated(far: int) -> None:
    assert fastcheck.check(simple_loss, SIMPLE, truncated(6))
    found = only(simple_loss, SIMPLE, truncated(far))
    assert found.cause == "missing-path"
    assert f"on for {far} step" in found.evidence


def test_weights_that_are_tied_and_listed_twice() -> None:
    ids, labels, rows = RNG.integers(0, 7, 20), RNG.integers(0, 7, 20), np.arange(20)
    E = RNG.standard_normal((7, 4))
    own = E.copy()

    def forward() -> tuple[Any, Any]:
        h = np.tanh(own[ids])
        scores = h @ own.T
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        return h, e / e.sum(axis=1, keepdims=True)

    def tied_loss(p: Any) -> Any:
        own[...] = p[0]
        own.T[...] = p[1]
        return -np.log(forward()[1][rows, labels]).mean()

    h, d = forward()
    d[rows, labels] -= 1
    d /= 20
    first, second = np.zeros_like(E), h.T @ d
    np.add.at(first, ids, (d @ E) * (1 - h * h))
    found = only(tied_loss, [E, E.T], [first, second])
    assert (found.cause, found.tensors) == ("tied-weights", ("[0]", "[1]"))
    report = fastcheck.check(tied_loss, [E, E.T], [1.01 * first, second])
    assert report.diagnosis is not None
    assert "tied-weights" not in report.diagnosis.causes
