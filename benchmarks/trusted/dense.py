"""Random networks of dense layers, samples in rows: any activations, losses, L2 and dropout."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.trusted.network import Array, Generator, Network, Parameters
from fastcheck.planted import BackwardPass

KINDS = ("tanh", "sigmoid", "relu", "mixed")
LOSSES = ("mse", "cross-entropy", "bce")


def sigmoid(z: Any) -> Any:
    """Return the logistic function of `z`."""
    return 1 / (1 + np.exp(-z))


def activate(kind: str, z: Any) -> Any:
    """Return the activation's values."""
    if kind == "relu":
        return np.maximum(0, z)
    return np.tanh(z) if kind == "tanh" else sigmoid(z)


def slope(kind: str, a: Array) -> Array:
    """Return the activation's derivatives from its values."""
    if kind == "relu":
        return (a > 0).astype(a.dtype)
    return 1 - a**2 if kind == "tanh" else a * (1 - a)


class Dense(Network):
    """One to three hidden layers. `loss` takes stacks too: it counts axes from the end.

    Parameters
    ----------
    rng
        Draws sizes, activations, loss, data, dropout masks and the L2 term.
    kind
        The activation of all hidden layers; "mixed" draws one for each.
    dtype
        Of the data; the backward pass computes in it.
    """

    stacks = True

    def __init__(self, rng: Generator, kind: str, dtype: Any = np.float64) -> None:
        self.family = f"{kind} MLP"
        self.dtype = np.dtype(dtype)
        hidden = rng.integers(1, 4)
        self.sizes = [int(n) for n in rng.integers(2, 7, hidden + 2)]
        if rng.random() < 0.4:  # some square weights, for transposes
            self.sizes[1:] = [self.sizes[1]] * (hidden + 1)
        self.kinds = [
            str(rng.choice(KINDS[:3])) if kind == "mixed" else kind for _ in range(hidden)
        ]
        self.output = str(rng.choice(LOSSES))
        self.decay = float(rng.choice([0.0, 0.0, 1e-3, 1e-2]))
        self.batch_size = int(rng.integers(3, 17))
        self.X = rng.standard_normal((self.batch_size, self.sizes[0])).astype(dtype)
        if rng.random() < 0.25:  # as many pixels are
            self.X[rng.random(self.X.shape) < 0.5] = 0
        self.Y = self._targets(rng)
        self.masks = [self._mask(rng, n) for n in self.sizes[1:-1]]
        self.spread = float(rng.choice([0.3, 1.0, 2.0]))
        self.bias = float(rng.choice([0.0, 0.1]))

    def _targets(self, rng: Generator) -> Array:
        shape = (self.batch_size, self.sizes[-1])
        if self.output == "mse":
            return rng.standard_normal(shape).astype(self.dtype)
        if self.output == "bce":
            return rng.integers(2, size=shape).astype(self.dtype)
        return np.eye(shape[1], dtype=self.dtype)[rng.integers(shape[1], size=shape[0])]

    def _mask(self, rng: Generator, units: int) -> Array | None:
        if rng.random() < 0.8:
            return None
        kept = rng.random((self.batch_size, units)) < 0.8
        return (kept / 0.8).astype(self.dtype)

    def initial(self, rng: Generator) -> Parameters:
        """Draw weights of several spreads; biases that are zero, or small."""
        params = {}
        for i, (n_in, n_out) in enumerate(pairwise(self.sizes), 1):
            params[f"W{i}"] = self.spread * rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)
            params[f"b{i}"] = self.bias * rng.standard_normal(n_out)
        return {name: value.astype(self.dtype) for name, value in params.items()}

    def _forward(self, params: Any) -> tuple[Any, list[Any], list[Any]]:
        """Return the scores, what each layer's weights are multiplied with, and its values."""
        A: Any = self.X
        inputs, values = [], []
        for i, (kind, mask) in enumerate(zip(self.kinds, self.masks, strict=True), 1):
            inputs.append(A)
            A = activate(kind, A @ params[f"W{i}"] + params[f"b{i}"][..., None, :])
            values.append(A)
            if mask is not None:
                A = A * mask
        inputs.append(A)
        last = len(self.sizes) - 1
        return A @ params[f"W{last}"] + params[f"b{last}"][..., None, :], inputs, values

    def loss(self, params: Any) -> Any:
        """Return the loss, or one for each copy of a stack."""
        Z, _, _ = self._forward(params)
        value = self._cost(Z) / self.batch_size
        if self.decay:
            for i in range(1, len(self.sizes)):
                value = value + 0.5 * self.decay * np.sum(params[f"W{i}"] ** 2, axis=(-2, -1))
        return value

    def _cost(self, Z: Any) -> Any:
        if self.output == "mse":
            return 0.5 * np.sum((Z - self.Y) ** 2, axis=(-2, -1))
        if self.output == "bce":
            return np.sum(np.logaddexp(0, Z) - self.Y * Z, axis=(-2, -1))
        shifted = Z - np.max(Z, axis=-1, keepdims=True)
        log_p = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
        return -np.sum(self.Y * log_p, axis=(-2, -1))

    def _dZ(self, Z: Array) -> Array:
        if self.output == "mse":
            return (Z - self.Y) / self.batch_size
        if self.output == "bce":
            return (sigmoid(Z) - self.Y) / self.batch_size
        e = np.exp(Z - Z.max(axis=1, keepdims=True))
        return (e / e.sum(axis=1, keepdims=True) - self.Y) / self.batch_size

    def gradients(self, params: Any) -> Parameters:
        """Return the gradients by backpropagation."""
        Z, inputs, values = self._forward(params)
        dZ = self._dZ(Z)
        grads: Parameters = {}
        for i in range(len(self.sizes) - 1, 0, -1):
            W = params[f"W{i}"]
            grads[f"W{i}"] = inputs[i - 1].T @ dZ + self.decay * W
            grads[f"b{i}"] = dZ.sum(axis=0)
            if i > 1:
                dA = dZ @ W.T
                mask = self.masks[i - 2]
                dZ = (dA if mask is None else dA * mask) * slope(self.kinds[i - 2], values[i - 2])
        return {name: grads[name].astype(self.dtype) for name in params}

    def backward(self, params: Parameters) -> BackwardPass:
        """Return the parts of the backward pass, in float64."""
        Z, _, _ = self._forward(params)
        return BackwardPass.dense(
            params,
            self.X,
            self._dZ(Z),
            self.kinds,
            rows=True,
            masks=self.masks,
            decay=self.decay,
        )
