"""The cross-check: before a trace is trusted, a few differences are computed the plain way too.

Steps are large here (1/256 of the parameters' size), since exact differences hold for any
step: the loop's rounding then hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcheck.engines.base import IndexArray
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.rounding import roundings
from fastcheck.params import ParamTree, Tensor

_ELEMENTS = 3
_STEP = 2.0**-8
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
) -> str | None:
    """Compare a replayed tensor with the user's function, in one direction and in a few elements.

    Returns
    -------
    str or None
        What differed, or None where the two agree to the rounding of the loss.
    """
    if not tensor.size:
        return None
    scale = _scale(tensor)
    rounding = roundings(replay.magnitude)
    pairs = _direction(replay, loss, loop.loss, tree, tensor, scale, rng)
    pairs += _elements(replay, loop, tensor, scale, rng)
    for what, fast, plain in pairs:
        if np.isfinite(plain) and not _agree(fast, plain, rounding, noise):
            return f"{what} changes the loss by {plain:.9g}, but by {fast:.9g} in the traced graph"
    return None


def _agree(fast: float, plain: float, rounding: float, noise: Noise) -> bool:
    if not np.isfinite(fast):
        return False
    gap = abs(fast - plain) - _RELATIVE * max(abs(fast), abs(plain))
    return gap <= rounding or gap <= _NOISE * noise()


def _scale(tensor: Tensor) -> float:
    return tensor.rms or 1.0


def _direction(
    replay: ReplayEngine,
    loss: LossFunction,
    base: float,
    tree: ParamTree,
    tensor: Tensor,
    scale: float,
    rng: np.random.Generator,
) -> list[tuple[str, float, float]]:
    """Move the whole tensor at once: every node of the slice takes part."""
    direction = _STEP * scale * rng.uniform(0.5, 1.5, tensor.shape)
    direction *= rng.choice((-1.0, 1.0), tensor.shape)
    realised, plain = [], []
    for sign in (1.0, -1.0):
        moved = np.asarray(tensor.value + sign * direction)
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
    return [
        (f"moving all of {tensor.name}", fast, value - base)
        for fast, value in zip(replay.directional(*realised), plain, strict=True)
        if fast is not None
    ]


def _elements(
    replay: ReplayEngine, loop: LoopEngine, tensor: Tensor, scale: float, rng: np.random.Generator
) -> list[tuple[str, float, float]]:
    """Move single elements, each up or down: the pins take part."""
    indices: IndexArray = rng.choice(tensor.size, min(_ELEMENTS, tensor.size), replace=False)
    signs = rng.choice((-1.0, 1.0), len(indices))
    plain = loop.differences(tensor.name, indices, signs * _STEP * scale, central=False)
    fast = replay.changes(indices, plain.step_plus)
    found = []
    for index, ours, theirs in zip(indices, fast, plain.plus, strict=True):
        place = [int(i) for i in np.unravel_index(int(index), tensor.shape)]
        what = f"moving {tensor.name}{place if place else ''}"
        found.append((what, float(ours), float(theirs)))
    return found
