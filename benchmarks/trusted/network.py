"""What the bench of trust needs of a network, and how one is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.planted import BackwardPass

Array = NDArray[Any]
Parameters = dict[str, Array]
Generator = np.random.Generator


class Network(ABC):
    """A network on its batch: a loss, and the right gradients by a backward pass written by hand.

    Attributes
    ----------
    family
        What kind of network it is.
    batch_size
        The samples that its loss is a mean over; 1 where it is a sum.
    decay
        λ of the L2 term λ/2·‖W‖² in its loss.
    stacks
        Whether `loss` also takes stacked parameters and then returns one loss for each copy.
    iterations
        How far its training is followed.
    """

    family = ""
    batch_size = 1
    decay = 0.0
    stacks = False
    iterations = 1000

    @abstractmethod
    def initial(self, rng: Generator) -> Parameters:
        """Draw parameters."""

    @abstractmethod
    def loss(self, params: Any) -> Any:
        """Run the forward pass."""

    @abstractmethod
    def gradients(self, params: Any) -> Parameters:
        """Run the forward and the backward pass; the names are those of the parameters."""

    def backward(self, params: Parameters) -> BackwardPass | None:
        """Return the parts of the backward pass, where it is one of dense layers."""
        return None


Update = Callable[[Parameters, Parameters], Parameters]


def descent(rate: float) -> Update:
    """Return plain gradient descent."""
    return lambda params, grads: {n: params[n] - _same(rate * grads[n], params[n]) for n in params}


def momentum(rate: float, share: float) -> Update:
    """Return gradient descent with momentum."""
    velocity: Parameters = {}

    def update(params: Parameters, grads: Parameters) -> Parameters:
        for name in params:
            velocity[name] = share * velocity.get(name, 0.0) + rate * grads[name]
        return {n: params[n] - _same(velocity[n], params[n]) for n in params}

    return update


def adam(rate: float) -> Update:
    """Return Adam (Kingma and Ba, 2015) with its usual constants."""
    first: Parameters = {}
    second: Parameters = {}
    steps = 0

    def update(params: Parameters, grads: Parameters) -> Parameters:
        nonlocal steps
        steps += 1
        moved = {}
        for name, g in grads.items():
            first[name] = 0.9 * first.get(name, 0.0) + 0.1 * g
            second[name] = 0.999 * second.get(name, 0.0) + 0.001 * g**2
            mean, square = first[name] / (1 - 0.9**steps), second[name] / (1 - 0.999**steps)
            step = rate * mean / (np.sqrt(square) + 1e-8)
            moved[name] = params[name] - _same(step, params[name])
        return moved

    return update


def _same(step: Array, like: Array) -> Array:
    return np.asarray(step, dtype=like.dtype)


def trajectory(
    network: Network, params: Parameters, update: Update, stops: list[int]
) -> Iterator[tuple[int, Parameters, Parameters, Parameters]]:
    """Train, and yield iteration, parameters, gradients and those one step earlier at each stop."""
    previous = grads = network.gradients(params)
    for iteration in range(max(stops) + 1):
        previous, grads = grads, network.gradients(params)
        if iteration in stops:
            yield iteration, params, grads, previous
        params = update(params, grads)
