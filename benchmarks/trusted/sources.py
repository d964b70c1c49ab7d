"""The reference networks of `fastcheck.problems` as networks of the bench, on small batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.trusted.network import Generator, Network, Parameters
from fastcheck.planted import BackwardPass, passes
from fastcheck.problems import dictionary_net, hidden_layer_mse, mlp, relu_softmax, sigmoid_231


class Sigmoid231(Network):
    """The first source system: 2-3-1 sigmoids without biases, a summed squared error."""

    family = "2-3-1 sigmoid"

    def __init__(self, rng: Generator, dtype: Any = np.float64) -> None:
        self.net = sigmoid_231.Net(*sigmoid_231.samples())

    def initial(self, rng: Generator) -> Parameters:
        """Draw weights from 0 to 0.01, as its author does."""
        return {"W1": rng.random((2, 3)) / 100, "W2": rng.random((3, 1)) / 100}

    def loss(self, params: Any) -> Any:
        """Set the weights and return the cost."""
        self.net.W1, self.net.W2 = params["W1"], params["W2"]
        return self.net.cost()

    def gradients(self, params: Any) -> Parameters:
        """Set the weights and return the gradients."""
        self.net.W1, self.net.W2 = params["W1"], params["W2"]
        flat = self.net.backward()
        return {"W1": flat[:6].reshape(2, 3), "W2": flat[6:].reshape(3, 1)}

    def backward(self, params: Parameters) -> BackwardPass:
        """Return the parts of the backward pass."""
        self.net.W1, self.net.W2 = params["W1"], params["W2"]
        return passes.of_sigmoid_231(self.net)


class HiddenLayer(Network):
    """5-4-3 sigmoids with biases, mean squared error."""

    family = "5-4-3 sigmoid"
    _NAMES = ("W1", "b1", "W2", "b2")

    def __init__(self, rng: Generator, dtype: Any = np.float64) -> None:
        self.batch_size = int(rng.integers(2, 10))
        self.data = hidden_layer_mse.minibatch(self.batch_size, int(rng.integers(2**31)))

    def initial(self, rng: Generator) -> Parameters:
        """Draw parameters as its author does."""
        drawn = hidden_layer_mse.initial(int(rng.integers(2**31)))
        return dict(zip(self._NAMES, drawn, strict=True))

    def loss(self, params: Any) -> Any:
        """Return the error."""
        return hidden_layer_mse.error(list(params.values()), *self.data)

    def gradients(self, params: Any) -> Parameters:
        """Return the gradients."""
        found = hidden_layer_mse.backprop(list(params.values()), *self.data)
        return dict(zip(self._NAMES, found, strict=True))

    def backward(self, params: Parameters) -> BackwardPass:
        """Return the parts of the backward pass."""
        inside = passes.of_hidden_layer_mse(list(params.values()), *self.data)
        dZ = inside.dZ.T
        return BackwardPass.dense(params, self.data[0], dZ, ["sigmoid"], rows=True)


class Dictionary(Network):
    """4-5-3-1, ReLU, ReLU, sigmoid, logistic cost; sometimes with dropout held still."""

    family = "4-5-3-1 ReLU"

    def __init__(self, rng: Generator, dtype: Any = np.float64) -> None:
        self.batch_size = int(rng.integers(3, 10))
        seed = int(rng.integers(2**31))
        self.data = dictionary_net.samples(self.batch_size, seed)
        drawn = dictionary_net.draw_masks(self.batch_size, seed=seed)
        self.dropout = drawn if rng.random() < 0.5 else None

    def initial(self, rng: Generator) -> Parameters:
        """Draw parameters as its author does."""
        return dictionary_net.initial(int(rng.integers(2**31)))

    @property
    def _masks(self) -> tuple[Any, Any]:
        return self.dropout or (1.0, 1.0)

    def loss(self, params: Any) -> Any:
        """Return the cost."""
        return dictionary_net.forward(*self.data, params, self._masks)[0]

    def gradients(self, params: Any) -> Parameters:
        """Return the gradients."""
        found = dictionary_net.gradients(*self.data, params, self._masks)
        return {name: found[f"d{name}"] for name in params}

    def backward(self, params: Parameters) -> BackwardPass:
        """Return the parts of the backward pass."""
        return passes.of_dictionary_net(params, *self.data, self.dropout or (None, None))


class ReluSoftmax(Network):
    """784-10-10's code on 12-6-6-4, sometimes with dropout held still."""

    family = "12-6-6-4 ReLU"

    def __init__(self, rng: Generator, dtype: Any = np.float64) -> None:
        self.batch_size = int(rng.integers(3, 17))
        keep = float(rng.choice([1.0, 0.8]))
        self.net = relu_softmax.Network(
            (12, 6, 6, 4), keep=keep, hold=True, seed=int(rng.integers(2**31))
        )
        self.X = rng.standard_normal((12, self.batch_size))
        self.Y = np.eye(4)[rng.integers(4, size=self.batch_size)].T

    def initial(self, rng: Generator) -> Parameters:
        """Draw parameters as its author does."""
        return self.net.init_params(int(rng.integers(2**31)))

    def loss(self, params: Any) -> Any:
        """Return the cost."""
        return self.net.cost(params, self.X, self.Y)

    def gradients(self, params: Any) -> Parameters:
        """Return the gradients."""
        found = self.net.gradients(params, self.X, self.Y)
        return {name: found[f"d{name.lower()}"] for name in params}

    def backward(self, params: Parameters) -> BackwardPass:
        """Return the parts of the backward pass."""
        return passes.of_relu_softmax(self.net, params, self.X, self.Y)


class Digits(Network):
    """64-10-10 on handwritten digits, many of whose pixels are black."""

    family = "64-10-10 digits"
    iterations = 3000
    sizes = (64, 10, 10)

    def __init__(self, rng: Generator, dtype: Any = np.float64) -> None:
        self.dtype = np.dtype(dtype)
        self.batch_size = int(rng.integers(16, 65))
        X, Y = mlp.make_batch(self.sizes, self.batch_size, seed=int(rng.integers(2**31)))
        self.X, self.Y = X.astype(dtype), Y.astype(dtype)

    def initial(self, rng: Generator) -> Parameters:
        """Draw parameters by He's rule."""
        drawn = mlp.init(self.sizes, int(rng.integers(2**31)))
        return {name: value.astype(self.dtype) for name, value in drawn.items()}

    def loss(self, params: Any) -> Any:
        """Return the loss."""
        return mlp.loss(params, self.X, self.Y)

    def gradients(self, params: Any) -> Parameters:
        """Return the gradients."""
        found = mlp.gradients(params, self.X, self.Y)
        return {name: value.astype(self.dtype) for name, value in found.items()}

    def backward(self, params: Parameters) -> BackwardPass:
        """Return the parts of the backward pass."""
        return passes.of_mlp(params, self.X, self.Y)
