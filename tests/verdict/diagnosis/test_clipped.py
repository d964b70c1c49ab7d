"""Gradients that are clipped before they are checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((20, 4)), RNG.standard_normal((20, 3))
PARAMS = {
    "W": RNG.standard_normal((4, 5)),
    "b": RNG.standard_normal(5),
    "V": RNG.standard_normal((5, 3)),
}


def hidden(p: Any) -> Any:
    return np.tanh(X @ p["W"] + p["b"])


def loss(p: Any) -> Any:
    return 0.5 * np.sum((hidden(p) @ p["V"] - T) ** 2)


def right() -> dict[str, Any]:
    h = hidden(PARAMS)
    d = h @ PARAMS["V"] - T
    e = (d @ PARAMS["V"].T) * (1 - h * h)
    return {"W": X.T @ e, "b": e.sum(axis=0), "V": h.T @ d}


def findings(grads: Any) -> Any:
    report = fastcheck.check(loss, PARAMS, grads)
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    return report.diagnosis.findings


@pytest.mark.parametrize("limit", [5.0, 7.123456789])
def test_elements_that_are_clipped(limit: float) -> None:
    grads = {name: np.clip(g, -limit, limit) for name, g in right().items()}
    wrong = tuple(n for n, g in right().items() if np.abs(g).max() > limit)
    (found,) = findings(grads)
    assert (found.cause, found.certainty, found.tensors) == ("clipped", "exact", wrong)
    assert f"±{limit:.6g}" in found.evidence


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_a_norm_that_is_clipped(epsilon: float) -> None:
    grads = right()
    norm = np.sqrt(sum(np.sum(g * g) for g in grads.values()))
    rate = 5 / (norm + epsilon)
    (found,) = findings({name: rate * g for name, g in grads.items()})
    assert (found.cause, found.certainty, found.tensors) == ("clipped", "exact", ("W", "b", "V"))


def test_a_factor_of_any_other_norm_is_not_said_to_be_clipped() -> None:
    (found,) = findings({name: 0.0417 * g for name, g in right().items()})
    assert found.cause == "scale"


def test_signs_are_not_said_to_be_clipped() -> None:
    said = findings({name: np.sign(g) for name, g in right().items()})
    assert all(f.certainty != "exact" for f in said)


def test_what_is_wrong_below_the_limit_as_well_is_not_said_to_be_clipped() -> None:
    grads = {name: np.clip(1.01 * g, -5, 5) for name, g in right().items()}
    assert all(f.certainty != "exact" for f in findings(grads))
