"""One hidden layer with biases and mean squared error, all four tensors element by element."""

from functools import partial

import numpy as np
import pytest

import fastcheck
from fastcheck.problems import hidden_layer_mse as source

NAMES = ("[0]", "[1]", "[2]", "[3]")


@pytest.mark.parametrize("size", [1, 8])
@pytest.mark.parametrize("which", range(4))
def test_shifting_one_element_at_a_time_gives_the_gradient(which: int, size: int) -> None:
    inputs, wanted = source.minibatch(size)
    params = source.initial()
    numeric = source.numeric_matrix(params, which, inputs, wanted)
    gradient = source.backprop(params, inputs, wanted)[which]
    assert numeric.shape == gradient.shape
    np.testing.assert_allclose(numeric, gradient, atol=1e-8)


@pytest.mark.parametrize("size", [1, 8])
def test_fastcheck_passes_every_element_of_all_four(size: int) -> None:
    problem = source.problem(size)
    report = fastcheck.check(problem.loss, problem.params, problem.grads)
    assert report.passed
    assert tuple(report.tensors) == NAMES
    assert [t.checked for t in report.tensors.values()] == [20, 4, 12, 3]


def test_fastcheck_passes_at_the_sources_step() -> None:
    problem = source.problem()
    assert fastcheck.check(problem.loss, problem.params, problem.grads, step=source.STEP).passed


def test_the_numeric_gradient_agrees_with_the_sources_matrices() -> None:
    inputs, wanted = source.minibatch()
    problem = source.problem()
    numeric = fastcheck.numerical_gradient(problem.loss, problem.params)
    for which in range(4):
        expected = source.numeric_matrix(problem.params, which, inputs, wanted)
        np.testing.assert_allclose(numeric[which], expected, atol=1e-8)


@pytest.mark.parametrize("which", range(4))
def test_an_error_in_one_element_of_one_tensor_fails_that_tensor_and_index(which: int) -> None:
    problem = source.problem()
    grads = [gradient.copy() for gradient in problem.grads]
    index = tuple(length - 1 for length in grads[which].shape)
    grads[which][index] *= 1.001
    report = fastcheck.check(problem.loss, problem.params, grads)
    assert list(report.failed) == [NAMES[which]]
    worst = report.tensors[NAMES[which]].worst
    assert worst is not None
    assert worst.index == index


def test_forgetting_the_mean_over_the_minibatch_fails_all_four() -> None:
    problem = source.problem(8)
    report = fastcheck.check(problem.loss, problem.params, [8 * g for g in problem.grads])
    assert list(report.failed) == list(NAMES)


def test_forgetting_the_mean_is_no_error_for_a_single_input() -> None:
    problem = source.problem(1)
    assert fastcheck.check(problem.loss, problem.params, [1 * g for g in problem.grads]).passed


def test_a_tuple_of_parameters_and_a_gradient_function_do_as_well() -> None:
    inputs, wanted = source.minibatch()
    report = fastcheck.check(
        partial(source.error, inputs=inputs, wanted=wanted),
        tuple(source.initial()),
        lambda params: tuple(source.backprop(params, inputs, wanted)),
    )
    assert report.passed
