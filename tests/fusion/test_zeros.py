"""Inputs that are exactly zero: less work, and the same differences."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fastcheck.engines.fused import FusedEngine
from fastcheck.fusion import blockwise as kernels

RNG = np.random.default_rng(12)
SAMPLES, INPUTS, HIDDEN, CLASSES = 40, 6, 4, 3
T = RNG.normal(size=(SAMPLES, CLASSES))
PARAMS = {
    "W1": RNG.normal(size=(INPUTS, HIDDEN)),
    "b1": RNG.normal(size=HIDDEN),
    "W2": RNG.normal(size=(HIDDEN, CLASSES)),
}


def inputs(zero_blocks: bool) -> np.ndarray:
    """Return samples of which input 0 is zero for all, 1 in some blocks, 2 in no whole block."""
    X = 0.1 + RNG.random((SAMPLES, INPUTS))
    if zero_blocks:
        X[:, 0] = 0.0
        X[8:24, 1] = 0.0
        X[::2, 2] = 0.0
        X[33:, 3] = 0.0
    return X


def loss_of(X: np.ndarray) -> Callable[[Any], Any]:
    return lambda p: np.mean((np.tanh(X @ p["W1"] + p["b1"]) @ p["W2"] - T) ** 2)


def compare(fused: FusedEngine, name: str, size: int) -> np.ndarray:
    indices, steps = np.arange(size), np.full(size, 2.0**-31)
    ours = fused.differences(name, indices, steps)
    other = fused.replay.differences(name, indices, steps)
    scale = np.abs(other.plus).max()
    np.testing.assert_allclose(ours.plus, other.plus, rtol=1e-9, atol=1e-11 * scale)
    np.testing.assert_allclose(ours.minus, other.minus, rtol=1e-9, atol=1e-11 * scale)
    return ours.plus


@pytest.mark.parametrize("zero_blocks", [True, False])
def test_blocks_of_zero_inputs_are_left_out(tools, zero_blocks: bool) -> None:
    fused = tools.fused_of(loss_of(inputs(zero_blocks)), PARAMS, "W1")
    (kernel,) = fused.kernels()
    assert kernel.source.skipping is not None
    compare(fused, "W1", PARAMS["W1"].size)


def test_the_blocks_are_those_with_an_input(tools, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = tools.fused_of(loss_of(inputs(True)), PARAMS, "W1")
    found = []
    original = kernels._nonzero_blocks
    monkeypatch.setattr(
        kernels, "_nonzero_blocks", lambda array: found.append(original(array)) or found[0]
    )
    compare(fused, "W1", PARAMS["W1"].size)
    starts, blocks = found[0]
    parts = [blocks[i:j].tolist() for i, j in pairwise(starts)]
    assert parts == [[], [0, 3, 4], [*range(5)], [*range(5)], [*range(5)], [*range(5)]]


def test_an_input_that_is_always_zero_changes_nothing(tools) -> None:
    fused = tools.fused_of(loss_of(inputs(True)), PARAMS, "W1")
    changes = compare(fused, "W1", PARAMS["W1"].size).reshape(INPUTS, HIDDEN)
    assert not changes[0].any()
    assert changes[1:].all()
    assert fused.refused == 0


@pytest.mark.parametrize("samples", [40, 37])
def test_nothing_is_left_out_where_no_input_is_a_factor(tools, samples: int) -> None:
    X = inputs(True)[:samples]

    def loss(p: Any) -> Any:
        return np.mean((np.tanh(X @ PARAMS["W1"]) @ p["W2"] + p["b2"] - T[:samples]) ** 2)

    params = {"W2": PARAMS["W2"], "b2": RNG.normal(size=CLASSES)}
    fused = tools.fused_of(loss, params, "b2")
    (kernel,) = fused.kernels()
    assert kernel.source.skipping is None
    compare(fused, "b2", CLASSES)


def test_units_that_are_zero_for_a_block_are_left_out(tools) -> None:
    X = inputs(False)
    X[8:16] *= -1
    params = {"W1": np.abs(PARAMS["W1"]), "W2": PARAMS["W2"]}

    def loss(p: Any) -> Any:
        return np.mean((np.tanh(np.maximum(0, X @ p["W1"]) @ p["W2"]) - T) ** 2)

    for name in params:
        fused = tools.fused_of(loss, params, name)
        compare(fused, name, params[name].size)


def test_a_ridge_beside_skipped_samples_is_counted(tools) -> None:
    plain = loss_of(inputs(True))
    fused = tools.fused_of(lambda p: plain(p) + np.sum(p["W1"] ** 2), PARAMS, "W1")
    changes = compare(fused, "W1", PARAMS["W1"].size)
    assert changes.all()


# -- samples past the last one ---------------------------------------------------------------------


@pytest.mark.parametrize("samples", [8, 9, 15, 16, 17])
def test_samples_past_the_last_count_for_nothing(tools, samples: int) -> None:
    X = RNG.normal(size=(samples, 3))

    def loss(p: Any) -> Any:
        return np.log(np.sum(np.exp(np.tanh(X @ p["w"] + p["b"]))))

    params = {"w": np.array([0.3, -0.2, 0.4]), "b": np.array(0.1)}
    for name in params:
        compare(tools.fused_of(loss, params, name), name, params[name].size)


def test_a_mean_taken_from_each_sample_moves_none_past_the_last(tools) -> None:
    x = RNG.normal(size=21)

    def loss(p: Any) -> Any:
        h = np.tanh(x * p["w"])
        return np.sum((h - np.mean(h)) ** 2)

    compare(tools.fused_of(loss, {"w": np.array(0.7)}, "w"), "w", 1)
