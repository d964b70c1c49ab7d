"""A plain NumPy network of any sizes: ReLU layers, softmax and cross-entropy, samples in columns.

The parameters are a dictionary ``W1, b1, W2, b2, …`` with weights of shape (outputs, inputs) and
biases of shape (outputs, 1), the usual form of a course exercise. `fastcheck.problems.bugs` spoils
its backward pass on purpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.errors import InputError
from fastcheck.problems.digits import SIDE, load_digits
from fastcheck.problems.problem import Problem

Array = NDArray[np.float64]
Parameters = dict[str, Array]
Data = tuple[NDArray[np.float64], NDArray[np.int64]]


def init(sizes: Sequence[int], seed: int = 0) -> Parameters:
    """Draw He-initialised weights and small random biases.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, inputs first: ``(784, 10, 10)``.
    seed : int
        Seed of the random numbers.

    Returns
    -------
    dict of float64 arrays
        ``W1`` (sizes[1], sizes[0]), ``b1`` (sizes[1], 1), and so on.

    Raises
    ------
    InputError
        Fewer than two sizes, or one below 1.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise InputError(
            f"`sizes` is {tuple(sizes)}; give at least two positive numbers, e.g. (784, 10, 10)."
        )
    rng = np.random.default_rng(seed)
    params: Parameters = {}
    for i in range(1, len(sizes)):
        params[f"W{i}"] = rng.standard_normal((sizes[i], sizes[i - 1])) * np.sqrt(2 / sizes[i - 1])
        # Not zero: on digits with black pixels a zero bias could leave a unit exactly on its kink.
        params[f"b{i}"] = rng.standard_normal((sizes[i], 1)) * 0.1
    return params


def forward(params: dict[str, Any], X: Array) -> dict[str, Any]:
    """Return every layer's ``Z`` and ``A`` for samples in the columns of `X`."""
    last = depth(params)
    cache: dict[str, Any] = {"A0": X}
    for i in range(1, last + 1):
        cache[f"Z{i}"] = np.dot(params[f"W{i}"], cache[f"A{i - 1}"]) + params[f"b{i}"]
        cache[f"A{i}"] = np.maximum(0, cache[f"Z{i}"]) if i < last else softmax(cache[f"Z{i}"])
    return cache


def softmax(Z: Any) -> Any:
    """Turn each column of scores into probabilities."""
    exps = np.exp(Z - np.max(Z, axis=0, keepdims=True))
    return exps / np.sum(exps, axis=0, keepdims=True)


def loss(params: dict[str, Any], X: Array, Y: Array) -> float:
    """Return the cross-entropy, averaged over the columns.

    Parameters
    ----------
    params : dict of float arrays
        As made by `init`.
    X : float array (inputs, M)
        One sample a column.
    Y : float array (classes, M)
        One-hot targets.

    Returns
    -------
    float
        The mean cross-entropy, in nats.
    """
    probabilities = forward(params, X)[f"A{depth(params)}"]
    return float(-np.sum(Y * np.log(probabilities)) / Y.shape[1])


def gradients(params: Parameters, X: Array, Y: Array) -> Parameters:
    """Return the gradient of `loss` by backpropagation, under the names of the parameters."""
    return backward(params, forward(params, X), Y)


def backward(params: Parameters, cache: Parameters, Y: Array) -> Parameters:
    """Return the gradients from the forward pass's `cache`, in the order of the parameters."""
    last = depth(params)
    grads: Parameters = {}
    dZ = (cache[f"A{last}"] - Y) / Y.shape[1]
    for i in range(last, 0, -1):
        grads[f"W{i}"] = np.dot(dZ, cache[f"A{i - 1}"].T)
        grads[f"b{i}"] = np.sum(dZ, axis=1, keepdims=True)
        if i > 1:
            dZ = np.dot(params[f"W{i}"].T, dZ) * (cache[f"Z{i - 1}"] > 0)
    return {name: grads[name] for name in params}


def train(
    params: Parameters, X: Array, Y: Array, iterations: int = 50, learning_rate: float = 0.1
) -> Parameters:
    """Return new parameters after full-batch gradient descent; `params` stay as they are."""
    params = {name: value.copy() for name, value in params.items()}
    for _ in range(iterations):
        for name, gradient in gradients(params, X, Y).items():
            params[name] -= learning_rate * gradient
    return params


