"""A 784-10-10 ReLU network with softmax, cross-entropy and dropout, samples in columns.

The backward pass is right. Its author's checker says otherwise, because it copies the dictionary of
parameters but not the arrays in it: θ+ε is written into the parameters themselves, so that what it
takes for θ−ε is θ again. The numeric gradient comes out halved, and ‖g − g/2‖ / (‖g‖ + ‖g/2‖) = 1/3
whatever the network: the 0.3333 that it prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.problems.digits import load_digits
from fastcheck.problems.problem import Problem

Array = NDArray[np.float64]
Tree = dict[str, Any]

STEP = 1e-7
THRESHOLD = 2e-7
SIZES = (784, 10, 10)


def relu(x: Any) -> Any:
    """Return x where it is positive, else 0."""
    return np.maximum(0, x)


def relu_deriv(x: Any) -> Any:
    """Return 1 where x is positive, else 0."""
    d = x.copy()
    d[x <= 0] = 0
    d[x > 0] = 1
    return d


def softmax(x: Any) -> Any:
    """Return probabilities, one column a sample."""
    e = np.exp(x - x.max(axis=0, keepdims=True))
    return e / e.sum(axis=0, keepdims=True)


def cross_entropy(A: Any, Y: Array) -> float:
    """Return the cross-entropy averaged over the columns."""
    cost = -np.sum(np.multiply(np.log(A), Y)) / Y.shape[1]
    return float(np.squeeze(cost))


class Network:
    """Layer sizes and dropout; the parameters travel in a dictionary ``W1, B1, W2, B2, …``.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, inputs first.
    keep : float
        Probability that dropout keeps a hidden unit; 1 is no dropout.
    hold : bool
        Draw the masks once and use them in every pass, which makes the loss a function of the
        parameters alone. Otherwise every pass draws anew.
    seed : int
        Seed of the masks.
    """

    def __init__(
        self, sizes: Sequence[int] = SIZES, keep: float = 1.0, hold: bool = True, seed: int = 0
    ) -> None:
        self.sizes = tuple(sizes)
        self.last = len(sizes) - 1
        self.keep = keep
        self.hold = hold
        self.rng = np.random.default_rng(seed)
        self.masks: dict[str, NDArray[np.bool_]] = {}

    def init_params(self, seed: int = 0) -> Tree:
        """Return He-initialised weights and small biases."""
        rng = np.random.default_rng(seed)
        params: Tree = {}
        for i in range(1, self.last + 1):
            n_in, n_out = self.sizes[i - 1], self.sizes[i]
            params["W" + str(i)] = rng.standard_normal((n_out, n_in)) * np.sqrt(2.0 / n_in)
            params["B" + str(i)] = 0.01 * rng.standard_normal((n_out, 1))
        return params

    def mask(self, layer: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return the layer's dropout mask: the held one, or a new draw."""
        if not self.hold or layer not in self.masks:
            self.masks[layer] = self.rng.random(shape) < self.keep
        return self.masks[layer]

    def forward(self, params: Tree, X: Array) -> Tree:
        """Return the cache of every Z and A, and of the masks D where there is dropout."""
        cache: Tree = {"A0": X}
        for i in range(1, self.last):
            k = str(i)
            cache["Z" + k] = np.dot(params["W" + k], cache["A" + str(i - 1)]) + params["B" + k]
            cache["A" + k] = relu(cache["Z" + k])
            if self.keep < 1:
                cache["D" + k] = self.mask(k, cache["A" + k].shape)
                cache["A" + k] = cache["A" + k] * cache["D" + k]
                cache["A" + k] /= self.keep
        k = str(self.last)
        cache["Z" + k] = np.dot(params["W" + k], cache["A" + str(self.last - 1)]) + params["B" + k]
        cache["A" + k] = softmax(cache["Z" + k])
        return cache

    def cost(self, params: Tree, X: Array, Y: Array) -> float:
        """Return the loss: the cross-entropy of one forward pass."""
        return cross_entropy(self.forward(params, X)["A" + str(self.last)], Y)

    def backward(self, params: Tree, cache: Tree, Y: Array) -> Tree:
        """Return ``dw1, db1, …`` and, beside them, every ``dz`` and ``da`` on the way."""
        grads: Tree = {"dz" + str(self.last): (cache["A" + str(self.last)] - Y) / Y.shape[1]}
        for i in range(self.last - 1, 0, -1):
            k = str(i)
            da = np.dot(params["W" + str(i + 1)].T, grads["dz" + str(i + 1)])
            if self.keep < 1:
                da = da * cache["D" + k] / self.keep
            grads["da" + k] = da
            grads["dz" + k] = da * relu_deriv(cache["Z" + k])
        for i in range(1, self.last + 1):
            k = str(i)
            grads["dw" + k] = np.dot(grads["dz" + k], cache["A" + str(i - 1)].T)
            grads["db" + k] = np.sum(grads["dz" + k], axis=1, keepdims=True)
        return grads

    def gradients(self, params: Tree, X: Array, Y: Array) -> Tree:
        """Return the gradients of one forward and backward pass."""
        return self.backward(params, self.forward(params, X), Y)

    def train(self, params: Tree, X: Array, Y: Array, iterations: int, rate: float = 0.1) -> Tree:
        """Return new parameters after gradient descent on the full batch."""
        params = {name: value.copy() for name, value in params.items()}
        for _ in range(iterations):
            grads = self.gradients(params, X, Y)
            for name in params:
                params[name] -= rate * grads["d" + name.lower()]
        return params


