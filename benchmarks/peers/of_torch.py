"""PyTorch: its gradient checker, and stacks of copies by ``torch.func.vmap``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.peers.base import CHECK, DIRECTION, GRADIENT, Peer, Ready, Task, Vector, best_chunk


def network(torch: Any, X: Any, Y: Any) -> Callable[..., Any]:
    """Return the network's loss on a batch in PyTorch, a function of its tensors."""

    def loss(*tensors: Any) -> Any:
        A = X
        for W, b in zip(tensors[:-2:2], tensors[1:-2:2], strict=True):
            A = torch.relu(W @ A + b)
        Z = tensors[-2] @ A + tensors[-1]
        return (torch.logsumexp(Z, 0) - (Z * Y).sum(0)).mean()

    return loss


def _loss(torch: Any, task: Task) -> Callable[..., Any]:
    return network(torch, torch.tensor(task.X), torch.tensor(task.Y))


def _gradcheck(task: Task, *, fast: bool) -> Ready:
    torch: Any = import_module("torch")
    loss = _loss(torch, task)
    tensors = [torch.tensor(value, requires_grad=True) for value in task.params]

    def run() -> bool:
        return bool(
            torch.autograd.gradcheck(
                loss, tensors, eps=task.step, fast_mode=fast, raise_exception=False
            )
        )

    return Ready(run, numeric=None if fast else lambda: _numeric(loss, tensors, task.step))


def _numeric(loss: Callable[..., Any], tensors: Sequence[Any], step: float) -> Vector | None:
    """Return the Jacobian that slow gradcheck compares with, by the function that it had public."""
    module = import_module("torch.autograd.gradcheck")
    jacobian = getattr(module, "get_numerical_jacobian", None)
    if jacobian is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = jacobian(lambda given: loss(*given), tuple(tensors), eps=step)
    return np.concatenate([part.detach().numpy().ravel() for part in parts])


def _vmap(task: Task) -> Ready:
    torch: Any = import_module("torch")
    loss = _loss(torch, task)
    tensors = [torch.tensor(value) for value in task.params]
    # Only the perturbed tensor has a copy for each perturbation; the others stay as they are.
    stacked = [torch.func.vmap(in_place_of(loss, tensors, k)) for k in range(len(tensors))]

    def make(chunk: int) -> Callable[[], Vector]:
        def run() -> Vector:
            with torch.no_grad():
                pairs = zip(stacked, tensors, strict=True)
                parts = [_differences(torch, f, t, chunk, task.step) for f, t in pairs]
                return np.asarray(torch.cat(parts).numpy())

        return run

    return best_chunk(make, task.chunks)


def in_place_of(loss: Callable[..., Any], tensors: list[Any], place: int) -> Callable[[Any], Any]:
    """Return the loss as a function of one tensor, the others as they are."""
    return lambda tensor: loss(*tensors[:place], tensor, *tensors[place + 1 :])


def _differences(torch: Any, loss: Callable[[Any], Any], tensor: Any, chunk: int, h: float) -> Any:
    """Return the central differences along all elements of one tensor."""
    found = torch.empty(tensor.numel(), dtype=tensor.dtype)
    for first in range(0, tensor.numel(), chunk):
        count = min(chunk, tensor.numel() - first)
        moves = torch.zeros(count, tensor.numel(), dtype=tensor.dtype)
        moves[torch.arange(count), first + torch.arange(count)] = h
        moves = moves.view(count, *tensor.shape)
        found[first : first + count] = (loss(tensor + moves) - loss(tensor - moves)) / (2 * h)
    return found


PEERS = (
    Peer(
        "torch gradcheck, slow",
        "torch",
        CHECK,
        "2N forward passes one by one in PyTorch, and backward passes of autograd: it checks "
        "autograd functions",
        lambda task: _gradcheck(task, fast=False),
    ),
    Peer(
        "torch gradcheck, fast",
        "torch",
        DIRECTION,
        "two forward passes a tensor along one random direction, and backward passes: no gradient, "
        "and no word on which element is wrong",
        lambda task: _gradcheck(task, fast=True),
    ),
    Peer(
        "torch.func.vmap",
        "torch",
        GRADIENT,
        "2N forward passes, stacks of copies of the perturbed tensor; the network rewritten in "
        "PyTorch",
        _vmap,
    ),
)
