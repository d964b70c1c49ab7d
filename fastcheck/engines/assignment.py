"""Which engine a tensor has: the outcome of planning."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastcheck.engines.base import Engine
from fastcheck.engines.batched import BatchedEngine
from fastcheck.engines.choice import Costs
from fastcheck.engines.device_engine import DeviceEngine
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.lanes import LanesEngine
from fastcheck.engines.loop import LoopEngine
from fastcheck.trace.graph import Graph

TRUSTED = "traced, and cross-checked against `loss`"


@dataclass(frozen=True)
class Assignment:
    """The engine of one tensor, the sentence that says why, and what each would have cost.

    Attributes
    ----------
    missed : str
        Why it is not computed on the device that was asked for; empty where it is.
    """

    engine: Engine
    reason: str
    costs: Costs
    missed: str = ""

    def failure(self) -> str:
        """Say why it is not, or no longer, on the device that was asked for, if it is not."""
        fault = self.engine.fault if isinstance(self.engine, DeviceEngine) else ""
        return self.missed or fault

    def doubt(self) -> str:
        """Say why its machine code was given up at work, if it was; the replay stepped in."""
        return self.engine.doubt if isinstance(self.engine, FusedEngine | LanesEngine) else ""


@dataclass
class Plan:
    """The engines of all tensors.

    Attributes
    ----------
    graph : Graph or None
        The traced forward pass, simplified; None where it was not traced.
    traced : Graph or None
        The same as the user wrote it.
    refusal : str
        Why the forward pass was not traced, if it was not.
    assignments : dict of str to Assignment
        Tensor name → engine.
    batched : BatchedEngine or None
        The engine of all tensors where `loss` takes stacks.
    """

    loop: LoopEngine
    graph: Graph | None = None
    traced: Graph | None = None
    refusal: str = ""
    assignments: dict[str, Assignment] = field(default_factory=dict)
    batched: BatchedEngine | None = None
