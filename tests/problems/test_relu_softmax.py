"""The parts of the ReLU and softmax network, and what its checker does to the parameters."""

import numpy as np
import pytest

from fastcheck.problems import relu_softmax as source

SIZES = (6, 5, 4, 3)


def small(keep: float = 1.0, hold: bool = True) -> tuple[source.Network, source.Tree]:
    net = source.Network(SIZES, keep, hold)
    return net, net.init_params()


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((6, 7)), np.eye(3)[rng.integers(0, 3, 7)].T


def test_the_relu_derivative_leaves_its_argument_alone() -> None:
    z = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(source.relu_deriv(z), [0, 0, 1])
    np.testing.assert_array_equal(z, [-1, 0, 2])


def test_held_masks_are_drawn_once() -> None:
    net, params = small(keep=0.5)
    X, Y = batch()
    assert net.cost(params, X, Y) == net.cost(params, X, Y)


def test_masks_that_are_not_held_change_the_cost() -> None:
    net, params = small(keep=0.5, hold=False)
    X, Y = batch()
    assert net.cost(params, X, Y) != net.cost(params, X, Y)


def test_deeper_networks_with_dropout_pass_the_rule_with_deep_copies() -> None:
    net, params = small(keep=0.7)
    X, Y = batch()
    difference = source.published_check(net, params, net.gradients(params, X, Y), X, Y, deep=True)
    assert source.published_verdict(difference)


@pytest.mark.parametrize("deep", [False, True])
def test_the_shallow_copy_moves_the_parameters_themselves(
    deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, Y = batch()
    net, params = small()
    grads = net.gradients(params, X, Y)
    before = {name: value.copy() for name, value in params.items()}
    moved: list[bool] = []

    def cost(given: source.Tree, X: np.ndarray, Y: np.ndarray) -> float:
        moved.append(any(not np.array_equal(params[name], before[name]) for name in params))
        return 0.0

    monkeypatch.setattr(net, "cost", cost)
    source.published_check(net, params, grads, X, Y, deep=deep)
    assert moved[0] is not deep


def test_not_a_number_is_accepted_by_the_published_verdict() -> None:
    assert source.published_verdict(float("nan"))
