"""The noise of a black-box loss."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.engines.loss import LossFunction
from fastcheck.params import ParamTree
from fastcheck.verdict.noise import difference_table_noise, estimate_noise

PARAMS = {"W": np.linspace(0.5, 1.5, 12)}


def noise_of(function, params=PARAMS):
    tree = ParamTree.from_user(params)
    return estimate_noise(LossFunction(function, tree), tree, np.random.default_rng(0))


@pytest.mark.parametrize("sigma", [1e-9, 1e-3])
def test_the_table_finds_noise_on_a_smooth_curve(sigma):
    rng = np.random.default_rng(1)
    t = np.arange(9) * 1e-3
    found = [difference_table_noise(np.sin(t) + sigma * rng.standard_normal(9)) for _ in range(100)]
    assert sigma / 2 < np.median(found) < 2 * sigma


def test_the_table_finds_nothing_on_a_line():
    assert difference_table_noise(np.arange(9.0)) == 0.0


def test_noise_is_never_below_the_roundoff_of_the_loss():
    assert noise_of(lambda p: 8.0 + p["W"][0] * 0) == 8.0 * 2.0**-53


def test_noise_scales_with_the_loss():
    small = noise_of(lambda p: np.sum(np.exp(p["W"])))
    large = noise_of(lambda p: 2.0**40 * np.sum(np.exp(p["W"])))
    assert large == 2.0**40 * small


def test_cancellation_inside_the_loss_is_seen():
    assert noise_of(lambda p: (1e6 + np.sum(p["W"])) - 1e6) > 1e-11


def test_float32_arithmetic_inside_the_loss_is_seen():
    sigma = noise_of(lambda p: float(np.sum(np.exp(p["W"].astype(np.float32)))))
    assert sigma > 1e-7


def test_a_loss_returned_in_float32_has_float32_roundoff():
    assert noise_of(lambda p: np.float32(np.sum(p["W"]))) >= 12 * 2.0**-24


def test_a_loss_that_is_zero_has_a_noise_above_zero():
    assert noise_of(lambda p: 0.0) > 0


def test_a_loss_that_is_not_finite_close_by_still_gets_an_estimate():
    with np.errstate(invalid="ignore"):
        sigma = noise_of(lambda p: 1.0 + np.sum(np.sqrt(p["W"])), {"W": np.zeros(8)})
    assert 2.0**-53 <= sigma < 1e-14


def test_parameters_given_as_floats_stay_floats():
    kinds = set()
    noise_of(lambda p: kinds.add(type(p["a"])) or float(p["a"]) ** 2, {"a": 2.0})
    assert kinds == {np.float64}
