"""The verdict on a tensor: never wrong, and a sentence that says why."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastcheck
from fastcheck.report.data import Verdict

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
KINDS = ["loop", "exact"]


def square(w):
    return np.sum(w**2)


# Networks: right gradients pass, planted bugs fail


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", [0, 200])
@pytest.mark.parametrize("seed", range(3))
def test_a_right_gradient_passes(check, ReluNet, kind, trained, seed):
    net = ReluNet(seed=seed).train(trained)
    result = check(net.loss, net.params, net.grads(), engine=net.engine(kind))
    assert result.verdict is PASS, result.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", [0, 200])
def test_planted_bugs_fail_and_name_the_tensor(check, ReluNet, planted, kind, trained):
    net = ReluNet(seed=1).train(trained)
    for bug, tensor, wrong in planted(net.grads()):
        result = check(net.loss, net.params, wrong, engine=net.engine(kind))
        assert result.verdict is FAIL, bug
        assert result.tensors[tensor].verdict is FAIL, bug
        assert [n for n, j in result.tensors.items() if j.verdict is FAIL] == [tensor], bug
        assert tensor in result.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss_scale", [1e-12, 1e12])
def test_the_scale_of_the_loss_does_not_matter(check, ReluNet, planted, kind, loss_scale):
    net = ReluNet(loss_scale=loss_scale)
    result = check(net.loss, net.params, net.grads(), engine=net.engine(kind))
    assert result.verdict is PASS, result.reason
    for bug, _, wrong in planted(net.grads()):
        assert check(net.loss, net.params, wrong, engine=net.engine(kind)).verdict is FAIL, bug


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rescale", [1e-4, 1e4])
def test_the_scale_of_a_layer_does_not_matter(check, ReluNet, planted, kind, rescale):
    net = ReluNet(rescale=rescale)
    result = check(net.loss, net.params, net.grads(), engine=net.engine(kind))
    assert result.verdict is PASS, result.reason
    for bug, _, wrong in planted(net.grads()):
        assert check(net.loss, net.params, wrong, engine=net.engine(kind)).verdict is FAIL, bug


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", [0, 200])
def test_float32_gradients_pass_at_float32_tolerance(check, ReluNet, kind, trained):
    net = ReluNet(dtype=np.float32, seed=2).train(trained)
    result = check(net.loss, net.params, net.grads(), engine=net.engine(kind))
    assert result.verdict is PASS, result.reason


@pytest.mark.parametrize("kind", KINDS)
def test_float32_gradients_that_are_wrong_fail(check, ReluNet, kind):
    net = ReluNet(dtype=np.float32, seed=2).train(50)
    grads = net.grads()
    for factor in (1.001, -1, 2):
        wrong = {**grads, "W2": grads["W2"] * factor}
        assert check(net.loss, net.params, wrong, engine=net.engine(kind)).verdict is FAIL


def test_a_float32_forward_pass_is_inconclusive_at_float64_tolerance(check, ReluNet):
    net = ReluNet()
    result = check(
        lambda p: net.loss({k: v.astype(np.float32) for k, v in p.items()}),
        net.params,
        net.grads(),
    )
    assert result.verdict is not FAIL


@pytest.mark.parametrize("kind", KINDS)
def test_dead_inputs_are_no_matter(check, ReluNet, planted, kind):
    net = ReluNet(sizes=(24, 6, 4))
    net.X[:18] = 0
    result = check(net.loss, net.params, net.grads(), engine=net.engine(kind))
    assert result.verdict is PASS, result.reason
    for bug, _, wrong in planted(net.grads()):
        assert check(net.loss, net.params, wrong, engine=net.engine(kind)).verdict is FAIL, bug


def test_a_wrong_derivative_of_a_dead_input_fails(check, ReluNet):
    net = ReluNet()
    net.X[5] = 0
    grads = net.grads()
    grads["W1"][2, 5] = 1e-6
    result = check(net.loss, net.params, grads)
    assert result.tensors["W1"].verdict is FAIL
    assert result.tensors["W1"].worst.index == (2, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_offset_never_fails_a_right_gradient(check, ReluNet, kind):
    net = ReluNet()
    result = check(lambda p: 1e8 + net.loss(p), net.params, net.grads(), engine=net.engine(kind))
    assert result.verdict is (PASS if kind == "exact" else INCONCLUSIVE)


# Methods, steps, selection


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trained", [0, 50])
def test_forward_differences_pass_and_fail(check, ReluNet, planted, kind, trained):
    net = ReluNet(seed=1).train(trained)
    how = {"engine": net.engine(kind), "method": "forward"}
    assert check(net.loss, net.params, net.grads(), **how).verdict is PASS
    for bug, _, wrong in planted(net.grads()):
        assert check(net.loss, net.params, wrong, **how).verdict is FAIL, bug


@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("step", [0.3, 1e-2, 1e-4, 1e-7, 1e-12])
@pytest.mark.parametrize("kind", KINDS)
def test_no_step_makes_a_right_gradient_fail_or_a_doubled_one_pass(
    check, ReluNet, kind, step, method
):
    net = ReluNet(seed=1).train(50)
    grads = net.grads()
    how = {"engine": net.engine(kind), "step": step, "method": method}
    assert check(net.loss, net.params, grads, **how).verdict is not FAIL
    assert check(net.loss, net.params, {**grads, "W1": 2 * grads["W1"]}, **how).verdict is FAIL


def test_a_step_that_is_too_large_is_said(check, ReluNet):
    net = ReluNet(seed=1).train(50)
    reason = check(net.loss, net.params, net.grads(), step=0.3).tensors["W1"].reason
    assert "at `step` = 0.3 the loss bends within the step" in reason
    assert 'Leave `step` at "auto", or take a smaller one.' in reason


def test_a_step_that_is_too_small_is_said(check, ReluNet):
    net = ReluNet(seed=1).train(50)
    reason = check(net.loss, net.params, net.grads(), step=1e-12).tensors["W1"].reason
    assert "at `step` = 1e-12 the rounding of the loss hides the rest" in reason
    assert 'Take a larger step, or leave it at "auto".' in reason


def test_a_parabola_at_3_passes_with_step_1e_2(check):
    result = check(lambda w: w**2, 3.0, 6.0, step=1e-2)
    assert result.verdict is PASS
    assert result.tensors["params"].relative_error < 1e-12


def test_a_tighter_tolerance_fails_what_the_usual_one_passes(check):
    w = np.linspace(0.5, 1.5, 8)
    grads = 2 * w * (1 + 3e-7)
    assert check(square, w, grads).verdict is PASS
    assert check(square, w, grads, tolerance=1e-8).verdict is not PASS


def test_only_what_is_selected_is_judged(check):
    w = np.ones(10)
    grads = 2 * w
    grads[7] = 9.0
    picked = {"params": np.array([1, 2, 3])}
    result = check(square, w, grads, select=picked)
    assert result.verdict is PASS
    assert result.tensors["params"].checked == 3


# Kinks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("convention", [0.0, 0.5, 1.0])
def test_any_convention_for_relu_at_zero_passes(check, ReluNet, kind, convention):
    net = ReluNet(seed=2)
    net.X[:, 0] = 0  # with biases of zero, every hidden unit is on its corner for sample 0
    grads = net.grads()
    p = net.params
    hidden = np.maximum(p["W1"] @ net.X + p["b1"], 0)
    logits = p["W2"] @ hidden + p["b2"]
    d = np.exp(logits) / np.exp(logits).sum(0)
    d[net.labels, net.columns] -= 1
    grads["b1"] += convention * (p["W2"].T @ d[:, :1]) / len(net.columns)
    result = check(net.loss, net.params, grads, engine=net.engine(kind))
    assert result.verdict is PASS, result.reason
    assert result.tensors["b1"].kinked == 6
    assert "lie on a kink of the loss" in result.tensors["b1"].reason


@pytest.mark.parametrize("kind", KINDS)
def test_no_convention_at_a_kink_is_inconclusive_and_says_how_to_go_on(check, ReluNet, kind):
    net = ReluNet(seed=2)
    net.X[:, 0] = 0
    grads = net.grads()
    wrong = {**grads, "b1": grads["b1"] * 1.01}
    judged = check(net.loss, net.params, wrong, engine=net.engine(kind)).tensors["b1"]
    assert judged.verdict is INCONCLUSIVE
    assert "cannot be judged: move the parameters a little" in judged.reason


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_zero_under_a_relu_never_fail(check, ReluNet, kind):
    net = ReluNet(seed=2)
    net.params["W1"] *= 0
    result = check(net.loss, net.params, net.grads(), engine=net.engine(kind))
    assert result.verdict is INCONCLUSIVE
    assert result.tensors["W1"].verdict is INCONCLUSIVE
    assert result.tensors["b2"].verdict is PASS


def test_zero_on_a_kink_alone_proves_nothing(check):
    result = check(lambda w: np.sum(np.maximum(w, 0)), np.zeros(3), np.zeros(3))
    judged = result.tensors["params"]
    assert judged.verdict is INCONCLUSIVE
    assert "zero is right whether or not the backward pass covers it" in judged.reason


def test_kinks_near_theta_do_not_disturb(check):
    w = np.array([1 + 1e-9, 1 - 1e-9, 1 + 1e-6, 1 - 1e-6, 3.0, -3.0])
    grads = (w > 1).astype(float)
    assert check(lambda w: np.sum(np.maximum(w - 1, 0)), w, grads).verdict is not FAIL


class SoftmaxRegression:
    """All weights zero: every logit ties for the maximum that is subtracted."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.X, self.labels = rng.standard_normal((5, 12)), rng.integers(0, 3, 12)
        self.W = np.zeros((3, 5))

    def loss(self, W):
        z = W @ self.X
        z = z - z.max(0)
        return np.mean(np.log(np.exp(z).sum(0)) - z[self.labels, np.arange(12)])

    def change(self, _, index, h):
        row, column = divmod(index, 5)
        d = h * self.X[column]
        log_sum = np.log1p(np.expm1(d) / 3)
        return np.mean(log_sum - np.where(self.labels == row, d, 0)), True

    def grads(self):
        d = np.full((3, 12), 1 / 3)
        d[self.labels, np.arange(12)] -= 1
        return d @ self.X.T / 12


