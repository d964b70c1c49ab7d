"""x² at 3, and the relative-error recipe."""

import numpy as np
import pytest

import fastcheck
from fastcheck.problems import parabola as source


def test_the_printed_number_comes_from_the_step_behind_it() -> None:
    assert source.central_difference(source.f, 3, source.PRINTED_STEP) == source.PRINTED


def test_the_stated_step_gives_six_to_fourteen_digits() -> None:
    assert source.central_difference(source.f, 3, source.STEP) == pytest.approx(6, rel=1e-13)


def test_the_recipe_accepts_six() -> None:
    assert source.recipe(source.f, source.POINT, source.slope(source.POINT))


def test_fastcheck_passes_six_at_the_stated_step() -> None:
    problem = source.problem()
    report = fastcheck.check(problem.loss, problem.params, problem.grads, step=source.STEP)
    assert report.passed
    assert report.loss == 9.0
    assert report.tensors["params"].relative_error < source.THRESHOLD


def test_fastcheck_passes_six_at_its_own_step() -> None:
    problem = source.problem()
    assert fastcheck.check(problem.loss, problem.params, problem.grads).passed


def test_the_derivative_may_be_a_function() -> None:
    assert fastcheck.check(source.f, np.array(3.0), source.slope).passed


def test_both_reject_a_slope_of_three() -> None:
    report = fastcheck.check(source.f, source.POINT, 3.0)
    assert not source.recipe(source.f, source.POINT, 3.0)
    assert report.verdict is fastcheck.Verdict.FAIL
    worst = report.tensors["params"].worst
    assert worst is not None
    assert (worst.analytic, worst.numeric) == (3.0, pytest.approx(6.0))


def test_a_slope_just_beyond_the_threshold_fails_both() -> None:
    wrong = 6 * (1 + 1e-5)
    assert not source.recipe(source.f, source.POINT, wrong)
    assert not fastcheck.check(source.f, source.POINT, wrong).passed


def test_the_recipe_rejects_a_correct_gradient_of_three_weights() -> None:
    problem = source.sum_of_squares_problem()
    assert not source.recipe(problem.loss, problem.params, problem.grads)


def test_fastcheck_passes_the_same_three_weights() -> None:
    problem = source.sum_of_squares_problem()
    assert fastcheck.check(problem.loss, problem.params, problem.grads).passed
