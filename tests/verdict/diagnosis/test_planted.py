"""The public list of bugs: a diagnosis calls them what the list calls them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.planted import BUGS, passes
from fastcheck.problems import hidden_layer_mse, mlp, relu_softmax

# Without its mask a ReLU has derivative 1: two entries of the list are one mistake there.
SAME = {"activation-derivative": "missing-mask"}


def _mlp() -> tuple[Any, Any, Any]:
    problem = mlp.mlp_problem((12, 7, 7, 4), 16, iterations=5)
    X, Y = mlp.make_batch((12, 7, 7, 4), 16)
    return problem.loss, problem.params, passes.of_mlp(problem.params, X, Y)


def _dropout() -> tuple[Any, Any, Any]:
    net = relu_softmax.Network((64, 8, 8, 10), keep=0.7)
    images = relu_softmax.load_digits(8, 24)
    X, Y = images[0].T.copy(), np.eye(10)[images[1]].T
    params = net.init_params()
    backward = passes.of_relu_softmax(net, params, X, Y)
    return (lambda p: net.cost(p, X, Y)), params, backward


def _sigmoid() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    x, t = rng.random((9, 5)), rng.random((9, 3))
    params = [rng.standard_normal(s) for s in ((5, 4), (4,), (4, 3), (3,))]
    backward = passes.of_hidden_layer_mse(params, x, t)

    def loss(p: Any) -> Any:
        return np.sum((hidden_layer_mse.predict(p, x) - t) ** 2) / len(x)

    return loss, params, backward


@pytest.mark.parametrize("network", [_mlp, _dropout, _sigmoid])
@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name != "shallow-copy"], ids=str)
def test_a_bug_of_the_list_is_called_by_its_name(bug: Any, network: Any) -> None:
    loss, params, backward = network()
    right = backward.gradients()
    tree = backward.tree
    earlier = {name: 0.9 * g + 0.01 * np.cos(g) for name, g in right.items()}
    samples = backward.dZ.shape[1]
    given: dict[str, Any] = {
        "params": params,
        "previous": tree.build(earlier),
        "batch_size": samples,
        "backward": backward,
    }
    grads = tree.build(right)
    for variant in bug.variants:
        if not variant.applies(grads, **given):
            continue
        keywords = {"previous_grads": tree.build(earlier), "batch_size": samples}
        report = fastcheck.check(loss, params, variant(grads, **given), **keywords)
        assert report.diagnosis is not None
        found = report.diagnosis.causes
        assert set(found) <= {bug.name, SAME.get(bug.name)}, str(report.diagnosis)
        assert found


def test_a_shallow_copy_is_half_the_gradient_and_said_to_be() -> None:
    loss, params, _ = _mlp()
    half = BUGS["shallow-copy"].numerical_gradient(loss, params)
    report = fastcheck.check(loss, params, half, tolerance=1e-4)
    assert "shallow" in str(report.diagnosis)
