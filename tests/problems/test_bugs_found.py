"""Every planted bug is found by a check, in exactly the tensors that it spoils."""

import pytest

import fastcheck
from fastcheck.problems import mlp
from fastcheck.problems.bugs import BUGS, Context, spoilt_problem

SIZES = (784, 10, 10)
BATCH = 32


@pytest.mark.parametrize("iterations", [0, 20])
def test_the_correct_gradients_pass(iterations: int) -> None:
    problem = mlp.mlp_problem(SIZES, BATCH, iterations=iterations)
    assert fastcheck.check(problem.loss, problem.params, problem.grads).passed


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_fails_exactly_the_tensors_that_it_spoils(bug: str) -> None:
    problem = mlp.mlp_problem(SIZES, BATCH, iterations=20)
    X, Y = mlp.make_batch(SIZES, BATCH)
    spoilt = spoilt_problem(problem, X, Y, bug)
    report = fastcheck.check(spoilt.loss, spoilt.params, spoilt.grads)
    assert set(report.failed) == set(BUGS[bug].breaks(Context(problem.params, X, Y)))
