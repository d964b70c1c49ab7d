"""A course's exercise in NumPy alone: the network, its gradient, and the loop that checks it.

For `child`: a process that runs the naive loop must not pay for importing fastcheck.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Parameters = dict[str, Any]


class Exercise:
    """ReLU layers, softmax and cross-entropy on Gaussian noise, samples in columns."""

    def __init__(self, sizes: Sequence[int], batch: int) -> None:
        rng = np.random.default_rng(0)
        self.params: Parameters = {}
        for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
            weights = rng.standard_normal((outputs, inputs)) * np.sqrt(2 / inputs)
            self.params |= {f"W{i}": weights, f"b{i}": rng.standard_normal((outputs, 1)) * 0.1}
        self._X = rng.standard_normal((sizes[0], batch))
        self._Y = np.eye(sizes[-1])[rng.integers(0, sizes[-1], batch)].T
        self._depth = len(sizes) - 1

    def _forward(self, params: Parameters) -> list[Any]:
        A, kept = self._X, [self._X]
        for i in range(1, self._depth):
            A = np.maximum(0, np.dot(params[f"W{i}"], A) + params[f"b{i}"])
            kept.append(A)
        Z = np.dot(params[f"W{self._depth}"], A) + params[f"b{self._depth}"]
        exps = np.exp(Z - np.max(Z, axis=0, keepdims=True))
        return [*kept, exps / np.sum(exps, axis=0, keepdims=True)]

    def loss(self, params: Parameters) -> float:
        """Return the mean cross-entropy."""
        probabilities = self._forward(params)[-1]
        return float(-np.sum(self._Y * np.log(probabilities)) / self._Y.shape[1])

    def gradients(self, params: Parameters) -> Parameters:
        """Return the gradient of `loss` by backpropagation."""
        *kept, probabilities = self._forward(params)
        dZ = (probabilities - self._Y) / self._Y.shape[1]
        grads: Parameters = {}
        for i in range(self._depth, 0, -1):
            grads |= {f"W{i}": dZ @ kept[i - 1].T, f"b{i}": dZ.sum(axis=1, keepdims=True)}
            if i > 1:
                dZ = (params[f"W{i}"].T @ dZ) * (kept[i - 1] > 0)
        return grads

    def numerical_gradient(self, step: float = 1e-6) -> Any:
        """Return the central differences along every parameter: two forward passes each."""
        vector = np.concatenate([value.ravel() for value in self.params.values()])
        found = np.zeros_like(vector)
        for i in range(vector.size):
            plus, minus = vector.copy(), vector.copy()
            plus[i] += step
            minus[i] -= step
            found[i] = (self.loss(self._cut(plus)) - self.loss(self._cut(minus))) / (2 * step)
        return found

    def _cut(self, vector: Any) -> Parameters:
        """Cut a vector into tensors."""
        params, start = {}, 0
        for name, value in self.params.items():
            params[name] = vector[start : start + value.size].reshape(value.shape)
            start += value.size
        return params

    def agrees(self, numeric: Any) -> bool:
        """Whether a numerical gradient agrees, by the usual relative error."""
        exact = self.gradients(self.params)
        vector = np.concatenate([exact[name].ravel() for name in self.params])
        difference = np.linalg.norm(numeric - vector)
        return bool(difference < 1e-6 * (np.linalg.norm(numeric) + np.linalg.norm(vector)))