@pytest.mark.parametrize("kind", KINDS)
def test_kinks_that_do_not_matter_are_no_kinks(check, ExactEngine, kind):
    net = SoftmaxRegression()
    engine = ExactEngine(net.loss(net.W), net.change) if kind == "exact" else None
    result = check(net.loss, net.W, net.grads(), engine=engine)
    assert result.verdict is PASS, result.reason
    assert result.tensors["params"].kinked == 0
    for wrong in (1.1 * net.grads(), -net.grads(), net.grads() + 0.01):
        assert check(net.loss, net.W, wrong, engine=engine).verdict is FAIL


@pytest.mark.parametrize("convention", [0.0, 1.0])
def test_kinks_that_cancel_between_samples_are_left_open(check, ExactEngine, convention):
    # relu(w·x) fitted to an odd function at w = 0: J is smooth in w, yet backward passes say 0.
    x = np.array([1.0, -1.0])

    def change(_, index, h):
        return np.mean((np.maximum(h * x, 0) - x) ** 2 - x**2), True

    engine = ExactEngine(1.0, change)
    grads = np.array([convention * np.mean(-2 * x * x)])
    result = check(
        lambda w: np.mean((np.maximum(w * x, 0) - x) ** 2), np.zeros(1), grads, engine=engine
    )
    assert result.verdict is INCONCLUSIVE


