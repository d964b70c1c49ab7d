"""Random two-layer networks, rounded to float32 or float16 somewhere in the forward pass."""

from __future__ import annotations

import numpy as np

PLACES = ("everything", "parameters", "buffer", "result", "all but a penalty", "an offset")


class Quantised:
    """A loss that moves in stairs, and the gradient of the smooth loss behind it.

    Attributes
    ----------
    place : str
        Where it is rounded, one of PLACES. "parameters" are copied into arrays that the network
        owns; "all but a penalty" adds a smooth part in float64 that depends on the same weights.
    params, grads : dict of arrays
    """

    def __init__(self, seed, place, inner="float32", dtype=None):
        rng = np.random.default_rng(seed)
        self.place, self.inner = place, np.dtype(inner)
        wide = self.inner.itemsize == 4
        inputs, hidden, outputs, samples = rng.integers((2, 2, 1, 1), (12, 9, 5, 24))
        self.low = place != "buffer" and place != "result"
        X = rng.standard_normal((samples, inputs)) * 10 ** rng.uniform(-4 if wide else -1, 1)
        Y = rng.standard_normal((samples, outputs))
        self.X, self.Y = (self._rounded(a) if self.low else a for a in (X, Y))
        self.scale = self._rounded(10 ** rng.uniform(-3, 3)) if wide else 1.0
        self.offset = 10.0 if place == "an offset" else 0.0
        self.penalty = 10 ** rng.uniform(-4, 0) if place == "all but a penalty" else 0.0
        self.activation = str(rng.choice(["tanh", "relu", "sigmoid"]))
        size = 10 ** rng.uniform(-2, 0.7)
        params = {
            "W1": rng.standard_normal((inputs, hidden)) * size / inputs**0.5,
            "b1": rng.standard_normal(hidden) * rng.choice([0.0, 0.1]),
            "W2": rng.standard_normal((hidden, outputs)) * size / hidden**0.5,
            "b2": np.zeros(outputs),
            "s": np.asarray(rng.standard_normal()),
        }
        dtype = dtype or rng.choice(["float32", "float64"])
        self.params = {name: value.astype(dtype) for name, value in params.items()}
        self._own = {name: np.zeros(value.shape, inner) for name, value in params.items()}
        self.grads = self._grads({name: v.astype(float) for name, v in self.params.items()})

    def _rounded(self, values):
        return np.asarray(values).astype(self.inner).astype(float)

    def _active(self, z):
        if self.activation == "tanh":
            return np.tanh(z)
        return np.maximum(z, 0) if self.activation == "relu" else 1 / (1 + np.exp(-z))

    def _weights(self, p):
        if self.place in ("parameters", "all but a penalty"):
            for name, value in p.items():
                self._own[name][...] = value
            return self._own
        return {name: np.asarray(v).astype(self.inner) for name, v in p.items()} if self.low else p

    def loss(self, p):
        w = self._weights(p)
        kind = self.inner if self.low else float
        hidden = self._active(self.X.astype(kind) @ w["W1"] + w["b1"])
        if self.place == "buffer":
            hidden, buffer = np.empty(hidden.shape, self.inner), hidden
            hidden[...] = buffer
        d = hidden @ w["W2"] + w["b2"] - self.Y.astype(kind)
        value = np.mean(d * d)
        value = value * value.dtype.type(self.scale) + value.dtype.type(self.offset)
        if self.place == "result":
            value = self.inner.type(value)
        penalty = self.penalty * sum(np.sum(p[name] ** 2) for name in ("W1", "W2"))
        return float(value) + float(p["s"] ** 2 + penalty)

    def _grads(self, p):
        z = self.X @ p["W1"] + p["b1"]
        hidden = self._active(z)
        d = hidden @ p["W2"] + p["b2"] - self.Y
        d *= 2 * self.scale / d.size
        slope = {"tanh": 1 - hidden**2, "relu": z > 0, "sigmoid": hidden * (1 - hidden)}
        dz = d @ p["W2"].T * slope[self.activation]
        return {
            "W1": self.X.T @ dz + 2 * self.penalty * p["W1"],
            "b1": dz.sum(0),
            "W2": hidden.T @ d + 2 * self.penalty * p["W2"],
            "b2": d.sum(0),
            "s": 2 * p["s"],
        }
