"""Stacks of perturbed copies by PyTorch and JAX on the same GPU.

The network is rewritten in their arrays, as in `benchmarks.peers`. Large networks are sampled: all
copies of a tensor cost the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from benchmarks.ongpu.ways import Way, in_parts, own_step
from benchmarks.passes import spread_evenly
from benchmarks.peers.of_jax import differences, double_precision_jax
from benchmarks.peers.of_torch import in_place_of, network
from benchmarks.ways import Indices
from fastcheck.errors import FastcheckError
from fastcheck.problems import Problem

TORCH, JAX = "torch.func.vmap, GPU", "jax.jit, vmap, GPU"
Part: TypeAlias = tuple[Indices, Callable[[], Any]]
Make: TypeAlias = Callable[[int], list[Part]]


class AbsentError(FastcheckError):
    """A peer is not installed, or sees no GPU."""


def torch_way(
    problem: Problem, step: float, precision: str, most: int, chunks: Sequence[int], patience: float
) -> Way:
    """Return ``torch.func.vmap`` over stacked copies.

    Parameters
    ----------
    problem, step, precision
        As elsewhere.
    most
        How many elements of a tensor are computed.
    chunks
        The numbers of copies at a time to try.
    patience
        Seconds after which no other is tried.

    Raises
    ------
    AbsentError
        PyTorch is not installed, or without CUDA.
    """
    torch, place = _torch()
    h = own_step(precision, step)
    batch = problem.loss.keywords  # type: ignore[attr-defined]  # a partial of the network's loss

    def sent(array: Any) -> Any:
        return torch.tensor(array, dtype=getattr(torch, precision), device=place)

    loss = network(torch, sent(batch["X"]), sent(batch["Y"]))
    tensors = [sent(value) for value in problem.params.values()]
    stacked = [torch.func.vmap(in_place_of(loss, tensors, k)) for k in range(len(tensors))]

    def part(copies: Any, tensor: Any, chunk: int) -> Part:
        chosen = spread_evenly(tensor.numel(), most)
        indices = torch.tensor(chosen, device=place)

        def run() -> Any:
            with torch.no_grad():
                found = [_along(torch, copies, tensor, i, h) for i in indices.split(chunk)]
                return torch.cat(found).cpu().numpy()

        return chosen, run

    def make(chunk: int) -> list[Part]:
        return [part(*pair, chunk) for pair in zip(stacked, tensors, strict=True)]

    parts, setting = best_that_fits(make, chunks, patience, release=_release_torch)
    return in_parts(TORCH, "peer", problem, h, precision, parts, f"{setting}, on {place}")


def _torch() -> tuple[Any, str]:
    """Return PyTorch, and the name of its GPU."""
    if find_spec("torch") is None:
        raise AbsentError("PyTorch is not installed")
    torch: Any = import_module("torch")
    if not torch.cuda.is_available():
        raise AbsentError(f"PyTorch {torch.__version__} sees no GPU")
    return torch, "cuda"


def _release_torch() -> None:
    import_module("torch").cuda.empty_cache()


def _along(torch: Any, copies: Any, tensor: Any, indices: Any, h: float) -> Any:
    """Return the central differences along elements of one tensor, all at a time."""
    count = len(indices)
    moves = torch.zeros(count, tensor.numel(), dtype=tensor.dtype, device=tensor.device)
    moves[torch.arange(count, device=tensor.device), indices] = h
    moves = moves.view(count, *tensor.shape)
    return (copies(tensor + moves) - copies(tensor - moves)) / (2 * h)


def jax_way(
    problem: Problem, step: float, precision: str, most: int, chunks: Sequence[int], patience: float
) -> Way:
    """Return ``jax.jit`` of ``vmap``ed chunks; parameters and errors as of `torch_way`."""
    jax, place = _jax()
    h = own_step(precision, step)
    batch = problem.loss.keywords  # type: ignore[attr-defined]  # a partial of the network's loss

    def sent(array: Any) -> Any:
        return jax.device_put(np.asarray(array), place)

    X, Y = (sent(batch[name].astype(precision)) for name in "XY")
    tensors = [sent(value.astype(precision)) for value in problem.params.values()]

    def part(number: int, chunk: int) -> Part:
        chosen = spread_evenly(tensors[number].size, most)
        indices = sent(chosen)
        # "highest": float32 is computed as such, not in the matrix units' shorter format.
        with jax.default_matmul_precision("highest"):
            run = differences(jax, number, chunk, h).lower(tensors, X, Y, indices).compile()
        return chosen, lambda: np.asarray(run(tensors, X, Y, indices))

    def make(chunk: int) -> list[Part]:
        return [part(number, chunk) for number in range(len(tensors))]

    parts, setting = best_that_fits(make, chunks, patience)
    return in_parts(JAX, "peer", problem, h, precision, parts, f"{setting}, on {place}")


def _jax() -> tuple[Any, Any]:
    """Return JAX, and its first GPU."""
    if find_spec("jax") is None:
        raise AbsentError("JAX is not installed")
    # Else the first use of it takes three quarters of the memory that the others need too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = double_precision_jax()
    try:
        return jax, jax.devices("gpu")[0]
    except RuntimeError:
        raise AbsentError(f"JAX {jax.__version__} sees no GPU") from None


def best_that_fits(
    make: Make,
    chunks: Sequence[int],
    patience: float,
    release: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = perf_counter,
) -> tuple[list[Part], str]:
    """Return the parts with the fastest chunk size, of those that fit, and what was chosen.

    Each is run twice, and the faster run counts. What raises, as where the memory is too small,
    is passed over; the last error is raised where all do.
    """
    start = clock()
    best: tuple[float, int, list[Part]] | None = None
    tried: list[int] = []
    error: Exception | None = None
    for chunk in chunks:
        if tried and clock() - start > patience:
            break
        tried.append(chunk)
        try:
            parts = make(chunk)
            seconds = min(_seconds(parts, clock) for _ in range(2))
        except Exception as fault:
            error = fault
            release()
            continue
        if best is None or seconds < best[0]:
            best = seconds, chunk, parts
    if best is None:
        raise error if error is not None else ValueError("`chunks` is empty: give some sizes.")
    return best[2], f"chunk {best[1]} of {', '.join(map(str, tried))}"


def _seconds(parts: list[Part], clock: Callable[[], float]) -> float:
    start = clock()
    for _, run in parts:
        run()
    return clock() - start
