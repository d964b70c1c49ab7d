"""Floating-point errors: the user's settings hold in his loss, not in fastcheck's arithmetic."""

from typing import Any

import numpy as np
import pytest

import fastcheck

X = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])
Y = np.array([1.0, 0.0, 1.0])


def guarded(p: Any) -> Any:
    """Fall back to another formula where exp overflows."""
    try:
        return np.sum(np.exp(800 * X @ p["w"])) + np.sum(p["w"])
    except FloatingPointError:
        return np.sum((X @ p["w"] - Y) ** 2)


PARAMS = {"w": np.array([0.7, 0.4])}
TAKEN = {"w": 2 * X.T @ (X @ PARAMS["w"] - Y)}


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_branch_on_an_overflow_is_the_one_that_the_user_takes(engine: str) -> None:
    with np.errstate(over="raise"):
        assert fastcheck.check(guarded, PARAMS, TAKEN, engine=engine)
        wrong = fastcheck.check(guarded, PARAMS, {"w": 1.01 * TAKEN["w"]}, engine=engine)
        numeric = fastcheck.numerical_gradient(guarded, PARAMS, engine=engine)
    assert wrong.failed == ("w",)
    assert np.allclose(numeric["w"], TAKEN["w"], rtol=1e-6)


def test_own_arithmetic_raises_nothing() -> None:
    params = {"w": 1e-160 * np.array([1.0, 2.0])}

    def loss(p: Any) -> Any:
        return np.sum(p["w"]) ** 2

    grads = {"w": 2 * np.sum(params["w"]) * np.ones(2)}
    monitor = fastcheck.Monitor(loss, every=1, on_fail="record")
    with np.errstate(all="raise", under="ignore"):
        before = np.geterr()
        for scale in (1.0, 1.01):
            fastcheck.check(loss, params, {"w": scale * grads["w"]})
            monitor(params, {"w": scale * grads["w"]})
        fastcheck.explain(loss, params)
        assert np.geterr() == before


def test_a_cast_and_a_dead_unit_are_no_error() -> None:
    W = np.array([[1.0, -1.0, 0.5], [2.0, -2.0, 0.25]])
    data = np.abs(X)

    def loss(p: Any) -> Any:
        return np.sum(np.maximum(data @ p["W"].astype(np.float32), 0) ** 2)

    Z = data @ W
    report = fastcheck.check(loss, {"W": W}, {"W": data.T @ (2 * np.maximum(Z, 0))})
    assert report.passed, report
