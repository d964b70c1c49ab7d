"""Peers that call the NumPy loss itself: SciPy and numdifftools."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.peers.base import CHECK, GRADIENT, Peer, Ready, Task, Vector
from fastcheck.commands.naive import to_parameters, to_vector


def _of_vector(task: Task) -> Callable[[Vector], float]:
    """Return the loss as a function of one vector, which these tools want."""
    problem = task.problem
    return lambda vector: problem.loss(to_parameters(vector, problem.params))


def _approx_fprime(task: Task) -> Ready:
    optimize: Any = import_module("scipy.optimize")
    loss, vector = _of_vector(task), to_vector(task.problem.params)
    return Ready(lambda: optimize.approx_fprime(vector, loss, task.step))


def _check_grad(task: Task) -> Ready:
    optimize: Any = import_module("scipy.optimize")
    problem, loss, vector = task.problem, _of_vector(task), to_vector(task.problem.params)

    def grad(at: Vector) -> Vector:
        return to_vector(problem.grads(to_parameters(at, problem.params)))

    def run() -> bool:
        return bool(np.isfinite(optimize.check_grad(loss, grad, vector, epsilon=task.step)))

    return Ready(run, numeric=lambda: np.asarray(optimize.approx_fprime(vector, loss, task.step)))


def _numdifftools(task: Task) -> Ready:
    tools: Any = import_module("numdifftools")
    loss, vector = _of_vector(task), to_vector(task.problem.params)
    gradient = tools.Gradient(loss, step=task.step, method="central", order=2)
    return Ready(lambda: np.asarray(gradient(vector)))


PEERS = (
    Peer(
        "scipy approx_fprime",
        "scipy",
        GRADIENT,
        "N + 1 forward passes: forward differences with the same step, half the passes of the rest",
        _approx_fprime,
    ),
    Peer(
        "scipy check_grad",
        "scipy",
        CHECK,
        "approx_fprime, the analytic gradient, and the norm of their difference; no verdict",
        _check_grad,
    ),
    Peer(
        "numdifftools Gradient",
        "numdifftools",
        GRADIENT,
        "2N + 1 forward passes: central differences with one step, no extrapolation",
        _numdifftools,
    ),
)
