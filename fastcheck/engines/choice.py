"""The cost model: replay or a kernel, whichever has the answer first, compiling included."""

from __future__ import annotations

from dataclasses import dataclass

from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.lanes import LanesEngine, least_seconds
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.trust import structure
from fastcheck.fusion import compiler
from fastcheck.lanes.run import is_compiled
from fastcheck.trace.slices import Slice

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


_LONG, _SECONDS_TO_LOWER = 40, 1e-3
"""Operations from which on writing a kernel down takes Python long: for each so many seconds."""
_unwritten: dict[int, float] = {}


def lowering_pays(part: Slice, seconds: float, trial: bool = False) -> bool:
    """Whether to look for a kernel of a slice that is replayed in so many seconds.

    That of a long slice is written down, at least in part, only to be refused or not to pay; so it
    is looked for once replays of such a structure have taken as long as writing it would.
    """
    if len(part.nodes) <= _LONG:
        return True
    key = structure(part)
    waited = _unwritten.get(key, 0.0) + seconds
    if waited >= _SECONDS_TO_LOWER * len(part.nodes):
        return True
    if not trial:
        if len(_unwritten) >= _MOST_REMEMBERED:
            _unwritten.clear()
        _unwritten[key] = waited
    return False


def never_pays(costs: Costs) -> bool:
    """Whether a kernel would not be quicker than the replay, were it compiled already."""
    assert costs.fused is not None
    assert costs.replay is not None
    return costs.fused >= costs.replay


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


_SECONDS_TO_COMPILE_INTERPRETER = 0.12
_waited = 0.0


def interpreter_pays(replay: ReplayEngine, count: int, trial: bool = False) -> bool:
    """Whether a replay in machine code may be done first, LLVM's start counted.

    Like a kernel's compiling, the start is paid once replays have waited for as long.
    """
    global _waited
    gain = replay.seconds(count) - least_seconds(replay, count)
    if gain <= 0:
        return False
    start = 0.0 if compiler.started() else compiler.SECONDS_TO_START
    # Whether it is on disk is known only once LLVM is loaded.
    if _waited + gain > start and is_compiled():
        return True
    if _waited + gain > start + _SECONDS_TO_COMPILE_INTERPRETER:
        return True
    if not trial:
        _waited += gain
    return False


def machine_code_at_hand() -> bool:
    """Whether replays in machine code cost nothing to begin with."""
    try:
        return compiler.started() and is_compiled()
    except Exception:  # no LLVM
        return False


class Refusals:
    """Remembers the slices that kernels could not be made of, by their structure and source."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, str]] = {}

    def why(self, part: Slice, worth: float) -> str | None:
        """Return why there is no kernel, if that has been found with as much time."""
        worth_then, obstacle = self._known.get(_as_written(part), (-1.0, ""))
        return obstacle if worth <= worth_then else None

    def add(self, part: Slice, worth: float, obstacle: str) -> None:
        """Remember that there is no kernel."""
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        # Estimates vary a little from check to check.
        self._known[_as_written(part)] = (1.5 * worth, obstacle)


def _as_written(part: Slice) -> int:
    # What stands in the way is said with the line that it is in.
    return hash((structure(part), tuple(node.source for node in part.nodes)))


no_kernel = Refusals()


def costs_of(
    replay: ReplayEngine | LanesEngine, fused: FusedEngine | None, count: int, seconds_a_call: float
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
