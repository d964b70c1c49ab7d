"""A kernel against the replay engine, before it is trusted: a few elements, the step that it takes.

The replay engine has been cross-checked against the user's function by then.
"""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import IndexArray
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.replay import ReplayEngine
from fastcheck.params import Tensor

_ELEMENTS = 6
_RELATIVE = 1e-9
_STEP = 2.0**-31
"""The step, in units of the tensor's largest element: about the one that exact engines take."""


def unlike_replay(
    fused: FusedEngine,
    replay: ReplayEngine,
    tensor: Tensor,
    rng: np.random.Generator,
) -> str | None:
    """Say where a kernel's differences are not those of the replay engine, if anywhere.

    They may differ by the rounding of the largest terms that the loss adds up.
    """
    count = min(_ELEMENTS, tensor.size)
    indices: IndexArray = np.sort(rng.choice(tensor.size, count, replace=False))
    largest = float(np.max(np.abs(tensor.value), initial=0.0))
    steps = np.full(count, _STEP * (largest or 1.0))
    ours = fused.differences(tensor.name, indices, steps)
    theirs = replay.differences(tensor.name, indices, steps)
    for mine, other in ((ours.plus, theirs.plus), (ours.minus, theirs.minus)):
        allowed = _RELATIVE * (np.abs(other) + np.max(np.abs(other), initial=0.0))
        wrong = ~(np.abs(mine - other) <= allowed) & np.isfinite(other)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            return (
                f"the kernel changes the loss by {mine[place]:.9g} at element {indices[place]}, "
                f"the replay by {other[place]:.9g}"
            )
    return None
