"""The cost model: replay or a kernel, whichever has the answer first, compiling included."""

from __future__ import annotations

from dataclasses import dataclass

from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.replay import ReplayEngine
from fastcheck.fusion.compiler import seconds_to_compile

# Seconds that replays of a kernel's work have been estimated to take in this process. Once that is
# what compiling would have taken, it is compiled: a check in a training loop gets its kernels soon,
# and at most doubles its cost until then.
_replayed: dict[str, float] = {}


@dataclass(frozen=True)
class Costs:
    """Estimated seconds of all differences of one tensor; None for an engine that cannot."""

    loop: float
    replay: float | None = None
    fused: float | None = None
    compiling: float = 0.0


def kernel_pays(fused: FusedEngine, costs: Costs) -> bool:
    """Whether a kernel is done first, counting replays of the same work before this one."""
    assert costs.fused is not None
    assert costs.replay is not None
    if not costs.compiling:
        return costs.fused <= costs.replay
    key = "\n".join(kernel.source.text for kernel in fused.kernels())
    waited = _replayed.get(key, 0.0) + costs.replay
    if costs.fused + costs.compiling <= waited:
        return True
    _replayed[key] = waited
    return False


def costs_of(
    replay: ReplayEngine, fused: FusedEngine | None, size: int, seconds_a_call: float
) -> Costs:
    """Estimate what each engine would take for a tensor of `size` elements."""
    loop = 2.0 * size * seconds_a_call
    if fused is None:
        return Costs(loop, replay.seconds())
    compiling = sum(seconds_to_compile(kernel.source) for kernel in fused.kernels())
    return Costs(loop, replay.seconds(), fused.seconds(), compiling)
