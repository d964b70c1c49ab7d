"""The engine of one tensor on the CPU: a kernel or the replay, whichever has the answer first."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from fastcheck.engines.assignment import TRUSTED, Assignment
from fastcheck.engines.choice import WORTH_A_KERNEL, Costs, costs_of, kernel_pays
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.kernelcheck import unlike_replay
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.trust import Trust
from fastcheck.errors import InputError, oneline
from fastcheck.fusion.dims import NotFusable
from fastcheck.params import Tensor


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

    def assign(
        self, tensor: Tensor, count: int, replay: ReplayEngine, trial: bool, seconds_a_call: float
    ) -> Assignment:
        """Choose between a kernel and the replay, for `count` elements.

        A `trial` leaves no trace in the cost model: nothing is going to be computed.
        """
        small = self.engine == "auto" and replay.seconds(count) < WORTH_A_KERNEL
        if self.engine == "replay" or small or not tensor.size:
            return Assignment(replay, TRUSTED, costs_of(replay, None, count, seconds_a_call))
        fused, obstacle, costs = self._kernel(tensor, count, replay, seconds_a_call)
        if fused is not None and self.engine == "auto" and not kernel_pays(fused, costs, trial):
            return Assignment(replay, f"{TRUSTED}; making a kernel would take longer", costs)
        if fused is not None:
            obstacle = self._unlike_replay(fused, tensor, count)
        if fused is not None and obstacle is None:
            return Assignment(fused, TRUSTED, costs)
        self.insist_on_kernels(tensor, obstacle)
        return Assignment(replay, f"{TRUSTED}; no kernel, because {obstacle}", costs)

    def insist_on_kernels(self, tensor: Tensor, obstacle: str | None) -> None:
        """Raise where nothing but a kernel was asked for."""
        if self.engine == "fused":
            raise InputError(
                f"`engine` is 'fused', but there is no kernel for {tensor.name}: {obstacle}. "
                "Use engine='auto', which falls back to the replay engine."
            )

    def _kernel(
        self, tensor: Tensor, count: int, replay: ReplayEngine, seconds_a_call: float
    ) -> tuple[FusedEngine | None, str | None, Costs]:
        """Make the kernels of a tensor, or say what stands in the way; and what engines cost."""
        worth = inf
        if self.engine == "auto":
            worth = max(2 * WORTH_A_KERNEL, replay.seconds(count))
        try:
            fused = FusedEngine(replay, tensor, self.memory, worth)
            return fused, None, costs_of(replay, fused, count, seconds_a_call)
        except NotFusable as why:
            obstacle = str(why)
        except Exception as fault:
            obstacle = f"it could not be made ({oneline(fault)})"
        return None, obstacle, costs_of(replay, None, count, seconds_a_call)

    def _unlike_replay(self, fused: FusedEngine, tensor: Tensor, count: int) -> str | None:
        """Run the kernel for the first time; whatever goes wrong with it, there is the replay."""
        try:
            return unlike_replay(fused, tensor, count, self.rng, self.trust)
        except Exception as fault:
            return f"it could not be made ({oneline(fault)})"
