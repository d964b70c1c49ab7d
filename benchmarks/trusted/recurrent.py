"""A recurrent network and an LSTM, unrolled by hand, with backpropagation through time."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.trusted.dense import sigmoid
from benchmarks.trusted.network import Array, Generator, Network, Parameters


class _Recurrent(Network):
    """Sequences (T, M, inputs), softmax of the last state."""

    iterations = 300
    gates = 1

    def __init__(self, rng: Generator, dtype: Any = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        self.steps, self.batch_size = int(rng.integers(2, 6)), int(rng.integers(2, 7))
        self.inputs, self.units = int(rng.integers(2, 4)), int(rng.integers(2, 4))
        self.classes = 3
        shape = (self.steps, self.batch_size, self.inputs)
        self.X = rng.standard_normal(shape).astype(dtype)
        self.Y = np.eye(self.classes, dtype=dtype)[rng.integers(self.classes, size=shape[1])]

    def initial(self, rng: Generator) -> Parameters:
        """Draw weights, and biases that are small."""
        width = self.gates * self.units
        params = {
            "Wx": rng.standard_normal((self.inputs, width)) / np.sqrt(self.inputs),
            "Wh": rng.standard_normal((self.units, width)) / np.sqrt(self.units),
            "b": 0.1 * rng.standard_normal(width),
            "V": rng.standard_normal((self.units, self.classes)),
            "c": np.zeros(self.classes),
        }
        return {name: value.astype(self.dtype) for name, value in params.items()}

    def _probabilities(self, h: Any, params: Any) -> Any:
        Z = h @ params["V"] + params["c"]
        e = np.exp(Z - Z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def _cost(self, P: Any) -> Any:
        return -np.sum(self.Y * np.log(P)) / self.batch_size


class Recurrent(_Recurrent):
    """h = tanh(x·Wx + h·Wh + b)."""

    family = "RNN"

    def _states(self, params: Any) -> list[Any]:
        states = [np.zeros((self.batch_size, self.units), dtype=self.dtype)]
        for x in self.X:
            states.append(np.tanh(x @ params["Wx"] + states[-1] @ params["Wh"] + params["b"]))
        return states

    def loss(self, params: Any) -> Any:
        """Return the cross-entropy."""
        return self._cost(self._probabilities(self._states(params)[-1], params))

    def gradients(self, params: Any) -> Parameters:
        """Return the gradients by backpropagation through time."""
        states = self._states(params)
        dZ = (self._probabilities(states[-1], params) - self.Y) / self.batch_size
        grads = {name: np.zeros_like(value) for name, value in params.items()}
        grads["V"], grads["c"] = states[-1].T @ dZ, dZ.sum(axis=0)
        dh = dZ @ params["V"].T
        for t in range(self.steps, 0, -1):
            dz = dh * (1 - states[t] ** 2)
            grads["Wx"] = grads["Wx"] + self.X[t - 1].T @ dz
            grads["Wh"] = grads["Wh"] + states[t - 1].T @ dz
            grads["b"] = grads["b"] + dz.sum(axis=0)
            dh = dz @ params["Wh"].T
        return {name: grads[name].astype(self.dtype) for name in params}


class LSTM(_Recurrent):
    """Hochreiter and Schmidhuber's cell with a forget gate, the four gates in one matrix."""

    family = "LSTM"
    gates = 4

    def _gates(self, z: Any) -> tuple[Any, Any, Any, Any]:
        n = self.units
        i, f, o = sigmoid(z[:, :n]), sigmoid(z[:, n : 2 * n]), sigmoid(z[:, 2 * n : 3 * n])
        return i, f, o, np.tanh(z[:, 3 * n :])

    def _run(self, params: Any) -> tuple[Any, list[tuple[Any, ...]]]:
        """Return the last state, and of each step what the backward pass reads."""
        h: Any = np.zeros((self.batch_size, self.units), dtype=self.dtype)
        c: Any = np.zeros_like(h)
        kept = []
        for x in self.X:
            i, f, o, g = self._gates(x @ params["Wx"] + h @ params["Wh"] + params["b"])
            before, c_before = h, c
            c = f * c + i * g
            h = o * np.tanh(c)
            kept.append((x, before, c_before, c, i, f, o, g))
        return h, kept

    def loss(self, params: Any) -> Any:
        """Return the cross-entropy."""
        return self._cost(self._probabilities(self._run(params)[0], params))

    def gradients(self, params: Any) -> Parameters:
        """Return the gradients by backpropagation through time."""
        h, kept = self._run(params)
        dZ = (self._probabilities(h, params) - self.Y) / self.batch_size
        grads = {name: np.zeros_like(value) for name, value in params.items()}
        grads["V"], grads["c"] = h.T @ dZ, dZ.sum(axis=0)
        dh, dc = dZ @ params["V"].T, np.zeros_like(h)
        for x, before, c_before, c, i, f, o, g in reversed(kept):
            tanh_c = np.tanh(c)
            dc = dc + dh * o * (1 - tanh_c**2)
            dz = self._through_gates(dh * tanh_c, dc, c_before, i, f, o, g)
            grads["Wx"] = grads["Wx"] + x.T @ dz
            grads["Wh"] = grads["Wh"] + before.T @ dz
            grads["b"] = grads["b"] + dz.sum(axis=0)
            dh, dc = dz @ params["Wh"].T, dc * f
        return {name: grads[name].astype(self.dtype) for name in params}

    def _through_gates(
        self, do: Array, dc: Array, c_before: Array, i: Array, f: Array, o: Array, g: Array
    ) -> Array:
        parts = [
            dc * g * i * (1 - i),
            dc * c_before * f * (1 - f),
            do * o * (1 - o),
            dc * i * (1 - g**2),
        ]
        return np.concatenate(parts, axis=1)
