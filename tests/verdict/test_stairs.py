"""Losses that are rounded inside, and so move in stairs: no wrong FAIL, no wrong PASS."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.params import ParamTree
from fastcheck.verdict.probing import Probe
from fastcheck.verdict.stairs import Ladder, height, hides

_SPEC = importlib.util.spec_from_file_location(
    "quantised", Path(__file__).with_name("quantised.py")
)
quantised = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(quantised)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
PLACES = quantised.PLACES


def checked(net, grads, **options):
    return fastcheck.check(net.loss, net.params, grads, engine="loop", **options)


@pytest.mark.parametrize("inner", ["float32", "float16"])
@pytest.mark.parametrize("place", PLACES)
def test_a_right_gradient_never_fails(place, inner):
    for seed in range(4):
        net = quantised.Quantised(seed, place, inner)
        report = checked(net, net.grads)
        assert report.verdict is not Verdict.FAIL, (seed, str(report))


@pytest.mark.parametrize("options", [{"step": 1e-5}, {"method": "forward"}, {"step": 1e-2}])
@pytest.mark.parametrize("place", PLACES)
def test_nor_does_it_with_steps_and_methods_of_the_users_own(place, options):
    for seed in range(2):
        net = quantised.Quantised(100 + seed, place)
        report = checked(net, net.grads, **options)
        assert report.verdict is not Verdict.FAIL, (seed, str(report))


def test_stairs_that_add_up_in_one_direction_do_not_pass_for_a_wrong_scale():
    net = quantised.Quantised(7091, "an offset")
    assert checked(net, net.grads).verdict is Verdict.INCONCLUSIVE


def planted(net, seed):
    """A wrong gradient: a tensor doubled, of the wrong sign, zero, or a third off in one place."""
    name = ("W1", "b1", "W2", "b2")[seed % 4]
    right = net.grads[name]
    one = right.copy()
    one.flat[np.argmax(np.abs(right))] *= 1.3
    wrong = (2 * right, -right, 0 * right, one)[(seed + seed // 4) % 4]
    return name, {**net.grads, name: wrong}


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_gradient_never_passes(place):
    for seed in range(8):
        net = quantised.Quantised(200 + seed, place)
        name, wrong = planted(net, seed)
        if np.linalg.norm(wrong[name] - net.grads[name]) > 1e-3 * np.linalg.norm(net.grads[name]):
            assert checked(net, wrong).tensors[name].verdict is not Verdict.PASS, seed


@pytest.mark.parametrize("seed", [322, 946])
@pytest.mark.parametrize("place", ["everything", "result", "parameters"])
def test_a_gradient_of_zeros_does_not_pass_where_stairs_hide_the_slope(place, seed):
    for inner in ("float32", "float16"):
        net = quantised.Quantised(seed, place, inner)
        nothing = {name: 0 * right for name, right in net.grads.items()}
        for name, tensor in checked(net, nothing).tensors.items():
            assert tensor.verdict is not Verdict.PASS or not net.grads[name].any(), (inner, name)


def test_errors_above_the_resolution_fail():
    found = told = 0
    for seed in range(18):
        net = quantised.Quantised(300 + seed, PLACES[seed % len(PLACES)])
        name, wrong = planted(net, seed)
        resolution = checked(net, net.grads).tensors[name].resolution
        size = np.linalg.norm(net.grads[name])
        if np.linalg.norm(wrong[name] - net.grads[name]) > 4 * max(resolution, 1e-3) * size > 0:
            told += 1
            found += checked(net, wrong).tensors[name].verdict is Verdict.FAIL
    assert told > 7
    # Errors in a few elements, where stairs hide the derivative most, may stay open.
    assert found >= 0.9 * told


def test_a_failing_row_is_resolved_more_finely_than_it_deviates():
    rows = 0
    for seed in range(12):
        net = quantised.Quantised(400 + seed, PLACES[seed % len(PLACES)])
        for tensor in checked(net, planted(net, seed)[1]).tensors.values():
            if tensor.verdict is Verdict.FAIL:
                rows += 1
                assert tensor.resolution < 1
                assert tensor.resolution <= tensor.relative_error
    assert rows > 4


def test_weights_copied_into_float32_arrays_beside_a_smooth_bias():
    rng = np.random.RandomState(0)
    X = rng.randn(4, 6).astype("f")
    own = (rng.randn(6, 3) * 0.01).astype("f")
    w = own.copy()

    def loss(p):
        own[...] = p["W"]
        return 1 + np.mean(np.tanh(np.dot(X, own)) ** 2) + p["b"] ** 2

    t = np.tanh(X @ w)
    grads = {"W": X.T @ (2 * t * (1 - t * t)) / 12, "b": 1.0}
    report = fastcheck.check(loss, {"W": w, "b": np.float32(0.5)}, grads, engine="loop")
    assert report.tensors["W"].verdict is not Verdict.FAIL
    assert report.tensors["b"].verdict is Verdict.PASS


def test_a_result_that_is_rounded_is_not_held_against_the_gradient():
    w = np.linspace(0.5, 1.5, 6)
    for engine in ("loop", "auto"):
        report = fastcheck.check(
            lambda p: np.round(np.sum(p["w"] ** 2), 6) + np.sum(p["b"] ** 2),
            {"w": w, "b": w},
            {"w": 2 * w, "b": 2 * w},
            engine=engine,
        )
        assert report.verdict is Verdict.INCONCLUSIVE, engine


@pytest.mark.parametrize("options", [{}, {"step": 1e-9}, {"method": "forward", "step": 1e-6}])
def test_a_slope_lost_in_the_rounding_of_the_loss_is_not_called_zero(options):
    w = np.linspace(0.5, 1.5, 6)
    report = fastcheck.check(
        lambda p: 1e12 + np.sum(np.sin(p["w"])), {"w": w}, {"w": 0 * w}, engine="loop", **options
    )
    assert report.verdict is Verdict.INCONCLUSIVE


def ladder_of(function, h=1e-6):
    tree = ParamTree.from_user({"x": np.array([0.7])})
    probe = Probe(LoopEngine(LossFunction(function, tree), tree), "x")
    at = np.zeros(1, dtype=np.int64)
    ladder = Ladder.climb(probe, tree.tensors[0], at, np.array([h]))
    return height(probe, at, ladder, ladder.leaps(1e-9, 1e-16), 1e-16)


def test_stairs_too_wide_for_the_step_are_found_and_measured():
    found = ladder_of(lambda p: float(p["x"][0] ** 2 + np.floor(1e4 * p["x"][0] + 0.3) * 1e-4))
    assert 1e-5 < found < 1e-3


@pytest.mark.parametrize(
    "smooth",
    [
        lambda x: np.exp(3 * x),
        lambda x: np.sin(200 * x),
        lambda x: x**2 + np.maximum(x - 0.7001, 0),
        lambda x: abs(x - 0.7) + x,
        lambda x: np.maximum(x - 0.70002, 0) + np.maximum(0.6999 - x, 0),
    ],
)
def test_curves_and_kinks_are_not_taken_for_stairs(smooth):
    assert ladder_of(lambda p: float(smooth(p["x"][0]))) == 0


def test_parameters_that_the_loss_ignores_hide_nothing():
    tree = ParamTree.from_user({"x": np.ones(3), "y": np.ones(2)})
    engine = LoopEngine(LossFunction(lambda p: float(np.sum(p["y"])), tree), tree)
    at = np.arange(3)
    assert not hides(Probe(engine, "x"), tree["x"], at, np.full(3, 1e-6), 1e-15)


@pytest.mark.parametrize("short_of_the_end", [0.1, 1e-3, 1e-5])
def test_a_bend_at_the_end_of_the_longest_step_is_no_stair(short_of_the_end):
    theta = np.array([0.0625])
    longest = 2.0**-6  # a quarter of the parameter, as far as stairs are looked for
    bend = theta - longest * (1 - short_of_the_end)

    def loss(p):
        return np.sum(0.3 * p + 0.01 * p**2 + 8.0 * np.maximum(0.0, bend - p))

    right = 0.3 + 0.02 * theta
    assert fastcheck.check(loss, theta, right).passed
    assert fastcheck.check(loss, theta, 1.001 * right).verdict is Verdict.FAIL
