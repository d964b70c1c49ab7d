"""A 2-3-1 sigmoid network with squared error, trained by momentum and checked as it trains.

The network is a class that keeps its weights and activations on itself and takes them all as one
flat vector. Its author's rule divides by the norm of the *sum* of the two gradients and takes a
step of 10e-4, that is 1e-3. With a correct gradient it fails once training has shrunk ‖g‖, because
the central difference's truncation error, h²J‴/6, does not shrink with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcheck.problems.problem import Problem

Array = NDArray[np.float64]

RULE_STEP = 10e-4
RULE_THRESHOLD = 10e-8
ITERATIONS = 250


def samples() -> tuple[Array, Array]:
    """Return three samples of two inputs, scaled to at most 1, and their targets in [0, 1]."""
    X = np.array([[3, 5], [5, 1], [10, 2]], dtype=float)
    y = np.array([[75], [82], [93]], dtype=float)
    return X / X.max(axis=0), y / 100


def sigmoid(z: Any) -> Any:
    """Return the logistic function of `z`."""
    return 1 / (1 + np.exp(-z))


def sigmoid_slope(z: Any) -> Any:
    """Return the derivative of the logistic function at `z`."""
    e = np.exp(-z)
    return e / (1 + e) ** 2


class Net:
    """Two weight matrices without biases; the activations of the last pass stay on the object."""

    def __init__(self, X: Array, y: Array, hidden: int = 3, seed: int = 0) -> None:
        rng = np.random.RandomState(seed)
        self.X = X
        self.y = y
        self.W1 = rng.rand(X.shape[1], hidden) / 100
        self.W2 = rng.rand(hidden, y.shape[1]) / 100
        self.velocity = np.zeros(self.W1.size + self.W2.size)

    def get_weights(self) -> Array:
        """Return all weights as one new flat vector, W1 first."""
        return np.concatenate((self.W1.ravel(), self.W2.ravel()))

    def set_weights(self, weights: Any) -> None:
        """Take all weights from one flat vector."""
        split = self.X.shape[1] * self.W1.shape[1]
        self.W1 = np.reshape(weights[:split], (self.X.shape[1], -1))
        self.W2 = np.reshape(weights[split:], (-1, self.y.shape[1]))

    def forward(self) -> Any:
        """Return the predictions, keeping what backpropagation needs on the object."""
        self.z2 = np.dot(self.X, self.W1)
        self.a2 = sigmoid(self.z2)
        self.z3 = np.dot(self.a2, self.W2)
        self.prediction = sigmoid(self.z3)
        return self.prediction

    def cost(self) -> Any:
        """Return half the summed squared error at the present weights."""
        return 0.5 * np.sum((self.y - self.forward()) ** 2)

    def cost_at(self, weights: Any) -> Any:
        """Set the weights and return the cost there."""
        self.set_weights(weights)
        return self.cost()

    def backward(self) -> Array:
        """Return the gradient of the cost at the present weights, flat, W1 first."""
        self.forward()
        delta3 = np.multiply(self.prediction - self.y, sigmoid_slope(self.z3))
        delta2 = np.multiply(np.dot(delta3, self.W2.T), sigmoid_slope(self.z2))
        dW1 = np.dot(self.X.T, delta2)
        dW2 = np.dot(self.a2.T, delta3)
        return np.concatenate((dW1.ravel(), dW2.ravel()))

    def gradient_at(self, weights: Array) -> Array:
        """Set the weights and return the gradient there."""
        self.set_weights(weights)
        return self.backward()

    def update(self, rate: float, rule: Rule, momentum: float = 0.5) -> None:
        """Take one step of training."""
        before = self.velocity
        self.velocity = rate * self.backward() + momentum * before
        if rule == "momentum":
            step = self.velocity
        else:
            # As published. The velocity points uphill and is subtracted, so Nesterov's step for
            # weights stored at the look-ahead point is (1+μ)·v − μ·v_before (Sutskever et al.
            # 2013). Here μ·v_before is *added* instead: the step is too long by 2μ·v_before.
            # That is a mistake in the update, which no gradient check can see: the gradient stays
            # right wherever the weights go, and training still converges.
            step = (1 + momentum) * self.velocity + momentum * before
        self.set_weights(self.get_weights() - step)


Rule = Literal["momentum", "nesterov"]


def numerical_gradient(net: Net, step: float = RULE_STEP) -> Array:
    """Return the central difference of the cost, one weight at a time."""
    weights = net.get_weights()
    shift = np.zeros_like(weights)
    numeric = np.zeros_like(weights)
    for i in range(len(weights)):
        shift[i] = step
        numeric[i] = (net.cost_at(weights + shift) - net.cost_at(weights - shift)) / (2 * step)
        shift[i] = 0
    net.set_weights(weights)
    return numeric


def rule_difference(gradient: Array, numeric: Array) -> float:
    """Return ‖g − n‖ / ‖g + n‖, which the rule wants below `RULE_THRESHOLD`."""
    return float(np.linalg.norm(gradient - numeric) / np.linalg.norm(gradient + numeric))


@dataclass
class History:
    """What was recorded before each of the training steps."""

    cost: list[float] = field(default_factory=list)
    difference: list[float] = field(default_factory=list)
    smallest_gradient: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)

    def failures(self) -> list[int]:
        """Return the iterations at which the author's rule fails."""
        return [i for i, d in enumerate(self.difference) if not d < RULE_THRESHOLD]


def train(
    net: Net,
    rule: Rule = "momentum",
    iterations: int = ITERATIONS,
    watch: Callable[[int, Net], None] | None = None,
) -> History:
    """Train on the full batch, checking by the author's rule before every step.

    Parameters
    ----------
    net : Net
        Changed in place.
    rule : "momentum" or "nesterov"
        How a step follows from the gradient and the velocity.
    iterations : int
        Number of steps; the learning rate falls from 0.5 to 0.05 over them.
    watch : callable, optional
        ``watch(iteration, net)`` is called before each step.

    Returns
    -------
    History
        Cost, relative difference, smallest gradient (the most negative one, as its author plotted)
        and gradient norm, one of each an iteration.
    """
    history = History()
    for i, rate in enumerate(np.linspace(0.5, 0.05, iterations)):
        if watch is not None:
            watch(i, net)
        gradient = net.backward()
        history.difference.append(rule_difference(gradient, numerical_gradient(net)))
        history.cost.append(float(net.cost()))
        history.smallest_gradient.append(float(gradient.min()))
        history.gradient_norm.append(float(np.linalg.norm(gradient)))
        net.update(rate, rule)
    return history


def problem(seed: int = 0) -> Problem:
    """Return the untrained network: one flat vector of nine weights, gradients by a method."""
    net = Net(*samples(), seed=seed)
    return Problem(
        loss=net.cost_at,
        params=net.get_weights(),
        grads=net.gradient_at,
        name="sigmoid 2-3-1",
        description="Sigmoid layers without biases, squared error, three samples in rows.",
    )
