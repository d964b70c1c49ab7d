"""What is known is not lost beside what is not: penalties, small constants, deeper layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(0)
X, LABELS, ROWS = RNG.standard_normal((12, 5)), RNG.integers(0, 3, 12), np.arange(12)
PARAMS = {
    "W1": RNG.standard_normal((5, 6)),
    "b1": np.zeros(6),
    "gamma": np.ones(6),
    "beta": np.zeros(6),
    "W2": 2 * RNG.standard_normal((6, 3)),
    "b2": np.zeros(3),
}


def softmax(scores: Any) -> Any:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def forward(p: Any) -> tuple[Any, ...]:
    z = X @ p["W1"] + p["b1"]
    spread = np.sqrt(z.var(axis=0) + 1e-8)
    n = (z - z.mean(axis=0)) / spread
    a = np.maximum(0, p["gamma"] * n + p["beta"])
    return n, spread, a, softmax(a @ p["W2"] + p["b2"])


def loss(p: Any) -> Any:
    return -np.sum(np.log(forward(p)[-1][ROWS, LABELS] + 1e-6)) / len(X)


def backward(through: Any) -> dict[str, Any]:
    n, spread, a, probabilities = forward(PARAMS)
    d = (probabilities - np.eye(3)[LABELS]) / len(X)
    dy = (d @ PARAMS["W2"].T) * (a > 0)
    dz = through(dy * PARAMS["gamma"], n) / spread
    return {
        "W1": X.T @ dz,
        "b1": dz.sum(axis=0),
        "gamma": (dy * n).sum(axis=0),
        "beta": dy.sum(axis=0),
        "W2": a.T @ d,
        "b2": d.sum(axis=0),
    }


def right(d: Any, n: Any) -> Any:
    return d - d.mean(axis=0) - n * (d * n).mean(axis=0)


def findings(loss: Any, params: Any, grads: Any) -> Any:
    report = fastcheck.check(loss, params, grads)
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    return report.diagnosis.findings


def test_a_constant_left_out_beside_statistics_taken_for_constants() -> None:
    (epsilon,) = findings(loss, PARAMS, backward(right))
    assert (epsilon.cause, epsilon.certainty) == ("epsilon", "exact")
    epsilon, path = findings(loss, PARAMS, backward(lambda d, n: d))
    assert (epsilon.cause, path.cause) == ("epsilon", "missing-path")
    assert (epsilon.certainty, path.certainty) == ("exact", "exact")
    assert path.tensors == ("W1", "b1")
    assert "Held against the gradient of the loss without" in path.explanation


def test_a_constant_left_out_beside_what_nothing_explains() -> None:
    epsilon, unknown = findings(loss, PARAMS, backward(lambda d, n: d * np.cos(3 * n)))
    assert (epsilon.cause, epsilon.certainty) == ("epsilon", "exact")
    assert unknown.certainty == "where"
    assert "next to the loss" not in unknown.explanation


@pytest.mark.parametrize("turned", [True, False])
def test_a_sign_beside_a_penalty_on_weights_that_are_reshaped(turned: bool) -> None:
    rng, decay = np.random.default_rng(1), 1e-3
    columns, T = rng.random((9, 20)), rng.standard_normal((4, 20))
    params = {"W": rng.standard_normal((4, 1, 3, 3)), "b": np.zeros((4, 1))}

    def out(p: Any) -> Any:
        flat = p["W"].reshape(4, -1)
        return np.tanh((columns.T @ flat.T).T + p["b"] if turned else flat @ columns + p["b"])

    def penalised(p: Any) -> Any:
        return 0.5 * np.sum((out(p) - T) ** 2) + 0.5 * decay * np.sum(p["W"] * p["W"])

    a = out(params)
    for sign in (1, -1):
        d = sign * (a - T) * (1 - a * a)
        grads = {
            "W": (d @ columns.T).reshape(4, 1, 3, 3) + decay * params["W"],
            "b": d.sum(axis=1, keepdims=True),
        }
        if sign == 1:
            assert fastcheck.check(penalised, params, grads)
            continue
        (found,) = findings(penalised, params, grads)
        assert (found.cause, found.certainty) == ("sign", "exact")
        assert found.tensors == ("W", "b")