def accuracy(params: Parameters, X: Array, Y: Array) -> float:
    """Return the fraction of columns of `X` whose most probable class is the target."""
    guesses = np.argmax(forward(params, X)[f"A{depth(params)}"], axis=0)
    return float(np.mean(guesses == np.argmax(Y, axis=0)))


def depth(params: dict[str, Any]) -> int:
    """Return the number of layers with weights."""
    return len(params) // 2


def make_batch(
    sizes: Sequence[int], batch: int, data: Data | None = None, seed: int = 0
) -> tuple[Array, Array]:
    """Return `batch` samples in columns and their one-hot targets.

    Parameters
    ----------
    sizes : sequence of int
        The network's sizes; only the first (inputs) and last (classes) count here.
    batch : int
        Number of samples M, at least 1.
    data : (images (n, inputs), labels (n,)), optional
        Where the samples come from, drawn without replacement. By default the embedded digits
        where the inputs are a square image of 8×8 or more, otherwise Gaussian noise with random
        labels. The digits are reused where `batch` is larger than their number.
    seed : int
        Seed of the draw.

    Returns
    -------
    X : float64 array (inputs, batch)
    Y : float64 array (classes, batch)

    Raises
    ------
    InputError
        `batch` is below 1, or `data` does not fit the sizes or holds fewer than `batch` samples.
    """
    if batch < 1:
        raise InputError(f"`batch` is {batch}; give at least one sample.")
    rng = np.random.default_rng(seed)
    images, labels = _default_data(sizes, batch, rng) if data is None else data
    _validate(images, labels, sizes)
    if data is not None and batch > len(labels):
        raise InputError(
            f"`batch` is {batch} but `data` holds {len(labels)} samples; ask for fewer."
        )
    chosen = rng.permutation(len(labels))[np.arange(batch) % len(labels)]
    return images[chosen].T.astype(np.float64), np.eye(sizes[-1])[labels[chosen]].T


def _default_data(sizes: Sequence[int], batch: int, rng: np.random.Generator) -> Data:
    side = isqrt(sizes[0])
    if side * side == sizes[0] and side >= SIDE:
        images, labels = load_digits(side)
        usable = labels < sizes[-1]
        return images[usable], labels[usable]
    return rng.standard_normal((batch, sizes[0])), rng.integers(0, sizes[-1], batch)


def _validate(images: Array, labels: NDArray[np.int64], sizes: Sequence[int]) -> None:
    if images.ndim != 2 or images.shape[1] != sizes[0]:
        raise InputError(
            f"`data` has images of shape {images.shape} but the network takes {sizes[0]} inputs; "
            f"make the first of `sizes` {images.shape[-1]}."
        )
    if labels.shape != (len(images),):
        raise InputError(
            f"`data` has {len(images)} images but labels of shape {labels.shape}; "
            "give one label an image."
        )
    if labels.min() < 0 or labels.max() >= sizes[-1]:
        raise InputError(
            f"`data` has labels {labels.min()} to {labels.max()} but the network has {sizes[-1]} "
            f"outputs; make the last of `sizes` {labels.max() + 1} or more."
        )


def mlp_problem(
    sizes: Sequence[int] = (784, 10, 10),
    batch: int = 128,
    data: Data | None = None,
    seed: int = 0,
    *,
    iterations: int = 0,
) -> Problem:
    """Return the network of these sizes, with its correct gradients, as a `Problem`.

    Parameters
    ----------
    sizes, batch, data, seed
        As for `init` and `make_batch`.
    iterations : int
        Steps of training before the check.

    Returns
    -------
    Problem
        `grads` is a callable, so the problem also serves at other parameters.
    """
    params = init(sizes, seed)
    X, Y = make_batch(sizes, batch, data, seed)
    return Problem(
        loss=partial(loss, X=X, Y=Y),
        params=train(params, X, Y, iterations),
        grads=partial(gradients, X=X, Y=Y),
        name="-".join(str(size) for size in sizes),
        description=f"ReLU layers, softmax cross-entropy, {batch} samples in columns.",
    )
