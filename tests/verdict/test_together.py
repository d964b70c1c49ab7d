"""Elements on kinks that they share: right one by one, they have to fit together too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict

TIED = np.array([1.0, 1.0, 0.0])


def verdict(loss: Any, params: Any, grads: Any, **options: Any) -> Verdict:
    return fastcheck.check(loss, params, grads, **options).verdict


@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("gradient", [(1, 0, 0), (0, 1, 0), (0.5, 0.5, 0)])
def test_a_subgradient_of_a_tie_passes(gradient: tuple[float, ...], engine: str) -> None:
    found = verdict(lambda p: p.max() + p.sum() ** 2, TIED, np.array(gradient) + 4, engine=engine)
    assert found is Verdict.PASS


@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("gradient", [(1, 1, 0), (0.5, 0, 0), (1, 0.5, 0)])
def test_what_does_not_add_up_is_inconclusive(gradient: tuple[float, ...], engine: str) -> None:
    wrong = np.array(gradient) + 4
    report = fastcheck.check(lambda p: p.max() + p.sum() ** 2, TIED, wrong, engine=engine)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "2 elements of params lie on kinks of the loss that they share" in str(report)
    assert "change the loss by 9 a unit" in str(report)


def test_a_tie_between_two_tensors() -> None:
    params = {"a": np.array([2.0, 1.0]), "b": np.array([2.0, -1.0])}

    def loss(p: Any) -> Any:
        return np.sum(np.maximum(p["a"], p["b"]) * [3.0, 1.0]) + np.sum(p["b"])

    right = {"a": np.array([3.0, 1.0]), "b": np.array([1.0, 1.0])}
    twice = {"a": np.array([3.0, 1.0]), "b": np.array([4.0, 1.0])}
    assert verdict(loss, params, right) is Verdict.PASS
    assert verdict(loss, params, twice) is Verdict.INCONCLUSIVE


def test_a_mask_of_a_pooling_that_marks_all_equal_inputs() -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 3, size=(8, 4, 4)).astype(float)
    weights = rng.uniform(1, 2, size=(8, 4))

    def loss(p: Any) -> Any:
        return np.sum(p.max(axis=2) * weights)

    mask = values == values.max(axis=2, keepdims=True)
    wrong = mask * weights[:, :, None]
    first = np.zeros_like(values)
    np.put_along_axis(first, values.argmax(axis=2)[..., None], weights[..., None], axis=2)
    assert mask.sum() > weights.size
    assert verdict(loss, values, wrong) is Verdict.INCONCLUSIVE
    assert verdict(loss, values, first) is Verdict.PASS
    assert verdict(loss, values, wrong / mask.sum(axis=2, keepdims=True)) is not Verdict.FAIL


def test_kinks_that_are_not_shared_are_judged_one_by_one() -> None:
    """ReLU'(0) = 0 with slopes of both signs: the common slopes are both positive, the sum is 0."""
    rng = np.random.default_rng(3)
    slopes = np.array([3.0, -2.0, 1.5, -4.0])
    params = {"b": np.zeros(4), "w": rng.standard_normal(3)}

    def loss(p: Any) -> Any:
        return np.maximum(p["b"], 0) @ slopes + np.sum(p["w"] ** 2)

    for convention in (0, 1, 0.5):
        grads = {"b": slopes * convention, "w": 2 * params["w"]}
        assert verdict(loss, params, grads) is not Verdict.FAIL
    grads = {"b": np.array([3.0, 0, 0, -4.0]), "w": 2 * params["w"]}
    assert verdict(loss, params, grads) is Verdict.PASS


def test_an_absolute_value_at_zero_passes() -> None:
    rng = np.random.default_rng(3)
    weights = np.where(rng.random(20) < 0.5, 0.0, rng.standard_normal(20))
    grads = 0.1 * np.sign(weights) + 2 * weights
    assert verdict(lambda w: 0.1 * np.sum(abs(w)) + np.sum(w**2), weights, grads) is Verdict.PASS


def test_a_bias_on_a_corner_with_what_enters_it() -> None:
    """Blank inputs and biases of zero: b alone is at the corner, and PASSes by ReLU'(0) = 0."""
    rng = np.random.default_rng(3)
    X = np.vstack([np.zeros((2, 5)), rng.standard_normal((14, 5))])
    params = {"W": rng.standard_normal((5, 4)), "b": np.zeros(4), "V": rng.standard_normal((4, 2))}

    def loss(p: Any) -> Any:
        return np.mean(np.sum((np.maximum(X @ p["W"] + p["b"], 0) @ p["V"] - 1) ** 2, axis=1))

    z = X @ params["W"] + params["b"]
    out = 2 * (np.maximum(z, 0) @ params["V"] - 1) / len(X)
    dz = out @ params["V"].T * (z > 0)
    grads = {"W": X.T @ dz, "b": dz.sum(axis=0), "V": np.maximum(z, 0).T @ out}
    assert verdict(loss, params, grads) is Verdict.PASS
    grads["b"] = grads["b"] * 1.01
    assert verdict(loss, params, grads) is not Verdict.PASS
