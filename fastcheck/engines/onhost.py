"""The engine of one tensor on the CPU: a kernel or the replay, whichever has the answer first."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

import numpy as np

from fastcheck.engines.adjoint import Expected
from fastcheck.engines.assignment import TRUSTED, Assignment
from fastcheck.engines.choice import (
    WORTH_A_KERNEL,
    Costs,
    costs_of,
    interpreter_pays,
    kernel_pays,
    lowering_pays,
    never_pays,
    no_kernel,
)
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.kernelcheck import unlike_replay
from fastcheck.engines.lanes import LanesEngine
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.trust import Trust
from fastcheck.errors import InputError, oneline
from fastcheck.fusion.dims import NotFusable
from fastcheck.lanes.writer import Hoisted
from fastcheck.params import Tensor

_SECONDS_OF_A_SURVEY = 5e-4
"""To ask a replay how long it would take takes longer than what is done in less."""
NOT_QUICKER = "it would not be quicker"


@dataclass(frozen=True)
class HostPlanner:
    """Assigns engines of the CPU.

    Attributes
    ----------
    engine : {"auto", "replay", "fused"}
        The user's wish.
    memory : int
        Bytes for what is hoisted out of kernels.
    rng : numpy.random.Generator
    trust : Trust
        The kernels that have been compared with the replay.
    """

    engine: str
    memory: int
    rng: np.random.Generator
    trust: Trust
    _hoisted: Hoisted = field(default_factory=Hoisted, init=False)

    def assign(
        self,
        tensor: Tensor,
        count: int,
        replay: ReplayEngine,
        trial: bool,
        seconds_a_call: float,
        expected: Expected | None = None,
    ) -> Assignment:
        """Choose between a kernel and the replay, for `count` elements.

        A `trial` leaves no trace in the cost model: nothing is going to be computed. With the
        derivatives that are `expected`, the replay engine is not run to compare others with it.
        """
        if self.engine == "replay" or not tensor.size:
            return Assignment(replay, TRUSTED, costs_of(replay, None, count, seconds_a_call))
        quickest = self._quickest(tensor, count, replay, trial, expected)
        seconds = quickest.seconds(count)
        if self.engine == "auto" and (
            seconds < WORTH_A_KERNEL or not lowering_pays(replay.slice, seconds, trial)
        ):
            return Assignment(quickest, TRUSTED, costs_of(quickest, None, count, seconds_a_call))
        fused, obstacle, costs = self._kernel(
            tensor, count, quickest, replay, seconds_a_call, expected
        )
        if fused is not None and self.engine == "auto" and not kernel_pays(fused, costs, trial):
            if never_pays(costs):
                no_kernel.add(replay.slice, quickest.seconds(count), NOT_QUICKER)
            return Assignment(quickest, f"{TRUSTED}; making a kernel would take longer", costs)
        if fused is not None:
            obstacle = self._unlike_replay(fused, tensor, count)
        if fused is not None and obstacle is None:
            return Assignment(fused, TRUSTED, costs)
        self.insist_on_kernels(tensor, obstacle)
        return Assignment(quickest, f"{TRUSTED}; no kernel, because {obstacle}", costs)

    def _quickest(
        self,
        tensor: Tensor,
        count: int,
        replay: ReplayEngine,
        trial: bool,
        expected: Expected | None,
    ) -> ReplayEngine | LanesEngine:
        """Return the replay engine, in machine code where that is quicker."""
        if self.engine != "auto":
            return replay
        with suppress(Exception):  # no program, or no LLVM: the replay is known to run
            if expected is not None or interpreter_pays(replay, count, trial):
                lanes = LanesEngine(replay, tensor, self._hoisted, self.memory, expected)
                seconds = lanes.seconds(count)
                known = max(replay.least_seconds, 0.0 if expected is None else _SECONDS_OF_A_SURVEY)
                if seconds >= known and seconds >= replay.seconds(count):
                    return replay
                if expected is None or lanes.compare() is None:
                    return lanes
        return replay

    def insist_on_kernels(self, tensor: Tensor, obstacle: str | None) -> None:
        """Raise where nothing but a kernel was asked for."""
        if self.engine == "fused":
            raise InputError(
                f"`engine` is 'fused', but there is no kernel for {tensor.name}: {obstacle}. "
                "Use engine='auto', which falls back to the replay engine."
            )

    def _kernel(
        self,
        tensor: Tensor,
        count: int,
        quickest: ReplayEngine | LanesEngine,
        replay: ReplayEngine,
        seconds_a_call: float,
        expected: Expected | None,
    ) -> tuple[FusedEngine | None, str | None, Costs]:
        """Make the kernels of a tensor, or say what stands in the way; and what engines cost."""
        without, worth = costs_of(quickest, None, count, seconds_a_call), inf
        if self.engine == "auto":
            worth = max(2 * WORTH_A_KERNEL, quickest.seconds(count))
        known = no_kernel.why(replay.slice, worth)
        if known is not None:
            return None, known, without
        try:
            fused = FusedEngine(replay, tensor, self.memory, worth, expected=expected)
            return fused, None, costs_of(quickest, fused, count, seconds_a_call)
        except NotFusable as why:
            obstacle = str(why)
            no_kernel.add(replay.slice, worth, obstacle)
        except Exception as fault:
            obstacle = f"it could not be made ({oneline(fault)})"
        return None, obstacle, without

    def _unlike_replay(self, fused: FusedEngine, tensor: Tensor, count: int) -> str | None:
        """Run the kernel for the first time; whatever goes wrong with it, there is the replay."""
        try:
            return unlike_replay(fused, tensor, count, self.rng, self.trust)
        except Exception as fault:
            return f"it could not be made ({oneline(fault)})"
