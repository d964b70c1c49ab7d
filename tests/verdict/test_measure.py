"""The numerical gradient and its error bars, from black boxes and from exact differences."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.params import ParamTree
from fastcheck.verdict.measure import measure, second_look
from fastcheck.verdict.noise import estimate_noise
from fastcheck.verdict.tolerances import tolerance_for

TOLERANCE = tolerance_for([np.dtype(float)])


def measured(function, values, *, engine=None, method="central", step="auto", progress=None):
    tree = ParamTree.from_user(np.asarray(values, dtype=float))
    loss = LossFunction(function, tree)
    engine = engine or LoopEngine(loss, tree)
    how = {
        "method": method,
        "step": step,
        "tolerance": TOLERANCE,
        "rng": np.random.default_rng(0),
        "noise": estimate_noise(loss, tree, np.random.default_rng(1)),
    }
    indices = np.arange(tree.size)
    first = measure(engine, tree.tensors[0], indices, progress=progress, **how)
    return first, second_look(engine, tree.tensors[0], indices, first, **how)


CURVES = {
    "exp": (lambda w: np.sum(np.exp(w)), np.exp),
    "cubic": (lambda w: np.sum(w**3), lambda w: 3 * w**2),
    "sine": (lambda w: np.sum(np.sin(3 * w)), lambda w: 3 * np.cos(3 * w)),
    "reciprocal": (lambda w: np.sum(1 / w), lambda w: -1 / w**2),
}
POINTS = np.linspace(0.3, 2.0, 12)


@pytest.mark.parametrize("step", ["auto", 0.1, 1e-4, 1e-7, 1e-11])
@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("curve", CURVES)
def test_the_true_derivative_lies_within_the_error_bar(curve, method, step):
    function, derivative = CURVES[curve]
    m, _ = measured(function, POINTS, method=method, step=step)
    assert np.all(np.abs(m.values - derivative(POINTS)) <= m.error_bar)


@pytest.mark.parametrize("curve", CURVES)
def test_an_automatic_step_is_accurate(curve):
    function, derivative = CURVES[curve]
    m, _ = measured(function, POINTS)
    truth = derivative(POINTS)
    assert np.max(np.abs(m.values - truth)) < 1e-9 * np.max(np.abs(truth))
    assert np.max(m.error_bar) < 1e-4 * np.max(np.abs(truth))


def test_the_error_bar_is_the_sum_of_its_parts():
    m, _ = measured(lambda w: np.sum(np.abs(w)) + np.sum(np.exp(w)), np.linspace(0, 1, 5))
    parts = m.roundoff + m.truncation + m.gradient_noise + m.jump
    np.testing.assert_array_equal(m.error_bar, parts)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_a_scaled_loss_has_a_scaled_gradient_and_error_bar(scale):
    plain, _ = measured(lambda w: np.sum(np.exp(w)), POINTS)
    scaled, _ = measured(lambda w: scale * np.sum(np.exp(w)), POINTS)
    np.testing.assert_allclose(scaled.values, scale * plain.values, rtol=1e-8)
    assert 0.1 < np.max(scaled.error_bar) / (scale * np.max(plain.error_bar)) < 10


def test_a_given_step_yields_the_plain_difference_quotient():
    m, _ = measured(lambda w: np.sum(w**3), POINTS, step=0.3)
    quotient = ((POINTS + 0.3) ** 3 - (POINTS - 0.3) ** 3) / 0.6
    np.testing.assert_allclose(m.values, quotient, rtol=1e-12)
    np.testing.assert_array_equal(m.steps, np.full(12, 0.3))


def test_a_given_step_is_exact_for_a_parabola():
    m, _ = measured(lambda w: np.sum(w**2), [3.0], step=1e-2)
    assert abs(m.values[0] - 6) < 1e-12
    assert m.error_bar[0] < 1e-10


def test_a_kink_beside_theta_is_avoided():
    # ReLU with its corner 1e-7 from θ, inside the first step.
    m, _ = measured(lambda w: np.sum(np.maximum(w - 1, 0)), [1 + 1e-7, 1 - 1e-7, 2.0])
    np.testing.assert_allclose(m.values, [1, 0, 1], atol=1e-5)
    assert not m.kinked.any()


def test_a_kink_on_theta_is_set_apart_between_its_one_sided_derivatives():
    m, _ = measured(lambda w: np.sum(np.maximum(w, 0)) + np.sum(w), [0.0, 1.0, -1.0])
    np.testing.assert_array_equal(m.kinked, [True, False, False])
    assert m.values[0] == pytest.approx(1.5)
    assert m.jump[0] == pytest.approx(0.5)


def test_elements_without_a_finite_loss_nearby_are_nan():
    with np.errstate(invalid="ignore"):
        m, _ = measured(lambda w: np.sum(np.sqrt(w)), [0.0, 1.0])
    assert np.isnan(m.values[0])
    assert np.isnan(m.error_bar[0])
    assert m.values[1] == pytest.approx(0.5)


def test_a_loss_that_is_infinite_a_little_away_is_measured_closer():
    with np.errstate(invalid="ignore", divide="ignore"):
        m, _ = measured(lambda w: np.sum(np.log(w)), [1e-8, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert m.values[0] == pytest.approx(1e8, rel=1e-5)


def test_it_is_said_whether_the_loss_reacts():
    assert measured(lambda w: np.sum(w), POINTS)[0].reacts
    assert not measured(lambda w: 1.0, POINTS)[0].reacts


def test_a_reaction_lost_in_rounding_is_said_to_be_hidden():
    m, _ = measured(lambda w: 1.5 + 1e-15 * np.sum(w), np.ones(4))
    assert not m.reacts
    assert m.hidden
    assert not measured(lambda w: 1.0, np.ones(4))[0].hidden


def test_a_smooth_loss_costs_little_more_than_two_calls_an_element():
    m, _ = measured(lambda w: np.sum(np.exp(w)), np.linspace(0, 1, 500))
    assert m.loss_calls < 2.5 * 500


def test_forward_differences_cost_little_more_than_one_call_an_element():
    m, _ = measured(lambda w: np.sum(np.exp(w)), np.linspace(0, 1, 500), method="forward")
    assert m.loss_calls < 1.5 * 500


@pytest.mark.parametrize("method", ["central", "forward"])
def test_progress_adds_up_to_the_elements(method):
    done = []
    measured(lambda w: np.sum(w), np.ones(300), method=method, progress=done.append)
    assert sum(done) == 300
    assert len(done) > 1


def test_nothing_selected_is_an_empty_measurement():
    tree = ParamTree.from_user(np.ones(3))
    engine = LoopEngine(LossFunction(lambda w: np.sum(w), tree), tree)
    m = measure(
        engine,
        tree.tensors[0],
        np.zeros(0, dtype=np.int64),
        method="central",
        step="auto",
        tolerance=TOLERANCE,
        rng=np.random.default_rng(0),
        noise=1e-16,
    )
    assert m.values.shape == (0,)
    assert m.loss_calls == 0


# Exact differences


def exact_relu(ExactEngine, values):
    def change(_, index, h):
        x = values[index]
        return max(x + h, 0) - max(x, 0), (x > 0) != (x + h > 0)

    return ExactEngine(float(np.sum(np.maximum(values, 0))), change)


def test_an_exact_engine_is_measured_at_a_tiny_step_to_many_digits(ExactEngine):
    engine = ExactEngine(
        float(np.sum(np.exp(POINTS))), lambda _, i, h: (np.exp(POINTS[i]) * np.expm1(h), False)
    )
    m, _ = measured(lambda w: np.sum(np.exp(w)), POINTS, engine=engine)
    np.testing.assert_allclose(m.values, np.exp(POINTS), rtol=1e-14)
    assert np.all(m.error_bar < 1e-12 * np.exp(2))
    assert np.all(m.steps < 1e-8)


def test_an_exact_engine_steps_aside_from_a_kink_near_theta(ExactEngine):
    values = np.array([1e-11, -1e-11, 1.0])
    m, _ = measured(lambda w: 0.0, values, engine=exact_relu(ExactEngine, values))
    np.testing.assert_array_equal(m.values, [1, 0, 1])
    assert not m.kinked.any()
    assert m.steps[0] < 1e-11


def test_an_exact_engine_sets_a_kink_on_theta_apart(ExactEngine):
    values = np.array([0.0, 1.0])
    m, _ = measured(lambda w: 0.0, values, engine=exact_relu(ExactEngine, values))
    np.testing.assert_array_equal(m.kinked, [True, False])
    np.testing.assert_array_equal(m.values, [0.5, 1])
    np.testing.assert_array_equal(m.jump, [0.5, 0])


def test_an_exact_engine_takes_smaller_steps_where_the_loss_bends_hard(ExactEngine):
    # exp(k·w) with k = 2²⁶ bends within 2⁻³⁰.
    k = np.array([1.0, 2.0**26])
    engine = ExactEngine(2.0, lambda _, i, h: (np.expm1(k[i] * h), False))
    m, _ = measured(lambda w: 0.0, np.ones(2), engine=engine)
    np.testing.assert_allclose(m.values, k, rtol=1e-7)
    assert np.all(np.abs(m.values - k) <= m.error_bar)


def test_the_error_bar_of_an_exact_engine_holds_the_rounding_that_another_step_shows(ExactEngine):
    # Differences that carry rounding of 1e-9 after all.
    engine = ExactEngine(1.0, lambda _, i, h: (h * (1 + 1e-9 * np.sin(1e12 * h + i)), False))
    m, _ = measured(lambda w: 0.0, np.ones(40), engine=engine)
    assert np.max(m.error_bar) > 2e-10


# Second looks


@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("step", ["auto", 0.3, 1e-12])
def test_a_second_look_is_accurate_whatever_the_first_step_was(method, step):
    _, again = measured(lambda w: np.sum(np.exp(w)), POINTS, method=method, step=step)
    looked = again(np.array([2, 7]))
    truth = np.exp(POINTS[[2, 7]])
    assert np.all(np.abs(looked.values - truth) <= looked.error_bar)
    assert np.all(looked.error_bar < 1e-5 * truth)


def test_a_second_look_recognises_a_kink_on_theta():
    _, again = measured(lambda w: np.sum(np.maximum(w, 0)) + np.sum(w), [0.0, 1.0], step=0.1)
    looked = again(np.array([0, 1]))
    np.testing.assert_array_equal(looked.kinked, [True, False])
    assert looked.jump[0] == pytest.approx(0.5)


def test_a_second_look_of_an_exact_engine_recognises_a_kink_on_theta(ExactEngine):
    values = np.array([0.0, 1.0])
    _, again = measured(lambda w: 0.0, values, engine=exact_relu(ExactEngine, values))
    np.testing.assert_array_equal(again(np.array([0, 1])).kinked, [True, False])


NORMS = {
    "linalg.norm": np.linalg.norm,
    "a root": lambda w: np.sqrt(np.sum(w**2)),
    "hypot": lambda w: np.hypot(np.hypot(w[0], w[1]), w[2]),
}


@pytest.mark.parametrize("norm", NORMS)
def test_the_tip_of_a_norm_is_a_kink(norm):
    at = np.zeros(3)
    report = fastcheck.check(NORMS[norm], at, np.zeros(3))
    assert report.verdict is fastcheck.Verdict.INCONCLUSIVE
    assert "lies on a kink of the loss" in report.tensors["params"].reason
    sloped = fastcheck.check(lambda w: NORMS[norm](w) + np.sum(w), at, np.ones(3))
    assert sloped.passed
    assert sloped.tensors["params"].kinked == 3


def test_rows_of_zeros_in_a_group_penalty_are_set_apart():
    X = np.random.default_rng(0).standard_normal((20, 4))
    W = np.random.default_rng(1).standard_normal((4, 3))
    W[2] = 0.0

    def loss(W):
        return np.mean((X @ W - 1) ** 2) + 0.1 * np.sqrt(np.sum(W**2, axis=1)).sum()

    size = np.sqrt((W**2).sum(1, keepdims=True))
    smooth = 2 * X.T @ (X @ W - 1) / 60
    right = smooth + 0.1 * np.divide(W, size, out=np.zeros_like(W), where=size > 0)
    report = fastcheck.check(loss, W, right)
    assert report.passed
    assert report.tensors["params"].kinked == 3
    within = right.copy()
    within[2] += 0.04  # a subgradient as well, if not one that people take
    assert fastcheck.check(loss, W, within).verdict is fastcheck.Verdict.INCONCLUSIVE
    within[0] *= 1.01
    assert fastcheck.check(loss, W, within).verdict is fastcheck.Verdict.FAIL


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_curvature_however_sharp_is_no_cone(scale):
    w = np.array([0.0, 0.0, 1.0])

    def loss(w):
        return scale * np.sum(np.abs(w) ** 1.5) + np.sum(np.sqrt(w**2 + 1e-6))

    right = scale * 1.5 * np.sqrt(w) + w / np.sqrt(w**2 + 1e-6)
    report = fastcheck.check(loss, w, right)
    assert report.tensors["params"].kinked <= 2  # abs itself has its corner there
    smooth = fastcheck.check(lambda w: scale * np.sum((w**2 + 1e-12) ** 0.5), w, w * scale)
    assert smooth.tensors["params"].kinked == 0


@pytest.mark.parametrize("power", [3, 5])
def test_derivatives_that_are_truncation_alone_are_zero(power):
    report = fastcheck.check(lambda w: np.sum(w**power), np.zeros(3), np.zeros(3))
    assert report.passed
    assert report.tensors["params"].engine == "replay"


@pytest.mark.parametrize("wrong", [1e-9, 1e-3, -1.0])
def test_but_not_to_a_gradient_that_is_not(wrong):
    report = fastcheck.check(lambda w: np.sum(w**3), np.zeros(3), np.full(3, wrong))
    assert report.verdict is fastcheck.Verdict.FAIL
    small = fastcheck.check(lambda w: np.sum(w**3 + 1e-12 * w), np.zeros(3), np.zeros(3))
    assert small.verdict is fastcheck.Verdict.FAIL
