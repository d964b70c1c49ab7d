"""The cross-check: before a trace is trusted, a few differences are computed the plain way too.

Steps are large here (1/256 of the parameters' size), since exact differences hold for any
step: the loop's rounding then hides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
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
    found = []
    direction = _STEP * scale * rng.uniform(0.5, 1.5, tensor.shape)
    direction *= rng.choice((-1.0, 1.0), tensor.shape)
    for sign in (1.0, -1.0):
        moved = np.asarray(tensor.value + sign * direction)
        realised = moved - tensor.value  # before the loss has a chance to write into it
        leaves = {t.name: t.value.copy(order="K") for t in tree}
        leaves[tensor.name] = moved
        plain = loss.evaluate(
            tree.build({t.name: leaves[t.name][()] if t.scalar else leaves[t.name] for t in tree})
        )
        fast = replay.directional(realised)
        if fast is not None:
            found.append((f"moving all of {tensor.name}", fast, plain - base))
    return found


def _elements(
    replay: ReplayEngine, loop: LoopEngine, tensor: Tensor, scale: float, rng: np.random.Generator
) -> list[tuple[str, float, float]]:
    """Move single elements: the pins take part."""
    indices: IndexArray = rng.choice(tensor.size, min(_ELEMENTS, tensor.size), replace=False)
    steps: FloatArray = np.full(len(indices), _STEP * scale)
    plain = loop.differences(tensor.name, indices, steps)
    # The steps up and down that floats allow differ a little: each is asked for, in one call.
    steps = np.concatenate([plain.step_plus, plain.step_minus])
    fast = replay.differences(tensor.name, np.tile(indices, 2), steps)
    up, down = fast.plus[: len(indices)], fast.minus[len(indices) :]
    found = []
    for k, index in enumerate(indices):
        place = [int(i) for i in np.unravel_index(int(index), tensor.shape)]
        what = f"moving {tensor.name}{place if place else ''}"
        found.append((what, float(up[k]), float(plain.plus[k])))
        found.append((what, float(down[k]), float(plain.minus[k])))
    return found
