"""The 2-3-1 network's own parts."""

import numpy as np
import pytest

from fastcheck.problems import sigmoid_231 as source


@pytest.fixture
def net() -> source.Net:
    return source.Net(*source.samples())


def test_weights_go_into_the_vector_and_back(net: source.Net) -> None:
    net.set_weights(np.arange(9.0))
    np.testing.assert_array_equal(net.W1, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(net.W2, [[6], [7], [8]])
    np.testing.assert_array_equal(net.get_weights(), np.arange(9.0))


def test_the_gradient_agrees_with_central_differences(net: source.Net) -> None:
    np.testing.assert_allclose(net.backward(), source.numerical_gradient(net, 1e-5), rtol=1e-7)


def test_the_numerical_gradient_puts_the_weights_back(net: source.Net) -> None:
    before = net.get_weights()
    source.numerical_gradient(net)
    np.testing.assert_array_equal(net.get_weights(), before)


def test_momentum_adds_half_of_the_step_before(net: source.Net) -> None:
    weights, gradient = net.get_weights(), net.backward()
    net.velocity = np.full(9, 0.2)
    net.update(0.5, "momentum")
    np.testing.assert_allclose(net.get_weights(), weights - (0.5 * gradient + 0.1))


def test_the_nesterov_step_adds_the_velocity_before_as_published(net: source.Net) -> None:
    weights, gradient = net.get_weights(), net.backward()
    net.velocity = np.full(9, 0.2)
    net.update(0.5, "nesterov")
    velocity = 0.5 * gradient + 0.1
    np.testing.assert_allclose(net.get_weights(), weights - 1.5 * velocity - 0.5 * 0.2)


def test_a_smaller_step_cures_the_rule(net: source.Net) -> None:
    # The failures are truncation error: with h = 1e-5 the very same run passes throughout.
    differences = []

    def watch(iteration: int, net: source.Net) -> None:
        numeric = source.numerical_gradient(net, 1e-5)
        differences.append(source.rule_difference(net.backward(), numeric))

    history = source.train(net, watch=watch)
    assert max(differences) < source.RULE_THRESHOLD
    assert len(history.failures()) == 236
