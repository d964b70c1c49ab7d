"""What rounding may leave of a derivative in float32 is found out before it excuses anything."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict


def deep(seed=0, size=0.01):
    """Three layers with small weights and zero biases: derivatives of very different sizes."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((400, 8)).astype(np.float32)
    T = 3 * rng.standard_normal((400, 3)).astype(np.float32)
    shapes = {"W1": (8, 6), "b1": (6,), "W2": (6, 6), "b2": (6,), "W3": (6, 3), "b3": (3,)}
    params = {
        name: (size * rng.standard_normal(shape) * (len(shape) > 1)).astype(np.float32)
        for name, shape in shapes.items()
    }

    def forward(p):
        h = np.tanh(X @ p["W1"] + p["b1"])
        k = np.tanh(h @ p["W2"] + p["b2"])
        return h, k, k @ p["W3"] + p["b3"]

    def loss(p):
        return 0.5 * np.sum((forward(p)[2] - T) ** 2)

    h, k, y = forward(params)
    d = y - T
    dk = d @ params["W3"].T * (1 - k * k)
    dh = dk @ params["W2"].T * (1 - h * h)
    grads = {"W1": X.T @ dh, "b1": dh.sum(0), "W2": h.T @ dk, "b2": dk.sum(0)}
    return loss, params, {**grads, "W3": k.T @ d, "b3": d.sum(0)}


@pytest.mark.parametrize("seed", range(5))
def test_the_right_gradient_passes(seed):
    assert fastcheck.check(*deep(seed))


@pytest.mark.parametrize("name", ["W1", "W2"])
@pytest.mark.parametrize("factor", [-1.0, 0.0, 1.01])
def test_a_small_gradient_that_is_wrong_fails(name, factor):
    loss, params, grads = deep()
    wrong = {**grads, name: grads[name] * np.float32(factor)}
    assert fastcheck.check(loss, params, wrong).tensors[name].verdict is Verdict.FAIL


def test_a_gradient_of_what_the_loss_ignores_fails():
    loss, params, grads = deep()
    params = {**params, "U": np.full((4, 4), 0.01, np.float32)}
    wrong = {**grads, "U": np.full((4, 4), 2e-3, np.float32)}
    assert fastcheck.check(loss, params, wrong).tensors["U"].verdict is Verdict.FAIL
    assert fastcheck.check(loss, params, {**grads, "U": np.zeros((4, 4), np.float32)})


@pytest.mark.parametrize("seed", range(5))
def test_what_cancels_ahead_of_a_normalisation_is_still_rounding(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((64, 5)).astype(np.float32)
    T = rng.standard_normal((64, 3)).astype(np.float32)
    params = {"W": rng.standard_normal((5, 3)), "b": rng.standard_normal(3), "g": np.ones(3)}
    params = {name: value.astype(np.float32) for name, value in params.items()}

    def forward(p):
        z = X @ p["W"] + p["b"]
        deviation = np.sqrt(z.var(axis=0) + np.float32(1e-5))
        return (z - z.mean(axis=0)) / deviation, deviation

    def loss(p):
        return np.sum((forward(p)[0] * p["g"] - T) ** 2)

    n, deviation = forward(params)
    d = 2 * (n * params["g"] - T)
    dn = d * params["g"]
    dz = (dn - dn.mean(axis=0) - n * (dn * n).mean(axis=0)) / deviation
    grads = {"W": X.T @ dz, "b": dz.sum(axis=0), "g": (d * n).sum(axis=0)}
    assert grads["b"].any()
    assert fastcheck.check(loss, params, grads)
    wrong = {**grads, "b": grads["b"] + np.float32(1e-2)}
    assert fastcheck.check(loss, params, wrong).tensors["b"].verdict is Verdict.FAIL


@pytest.mark.parametrize("bias", [2.0, 6.0, 9.0, 14.0])
def test_saturated_units_do_not_fail(bias):
    rng = np.random.default_rng(int(bias))
    X = rng.standard_normal((32, 4)).astype(np.float32)
    params = {"W": rng.standard_normal((4, 6)).astype(np.float32)}
    one, b = np.float32(1), np.float32(bias)

    def units(W):
        return one / (one + np.exp(-(X @ W) - b))

    def loss(p):
        return np.sum((units(p["W"]) - one / 2) ** 2)

    a = units(params["W"])
    grads = {"W": X.T @ (2 * (a - one / 2) * a * (one - a))}
    assert fastcheck.check(loss, params, grads).verdict is not Verdict.FAIL
