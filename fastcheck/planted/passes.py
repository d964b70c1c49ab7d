"""The backward passes of the reference networks in `fastcheck.problems`, ready for bugs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcheck.planted.backward import Array, BackwardPass
from fastcheck.problems import (
    dictionary_net,
    hidden_layer_mse,
    mlp,
    relu_softmax,
    sigmoid_231,
)


def of_mlp(params: mlp.Parameters, X: Array, Y: Array) -> BackwardPass:
    """Return the backward pass of `fastcheck.problems.mlp`."""
    last = mlp.depth(params)
    dZ = (mlp.forward(params, X)[f"A{last}"] - Y) / Y.shape[1]
    return BackwardPass.dense(params, X, dZ, ["relu"] * (last - 1))


def of_hidden_layer_mse(params: Sequence[Array], inputs: Array, wanted: Array) -> BackwardPass:
    """Return the backward pass of `fastcheck.problems.hidden_layer_mse`."""
    x = hidden_layer_mse.predict(params, inputs)
    dZ = 2 * (x - wanted) / len(inputs) * x * (1 - x)
    return BackwardPass.dense(params, inputs, dZ, ["sigmoid"], rows=True)


def of_sigmoid_231(net: sigmoid_231.Net) -> BackwardPass:
    """Return the backward pass of `fastcheck.problems.sigmoid_231`, with W1 and W2 apart."""
    net.forward()
    dZ = (net.prediction - net.y) * sigmoid_231.sigmoid_slope(net.z3)
    params = {"W1": net.W1, "W2": net.W2}
    return BackwardPass.dense(params, net.X, dZ, ["sigmoid"], rows=True)


def of_dictionary_net(
    parameters: Mapping[str, Array], X: Array, Y: Array, masks: tuple[Any, Any] = (None, None)
) -> BackwardPass:
    """Return the backward pass of `fastcheck.problems.dictionary_net`."""
    given = tuple(1.0 if mask is None else mask for mask in masks)
    _, cache = dictionary_net.forward(X, Y, dict(parameters), (given[0], given[1]))
    dZ = (cache[9] - Y) / X.shape[1]
    return BackwardPass.dense(dict(parameters), X, dZ, ["relu", "relu"], masks=masks)


def of_relu_softmax(
    net: relu_softmax.Network, params: Mapping[str, Array], X: Array, Y: Array
) -> BackwardPass:
    """Return the backward pass of `fastcheck.problems.relu_softmax`, its masks held still."""
    cache = net.forward(dict(params), X)
    dZ = (cache[f"A{net.last}"] - Y) / Y.shape[1]
    masks = [
        np.asarray(cache[f"D{i}"], dtype=np.float64) / net.keep if net.keep < 1 else None
        for i in range(1, net.last)
    ]
    return BackwardPass.dense(dict(params), X, dZ, ["relu"] * (net.last - 1), masks=masks)
