"""The cost model: replay or a kernel, whichever has the answer first, compiling included."""

from __future__ import annotations

from dataclasses import dataclass

from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.replay import ReplayEngine
from fastcheck.fusion import compiler

WORTH_A_KERNEL = 2e-3
"""Seconds of replay below which a kernel is not looked for: lowering a slice takes about that."""

# Seconds that replays of a kernel's work have been estimated to take in this process. Once that is
# what compiling would have taken, it is compiled: a check in a training loop gets its kernels soon,
# and at most doubles its cost until then.
_replayed: dict[int, float] = {}
_MOST_REMEMBERED = 1000


@dataclass(frozen=True)
class Costs:
    """Estimated seconds of the differences of one tensor; None for an engine that cannot."""

    loop: float
    replay: float | None = None
    fused: float | None = None
    compiling: float = 0.0
    batched: float | None = None
    compiled: float | None = None

    def known(self) -> dict[str, float]:
        """Return the estimates by the engine's name, kernels being compiled."""
        every = {
            "fused": self.fused,
            "replay": self.replay,
            "batched": self.batched,
            "compiled": self.compiled,
            "loop": self.loop,
        }
        return {name: seconds for name, seconds in every.items() if seconds is not None}

    def of(self, engine: str) -> float:
        """Return the estimate of one engine, compiling included."""
        return self.known()[engine] + (self.compiling if engine in ("fused", "compiled") else 0.0)


def kernel_pays(fused: FusedEngine, costs: Costs, trial: bool = False) -> bool:
    """Whether a kernel is done first, counting replays of the same work before this one.

    Unless it is a trial, a replay that is chosen is counted with them.
    """
    assert costs.fused is not None
    assert costs.replay is not None
    if not costs.compiling:
        return costs.fused <= costs.replay
    key = hash(tuple(kernel.source.text for kernel in fused.kernels()))
    waited = _replayed.get(key, 0.0) + costs.replay
    if costs.fused + costs.compiling <= waited:
        return True
    if not trial:
        if len(_replayed) >= _MOST_REMEMBERED:
            _replayed.clear()
        _replayed[key] = waited
    return False


def costs_of(
    replay: ReplayEngine, fused: FusedEngine | None, count: int, seconds_a_call: float
) -> Costs:
    """Estimate what each engine would take for `count` elements."""
    loop, replayed = 2.0 * count * seconds_a_call, replay.seconds(count)
    if fused is None:
        return Costs(loop, replayed)
    sources = [kernel.source for kernel in fused.kernels()]
    # Looking for a compiled kernel takes LLVM, which takes longer to load than a small replay.
    at_hand = compiler.started() or replayed > compiler.SECONDS_TO_START
    price = compiler.seconds_to_compile if at_hand else compiler.seconds_to_start
    return Costs(loop, replayed, fused.seconds(count), sum(map(price, sources)))