def published_check(
    net: Network,
    params: Tree,
    grads: Tree,
    X: Array,
    Y: Array,
    *,
    deep: bool = False,
    epsilon: float = STEP,
) -> float:
    """Return ‖g − n‖ / (‖g‖ + ‖n‖) as the author's checker computes it.

    Parameters
    ----------
    net, params, grads, X, Y
        The network and what to check; `params` are written to unless `deep`.
    deep : bool
        Copy the arrays too, which the author's checker does not.
    epsilon : float
        The step.

    Returns
    -------
    float
        1/3 for a correct gradient when the copy is shallow.
    """
    numeric = []
    for name in params:
        for index in np.ndindex(params[name].shape):
            moved = _copy(params, deep)
            moved[name][index] = params[name][index] + epsilon
            J_plus = net.cost(moved, X, Y)
            moved = _copy(params, deep)
            # With a shallow copy the line above has already moved params[name][index]: this is θ.
            moved[name][index] = params[name][index] - epsilon
            J_minus = net.cost(moved, X, Y)
            numeric.append((J_plus - J_minus) / (2 * epsilon))
    analytic = np.concatenate([grads["d" + name.lower()].ravel() for name in params])
    distance = np.linalg.norm(analytic - np.array(numeric))
    return float(distance / (np.linalg.norm(analytic) + np.linalg.norm(numeric)))


def _copy(params: Tree, deep: bool) -> Tree:
    return {name: value.copy() for name, value in params.items()} if deep else params.copy()


def published_verdict(difference: float) -> bool:
    """Return whether the author's rule accepts; not a number is accepted, being no larger."""
    return not difference > THRESHOLD


def digit_batch(batch: int = 64) -> tuple[Array, Array]:
    """Return embedded digits in columns (784, batch) and one-hot targets (10, batch)."""
    images, labels = load_digits(28, batch)
    return images.T.copy(), np.eye(10)[labels].T


def problem(batch: int = 64, keep: float = 1.0, iterations: int = 0, hold: bool = True) -> Problem:
    """Return 784-10-10 on the digits, after some training; `keep` below 1 is dropout."""
    net = Network(keep=keep, hold=hold)
    X, Y = digit_batch(batch)
    params = net.train(net.init_params(), X, Y, iterations)
    return Problem(
        loss=lambda p: net.cost(p, X, Y),
        params=params,
        grads=net.gradients(params, X, Y),
        name="784-10-10",
        description=f"ReLU, softmax, cross-entropy, dropout keeping {keep:g} of the hidden units.",
    )
