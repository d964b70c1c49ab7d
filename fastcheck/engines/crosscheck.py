"""The cross-check: before a trace is trusted, a few differences are computed the plain way too.

All tensors are moved at once, then a few elements of each, and a tensor that the first move tells
little of is moved as a whole by itself. Steps are large (1/256 of the parameters' size), since
exact differences hold for any step: the loop's rounding then hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.engines.jointly import STEP, Jointly, direction, size_of
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import PROBE_STEP, ReplayEngine
from fastcheck.engines.rounding import jitter_noise, roundings
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.graph import Graph

_ELEMENTS = 3
_RELATIVE = 1e-9
_NOISE = 32.0

Noise = Callable[[], float]
"""σ of the loss; measured only when it is needed."""


def disagreement(
    replay: ReplayEngine,
    loop: LoopEngine,
    loss: LossFunction,
    tree: ParamTree,
    tensor: Tensor,
    noise: Noise,
    rng: np.random.Generator,
    written: Graph | None = None,
    jointly: Jointly | None = None,
) -> str | None:
    """Compare a replayed tensor with the user's function, in one direction and in a few elements.

    Parameters
    ----------
    replay : ReplayEngine
        Of the tensor.
    loop : LoopEngine
        The user's function, element by element.
    loss : LossFunction
        The same, for any parameters.
    tree : ParamTree
        θ.
    tensor : Tensor
        The one that is moved.
    noise : callable
        σ of the loss at θ.
    rng : numpy.random.Generator
        Draws the directions.
    written : Graph, optional
        The trace as the function was written. Near a solution a loss that vanishes is rounded
        finely, but where the tensor is moved to it is not: the graph shows how coarsely.
    jointly : Jointly, optional
        The comparison along a direction of all tensors, which may spare this one its own.

    Returns
    -------
    str or None
        What differed, or None where the two agree to the rounding of the loss.
    """
    if not tensor.size:
        return None
    rounding = roundings(replay.magnitude)
    moves = _elements(replay, loop, tensor, rng)
    if sum(one.size > 0 for one in tree) < 2:
        jointly = None  # the direction would be the tensor's own
    if jointly is None or not jointly.covers(tensor, replay.survey.slope(PROBE_STEP)):
        moves += _direction(replay, loss, loop.loss, tree, tensor, rng)
    for move in moves:
        if np.isfinite(move.plain) and not move.agrees(rounding, noise):
            there = 0.0 if written is None else jitter_noise(written, rng, move.moved(tensor))
            if not move.agrees(_NOISE * there, noise):
                return (
                    f"{move.what} changes the loss by {move.plain:.9g}, but by {move.fast:.9g} in "
                    "the traced graph"
                )
    return None


@dataclass(frozen=True)
class _Move:
    """One difference of the loss, computed in both ways.

    Attributes
    ----------
    what : str
        What was moved, in words.
    change : float64 array
        By how much, in the tensor's shape or, together with `index`, a single element.
    fast, plain : float
        The difference by the replay and by the user's function.
    index : int, optional
        The flat index of the only element that was moved.
    """

    what: str
    change: FloatArray
    fast: float
    plain: float
    index: int | None = None

    def agrees(self, rounding: float, noise: Noise) -> bool:
        """Whether the two differ by no more than rounding."""
        if not np.isfinite(self.fast):
            return False
        gap = abs(self.fast - self.plain) - _RELATIVE * max(abs(self.fast), abs(self.plain))
        return gap <= rounding or gap <= _NOISE * noise()

    def moved(self, tensor: Tensor) -> dict[str, FloatArray]:
        """Return the tensor as it was moved, by its name."""
        value = tensor.value.copy()
        if self.index is None:
            value += self.change
        else:
            value.flat[self.index] += self.change
        return {tensor.name: value}


def _direction(
    replay: ReplayEngine,
    loss: LossFunction,
    base: float,
    tree: ParamTree,
    tensor: Tensor,
    rng: np.random.Generator,
) -> list[_Move]:
    """Move the whole tensor at once: every node of the slice takes part."""
    along = direction(tensor, rng)
    realised, plain = [], []
    for sign in (1.0, -1.0):
        moved = np.asarray(tensor.value + sign * along)
        realised.append(moved - tensor.value)  # before the loss has a chance to write into it
        leaves = {t.name: t.value.copy(order="K") for t in tree}
        leaves[tensor.name] = moved
        plain.append(
            loss.evaluate(
                tree.build(
                    {t.name: leaves[t.name][()] if t.scalar else leaves[t.name] for t in tree}
                )
            )
        )
    what = f"moving all of {tensor.name}"
    return [
        _Move(what, change, fast, value - base)
        for change, fast, value in zip(realised, replay.directional(*realised), plain, strict=True)
        if fast is not None
    ]


def _elements(
    replay: ReplayEngine, loop: LoopEngine, tensor: Tensor, rng: np.random.Generator
) -> list[_Move]:
    """Move single elements, each up or down: the pins take part."""
    indices: IndexArray = rng.choice(tensor.size, min(_ELEMENTS, tensor.size), replace=False)
    signs = rng.choice((-1.0, 1.0), len(indices))
    plain = loop.differences(tensor.name, indices, signs * STEP * size_of(tensor), central=False)
    fast = replay.changes(indices, plain.step_plus)
    found = []
    for index, change, ours, theirs in zip(indices, plain.step_plus, fast, plain.plus, strict=True):
        place = [int(i) for i in np.unravel_index(int(index), tensor.shape)]
        what = f"moving {tensor.name}{place if place else ''}"
        found.append(_Move(what, change, float(ours), float(theirs), int(index)))
    return found
