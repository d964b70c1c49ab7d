"""JAX: compiled stacks of copies by ``jax.vmap``, and its own check along a random direction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.peers.base import DIRECTION, GRADIENT, Peer, Ready, Task, Vector, best_chunk


def double_precision_jax() -> Any:
    """Return JAX with float64, which it has to be asked for."""
    jax = import_module("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


def _loss(jax: Any, tensors: Sequence[Any], X: Any, Y: Any) -> Any:
    A = X
    for W, b in zip(tensors[:-2:2], tensors[1:-2:2], strict=True):
        A = jax.nn.relu(W @ A + b)
    Z = tensors[-2] @ A + tensors[-1]
    return (jax.nn.logsumexp(Z, axis=0) - (Z * Y).sum(axis=0)).mean()


def _vmap(task: Task) -> Ready:
    jax = double_precision_jax()
    tensors = [jax.numpy.asarray(value) for value in task.params]
    # Arguments rather than constants: XLA would fold work on constants at compile time.
    X, Y = jax.numpy.asarray(task.X), jax.numpy.asarray(task.Y)

    def make(chunk: int) -> Callable[[], Vector]:
        every = [jax.numpy.arange(tensor.size) for tensor in tensors]
        compiled = [
            differences(jax, place, chunk, task.step).lower(tensors, X, Y, indices).compile()
            for place, indices in enumerate(every)
        ]
        pairs = list(zip(compiled, every, strict=True))
        return lambda: np.concatenate([np.asarray(part(tensors, X, Y, i)) for part, i in pairs])

    return best_chunk(make, task.chunks)


def differences(jax: Any, place: int, chunk: int, h: float) -> Any:
    """Return the central differences along elements of one tensor, to be compiled."""

    def along(tensors: list[Any], X: Any, Y: Any, indices: Any) -> Any:
        tensor = tensors[place]

        def moved(index: Any, step: float) -> Any:
            changed = tensor.reshape(-1).at[index].add(step).reshape(tensor.shape)
            return _loss(jax, [*tensors[:place], changed, *tensors[place + 1 :]], X, Y)

        def central(index: Any) -> Any:
            return (moved(index, h) - moved(index, -h)) / (2 * h)

        return jax.lax.map(central, indices, batch_size=min(chunk, indices.size))

    return jax.jit(along)


def _check_grads(task: Task) -> Ready:
    jax = double_precision_jax()
    check: Any = import_module("jax.test_util").check_grads
    tensors = [jax.numpy.asarray(value) for value in task.params]
    X, Y = jax.numpy.asarray(task.X), jax.numpy.asarray(task.Y)
    loss = jax.jit(lambda *given: _loss(jax, given, X, Y))

    def run() -> bool:
        try:
            check(
                loss, tuple(tensors), order=1, modes=("rev",), eps=task.step, atol=1e-5, rtol=1e-3
            )
        except AssertionError:
            return False
        return True

    return Ready(run)


PEERS = (
    Peer(
        "jax.jit, vmap",
        "jax",
        GRADIENT,
        "2N forward passes, compiled stacks of copies of the perturbed tensor; the network "
        "rewritten in JAX; compiling is not timed",
        _vmap,
    ),
    Peer(
        "jax.test_util.check_grads",
        "jax",
        DIRECTION,
        "two forward passes along one random direction, and backward passes: no gradient, and no "
        "word on which element is wrong",
        _check_grads,
    ),
)
