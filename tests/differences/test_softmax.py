"""Log-sum-exp, log-softmax and sigmoid: exact for any stack, however it is pinned."""

import math
from typing import Any

import numpy as np
import pytest

from fastcheck.differences.delta import Delta
from fastcheck.trace.primitives import LOG_SOFTMAX, LOGSUMEXP, SIGMOID, elementwise

from .conftest import COPIES

SHAPE = (3, 4, 2)
AXES = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]
EXTENDED = np.finfo(np.longdouble).eps < 1e-18


def close(found: np.ndarray, wanted: np.ndarray, size: np.ndarray, relative: float) -> bool:
    unit = float(np.finfo(wanted.dtype).eps)
    return bool(np.all(abs(found - wanted) <= relative * abs(wanted) + 16 * unit * (size + 1)))


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("scale", [3.0, 1e-3])
def test_log_softmax(lab, rng, axes, scale) -> None:
    x = lab.parameter(rng.uniform(-3, 3, SHAPE))
    node = lab.node(LOG_SOFTMAX, x, axes=axes)
    delta = lab.delta(rng, x, scale)
    found = lab.stack(lab.propagate(node, delta), node)
    assert close(found, *lab.plain(node, delta), relative=1e-11)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("keepdims", [True, False])
def test_log_sum_exp(lab, rng, axes, keepdims) -> None:
    x = lab.parameter(rng.uniform(-3, 3, SHAPE))
    node = lab.node(LOGSUMEXP, x, axes=axes, keepdims=keepdims)
    delta = lab.delta(rng, x, 2.0)
    found = lab.stack(lab.propagate(node, delta), node)
    assert close(found, *lab.plain(node, delta), relative=1e-11)


@pytest.mark.skipif(not EXTENDED, reason="long double is no wider than double")
@pytest.mark.parametrize("axes", AXES)
def test_a_tiny_difference_keeps_its_digits(lab, rng, axes) -> None:
    x = lab.parameter(rng.uniform(-3, 3, SHAPE))
    node = lab.node(LOG_SOFTMAX, x, axes=axes)
    delta = lab.delta(rng, x, 1e-9)
    found = lab.stack(lab.propagate(node, delta), node)
    assert close(found, *lab.plain(node, delta, dtype=np.longdouble), relative=1e-9)


def test_the_winner_of_a_saturated_softmax_keeps_its_digits(lab) -> None:
    x = lab.parameter(np.array([60.0, 0.0, 1.0]))
    node = lab.node(LOG_SOFTMAX, x, axes=(0,))
    delta = lab.delta(np.random.default_rng(0), x, 1.0)
    moved = lab.stack(delta, x)
    found = lab.stack(lab.propagate(node, delta), node)[:, 0]

    def growth(d: Any) -> Any:  # of log Σ exp(xᵢ − x₀) − 0, whose other terms are e⁻⁶⁰ and e⁻⁵⁹
        return np.exp(-60.0 + d[:, 1] - d[:, 0]) + np.exp(-59.0 + d[:, 2] - d[:, 0])

    np.testing.assert_allclose(found, growth(0 * moved) - growth(moved), rtol=1e-12)


@pytest.mark.parametrize("scale", [1500.0, 3.0, 1e-3])
def test_sigmoid(lab, rng, scale) -> None:
    x = lab.parameter(rng.uniform(-800, 800, SHAPE) if scale > 100 else rng.uniform(-5, 5, SHAPE))
    node = lab.node(SIGMOID, x)
    delta = lab.delta(rng, x, scale)
    found = lab.stack(lab.propagate(node, delta), node)
    assert np.all(np.isfinite(found))
    assert close(found, *lab.plain(node, delta), relative=1e-11)


@pytest.mark.parametrize("primitive", [LOG_SOFTMAX, LOGSUMEXP])
def test_differences_beyond_the_range_of_exponentials(lab, rng, primitive) -> None:
    x = lab.parameter(rng.uniform(-3000, 3000, SHAPE))
    params = {"axes": (1,), "keepdims": True} if primitive is LOGSUMEXP else {"axes": (1,)}
    node = lab.node(primitive, x, **params)
    delta = lab.delta(rng, x, 5000.0)
    found = lab.stack(lab.propagate(node, delta), node)
    # Their last digits are those of numbers of some thousands.
    np.testing.assert_allclose(found, lab.plain(node, delta)[0], atol=1e-10)


def test_an_exponential_that_comes_back_from_zero(lab) -> None:
    x = lab.parameter(np.linspace(-900, -800, math.prod(SHAPE)).reshape(SHAPE))
    node = lab.node(elementwise(np.exp), x)
    steps = np.linspace(600, 1500, COPIES).reshape(COPIES, 1, 1, 1)
    found = lab.stack(lab.propagate(node, Delta(steps, {})), node)
    # What an exponential of 0 and one within range make is lost: it was nothing beside them.
    reaches = np.broadcast_to(steps > 709.8, found.shape)
    np.testing.assert_allclose(found[reaches], np.exp(x.value + steps)[reaches], rtol=1e-11)
