"""The step of a black-box tensor together with the noise that it was chosen for.

How much a loss jitters shows only at the scale at which it does. So the noise that the step is
chosen for is questioned at that step: if longer steps tell something else, it was too small, and
the step is chosen again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcheck.engines.base import IndexArray
from fastcheck.params import Tensor
from fastcheck.verdict.probing import Probe
from fastcheck.verdict.stairs import Ladder, height, longest_step, top_of
from fastcheck.verdict.stencil import Z
from fastcheck.verdict.steps import auto_step

_ROUNDS = 6
_DRAWN = 3
_PROBES = 2
# Rounding in float64 was never seen to make a loss jitter by more than a few hundred u·|J|.
_PLAIN = 2.0**-42


@dataclass(frozen=True)
class Chosen:
    """A step and what is known at it.

    Attributes
    ----------
    step : float
        h, a power of two.
    truncation : float
        The systematic error that the probes show at h, beyond what noise explains.
    noise : float
        σ of the loss when this tensor is moved.
    stairs : bool
        Whether the loss was seen to move in stairs, so that its noise is not independent between
        elements.
    reach : float
        The longest step at which the loss was looked at. Stairs that stay out of sight there are
        not excluded, but what they hide is less than their height over this.
    """

    step: float
    truncation: float
    noise: float
    reach: float
    stairs: bool = False


def choose_step(
    probe: Probe,
    tensor: Tensor,
    indices: IndexArray,
    *,
    noise: float,
    tau: float,
    central: bool,
    rng: np.random.Generator,
) -> Chosen:
    """Choose the step of one tensor for a black-box loss of noise σ ≥ `noise`."""
    stairs = noise > _PLAIN * abs(probe.engine.loss)
    for _ in range(_ROUNDS):
        h, truncation, calls = auto_step(
            probe.engine, tensor, indices, noise=noise, tau=tau, central=central, rng=rng
        )
        probe.loss_calls += calls
        seen = _noise_at(probe, tensor, indices, h, truncation, noise, rng)
        if not seen > noise:
            break
        noise, stairs = seen, True
    return Chosen(h, truncation, noise, top_of(h, tensor), stairs)


def _noise_at(
    probe: Probe,
    tensor: Tensor,
    indices: IndexArray,
    h: float,
    truncation: float,
    noise: float,
    rng: np.random.Generator,
) -> float:
    """Return the noise that longer steps show to be there at h; 0 if they show none."""
    places = _telling(probe, tensor, indices, rng)
    if not len(places):
        return 0.0
    ladder = Ladder.climb(probe, tensor, places, np.full(len(places), h))
    changes = ladder.changes()
    if not len(changes):
        return 0.0
    rounding = Z * noise / h
    if truncation > rounding and ladder.fades(truncation):
        return truncation * h
    leaps = ladder.leaps(truncation + rounding, noise)
    return 2 * height(probe, places, ladder, leaps, noise)


def _telling(
    probe: Probe, tensor: Tensor, indices: IndexArray, rng: np.random.Generator
) -> IndexArray:
    """Return the few of some random elements that change the loss most when moved far."""
    drawn: IndexArray = rng.choice(indices, min(_DRAWN, len(indices)), replace=False)
    far = probe.differences(drawn, np.full(len(drawn), longest_step(tensor)), central=False)
    change = np.where(np.isfinite(far.plus), np.abs(far.plus), np.inf)
    order = np.argsort(-change, kind="stable")[:_PROBES]
    return drawn[order[change[order] > 0]]
