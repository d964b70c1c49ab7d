"""Networks of several kinds and sizes, for the kernels to be tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Params = Any


@dataclass(frozen=True)
class Network:
    """Dense layers, samples in rows.

    Attributes
    ----------
    sizes
        Units of each layer, inputs first.
    samples
        M.
    activation
        Of the hidden layers: "relu", "tanh" or "sigmoid".
    classes
        Softmax and cross-entropy; else the mean squared error.
    biases
        Whether layers have one.
    zeros
        The share of inputs that are exactly zero.
    flat
        The parameters are one vector.
    dtype
        Of the parameters.
    """

    sizes: tuple[int, ...]
    samples: int
    activation: str = "relu"
    classes: bool = True
    biases: bool = True
    zeros: float = 0.0
    flat: bool = False
    dtype: str = "float64"

    def make(self, xp: Any = np, seed: int = 0) -> tuple[Callable[[Params], Any], Params]:
        """Return the loss and the parameters, arrays of `xp`."""
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(self.samples, self.sizes[0]))
        X[rng.random(X.shape) < self.zeros] = 0.0
        Y = rng.normal(size=(self.samples, self.sizes[-1]))
        if self.classes:
            Y = np.eye(self.sizes[-1])[rng.integers(self.sizes[-1], size=self.samples)]
        shapes = {}
        for layer, (inputs, outputs) in enumerate(pairwise(self.sizes), start=1):
            shapes[f"W{layer}"] = (inputs, outputs)
            if self.biases:
                shapes[f"b{layer}"] = (outputs,)
        values = {n: rng.normal(size=s) / np.sqrt(s[0]) for n, s in shapes.items()}
        params = {name: xp.asarray(value.astype(self.dtype)) for name, value in values.items()}
        X, Y = xp.asarray(X), xp.asarray(Y)
        if not self.flat:
            return lambda p: self._loss(xp, p, X, Y), params
        theta = xp.concatenate([value.reshape(-1) for value in params.values()])
        return lambda t: self._loss(xp, _cut(t, shapes), X, Y), theta

    def _loss(self, xp: Any, p: dict[str, Any], X: Any, Y: Any) -> Any:
        depth, a = len(self.sizes) - 1, X
        for layer in range(1, depth + 1):
            a = a @ p[f"W{layer}"]
            if self.biases:
                a = a + p[f"b{layer}"]
            if layer < depth:
                a = _activated(self.activation, a)
        if not self.classes:
            return xp.mean((a - Y) ** 2)
        e = xp.exp(a - xp.max(a, axis=1, keepdims=True))
        return -xp.sum(Y * xp.log(e / xp.sum(e, axis=1, keepdims=True))) / self.samples


def _activated(name: str, z: Any) -> Any:
    if name == "relu":
        return z * (z > 0)
    return np.tanh(z) if name == "tanh" else 1 / (1 + np.exp(-z))


def _cut(theta: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    pieces, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        pieces[name] = theta[start : start + size].reshape(shape)
        start += size
    return pieces


NETWORKS = {
    "one sample, one unit": Network((3, 1, 2), 1),
    "ReLU and softmax": Network((20, 10, 10), 64),
    "ReLU and softmax, 300 samples": Network((6, 10, 10), 300),
    "wide": Network((5, 40, 17), 9),
    "three layers": Network((12, 9, 7, 4), 33, "tanh"),
    "sigmoid and squared error": Network((7, 6, 3), 21, "sigmoid", classes=False),
    "tanh and squared error, no biases": Network((4, 33, 2), 130, "tanh", False, False),
    "mostly zeros": Network((40, 8, 5), 100, zeros=0.8),
    "flat": Network((5, 4, 3), 21, "tanh", flat=True),
    "float32 parameters": Network((9, 8, 3), 40, "sigmoid", dtype="float32"),
}
