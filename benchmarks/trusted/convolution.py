"""Two convolutions by im2col, a pooling and a dense layer, written out in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.trusted.dense import activate, slope
from benchmarks.trusted.network import Array, Generator, Network, Parameters

_KERNEL = 3


def windows(channels: int, side: int) -> Array:
    """Return the positions of each window in an image's vector: (windows, channels·k²)."""
    out = side - _KERNEL + 1
    offsets = np.arange(_KERNEL)[:, None] * side + np.arange(_KERNEL)
    starts = np.arange(out)[:, None] * side + np.arange(out)
    inside = (np.arange(channels)[:, None, None] * side * side + offsets).ravel()
    return starts.ravel()[:, None] + inside


class Convolution(Network):
    """8×8 images, or 6×6: conv, activation, conv, activation, 2×2 max pooling, dense, softmax."""

    family = "CNN"
    iterations = 300

    def __init__(self, rng: Generator, dtype: Any = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        self.side = int(rng.choice([6, 8]))
        self.filters, self.classes = int(rng.integers(1, 3)), 3
        self.batch_size = int(rng.integers(2, 6))
        self.kind = str(rng.choice(["relu", "tanh"]))
        self.X = rng.standard_normal((self.batch_size, self.side**2)).astype(dtype)
        self.Y = np.eye(self.classes, dtype=dtype)[rng.integers(self.classes, size=self.batch_size)]
        self.first = windows(1, self.side)
        self.second = windows(self.filters, self.side - 2)
        self.last = self.side - 4

    def initial(self, rng: Generator) -> Parameters:
        """Draw weights, and biases that are small."""
        n, pooled = self.filters, self.filters * (self.last // 2) ** 2
        params = {
            "K1": rng.standard_normal((_KERNEL**2, n)) / _KERNEL,
            "b1": 0.1 * rng.standard_normal(n),
            "K2": rng.standard_normal((n * _KERNEL**2, n)) / (_KERNEL * np.sqrt(n)),
            "b2": 0.1 * rng.standard_normal(n),
            "W": rng.standard_normal((pooled, self.classes)),
            "b": np.zeros(self.classes),
        }
        return {name: value.astype(self.dtype) for name, value in params.items()}

    def _convolve(self, image: Any, places: Array, K: Any, b: Any) -> tuple[Any, Any, Any]:
        """Return the columns, the activations (M, windows, filters), and these as images."""
        columns = image[:, places]
        A = activate(self.kind, columns @ K + b)
        return columns, A, A.transpose(0, 2, 1).reshape(self.batch_size, -1)

    def _blocks(self, image: Any) -> Any:
        """Return the 2×2 blocks of each channel: (M, filters·blocks, 4)."""
        half = self.last // 2
        cut = image.reshape(self.batch_size, self.filters, half, 2, half, 2)
        return cut.transpose(0, 1, 2, 4, 3, 5).reshape(self.batch_size, -1, 4)

    def _forward(self, params: Any) -> tuple[Any, ...]:
        columns1, A1, image1 = self._convolve(self.X, self.first, params["K1"], params["b1"])
        columns2, A2, image2 = self._convolve(image1, self.second, params["K2"], params["b2"])
        blocks = self._blocks(image2)
        pooled = blocks.max(axis=2)
        Z = pooled @ params["W"] + params["b"]
        e = np.exp(Z - Z.max(axis=1, keepdims=True))
        return columns1, A1, columns2, A2, blocks, pooled, e / e.sum(axis=1, keepdims=True)

    def loss(self, params: Any) -> Any:
        """Return the cross-entropy."""
        return -np.sum(self.Y * np.log(self._forward(params)[-1])) / self.batch_size

    def gradients(self, params: Any) -> Parameters:
        """Return the gradients by backpropagation; a maximum passes its derivative to one place."""
        columns1, A1, columns2, A2, blocks, pooled, P = self._forward(params)
        dZ = (P - self.Y) / self.batch_size
        dblocks = np.zeros_like(blocks)
        top = np.argmax(blocks, axis=2)[:, :, None]
        np.put_along_axis(dblocks, top, (dZ @ params["W"].T)[:, :, None], axis=2)
        dZ2 = self._activations(dblocks) * slope(self.kind, A2)
        dimage = np.zeros((self.batch_size, self.filters * (self.side - 2) ** 2), self.dtype)
        np.add.at(dimage, (slice(None), self.second), dZ2 @ params["K2"].T)
        dA1 = dimage.reshape(self.batch_size, self.filters, -1).transpose(0, 2, 1)
        dZ1 = dA1 * slope(self.kind, A1)
        grads = {
            "K1": np.einsum("mwc,mwf->cf", columns1, dZ1),
            "b1": dZ1.sum(axis=(0, 1)),
            "K2": np.einsum("mwc,mwf->cf", columns2, dZ2),
            "b2": dZ2.sum(axis=(0, 1)),
            "W": pooled.T @ dZ,
            "b": dZ.sum(axis=0),
        }
        return {name: grads[name].astype(self.dtype) for name in params}

    def _activations(self, dblocks: Array) -> Array:
        """Return derivatives by blocks as derivatives by activations (M, windows, filters)."""
        half = self.last // 2
        cut = dblocks.reshape(self.batch_size, self.filters, half, half, 2, 2)
        image = cut.transpose(0, 1, 2, 4, 3, 5).reshape(self.batch_size, self.filters, -1)
        return image.transpose(0, 2, 1)
