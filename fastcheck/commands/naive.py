"""The loop that everybody writes first: flatten, perturb, unflatten, run forward twice.

It is what fastcheck is measured against, in the demo and in the benchmarks. Its losses are
evaluated by the very function that fastcheck is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Parameters = dict[str, Vector]
Loss = Callable[[Parameters], float]

STEP = 1e-6


def to_vector(parameters: Parameters) -> Vector:
    """Lay all tensors end to end."""
    return np.concatenate([tensor.ravel() for tensor in parameters.values()])


def to_parameters(vector: Vector, like: Parameters) -> Parameters:
    """Cut a vector back into tensors of the shapes in ``like``, as views."""
    parameters, start = {}, 0
    for name, tensor in like.items():
        parameters[name] = vector[start : start + tensor.size].reshape(tensor.shape)
        start += tensor.size
    return parameters


def derivative(loss: Loss, vector: Vector, like: Parameters, index: int, step: float) -> float:
    """Return the central difference of the loss along one parameter: two forward passes."""
    plus = vector.copy()
    plus[index] += step
    minus = vector.copy()
    minus[index] -= step
    rise = loss(to_parameters(plus, like)) - loss(to_parameters(minus, like))
    return float(rise) / (2 * step)


def naive_gradient(
    loss: Loss, parameters: Parameters, step: float = STEP, indices: Iterable[int] | None = None
) -> Vector:
    """Return the numerical gradient, one parameter at a time, in the order of ``to_vector``.

    Parameters
    ----------
    loss
        Takes a dict of tensors, returns the loss.
    parameters
        A flat dict of float64 arrays; left as it is.
    step
        The step h of ``(J(θ+h) − J(θ−h)) / 2h``.
    indices
        The parameters to do, as positions in the vector; all of them by default.
    """
    vector = to_vector(parameters)
    wanted = range(vector.size) if indices is None else indices
    return np.array([derivative(loss, vector, parameters, index, step) for index in wanted])


@dataclass(frozen=True)
class NaiveSample:
    """The naive loop timed on some parameters, and what that makes for all of them.

    Attributes
    ----------
    parameters
        How many parameters there are.
    timed
        How many of them were timed.
    seconds
        How long these took.
    extrapolated
        Seconds for all: the fastest of the timed ones times their number, so that slow moments of
        the machine do not count against the loop.
    """

    parameters: int
    timed: int
    seconds: float
    extrapolated: float


def time_naive(
    loss: Loss,
    parameters: Parameters,
    *,
    step: float = STEP,
    most: int = 400,
    budget: float = 1.0,
) -> NaiveSample:
    """Time the naive loop on parameters spread evenly, within a budget in seconds."""
    vector = to_vector(parameters)
    picked = np.unique(np.linspace(0, vector.size - 1, most).astype(int))
    derivative(loss, vector, parameters, 0, step)  # warm: the first call pays for page faults
    taken: list[float] = []
    for index in picked:
        start = time.perf_counter()
        derivative(loss, vector, parameters, int(index), step)
        taken.append(time.perf_counter() - start)
        if sum(taken) > budget:
            break
    extrapolated = min(taken) * vector.size
    return NaiveSample(vector.size, len(taken), sum(taken), extrapolated)
