"""J = θx and the three-layer dictionary network: flattening, every iteration, dropout."""

import numpy as np
import pytest

import fastcheck
from fastcheck.problems import Problem
from fastcheck.problems import dictionary_net as source


def check(problem: Problem) -> fastcheck.Report:
    return fastcheck.check(problem.loss, problem.params, problem.grads)


def test_the_sources_rule_accepts_the_line() -> None:
    assert source.line_check(2.5, 4.0, source.line_slope(2.5, 4.0)) < source.LINE_THRESHOLD


def test_fastcheck_passes_the_line() -> None:
    assert check(source.line_problem()).passed


def test_theta_in_place_of_x_fails_both() -> None:
    problem = source.line_problem(x=2.5, theta=4.0)
    assert source.line_check(2.5, 4.0, 4.0) > source.LINE_THRESHOLD
    assert fastcheck.check(problem.loss, problem.params, 4.0).verdict is fastcheck.Verdict.FAIL


def test_flattening_goes_both_ways() -> None:
    parameters = source.initial()
    back = source.unflatten(source.flatten(parameters))
    assert list(back) == list(parameters)
    for name, value in parameters.items():
        np.testing.assert_array_equal(back[name], value)


def test_the_sources_rule_accepts_the_network() -> None:
    X, Y = source.samples()
    parameters = source.initial()
    difference = source.vector_check(X, Y, parameters, source.gradients(X, Y, parameters))
    assert difference < source.THRESHOLD


def test_fastcheck_passes_the_dictionary_with_its_extra_entries() -> None:
    problem = source.problem()
    assert {"dZ1", "dA2"} < set(problem.grads)
    report = check(problem)
    assert report.passed
    assert list(report.tensors) == list(source.SHAPES)


def test_fastcheck_passes_the_column_vector() -> None:
    report = check(source.vector_problem())
    assert report.passed
    assert report.tensors["params"].shape == (47, 1)


def test_a_flat_gradient_matches_a_dictionary_of_parameters() -> None:
    assert fastcheck.check(
        source.problem().loss, source.problem().params, source.vector_problem().grads
    ).passed


def test_fastcheck_passes_at_the_sources_step() -> None:
    problem = source.problem()
    assert fastcheck.check(problem.loss, problem.params, problem.grads, step=source.STEP).passed


@pytest.mark.parametrize("name", source.SHAPES)
def test_a_doubled_gradient_fails_the_rule_and_names_its_tensor(name: str) -> None:
    X, Y = source.samples()
    problem = source.problem()
    wrong = {**problem.grads, "d" + name: 2 * problem.grads["d" + name]}
    assert source.vector_check(X, Y, problem.params, wrong) > source.THRESHOLD
    assert list(fastcheck.check(problem.loss, problem.params, wrong).failed) == [name]


def test_every_iteration_of_a_training_run_can_be_checked() -> None:
    X, Y = source.samples()
    parameters = source.initial()
    reports = []
    for _ in range(40):
        cost, cache = source.forward(X, Y, parameters)
        grads = source.backward(X, Y, cache)
        reports.append(fastcheck.check(lambda p: source.forward(X, Y, p)[0], parameters, grads))
        assert reports[-1].loss == pytest.approx(cost, rel=1e-12)
        parameters = {name: value - 0.3 * grads["d" + name] for name, value in parameters.items()}
    assert all(report.passed for report in reports)
    assert reports[-1].loss < reports[0].loss


@pytest.mark.parametrize("seed", range(5))
def test_dropout_with_its_masks_held_still_passes(seed: int) -> None:
    assert check(source.problem(source.draw_masks(seed=seed))).passed


def test_dropout_with_a_backward_pass_that_ignores_the_masks_fails() -> None:
    masks = source.draw_masks()
    with_dropout = source.problem(masks)
    X, Y = source.samples()
    _, cache = source.forward(X, Y, with_dropout.params, masks)
    report = fastcheck.check(with_dropout.loss, with_dropout.params, source.backward(X, Y, cache))
    assert report.verdict is fastcheck.Verdict.FAIL
    assert "W3" not in report.failed


def test_dropout_that_draws_at_every_pass_is_refused_with_the_remedy() -> None:
    X, Y = source.samples()
    rng = np.random.default_rng(0)

    def loss(parameters: source.Tree) -> float:
        masks = source.draw_masks(seed=int(rng.integers(1 << 30)))
        return float(source.forward(X, Y, parameters, masks)[0])

    problem = source.problem()
    with pytest.raises(fastcheck.InputError, match=r"`loss` gave two different values.*mask"):
        fastcheck.check(loss, problem.params, problem.grads)


def test_the_forward_pass_with_its_cache_is_refused_with_the_remedy() -> None:
    X, Y = source.samples()
    problem = source.problem()
    with pytest.raises(fastcheck.InputTypeError, match=r"`loss`.*\[0\]"):
        fastcheck.check(lambda p: source.forward(X, Y, p), problem.params, problem.grads)
