"""Every rule against the replay with NumPy: all elements, both signs, short and long series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import fastcheck
from fastcheck.lanes.writer import NoProgram

RNG = np.random.default_rng(1)
X = RNG.normal(size=(7, 3))
ROWS = RNG.normal(size=(7, 4))
MASK = RNG.random((7, 4)) < 0.5
PICKED = np.array([3, 0, 0, 2, 1, 3, 3])
STEPS = (2.0**-31, 2.0**-20)  # the second one is beyond series of two terms
Params = dict[str, Any]


def parameters() -> Params:
    rng = np.random.default_rng(2)
    return {
        "W": rng.normal(size=(3, 4)),
        "U": rng.normal(size=(4, 4)) / 2.0,
        "b": rng.normal(size=4),
        "s": np.array(0.7),
    }


def hidden(p: Params) -> Any:
    """Return numbers that every parameter moves, and that are neither zero nor alike."""
    return np.tanh(X @ p["W"] + p["b"]) @ p["U"] * p["s"] + ROWS


def weighted(value: Any) -> Any:
    """Return one number in which every element of an array counts in another way."""
    weights = np.cos(np.arange(value.size)).reshape(value.shape)
    return np.sum(weights * value)


UNARY: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": lambda z: np.log(z * z + 0.5),
    "log2": lambda z: np.log2(z * z + 0.5),
    "log10": lambda z: np.log10(z * z + 0.5),
    "log1p": lambda z: np.log1p(z * z),
    "sqrt": lambda z: np.sqrt(z * z + 0.5),
    "square": np.square,
    "cube": lambda z: z**3,
    "power": lambda z: (z * z + 0.5) ** 1.7,
    "negative power": lambda z: (z * z + 0.5) ** -2,
    "reciprocal": lambda z: np.reciprocal(z * z + 0.5),
    "constant over": lambda z: 2.0 / (z * z + 0.5),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "expit": special.expit,
    "log_expit": special.log_expit,
    "sin": np.sin,
    "cos": np.cos,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "arctan": np.arctan,
    "degrees": lambda z: np.rad2deg(np.deg2rad(z) * z),
    "negative": lambda z: 3.0 - z,
    "absolute": np.abs,
    "ReLU": lambda z: np.maximum(0, z),
    "ReLU by a mask": lambda z: z * (z > 0),
    "clipped": lambda z: np.clip(z, -0.5, 0.8),
    "where": lambda z: np.where(z > 0.1, z, np.exp(z)),
    "sign": lambda z: np.sign(z) * z,
    "logaddexp": lambda z: np.logaddexp(0.0, z),
    "sum along an axis": lambda z: np.sum(z, axis=0),
    "mean along an axis": lambda z: z - z.mean(axis=1, keepdims=True),
    "largest along an axis": lambda z: np.max(z, axis=1),
    "smallest along an axis": lambda z: z - np.min(z, axis=0),
    "softmax": lambda z: np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True),
    "log-softmax": lambda z: np.log(np.exp(z) / np.sum(np.exp(z), axis=0)),
    "log-sum-exp": lambda z: np.log(np.sum(np.exp(z), axis=1)),
    "transpose": lambda z: z.T @ z,
    "slice": lambda z: z[::-2, 1:3],
    "picked": lambda z: z[np.arange(7), PICKED],
    "picked often": lambda z: z[PICKED],
    "masked": lambda z: z[MASK],
    "reshape": lambda z: z.reshape(2, 14) @ np.ones(14),
    "broadcast": lambda z: z[:, None, :] * z[None, :, :],
    "concatenated": lambda z: np.concatenate([z[:, :1], ROWS, z], axis=1),
    "stacked": lambda z: np.stack([z, z * z], axis=1),
    "split": lambda z: np.prod(np.array(np.split(z, 2, axis=1)).shape) * np.hsplit(z, 2)[1],
    "diagonal": lambda z: np.diagonal(z),
    "contracted over an axis that it has alone": lambda z: np.einsum("nk,jl->nl", z, ROWS),
    "batches of products": lambda z: np.einsum("nk,nj->nkj", z, z * ROWS),
    "products with axes apart": lambda z: np.einsum(
        "nkj,kl->njl", z[:, :, None] * ROWS[:, None, :], ROWS[:4]
    ),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_array(name: str, step: float, tools: Any) -> None:
    for tensor, pair in tools.engines(
        lambda p: weighted(UNARY[name](hidden(p))), parameters()
    ).items():
        tools.assert_alike(*pair, tensor, step)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - y,
    "product": lambda x, y: x * y,
    "quotient": lambda x, y: x / (y * y + 1.0),
    "larger": np.maximum,
    "smaller": np.minimum,
    "where": lambda x, y: np.where(x > y, x, y),
    "logaddexp": np.logaddexp,
    "matrices": lambda x, y: x.T @ y,
    "matrix and vector": lambda x, y: x @ y[0],
    "outer": lambda x, y: np.multiply.outer(x[0], y[1]),
    "broadcast": lambda x, y: x * y[:, :1] + y[0],
}


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arrays_that_both_move(name: str, tools: Any) -> None:
    def loss(p: Params) -> Any:
        return weighted(BINARY[name](hidden(p), np.exp(0.3 * hidden(p)) * p["s"] + p["b"]))

    for tensor, pair in tools.engines(loss, parameters()).items():
        tools.assert_alike(*pair, tensor, STEPS[0])


def _written(p: Params) -> Any:
    out = np.zeros((8, 4))
    z = hidden(p)
    out[1:] = z
    out[0, 1:3] = z[0, :2]
    out[2:4] *= p["s"]
    out[[4, 4], 0] = z[:2, 1]
    return out


def _added_at(p: Params) -> Any:
    out = ROWS * p["s"]
    np.add.at(out, PICKED, hidden(p))
    return out


LOSSES: dict[str, Callable[[Params], Any]] = {
    "written into an array": lambda p: weighted(_written(p)),
    "added up at places": lambda p: weighted(_added_at(p)),
    "penalties": lambda p: weighted(p["W"] ** 2) + np.sum(np.abs(p["U"])) + p["s"] ** 4,
    "a weight on both sides": lambda p: np.sum((p["U"] @ p["U"]) ** 2) + np.sum(p["W"] @ p["U"].T),
    "a weight cut up": lambda p: weighted(X[:, :2] @ p["W"][:2, 1:] + (X @ p["W"].T[1:].T)),
    "a bias along other axes": lambda p: weighted(np.exp(hidden(p)[:, None, :] + p["b"][:, None])),
    "rows of a table": lambda p: weighted(np.tanh(p["U"][PICKED]) @ p["W"].T),
    "columns, samples last": lambda p: weighted(np.tanh(p["W"].T @ X.T + p["b"][:, None]) * p["s"]),
    "a tensor of weights": lambda p: weighted(
        np.einsum("ni,ijk->njk", X, p["W"].reshape(3, 2, 2)) ** 2
    ),
    "only one way": lambda p: weighted(X @ p["W"]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_weights_in_unusual_places(name: str, tools: Any) -> None:
    for tensor, pair in tools.engines(LOSSES[name], parameters()).items():
        tools.assert_alike(*pair, tensor, STEPS[0])


# -- refusals --------------------------------------------------------------------------------------

KINKS: dict[str, Callable[[Any], Any]] = {
    "ReLU": lambda z: np.maximum(0, z),
    "absolute": np.abs,
    "compared": lambda z: (z > 0) * np.exp(z),
    "largest": lambda z: np.max(np.stack([z, 1e-9 + 0 * z]), axis=0),
}


@pytest.mark.parametrize("name", KINKS)
def test_copies_that_cross_a_kink_are_replayed(name: str, tools: Any) -> None:
    params = {"w": np.array([1e-10, 2.0, -1e-10, -1.0])}
    ((lanes, replay),) = tools.engines(lambda p: weighted(KINKS[name](p["w"])), params).values()
    steps = np.full(4, 2.0**-27)
    ours = lanes.differences("w", np.arange(4), steps)
    theirs = replay.differences("w", np.arange(4), steps)
    assert lanes.refused == 2
    for field in ("plus", "minus"):
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-14)
    assert ours.kinked.tolist() == [True, False, True, False]


def test_what_is_out_of_the_series_reach_is_replayed(tools: Any) -> None:
    params = {"w": np.array([1e3, 1.0, 1e-7])}
    ((lanes, replay),) = tools.engines(lambda p: np.sum(np.log(p["w"])), params).values()
    steps = np.full(3, 2.0**-30)
    ours, theirs = (e.differences("w", np.arange(3), steps) for e in (lanes, replay))
    assert lanes.refused == 1
    np.testing.assert_allclose(ours.plus, theirs.plus, rtol=1e-12)
    np.testing.assert_allclose(ours.minus, theirs.minus, rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda p: np.sum(np.cumsum(p["w"])), "cumsum has no instructions"),
        (lambda p: np.sum(2.0 ** p["w"]), "an exponent is an array, or moves"),
        (lambda p: np.sum(p["w"].astype(np.float32) * 2), "an array of float32 takes part"),
    ],
)
def test_what_a_program_does_not_do_is_said(
    loss: Callable[[Params], Any], why: str, tools: Any
) -> None:
    with pytest.raises(NoProgram, match=why):
        tools.engines(loss, {"w": np.array([0.3, 0.4])})


def test_a_number_that_python_reads_is_not_moved_by_a_program(tools: Any) -> None:
    def loss(p: Params) -> Any:
        return p["w"].sum() * (2.0 if p["w"][0] + p["w"][1] > 0 else 1.0)

    ((lanes, replay),) = tools.engines(loss, {"w": np.array([0.3, 0.4])}).values()
    tools.assert_alike(lanes, replay, "w", STEPS[0])
    assert fastcheck.check(loss, {"w": np.array([0.3, 0.4])}, {"w": np.array([2.0, 2.0])})
