"""J = θx, and a three-layer network whose parameters are a dictionary flattened both ways.

ReLU, ReLU, sigmoid, logistic cost, samples in columns. The forward pass returns the cost *and* a
cache, so the loss to check takes the first of the two. The rule: step 1e-7, threshold 2e-7, the
parameters and gradients as column vectors.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.problems.problem import Problem

Array = NDArray[np.float64]
Tree = dict[str, Any]

STEP = 1e-7
LINE_THRESHOLD = 1e-7
THRESHOLD = 2e-7
SHAPES: dict[str, tuple[int, int]] = {
    "W1": (5, 4),
    "b1": (5, 1),
    "W2": (3, 5),
    "b2": (3, 1),
    "W3": (1, 3),
    "b3": (1, 1),
}


def line(x: float, theta: Any) -> Any:
    """Return J = θx."""
    return theta * x


def line_slope(x: float, theta: Any) -> float:
    """Return dJ/dθ, which is x whatever θ."""
    return x


def flatten(tree: Tree, names: tuple[str, ...] = tuple(SHAPES)) -> Array:
    """Return the named arrays as one column vector."""
    return np.concatenate([np.reshape(tree[name], (-1, 1)) for name in names], axis=0)


def unflatten(theta: Any) -> Tree:
    """Return the dictionary of arrays held by a column vector."""
    tree: Tree = {}
    start = 0
    for name, (rows, columns) in SHAPES.items():
        tree[name] = theta[start : start + rows * columns].reshape((rows, columns))
        start += rows * columns
    return tree


def initial(seed: int = 1) -> Tree:
    """Return random parameters."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) * 0.8 for name, shape in SHAPES.items()}


def samples(m: int = 6, seed: int = 0) -> tuple[Array, Array]:
    """Return `m` columns of four inputs and their 0/1 targets (1, m)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((4, m))
    return X, (X[:1] * X[1:2] > 0).astype(float)


def draw_masks(m: int = 6, keep: float = 0.7, seed: int = 0) -> tuple[Array, Array]:
    """Return dropout masks of the two hidden layers, already divided by `keep`."""
    rng = np.random.default_rng(seed)
    return (rng.random((5, m)) < keep) / keep, (rng.random((3, m)) < keep) / keep


def forward(
    X: Array, Y: Array, parameters: Tree, masks: tuple[Any, Any] = (1.0, 1.0)
) -> tuple[Any, tuple[Any, ...]]:
    """Return the logistic cost and the cache for the backward pass."""
    W1, b1, W2, b2, W3, b3 = parameters.values()
    Z1 = np.dot(W1, X) + b1
    A1 = np.maximum(Z1, 0) * masks[0]
    Z2 = np.dot(W2, A1) + b2
    A2 = np.maximum(Z2, 0) * masks[1]
    Z3 = np.dot(W3, A2) + b3
    A3 = 1 / (1 + np.exp(-Z3))
    logprobs = np.multiply(-np.log(A3), Y) + np.multiply(-np.log(1 - A3), 1 - Y)
    cost = 1.0 / X.shape[1] * np.sum(logprobs)
    return cost, (Z1, A1, W1, b1, Z2, A2, W2, b2, Z3, A3, W3, b3)


def backward(
    X: Array, Y: Array, cache: tuple[Any, ...], masks: tuple[Any, Any] = (1.0, 1.0)
) -> Tree:
    """Return ``dW1 … db3`` and, beside them, every ``dZ`` and ``dA``."""
    Z1, A1, _, _, Z2, A2, W2, _, _, A3, W3, _ = cache
    dZ3 = (A3 - Y) / X.shape[1]
    dA2 = np.dot(W3.T, dZ3) * masks[1]
    dZ2 = np.multiply(dA2, np.int64(Z2 > 0))
    dA1 = np.dot(W2.T, dZ2) * masks[0]
    dZ1 = np.multiply(dA1, np.int64(Z1 > 0))
    return {
        "dZ3": dZ3,
        "dW3": np.dot(dZ3, A2.T),
        "db3": np.sum(dZ3, axis=1, keepdims=True),
        "dA2": dA2,
        "dZ2": dZ2,
        "dW2": np.dot(dZ2, A1.T),
        "db2": np.sum(dZ2, axis=1, keepdims=True),
        "dA1": dA1,
        "dZ1": dZ1,
        "dW1": np.dot(dZ1, X.T),
        "db1": np.sum(dZ1, axis=1, keepdims=True),
    }


def gradients(X: Array, Y: Array, parameters: Tree, masks: tuple[Any, Any] = (1.0, 1.0)) -> Tree:
    """Return the gradients of one forward and backward pass."""
    return backward(X, Y, forward(X, Y, parameters, masks)[1], masks)


def line_check(x: float, theta: float, gradient: float, epsilon: float = STEP) -> float:
    """Return the source's relative difference for J = θx; accepted below `LINE_THRESHOLD`."""
    numeric = (line(x, theta + epsilon) - line(x, theta - epsilon)) / (2 * epsilon)
    return _difference(np.array([gradient]), np.array([numeric]))


def vector_check(X: Array, Y: Array, parameters: Tree, grads: Tree, epsilon: float = STEP) -> float:
    """Return the source's relative difference for the network; rejected above `THRESHOLD`."""
    theta = flatten(parameters)
    numeric = np.zeros_like(theta)
    for i in range(len(theta)):
        costs = []
        for shift in (epsilon, -epsilon):
            moved = np.copy(theta)
            moved[i, 0] += shift
            cost, _ = forward(X, Y, unflatten(moved))
            costs.append(cost)
        numeric[i, 0] = (costs[0] - costs[1]) / (2 * epsilon)
    return _difference(flatten(grads, tuple("d" + name for name in SHAPES)), numeric)


def _difference(analytic: Array, numeric: Array) -> float:
    scale = np.linalg.norm(analytic) + np.linalg.norm(numeric)
    return float(np.linalg.norm(analytic - numeric) / scale)


def line_problem(x: float = 2.5, theta: float = 4.0) -> Problem:
    """Return J = θx with its derivative."""
    return Problem(loss=partial(line, x), params=theta, grads=line_slope(x, theta), name="line")


def problem(masks: tuple[Any, Any] = (1.0, 1.0)) -> Problem:
    """Return the network as a dictionary; pass `draw_masks()` for dropout held still."""
    X, Y = samples()
    parameters = initial()
    return Problem(
        loss=lambda p: forward(X, Y, p, masks)[0],
        params=parameters,
        grads=gradients(X, Y, parameters, masks),
        name="dictionary 4-5-3-1",
        description="ReLU, ReLU, sigmoid, logistic cost, six samples in columns.",
    )


def vector_problem() -> Problem:
    """Return the same network as one column vector, flattened both ways."""
    X, Y = samples()
    theta = flatten(initial())
    grads = flatten(gradients(X, Y, unflatten(theta)), tuple("d" + name for name in SHAPES))
    return Problem(
        loss=lambda t: forward(X, Y, unflatten(t))[0],
        params=theta,
        grads=grads,
        name="vector 4-5-3-1",
        description="The same network, its parameters a column vector (47, 1).",
    )
