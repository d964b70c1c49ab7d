"""A training loop on the embedded digits, and in it a bug that waits.

Nesterov's momentum is switched on when the training is well under way, as schedules do. The wrong
loop keeps the velocity in the gradient's own array. Without momentum nobody can tell; with it, what
is called the gradient is the velocity, and the parameters move 1.9 times the velocity a step. A
check before the training finds nothing, because there is nothing yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcheck.problems import mlp
from fastcheck.problems.mlp import Array, Parameters

Batch = tuple[Array, Array]
Watch = Callable[[Parameters, Parameters, Batch], object]

SIZES = (784, 10, 10)
ITERATIONS = 2000
MOMENTUM = 0.9
MOMENTUM_FROM = 500
_SAMPLES = 500
ALIASED = "The velocity shares its arrays with the gradient, which momentum is added to in place."


def loss(params: dict[str, Any], batch: Batch) -> Any:
    """Return the mean cross-entropy of a batch ``(X, Y)``, samples in columns."""
    return mlp.loss(params, *batch)


def train(
    watch: Watch | None = None,
    *,
    aliased: bool = False,
    iterations: int = ITERATIONS,
    momentum_from: int = MOMENTUM_FROM,
    sizes: Sequence[int] = SIZES,
    batch: int = 128,
    rate: float = 0.02,
    seed: int = 0,
) -> Parameters:
    """Train on the embedded digits and return the parameters.

    Parameters
    ----------
    watch : callable, optional
        ``watch(params, grads, batch)`` is called in every step, before the update: with
        ``lambda params, grads, batch: monitor(params, grads, batch=batch)``, say. `grads` are the
        arrays that the update uses, right or not.
    aliased : bool
        Plant the bug: the velocity is no copy.
    iterations : int
        Steps of training.
    momentum_from : int
        The step from which on there is momentum.
    sizes : sequence of int
        Units of each layer, inputs first.
    batch : int
        Samples a step.
    rate : float
        Learning rate.
    seed : int
        Of the initial parameters and of the batches.

    Returns
    -------
    dict of float64 arrays
    """
    X, Y = mlp.make_batch(sizes, max(batch, _SAMPLES), seed=seed)
    rng = np.random.default_rng(seed)
    params = mlp.init(sizes, seed)
    velocity = {name: np.zeros_like(value) for name, value in params.items()}
    for iteration in range(iterations):
        chosen = rng.choice(X.shape[1], batch, replace=False)
        samples = X[:, chosen], Y[:, chosen]
        grads = mlp.gradients(params, *samples)
        momentum = MOMENTUM if iteration >= momentum_from else 0.0
        _accelerate(velocity, grads, momentum, aliased)
        if watch is not None:
            watch(params, grads, samples)
        for name, gradient in grads.items():
            params[name] -= rate * (gradient + momentum * velocity[name])
    return params


def _accelerate(velocity: Parameters, grads: Parameters, momentum: float, aliased: bool) -> None:
    """Turn v into g + μv, in place."""
    for name, gradient in grads.items():
        new = gradient if aliased else gradient.copy()  # the bug is the missing copy
        new += momentum * velocity[name]
        velocity[name] = new
