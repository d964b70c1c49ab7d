"""Diagnoses that read the traced forward pass: recurrence, normalisation, blocks, flat vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(3)
STEPS, M = 6, 5
X = RNG.standard_normal((STEPS, M, 4))
T = RNG.standard_normal((M, 3))
RNN = {
    "Wx": RNG.standard_normal((4, 7)) * 0.4,
    "Wh": RNG.standard_normal((7, 7)) * 0.3,
    "b": RNG.standard_normal(7) * 0.1,
    "V": RNG.standard_normal((7, 3)) * 0.4,
}


def states(p: Any) -> list[Any]:
    found = [np.zeros((M, 7))]
    for t in range(STEPS):
        found.append(np.tanh(X[t] @ p["Wx"] + found[-1] @ p["Wh"] + p["b"]))
    return found


def rnn_loss(p: Any) -> Any:
    return 0.5 * np.mean(np.sum((states(p)[-1] @ p["V"] - T) ** 2, axis=1))


def rnn_backward(p: Any, steps: int = STEPS, skip: int | None = None) -> dict[str, Any]:
    h = states(p)
    d = (h[-1] @ p["V"] - T) / M
    g = {name: np.zeros_like(value) for name, value in p.items()}
    g["V"] = h[-1].T @ d
    dh = d @ p["V"].T
    for t in reversed(range(STEPS - steps, STEPS)):
        dz = dh * (1 - h[t + 1] ** 2)
        if t != skip:
            g["Wx"] += X[t].T @ dz
        g["Wh"] += h[t].T @ dz
        g["b"] += dz.sum(axis=0)
        dh = dz @ p["Wh"].T
    return g


def diagnosis(loss: Any, params: Any, grads: Any) -> Any:
    report = fastcheck.check(loss, params, grads)
    assert report.diagnosis is not None
    return report.diagnosis


def test_the_backward_pass_through_time_is_right() -> None:
    assert fastcheck.check(rnn_loss, RNN, rnn_backward(RNN))


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_a_pass_through_time_that_stops_early_misses_a_path(steps: int) -> None:
    found = diagnosis(rnn_loss, RNN, rnn_backward(RNN, steps))
    assert found.causes == ("missing-path",)
    # The state before the first step is zero, and so is what that step adds for Wh.
    assert found.findings[0].tensors == (("Wx", "Wh", "b") if steps < STEPS - 1 else ("Wx", "b"))


@pytest.mark.parametrize("skip", [1, 5])
def test_a_step_that_one_weight_misses(skip: int) -> None:
    found = diagnosis(rnn_loss, RNN, rnn_backward(RNN, skip=skip))
    assert (found.causes, found.findings[0].tensors) == (("missing-path",), ("Wx",))


Z = RNG.standard_normal((9, 6))
Y = RNG.standard_normal((9, 6))
BLOCK = {
    "W": RNG.standard_normal((6, 6)) * 0.5,
    "gamma": 1 + 0.1 * RNG.standard_normal(6),
    "beta": 0.1 * RNG.standard_normal(6),
    "U": RNG.standard_normal((6, 6)) * 0.4,
}


def block_loss(p: Any, mean_of: Any = None, around: Any = None) -> Any:
    """A normalised layer and a residual block; constants may stand in two places."""
    z = Z @ p["W"]
    mean = (z if mean_of is None else Z @ mean_of["W"]).mean(axis=1, keepdims=True)
    spread = np.sqrt(((z - mean) ** 2).mean(axis=1, keepdims=True) + 1e-5)
    a = (z - mean) / spread * p["gamma"] + p["beta"]
    carried = a if around is None else around
    return np.mean((carried + np.tanh(a @ p["U"]) - Y) ** 2)


def test_a_mean_that_is_taken_for_a_constant() -> None:
    wrong = fastcheck.numerical_gradient(lambda p: block_loss(p, mean_of=BLOCK), BLOCK)
    found = diagnosis(block_loss, BLOCK, wrong)
    assert (found.causes, found.findings[0].tensors) == (("missing-path",), ("W",))
    assert "`sum`" in found.findings[0].evidence


def test_the_path_around_a_block_that_is_forgotten() -> None:
    z = Z @ BLOCK["W"]
    centred = z - z.mean(axis=1, keepdims=True)
    a = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    around = a * BLOCK["gamma"] + BLOCK["beta"]
    wrong = fastcheck.numerical_gradient(lambda p: block_loss(p, around=around), BLOCK)
    found = diagnosis(block_loss, BLOCK, wrong)
    assert found.causes == ("missing-path",)
    assert found.findings[0].tensors == ("W", "gamma", "beta")
    assert "`add`" in found.findings[0].evidence


SIZES = ((4, 5), (5,), (5, 3), (3,))
ENDS = np.cumsum([int(np.prod(s)) for s in SIZES])
FLAT = RNG.standard_normal(int(ENDS[-1])) * 0.5
INPUT = RNG.standard_normal((8, 4))
WANTED = RNG.standard_normal((8, 3))


def taken_apart(theta: Any) -> list[Any]:
    starts = [0, *ENDS[:-1]]
    return [theta[a:b].reshape(s) for a, b, s in zip(starts, ENDS, SIZES, strict=True)]


def flat_loss(theta: Any) -> Any:
    W, b, V, c = taken_apart(theta)
    return np.mean((np.tanh(INPUT @ W + b) @ V + c - WANTED) ** 2)


FLAT_GRAD = fastcheck.numerical_gradient(flat_loss, FLAT)


@pytest.mark.parametrize("factor", [-1.0, 2.0])
def test_a_part_of_a_flat_vector_is_named_by_its_place(factor: float) -> None:
    wrong = FLAT_GRAD.copy()
    wrong[25:40] *= factor
    found = diagnosis(flat_loss, FLAT, wrong)
    (finding,) = found.findings
    assert finding.cause == ("sign" if factor < 0 else "scale")
    assert finding.tensors == ("params",)
    assert "params[25:40]" in finding.evidence


def test_a_part_that_is_flattened_column_by_column() -> None:
    wrong = FLAT_GRAD.copy()
    wrong[:20] = wrong[:20].reshape(4, 5).ravel(order="F")
    (finding,) = diagnosis(flat_loss, FLAT, wrong).findings
    assert finding.cause == "transpose"
    assert "params[0:20]" in finding.evidence
    assert "ravel and reshape take different orders" in finding.explanation


def test_layers_of_a_flat_vector_are_located() -> None:
    wrong = FLAT_GRAD.copy()
    wrong[:25] += RNG.standard_normal(25)
    (finding,) = diagnosis(flat_loss, FLAT, wrong).findings
    assert finding.certainty == "where"
    assert "`tanh`" in finding.explanation
    assert "nearer to the loss is right (params[25:40] and params[40:43])" in finding.evidence


def test_a_tensor_that_the_loss_does_not_use() -> None:
    params = {"a": np.ones(3), "b": np.ones(2)}
    found = diagnosis(lambda p: np.sum(p["a"] ** 2), params, {"a": 2 * np.ones(3), "b": np.ones(2)})
    assert found.causes == ("unused",)


def test_nan_is_located_next_to_the_loss() -> None:
    wrong = {**rnn_backward(RNN), "Wx": np.full((4, 7), np.nan), "V": np.full((7, 3), np.nan)}
    found = diagnosis(rnn_loss, RNN, wrong)
    assert found.causes == ("not-finite",)
    assert found.findings[0].evidence.startswith("The gradient of V is NaN")


def test_a_single_number_shows_telling_factors_only() -> None:
    def loss(p: Any) -> Any:
        return (3 * p["a"] - 1) ** 2

    assert diagnosis(loss, {"a": 2.0}, {"a": 15.0}).causes == ("scale",)
    assert diagnosis(loss, {"a": 2.0}, {"a": 17.3}).causes == ()


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_the_size_of_the_loss_changes_no_diagnosis(size: float) -> None:
    w = np.arange(1.0, 5)
    gradient = 2 * size * INPUT.T @ (INPUT @ w)

    def loss(p: Any) -> Any:
        return size * (np.sum((INPUT @ p["w"]) ** 2) + 0.1 * np.sum(p["w"] ** 2))

    wrong = 2 * (gradient + 0.2 * size * w)
    assert diagnosis(loss, {"w": w}, {"w": wrong}).causes == ("scale",)
    (finding,) = diagnosis(loss, {"w": w}, {"w": gradient}).findings
    assert finding.cause == "missing-l2"
    assert f"− {0.2 * size:.4g} × the parameters" in finding.evidence


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_coarse_parameters_still_show_a_factor(dtype: str) -> None:
    w = np.arange(1, 5).astype(dtype)
    gradient = 2 * INPUT.T @ (INPUT @ w.astype(np.float64))
    found = diagnosis(lambda p: np.sum((INPUT @ p["w"]) ** 2), {"w": w}, {"w": -gradient})
    assert found.causes == ("sign",)
