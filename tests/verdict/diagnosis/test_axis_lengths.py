"""A factor that is the length of an axis tells of samples only where the loss averages over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(0)
FEATURES, SAMPLES = 4, 3
X, Y = RNG.standard_normal((FEATURES, SAMPLES)), np.array([[1.0, 1, 0]])
PARAMS = {
    "W1": RNG.standard_normal((5, FEATURES)),
    "b1": RNG.standard_normal((5, 1)),
    "W2": RNG.standard_normal((1, 5)),
    "b2": RNG.standard_normal((1, 1)),
}


def forward(p: Any) -> tuple[Any, Any]:
    a = np.maximum(0, p["W1"] @ X + p["b1"])
    return a, 1 / (1 + np.exp(-(p["W2"] @ a + p["b2"])))


def loss(p: Any) -> Any:
    out = forward(p)[1]
    return 1.0 / SAMPLES * np.sum(-np.log(out) * Y - np.log(1 - out) * (1 - Y))


def right() -> dict[str, Any]:
    a, out = forward(PARAMS)
    d = (out - Y) / SAMPLES
    dz = (PARAMS["W2"].T @ d) * (a > 0)
    return {
        "W1": dz @ X.T,
        "b1": dz.sum(axis=1, keepdims=True),
        "W2": d @ a.T,
        "b2": d.sum(axis=1, keepdims=True),
    }


def only(loss: Any, params: Any, grads: Any) -> Any:
    report = fastcheck.check(loss, params, grads)
    assert report.diagnosis is not None
    (found,) = report.diagnosis.findings
    assert found.certainty == "exact"
    return found


@pytest.mark.parametrize(
    ("factor", "cause"), [(FEATURES, "scale"), (SAMPLES, "missing-mean"), (7, "scale")]
)
def test_the_loss_says_what_it_averages_over(factor: int, cause: str) -> None:
    grads = right()
    assert fastcheck.check(loss, PARAMS, grads)
    found = only(loss, PARAMS, {**grads, "b1": factor * grads["b1"]})
    assert found.cause == cause
    assert "missing-mean" not in found.alternatives


def test_a_bias_inside_the_sum_over_a_window_is_not_averaged_over_samples() -> None:
    x, D = RNG.standard_normal((2, 12)), RNG.standard_normal((2, 4))
    params = {"W": RNG.standard_normal((12, 4)), "b": RNG.standard_normal(4)}
    found = only(
        lambda p: np.sum(D * np.sum(x[:, :, None] * p["W"] + p["b"], axis=1)),
        params,
        {"W": x.T @ D, "b": D.sum(axis=0)},
    )
    assert found.cause == "scale"
    assert "samples" not in found.evidence + found.explanation


def test_two_features_are_not_two_samples() -> None:
    data, noise = RNG.standard_normal((3, 6)), RNG.standard_normal((3, 2))
    params = {"E": RNG.standard_normal((6, 2)), "W": RNG.standard_normal((2, 6)), "b": np.zeros(6)}

    def apart(p: Any) -> Any:
        return (data @ p["E"] + noise) @ p["W"] + p["b"] - data

    d = 2 * apart(params)
    grads = {
        "E": data.T @ (d @ params["W"].T),
        "W": (data @ params["E"] + noise).T @ d,
        "b": 2 * d.sum(axis=0),
    }
    found = only(lambda p: np.sum(apart(p) * apart(p)), params, grads)
    assert (found.cause, found.alternatives) == ("scale", ())
