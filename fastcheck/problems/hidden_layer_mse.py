"""One hidden layer with biases, sigmoids throughout, mean squared error over a minibatch.

Samples are rows; the error sums over the outputs and averages over the minibatch. The parameters
are a list ``[W1, b1, W2, b2]``. The source's way of checking is to shift one chosen element of one
matrix, and to repeat that for every element of all four.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.problems.problem import Problem

Array = NDArray[np.float64]

STEP = 0.0001


def sigma(x: Any) -> Any:
    """Return the logistic function of `x`."""
    return 1.0 / (1.0 + np.exp(-x))


def predict(params: Sequence[Any], inputs: Array) -> Any:
    """Return the outputs, one row a sample."""
    W1, b1, W2, b2 = params
    return sigma(sigma(inputs @ W1 + b1) @ W2 + b2)


def error(params: Sequence[Any], inputs: Array, wanted: Array) -> Any:
    """Return the squared error, summed over outputs and averaged over the minibatch."""
    return ((wanted - predict(params, inputs)) ** 2).sum(axis=1).mean()


def backprop(params: Sequence[Array], inputs: Array, wanted: Array) -> list[Array]:
    """Return the gradients of `error`, in the order of the parameters."""
    W1, b1, W2, b2 = params
    a = sigma(inputs @ W1 + b1)
    x = sigma(a @ W2 + b2)
    output = 2 * (x - wanted) / len(inputs) * x * (1 - x)
    hidden = output @ W2.T * a * (1 - a)
    return [inputs.T @ hidden, hidden.sum(axis=0), a.T @ output, output.sum(axis=0)]


def numeric_element(
    params: Sequence[Array],
    which: int,
    index: tuple[int, ...],
    inputs: Array,
    wanted: Array,
    step: float = STEP,
) -> float:
    """Return the central difference of the error for one element of one of the tensors."""
    errors = []
    for shift in (step, -step):
        moved = [p.copy() for p in params]
        moved[which][index] += shift
        errors.append(float(error(moved, inputs, wanted)))
    return (errors[0] - errors[1]) / (2 * step)


def numeric_matrix(
    params: Sequence[Array], which: int, inputs: Array, wanted: Array, step: float = STEP
) -> Array:
    """Return the central differences for every element of one of the tensors."""
    numeric = np.empty_like(params[which])
    for index in np.ndindex(numeric.shape):
        numeric[index] = numeric_element(params, which, index, inputs, wanted, step)
    return numeric


def minibatch(size: int = 8, seed: int = 0) -> tuple[Array, Array]:
    """Return `size` rows of five inputs and of three wanted outputs in [0, 1]."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, 5)), rng.uniform(size=(size, 3))


def initial(seed: int = 0, hidden: int = 4) -> list[Array]:
    """Return random parameters for `minibatch`, the biases as plain vectors."""
    rng = np.random.default_rng(seed + 1)
    shapes: list[tuple[int, ...]] = [(5, hidden), (hidden,), (hidden, 3), (3,)]
    return [rng.normal(scale=0.7, size=shape) for shape in shapes]


def problem(size: int = 8, seed: int = 0) -> Problem:
    """Return the network on a minibatch of `size` rows; a size of 1 is a single input."""
    inputs, wanted = minibatch(size, seed)
    params = initial(seed)
    return Problem(
        loss=partial(error, inputs=inputs, wanted=wanted),
        params=params,
        grads=backprop(params, inputs, wanted),
        name="hidden layer, MSE",
        description=f"5-4-3 sigmoids with biases, mean squared error over {size} rows.",
    )
