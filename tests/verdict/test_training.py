"""Along a training run: right gradients never fail, wrong ones never pass."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.report.data import Verdict


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


X = np.array([[3.0, 5.0], [5.0, 1.0], [10.0, 2.0]]) / [10.0, 5.0]
Y = np.array([[0.75], [0.82], [0.93]])


def loss(p):
    return 0.5 * np.sum((Y - sigmoid(sigmoid(X @ p[0]) @ p[1])) ** 2)


def gradients(p):
    hidden = sigmoid(X @ p[0])
    out = sigmoid(hidden @ p[1])
    d = (out - Y) * out * (1 - out)
    return [X.T @ ((d @ p[1].T) * hidden * (1 - hidden)), hidden.T @ d]


def trained(seed, iterations):
    rng = np.random.default_rng(seed)
    p = [rng.random((2, 3)) / 100, rng.random((3, 1)) / 100]
    moved = [0.0, 0.0]
    for rate in np.linspace(0.5, 0.05, 250)[np.minimum(np.arange(iterations), 249)]:
        moved = [rate * g + 0.5 * m for g, m in zip(gradients(p), moved, strict=True)]
        p = [w - m for w, m in zip(p, moved, strict=True)]
    return p


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("iterations", [0, 14, 60, 249])
def test_the_two_layer_sigmoid_network_passes_along_its_training(check, seed, iterations):
    p = trained(seed, iterations)
    result = check(loss, p, gradients(p))
    assert result.verdict is Verdict.PASS, result.reason


@pytest.mark.parametrize("iterations", [20_000, 200_000])
def test_long_after_it_has_converged_it_never_fails(check, iterations):
    p = trained(0, iterations)
    assert check(loss, p, gradients(p)).verdict is not Verdict.FAIL


@pytest.mark.parametrize("iterations", [0, 14, 249, 20_000])
def test_wrong_gradients_never_pass(check, iterations):
    p = trained(1, iterations)
    first, second = gradients(p)
    one = first.copy()
    one[0, 0] *= 1.01
    for wrong in (
        [1.001 * first, second],
        [first, -second],
        [2 * first, 2 * second],
        [0 * first, second],
        [first.T.reshape(2, 3), second],
        [one, second],
    ):
        assert check(loss, p, wrong).verdict is not Verdict.PASS