# Zeros and vanishing gradients


def test_zero_equals_zero_passes_and_is_said(check):
    params = {"a": np.ones(3), "unused": np.ones(2)}
    result = check(lambda p: square(p["a"]), params, {"a": 2 * np.ones(3), "unused": np.zeros(2)})
    assert result.verdict is PASS
    judged = result.tensors["unused"]
    assert judged.relative_error == 0.0
    assert judged.reason == (
        "Both gradients are exactly zero: the loss ignores these parameters, or does not change "
        "with them here."
    )


def test_a_gradient_for_parameters_that_the_loss_ignores_fails(check):
    params = {"a": np.ones(3), "unused": np.ones(2)}
    result = check(lambda p: square(p["a"]), params, {"a": 2 * np.ones(3), "unused": np.ones(2)})
    assert result.tensors["unused"].verdict is FAIL


def test_a_stationary_point_passes_and_is_said(check):
    judged = check(square, np.zeros(3), np.zeros(3)).tensors["params"]
    assert judged.verdict is PASS
    assert judged.reason == (
        "Both gradients are exactly zero: the loss is stationary in these parameters."
    )


def test_a_wrong_zero_hidden_by_rounding_is_inconclusive(check):
    params = {"a": np.ones(3), "b": np.ones(2)}
    result = check(
        lambda p: 1.5 + 1e-15 * np.sum(p["a"]) + np.sum(p["b"]),
        params,
        {"a": np.zeros(3), "b": np.ones(2)},
    )
    assert result.tensors["a"].verdict is INCONCLUSIVE
    assert result.tensors["b"].verdict is PASS


