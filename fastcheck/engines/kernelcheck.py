"""A kernel against the replay engine, before it is trusted.

The replay engine is cross-checked against the user's function; the elements by which it measured
its stacks serve here, at about the step that exact engines take.
"""

from __future__ import annotations

import numpy as np

from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.replay import PROBE_STEP

_RELATIVE = 1e-9


def unlike_replay(fused: FusedEngine, tensor: str) -> str | None:
    """Say where a kernel's differences are not those of the replay engine, if anywhere.

    They may differ by the rounding of the largest terms that the loss adds up.
    """
    survey = fused.replay.survey
    indices = survey.probes
    found = fused.differences(tensor, indices, np.full(len(indices), PROBE_STEP))
    for ours, theirs in ((found.plus, survey.up), (found.minus, -survey.down)):
        allowed = _RELATIVE * (np.abs(theirs) + np.max(np.abs(theirs), initial=0.0))
        wrong = ~(np.abs(ours - theirs) <= allowed) & np.isfinite(theirs)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            return (
                f"it changes the loss by {ours[place]:.9g} at element {indices[place]}, and the "
                f"replay by {theirs[place]:.9g}"
            )
    return None
