"""784-10-10 with ReLU, softmax and dropout: why its author's checker printed 0.3333."""

from dataclasses import replace

import numpy as np
import pytest

import fastcheck
from fastcheck.problems import Problem
from fastcheck.problems import relu_softmax as source

BATCH = 32


def copied(params: source.Tree) -> source.Tree:
    return {name: value.copy() for name, value in params.items()}


def published(
    problem: Problem, keep: float = 1.0, *, deep: bool = False, grads: source.Tree | None = None
) -> float:
    """Return what the author's checker prints for this problem."""
    net = source.Network(keep=keep)
    X, Y = source.digit_batch(BATCH)
    net.cost(problem.params, X, Y)  # draws the same masks, from the same seed
    grads = problem.grads if grads is None else grads
    return source.published_check(net, copied(problem.params), grads, X, Y, deep=deep)


def check(problem: Problem) -> fastcheck.Report:
    return fastcheck.check(problem.loss, problem.params, problem.grads)


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_the_shallow_copy_prints_one_third(keep: float) -> None:
    difference = published(source.problem(BATCH, keep), keep)
    assert f"{difference:.4f}" == "0.3333"
    assert not source.published_verdict(difference)


def test_copying_the_arrays_too_lets_the_same_rule_pass_the_untrained_network() -> None:
    assert source.published_verdict(published(source.problem(BATCH), deep=True))


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_fastcheck_passes_the_same_backward_pass(keep: float) -> None:
    report = check(source.problem(BATCH, keep))
    assert report.passed
    assert list(report.tensors) == ["W1", "B1", "W2", "B2"]
    assert report.checked == 7960


def test_fastcheck_leaves_the_parameters_bit_for_bit() -> None:
    problem = source.problem(BATCH)
    before = copied(problem.params)
    check(problem)
    for name, value in problem.params.items():
        np.testing.assert_array_equal(value, before[name])


def test_even_with_a_deep_copy_the_rule_fails_the_trained_network() -> None:
    # Roundoff: its step of 1e-7 leaves too few digits once the loss and the gradient are small.
    problem = source.problem(BATCH, iterations=6000)
    assert not source.published_verdict(published(problem, deep=True))


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_fastcheck_passes_the_trained_network(keep: float) -> None:
    assert check(source.problem(BATCH, keep, iterations=6000)).passed


@pytest.mark.parametrize(
    ("entry", "tensor"), [("dw1", "W1"), ("db1", "B1"), ("dw2", "W2"), ("db2", "B2")]
)
def test_a_one_percent_error_in_one_gradient_fails_that_tensor(entry: str, tensor: str) -> None:
    problem = source.problem(BATCH, keep=0.5)
    wrong = replace(problem, grads={**problem.grads, entry: 1.01 * problem.grads[entry]})
    assert list(check(wrong).failed) == [tensor]


def test_dropout_forgotten_in_the_backward_pass_fails_the_first_layer() -> None:
    net = source.Network(keep=0.5)
    X, Y = source.digit_batch(BATCH)
    params = net.init_params()
    cache = net.forward(params, X)
    net.keep = 1.0
    grads = net.backward(params, cache, Y)
    net.keep = 0.5
    report = fastcheck.check(lambda p: net.cost(p, X, Y), params, grads)
    assert list(report.failed) == ["W1", "B1"]


def test_dropout_that_draws_anew_is_refused_with_the_way_to_hold_it_still() -> None:
    problem = source.problem(BATCH, keep=0.5, hold=False)
    with pytest.raises(fastcheck.InputError, match=r"`loss` gave two different values.*mask"):
        check(problem)


def test_a_gradient_that_is_not_a_number_pleases_the_rule_and_fails_the_check() -> None:
    problem = source.problem(BATCH)
    dw2 = problem.grads["dw2"].copy()
    dw2[3, 4] = np.nan
    wrong = replace(problem, grads={**problem.grads, "dw2": dw2})
    assert source.published_verdict(published(problem, grads=wrong.grads))
    report = check(wrong)
    assert list(report.failed) == ["W2"]
    worst = report.tensors["W2"].worst
    assert worst is not None
    assert worst.index == (3, 4)
