"""What a student reads: evidence first, then the cause, then what to look for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck

X = np.random.default_rng(0).standard_normal((8, 5))
T = np.random.default_rng(1).standard_normal((8, 3))
RNG = np.random.default_rng(2)
PARAMS = {
    "W1": RNG.standard_normal((5, 4)),
    "b1": RNG.standard_normal(4),
    "W2": RNG.standard_normal((4, 3)),
    "b2": RNG.standard_normal(3),
}
DECAY = 0.01


def loss(p: Any) -> Any:
    out = np.tanh(X @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    penalty = DECAY / 2 * (np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2))
    return 0.5 * np.sum((out - T) ** 2) / len(X) + penalty


def backward(slope: Any = lambda a: 1 - a**2) -> dict[str, np.ndarray]:
    a = np.tanh(X @ PARAMS["W1"] + PARAMS["b1"])
    d = (a @ PARAMS["W2"] + PARAMS["b2"] - T) / len(X)
    e = (d @ PARAMS["W2"].T) * slope(a)
    return {
        "W1": X.T @ e + DECAY * PARAMS["W1"],
        "b1": e.sum(axis=0),
        "W2": a.T @ d + DECAY * PARAMS["W2"],
        "b2": d.sum(axis=0),
    }


G = backward()


def said(**wrong: np.ndarray) -> str:
    return str(fastcheck.check(loss, PARAMS, {**G, **wrong}).diagnosis)


CASES = {
    "The gradient of W2 is 2.000 × the numerical one in every element (cosine 1.000000). A factor "
    "½ is missing, or this gradient is added twice.": {"W2": 2 * G["W2"]},
    "The gradient of b1 is -1.000 × the numerical one in every element (cosine -1.000000). A minus "
    "sign is missing, or one too many, where it is computed.": {"b1": -G["b1"]},
    "The gradients of b1 and b2 are 0.1250 × the numerical one in every element (cosine 1.000000). "
    "This is np.mean in place of np.sum over the samples (the data have an axis of length 8).": {
        "b1": G["b1"] / 8,
        "b2": G["b2"] / 8,
    },
    "The gradients of W1 and W2 are the numerical one − 0.01 × the parameters. The derivative of "
    "the L2 penalty is missing: look for λ·W1 in both passes.": {
        "W1": G["W1"] - DECAY * PARAMS["W1"],
        "W2": G["W2"] - DECAY * PARAMS["W2"],
    },
    "The gradient of W2 is exactly zero, the numerical one is not. It is never filled, is set to "
    "zero afterwards, or nothing flows back to it.": {"W2": 0 * G["W2"]},
    "The gradient of W1 is the numerical one with its columns in another order: moved on by 1, "
    "those at the end coming round. The values are right and stand in the wrong places: look at "
    "how it is indexed, rolled, flipped or put together.": {"W1": np.roll(G["W1"], 1, axis=1)},
    "Only row 2 of W1 is zero; the rest is right. Nothing flows back there: a mask is too large "
    "(dead units or dropout that the forward pass does not have), or it is never filled.": {
        "W1": G["W1"] * (np.arange(5) != 2)[:, None]
    },
    "Only 1 of the 20 checked elements of W1 is wrong, W1[1, 2] (3.000 × the numerical gradient); "
    "the others are right. Look for what writes to single elements of the gradient, or for a "
    "special case there.": {"W1": G["W1"] * np.where(np.arange(20).reshape(5, 4) == 6, 3.0, 1.0)},
}


@pytest.mark.parametrize("sentence", CASES)
def test_the_words(sentence: str) -> None:
    assert said(**CASES[sentence]) == sentence


def test_a_missing_derivative_names_the_operation_its_line_and_its_layer() -> None:
    text = said(**backward(slope=np.ones_like))
    line = loss.__code__.co_firstlineno + 1
    assert text.startswith("The gradients of W1 and b1 are what a backward pass gives without the ")
    assert f"`tanh` ({__file__}:{line}) behind W1 and b1" in text


def test_the_derivative_that_was_taken_instead_is_named() -> None:
    assert "takes a·(1 − a) of its output a for the derivative of `tanh`" in said(
        **backward(slope=lambda a: a * (1 - a))
    )


def test_all_that_is_halved_may_be_a_numerical_routine_of_ones_own() -> None:
    text = said(**{name: g / 2 for name, g in G.items()})
    assert "its copy of the parameters is shallow" in text


@pytest.mark.parametrize(
    ("factor", "said_of_it"), [(1.0, "transposed."), (2.0, "transposed, times 2.")]
)
def test_a_transpose_may_come_with_a_factor(factor: float, said_of_it: str) -> None:
    x, w = X[:, :4], np.random.default_rng(5).standard_normal((4, 4))
    gradient = 2 * x.T @ x @ w
    report = fastcheck.check(lambda p: np.sum((x @ p) ** 2), w, factor * gradient.T)
    assert f"is the numerical one {said_of_it} The factors" in str(report.diagnosis)


@pytest.mark.parametrize(
    ("factor", "samples", "plain"),
    [(0.8, 5, True), (5 / 6, 6, False), (5.0, 10, True), (19.0, 38, False), (0.1, 10, True)],
)
def test_a_count_of_samples_that_is_a_round_number_may_be_no_count(
    factor: float, samples: int, plain: bool
) -> None:
    gradients = {name: factor * g for name, g in G.items()}
    text = str(fastcheck.check(loss, PARAMS, gradients, batch_size=samples).diagnosis)
    assert f"M = {samples}" in text
    assert (f"Or it is a plain factor of {factor:.6g}." in text) == plain


@pytest.mark.parametrize("keep", [1.0, 0.8])
def test_the_derivative_of_a_mask_is_what_it_multiplies_by(keep: float) -> None:
    rng = np.random.default_rng(7)
    x, params = rng.standard_normal((6, 4)), {"W": rng.standard_normal((4, 5))}
    mask = (rng.random((6, 5)) < 0.6) / keep
    target = rng.standard_normal((6, 5))
    gradient = 2 * x.T @ (x @ params["W"] * mask - target)
    report = fastcheck.check(
        lambda p: np.sum((x @ p["W"] * mask - target) ** 2), params, {"W": gradient}
    )
    (finding,) = report.diagnosis.findings
    assert finding.cause == "missing-mask"
    assert f"by it: {1 / keep:.4g} where the operation lets its input through, 0" in str(finding)


def test_many_tensors_are_not_all_listed() -> None:
    params = {f"w{i}": np.array([1.0, 2.0]) for i in range(9)}
    report = fastcheck.check(
        lambda p: sum(np.sum(w**2) for w in p.values()),
        params,
        {name: -2 * w for name, w in params.items()},
    )
    assert "w0, w1, w2, w3, w4 and 4 more are -1.000 ×" in str(report.diagnosis)
