"""`Problem`, and the five reference problems as values."""

from collections.abc import Callable

import numpy as np
import pytest

from fastcheck.problems import (
    Problem,
    dictionary_net,
    hidden_layer_mse,
    parabola,
    relu_softmax,
    sigmoid_231,
)

FACTORIES = {
    "sigmoid_231": sigmoid_231.problem,
    "parabola": parabola.problem,
    "sum of squares": parabola.sum_of_squares_problem,
    "hidden_layer_mse": hidden_layer_mse.problem,
    "relu_softmax": relu_softmax.problem,
    "relu_softmax with dropout": lambda: relu_softmax.problem(keep=0.5),
    "line": dictionary_net.line_problem,
    "dictionary_net": dictionary_net.problem,
    "dictionary_net with dropout": lambda: dictionary_net.problem(dictionary_net.draw_masks()),
    "dictionary_net as a vector": dictionary_net.vector_problem,
}


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES.keys())
def test_the_loss_repeats_and_is_finite(factory: Callable[[], Problem]) -> None:
    problem = factory()
    loss = problem.loss(problem.params)
    assert np.isfinite(loss)
    assert problem.loss(problem.params) == loss


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES.keys())
def test_two_of_a_kind_are_equal_in_value(factory: Callable[[], Problem]) -> None:
    one, two = factory(), factory()
    assert one.loss(one.params) == two.loss(two.params)
    assert one.name == two.name != ""


def test_gradients_calls_a_callable_at_the_parameters() -> None:
    assert Problem(abs, -2.0, lambda x: 3 * x).gradients() == -6.0


def test_gradients_returns_a_tree_as_it_is() -> None:
    grads = {"W": np.ones(2)}
    assert Problem(abs, {"W": np.ones(2)}, grads).gradients() is grads


def test_a_problem_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Problem(abs, 1.0, 1.0).params = 2.0  # type: ignore[misc]
