import numpy as np
import pytest

from fastcheck.commands import naive
from fastcheck.problems.mlp import mlp_problem


@pytest.fixture
def parameters():
    return {"W": np.arange(6.0).reshape(2, 3), "b": np.array([[7.0], [8.0]])}


def test_the_vector_holds_the_tensors_end_to_end(parameters):
    assert naive.to_vector(parameters).tolist() == [0, 1, 2, 3, 4, 5, 7, 8]


def test_a_vector_becomes_tensors_of_the_same_shapes(parameters):
    rebuilt = naive.to_parameters(naive.to_vector(parameters), parameters)
    assert all(np.array_equal(rebuilt[name], parameters[name]) for name in parameters)


def test_the_gradient_agrees_with_backpropagation():
    problem = mlp_problem((7, 5, 3), batch=8)
    numeric = naive.naive_gradient(problem.loss, problem.params)
    exact = naive.to_vector(problem.gradients())
    assert np.linalg.norm(numeric - exact) < 1e-7 * np.linalg.norm(exact)


def test_some_parameters_can_be_picked():
    problem = mlp_problem((7, 5, 3), batch=8)
    whole = naive.naive_gradient(problem.loss, problem.params)
    some = naive.naive_gradient(problem.loss, problem.params, indices=[3, 40])
    assert np.array_equal(some, whole[[3, 40]])


def test_the_parameters_stay_as_they_are(parameters):
    before = {name: value.copy() for name, value in parameters.items()}
    naive.naive_gradient(lambda p: p["W"].sum() + p["b"].sum(), parameters)
    assert all(np.array_equal(before[name], parameters[name]) for name in parameters)


def test_every_parameter_costs_two_forward_passes(parameters):
    calls = []
    naive.naive_gradient(lambda p: calls.append(1) or 0.0, parameters)
    assert len(calls) == 16


def test_the_sample_stops_at_its_budget(parameters):
    sample = naive.time_naive(lambda p: p["W"].sum(), parameters, budget=0.0)
    assert sample.timed == 1
    assert sample.parameters == 8


def test_the_sample_times_no_parameter_twice(parameters):
    sample = naive.time_naive(lambda p: p["W"].sum(), parameters, most=400, budget=60)
    assert sample.timed == 8
    assert sample.extrapolated == pytest.approx(sample.seconds, rel=5)