class LeastSquares:
    """A linear fit at its minimum, where the gradient is all rounding."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.A, self.y = rng.standard_normal((40, 5)), rng.standard_normal(40)
        self.w = np.linalg.lstsq(self.A, self.y, rcond=None)[0]

    def loss(self, w):
        return 0.5 * np.mean((self.A @ w - self.y) ** 2)

    def change(self, _, index, h):
        d = h * self.A[:, index]
        return np.mean(d * (self.A @ self.w - self.y + d / 2)), False


def by_residual(fit):
    return fit.A.T @ (fit.A @ fit.w - fit.y) / 40


def by_normal_equations(fit):
    return (fit.A.T @ fit.A @ fit.w - fit.A.T @ fit.y) / 40


def by_long_double(fit):
    A = fit.A.astype(np.longdouble)
    return (A.T @ (A @ fit.w - fit.y) / 40).astype(float)


def sample_by_sample(fit):
    return sum((fit.A[i] @ fit.w - fit.y[i]) * fit.A[i] / 40 for i in range(40))


def test_at_the_minimum_a_black_box_is_inconclusive_and_says_why(check):
    fit = LeastSquares()
    judged = check(fit.loss, fit.w, by_residual(fit)).tensors["params"]
    assert judged.verdict is INCONCLUSIVE
    assert "the gradient is so small here" in judged.reason
    assert "the rounding of the loss hides it. Check earlier in training" in judged.reason


@pytest.mark.parametrize(
    "gradient", [by_residual, by_normal_equations, by_long_double, sample_by_sample]
)
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_minimum_no_way_to_compute_the_gradient_fails(check, ExactEngine, kind, gradient):
    fit = LeastSquares()
    engine = ExactEngine(fit.loss(fit.w), fit.change) if kind == "exact" else None
    result = check(fit.loss, fit.w, gradient(fit), engine=engine)
    assert result.verdict is INCONCLUSIVE


@pytest.mark.parametrize("factor", [2, -1, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_at_the_minimum_no_wrong_gradient_passes(check, ExactEngine, kind, factor):
    fit = LeastSquares()
    engine = ExactEngine(fit.loss(fit.w), fit.change) if kind == "exact" else None
    result = check(fit.loss, fit.w, factor * by_residual(fit), engine=engine)
    assert result.verdict is not PASS


def test_a_bias_whose_terms_cancel_is_zero_to_rounding(check, ExactEngine):
    # Subtracting the mean, as batch normalisation does, makes the bias's gradient zero.
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal(30), rng.standard_normal(30), 0.7
    z = w * x + 0.3
    z = z - z.mean()
    d = (z - y) / 30

    def loss(p):
        s = p["w"] * x + p["b"]
        return 0.5 * np.mean((s - s.mean() - y) ** 2)

    def change(tensor, _, h):
        move = h * (x if tensor == "w" else np.ones(30))
        move = move - move.mean()
        if tensor == "b":
            move = move + 1e-16 * h * np.sin(1e15 * h + np.arange(30))
        return np.sum(move * (d + move / 60)), False

    params = {"w": np.array([w]), "b": np.array([0.3])}
    centred = d - d.mean()
    grads = {"w": np.array([x @ centred]), "b": np.array([centred.sum() + 3e-18])}
    result = check(loss, params, grads, engine=ExactEngine(loss(params), change))
    assert result.verdict is PASS, result.tensors["b"].reason
    assert result.tensors["b"].reason.startswith("Both gradients are zero to rounding: no ")
    assert check(loss, params, grads).verdict is not FAIL


@pytest.mark.parametrize(("size", "wrong_is"), [(1e-10, FAIL), (1e-14, INCONCLUSIVE)])
def test_a_tiny_gradient_beside_large_ones_is_still_judged_by_exact_differences(
    check, ExactEngine, size, wrong_is
):
    params = {"a": np.ones(4), "b": np.ones(4)}
    sizes = {"a": 1.0, "b": size}
    engine = ExactEngine(4 * math.e, lambda name, _, h: (sizes[name] * np.expm1(h) * math.e, False))
    right = {name: sizes[name] * np.exp(params[name]) for name in params}

    def loss(p):
        return np.sum(np.exp(p["a"])) + size * np.sum(np.exp(p["b"]))

    assert check(loss, params, right, engine=engine).verdict is PASS
    for factor in (2, -1, 0):
        wrong = {**right, "b": factor * right["b"]}
        assert check(loss, params, wrong, engine=engine).tensors["b"].verdict is wrong_is


def test_digits_that_a_saturated_activation_lost_are_no_error(check, ExactEngine):
    # Exactly, σ'(z) = σ(z)σ(−z); as a(1 − a) it is off by several percent at z = 34.
    w = np.array([34.0, 1.0])

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def exact_change(_, index, h):
        z = w[index]
        return -sigmoid(z + h) * sigmoid(-z) * np.expm1(-h), False

    a = sigmoid(w)
    engine = ExactEngine(float(a.sum()), exact_change)
    result = check(lambda w: np.sum(sigmoid(w)), w, a * (1 - a), engine=engine)
    assert abs(a[0] * (1 - a[0]) / (sigmoid(34.0) * sigmoid(-34.0)) - 1) > 1e-3
    assert result.verdict is PASS, result.reason


# NaN and Inf


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_fails_and_names_the_index(check, value):
    grads = 2 * np.ones((2, 3))
    grads[1, 2] = value
    judged = check(square, np.ones((2, 3)), grads).tensors["params"]
    assert judged.verdict is FAIL
    assert judged.reason == (
        f"The analytic gradient is not finite in one element, first at params[1, 2] ({value:g}): "
        "look for 0/0, log(0) or an overflow in the backward pass."
    )
    assert judged.worst.index == (1, 2)
    assert judged.worst.numeric == pytest.approx(2)
    assert math.isnan(judged.relative_error)


def test_a_loss_that_is_not_finite_beside_theta_is_inconclusive(check):
    w = np.array([0.0, 1.0])
    with np.errstate(invalid="ignore", divide="ignore"):
        judged = check(lambda w: np.sum(np.sqrt(w)), w, np.array([0.0, 0.5])).tensors["params"]
    assert judged.verdict is INCONCLUSIVE
    assert judged.reason.startswith("The loss is NaN or infinite within a step (")
    assert "of one element, first params[0]" in judged.reason


def test_a_wrong_element_fails_even_beside_an_edge(check):
    w = np.array([0.0, 1.0])
    with np.errstate(invalid="ignore", divide="ignore"):
        judged = check(lambda w: np.sum(np.sqrt(w)), w, np.array([0.0, 0.7])).tensors["params"]
    assert judged.verdict is FAIL


# Sentences and figures


def test_a_failure_names_the_worst_element_with_both_values(check):
    w = np.arange(1.0, 7.0).reshape(2, 3)
    grads = 2 * w
    grads[1, 0] = 7.0
    judged = check(square, w, grads).tensors["params"]
    start = "One element of 6 differs by more than the error bar; the worst, params[1, 0], is 7 "
    assert judged.reason.startswith(start + "analytically but ")
    assert judged.reason.endswith("numerically, confirmed with other steps.")
    assert judged.worst.index == (1, 0)
    assert judged.worst.analytic == 7.0
    assert judged.worst.numeric == pytest.approx(8.0)


def test_many_wrong_elements_are_counted(check):
    w = np.linspace(1, 2, 40)
    judged = check(square, w, 4 * w).tensors["params"]
    assert judged.reason.startswith(
        "40 elements of 40 differ by more than the error bar; the worst"
    )


def test_an_ordinary_pass_needs_no_words(check):
    judged = check(square, np.ones(3), 2 * np.ones(3)).tensors["params"]
    assert judged.reason == ""
    assert judged.kinked == 0
    assert judged.checked == 3
    assert judged.resolution < 1e-4


def test_the_relative_error_is_the_one_that_people_know(check):
    w = np.array([1.0, 2.0])
    judged = check(square, w, 4 * w).tensors["params"]
    assert judged.relative_error == pytest.approx(1 / 3, rel=1e-6)


def test_a_tensor_without_elements_passes_and_is_said(check):
    result = check(
        lambda p: square(p[0]), [np.ones(2), np.zeros((0, 3))], [2 * np.ones(2), np.zeros((0, 3))]
    )
    assert result.verdict is PASS
    assert result.tensors["[1]"].reason == (
        "The tensor has no elements, so there is nothing to check."
    )
    assert result.tensors["[1]"].worst is None


def test_a_tensor_of_which_nothing_is_selected_passes_and_is_said(check):
    result = check(
        lambda p: square(p["a"]) + square(p["b"]),
        {"a": np.ones(2), "b": np.ones(2)},
        {"a": 2 * np.ones(2), "b": 9 * np.ones(2)},
        select={"a": np.array([0, 1])},
    )
    assert result.verdict is PASS
    assert result.tensors["b"].reason == (
        "None of its elements was selected, so nothing was checked."
    )


def test_a_small_error_of_the_whole_is_found_although_no_element_stands_out(check):
    # 4,000 elements, each hidden by noise: 1% off as a whole.
    rng = np.random.default_rng(0)
    w = rng.standard_normal(4000)
    noise = np.random.default_rng(1)

    def loss(w):
        return 1e-3 * np.sum(np.sin(w)) + 1e-9 * noise.standard_normal()

    judged = check(loss, w, 1.01 * 1e-3 * np.cos(w)).tensors["params"]
    assert judged.verdict is FAIL


@pytest.mark.parametrize("engine", ["loop", "auto"])
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_the_scale_of_the_loss_hides_no_error(engine, scale):
    w = np.linspace(0.5, 1.5, 6)

    def verdict(factor):
        return fastcheck.check(
            lambda p: scale * np.sum(np.sin(p["w"])),
            {"w": w},
            {"w": factor * scale * np.cos(w)},
            engine=engine,
        ).verdict

    assert verdict(1.0) is PASS
    assert verdict(1.01) is FAIL
    assert verdict(-1.0) is FAIL


def test_error_bars_that_overflow_never_pass():
    w = np.array([709.0, 1.0])
    with np.errstate(over="ignore"):
        wrong = {"w": -np.exp(w)}
        report = fastcheck.check(lambda p: np.sum(np.exp(p["w"])), {"w": w}, wrong, engine="loop")
    assert report.verdict is not PASS


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_single_usable_look_confirms_nothing():
    # log is not finite at most steps around the first element, and far from straight at the rest.
    w = np.array([1e-12, 1e-3, 1.0])
    for options in ({}, {"step": 1e-5}, {"method": "forward"}):
        report = fastcheck.check(
            lambda p: np.sum(np.log(p["w"])), {"w": w}, {"w": 1 / w}, **options
        )
        assert report.verdict is not FAIL, options


def test_the_scale_of_the_whole_is_looked_at_again_before_it_fails(check):
    # Rounded to six digits: every element errs the same way.
    w = np.linspace(0.5, 1.5, 40)
    result = check(lambda p: np.round(np.sum(np.sin(p["w"])), 6), {"w": w}, {"w": np.cos(w)})
    assert result.verdict is not FAIL
