"""Which engine computes which tensor, and why.

Nothing is run on a guess: a tensor is replayed only if the trace is whole, no number left it on
the way, and the cross-check against the user's function agrees. Otherwise it is the loop's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcheck.devices import Device, budget, resolve_devices
from fastcheck.devices.cpu import cpu_device
from fastcheck.devices.gpu import seconds_to_start_gpu
from fastcheck.differences import Bases
from fastcheck.engines.adjoint import Adjoint
from fastcheck.engines.assignment import Assignment, Plan
from fastcheck.engines.batched import REASON as BATCHED
from fastcheck.engines.batched import BatchedEngine
from fastcheck.engines.choice import Costs, costs_of, machine_code_at_hand
from fastcheck.engines.compiled_calls import refused_by_traces
from fastcheck.engines.compiled_plan import CompiledPlanner
from fastcheck.engines.crosscheck import Noise, disagreement
from fastcheck.engines.jointly import Jointly
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.ondevice import DevicePlanner
from fastcheck.engines.onhost import HostPlanner
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.rounding import roundings
from fastcheck.engines.stacked_loss import StackedLoss
from fastcheck.engines.tracing import (
    escaped_number,
    simplified,
    still_runs,
    trace_for_rounding,
    trace_into,
)
from fastcheck.engines.trust import Trust, structure
from fastcheck.errors import FastcheckError, InputError, oneline
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.graph import Graph
from fastcheck.trace.tape import Untraceable

ENGINES = ("auto", "loop", "replay", "fused", "compiled")


class Planner:
    """Traces the loss and assigns engines.

    Parameters
    ----------
    loss : LossFunction
    tree : ParamTree
    engine : {"auto", "loop", "replay", "fused", "compiled"}
        "replay" raises where "auto" would fall back to the loop, "fused" where a kernel cannot be
        made, "compiled" where the loss is not a call of a function compiled by Numba.
    devices : tuple of Device
        Where stacks of copies are computed.
    choose_device : bool
        A check that would take long on the CPU may go to the first GPU.
    precision : {"float64", "float32"}
        The floating-point type of the stacks.
    memory : int or None
        Bytes for the stacks of one chunk; None for a share of what is free.
    noise : callable
        σ of the loss.
    rng : numpy.random.Generator
    trust : Trust
        What earlier checks of the same loss have shown.
    """

    def __init__(
        self,
        loss: LossFunction,
        tree: ParamTree,
        *,
        engine: str,
        devices: tuple[Device, ...],
        choose_device: bool,
        precision: str,
        memory: int | None,
        noise: Noise,
        rng: np.random.Generator,
        trust: Trust,
    ) -> None:
        self._trust = trust
        self._loss = loss
        self._tree = tree
        self._engine = engine
        self._memory = budget(cpu_device(), memory)
        self._given_memory = memory
        self._host = HostPlanner(engine, self._memory, rng, trust)
        self._elsewhere = DevicePlanner(devices, precision, memory, rng, trust)
        self._gpu: DevicePlanner | None = None
        self._choose_device = choose_device
        self._noise = noise
        self._rng = rng
        self._bases = Bases()
        self._compiled: CompiledPlanner | None = None
        self._joint: Jointly | None = None
        self._backward: Adjoint | None = None
        self._disagreements: dict[str, str | None] = {}
        self.plan = Plan(LoopEngine(loss, tree))

    def prepare(self) -> Plan:
        """Trace the loss, unless the loop was asked for; assign no engine yet."""
        if isinstance(self._loss, StackedLoss):
            self.plan.refusal = BATCHED
            self.plan.batched = BatchedEngine(
                self._loss, self._tree, self.plan.loop, self._given_memory, self._noise
            )
            return self.plan
        if self._engine == "loop":
            self.plan.refusal = "asked for with engine='loop'"
            with refused_by_traces():
                trace_for_rounding(self.plan, self._loss, self._tree)
        elif self._engine == "compiled":
            self.plan.refusal = "asked for with engine='compiled'"
            self._compiled = self._compiled_planner()
        else:
            with refused_by_traces() as met:
                try:
                    trace_into(self.plan, self._loss, self._tree, self._noise)
                except Untraceable as refusal:
                    self.plan.refusal = str(refusal)
                    self._insist(self.plan.refusal)
            if met and self.plan.graph is None:
                self._compiled = self._compiled_planner(met[-1])
        still_runs(self._loss)
        return self.plan

    def graphs(self) -> tuple[Graph | None, Graph | None]:
        """Return the forward pass as it was written and simplified, for what it shows of rounding.

        A loss that the engines need no trace of is traced now; None where it cannot be.
        """
        plan = self.plan
        if plan.traced is None and plan.batched is not None:
            trace_for_rounding(plan, self._loss, self._tree)
        if plan.traced is None or plan.graph is not None:
            return plan.traced, plan.graph
        return plan.traced, simplified(plan.traced)

    def close(self) -> None:
        """Give back what lies on other devices; engines that go on send it again."""
        self._elsewhere.close()
        if self._gpu is not None:
            self._gpu.close()

    def assign(self, tensor: Tensor, count: int, trial: bool = False) -> Assignment:
        """Choose the engine of one tensor, for `count` elements, and cross-check it.

        A `trial` leaves no trace in the cost model: nothing is going to be computed.
        """
        assignment = self._choose(tensor, count, trial)
        self.plan.assignments[tensor.name] = assignment
        return assignment

    def _choose(self, tensor: Tensor, count: int, trial: bool) -> Assignment:
        if self.plan.batched is not None:
            return self._by_stacks(self.plan.batched, tensor, count, trial)
        if self._compiled is not None:
            return self._compiled.assign(tensor, count, trial)
        if self.plan.graph is None:
            return self._by_loop(count, self.plan.refusal)
        obstacle = escaped_number(self.plan.graph, tensor.name)
        if obstacle is None:
            try:
                replay = self._replay(tensor)
                assignment = self._as_expected(tensor, count, replay, trial)
                if assignment is not None:
                    return assignment
                obstacle = self._disagreement(replay, tensor)
            except FastcheckError:
                raise
            except Exception as fault:
                obstacle = f"replaying it is not possible ({oneline(fault)})"
        if obstacle is not None:
            self._insist(obstacle)
            return self._by_loop(count, obstacle)
        return self._by_trace(tensor, count, replay, trial)

    def _as_expected(
        self, tensor: Tensor, count: int, replay: ReplayEngine, trial: bool
    ) -> Assignment | None:
        """Assign machine code whose answers are held against a backward pass through the graph.

        The graph itself is compared with the user's function along a direction of all tensors.
        None where that does not suffice, or where the answers are to come from elsewhere: then the
        replay engine is cross-checked, and others are compared with it.
        """
        elsewhere = self._elsewhere
        if self._engine == "replay" or not tensor.size or not machine_code_at_hand():
            return None
        if elsewhere.devices[0].is_gpu or elsewhere.precision != "float64":
            return None
        expected = self._adjoint().of(tensor.name)
        if expected is None:
            return None
        what = structure(replay.slice)
        known = self._trust.has(what)
        if not known and not self._jointly(replay).covers(tensor, expected.typical):
            return None
        seconds = self._seconds_a_call()
        found = self._host.assign(tensor, count, replay, trial, seconds, expected)
        if self._choose_device and self._is_worth_a_gpu(found):
            return None
        if found.engine is replay:  # which is held against the user's function itself
            return None if self._disagreement(replay, tensor) else found
        if not known:
            self._trust.add(what)
        return found

    def by_loop(self, tensor: Tensor, count: int, why: str) -> Assignment:
        """Assign the loop engine after all, because of what was found at work."""
        assignment = self._by_loop(count, why)
        self.plan.assignments[tensor.name] = assignment
        return assignment

    def _by_trace(
        self, tensor: Tensor, count: int, replay: ReplayEngine, trial: bool
    ) -> Assignment:
        """Assign an engine of stacked copies, on the device where it belongs."""

        def on_host() -> Assignment:
            return self._host.assign(tensor, count, replay, trial, self._seconds_a_call())

        if not tensor.size:
            return on_host()
        if self._elsewhere.devices[0].is_gpu:
            return self._by_devices(self._elsewhere, tensor, count, replay, on_host)
        assignment = on_host()
        if self._choose_device and self._is_worth_a_gpu(assignment):
            assert self._gpu is not None
            return self._by_devices(self._gpu, tensor, count, replay, lambda: assignment)
        wanted = self._elsewhere.precision
        if wanted != "float64" and assignment.engine is replay and replay.exact:
            # Kernels on the CPU are quicker in float64 than stacks are in float32.
            replay_on = self._replay_on(tensor)
            return self._elsewhere.assign_stacks(count, replay, replay_on, assignment)
        return assignment

    def _is_worth_a_gpu(self, assignment: Assignment) -> bool:
        """Whether the CPU would take long, and there is a GPU."""
        if assignment.costs.of(assignment.engine.name) < seconds_to_start_gpu():
            return False
        try:
            if self._gpu is None:
                precision, memory = self._elsewhere.precision, self._given_memory
                self._gpu = DevicePlanner(
                    resolve_devices("gpu"), precision, memory, self._rng, self._trust
                )
        except Exception:  # nothing was asked for, so nothing is missed
            self._choose_device = False
        return self._gpu is not None

    def _by_devices(
        self,
        devices: DevicePlanner,
        tensor: Tensor,
        count: int,
        replay: ReplayEngine,
        otherwise: Callable[[], Assignment],
    ) -> Assignment:
        costs = costs_of(replay, None, count, self._seconds_a_call())
        replay_on = self._replay_on(tensor)
        return devices.assign(tensor, count, replay, replay_on, self._engine, costs, otherwise)

    def _by_stacks(
        self, batched: BatchedEngine, tensor: Tensor, count: int, trial: bool
    ) -> Assignment:
        if count:
            batched.trust(tensor)
        if trial:
            batched.try_out(tensor)
        loop = 2 * count * self._seconds_a_call()
        return Assignment(
            batched, BATCHED, Costs(loop, batched=batched.seconds(tensor.name, count))
        )

    def _compiled_planner(self, met: str = "") -> CompiledPlanner:
        return CompiledPlanner(
            self._loss,
            self._tree,
            self.plan.loop,
            wanted=self._engine == "compiled",
            memory=self._memory,
            noise=self._noise,
            rng=self._rng,
            met=met,
        )

    def _by_loop(self, count: int, why: str) -> Assignment:
        return Assignment(self.plan.loop, why, Costs(2 * count * self._seconds_a_call()))

    def _seconds_a_call(self) -> float:
        # The fastest: others may have waited for the cores.
        return self._loss.fastest if self._loss.calls else 0.0

    def _disagreement(self, replay: ReplayEngine, tensor: Tensor) -> str | None:
        """Cross-check the replay engine of a tensor: once, for another draw might not find it."""
        if tensor.name not in self._disagreements:
            self._disagreements[tensor.name] = self._cross_checked(replay, tensor)
        return self._disagreements[tensor.name]

    def _cross_checked(self, replay: ReplayEngine, tensor: Tensor) -> str | None:
        what = structure(replay.slice)
        if self._trust.has(what):
            replay.assume(self._trust.sizes(what))
            return None
        found = disagreement(
            replay,
            self.plan.loop,
            self._loss,
            self._tree,
            tensor,
            self._noise,
            self._rng,
            self.plan.traced,
            self._jointly(replay),
        )
        if found is None:
            self._trust.add(what)
            self._trust.add_sizes(what, replay.survey)
            return None
        return f"the cross-check failed: {found}"

    def _adjoint(self) -> Adjoint:
        """Return the derivatives by a backward pass, one for all tensors."""
        if self._backward is None:
            assert self.plan.graph is not None
            self._backward = Adjoint(self.plan.graph)
        return self._backward

    def _jointly(self, replay: ReplayEngine) -> Jointly:
        """Return the comparison along a direction of all tensors, one for all of them."""
        if self._joint is None:
            graph, loop = self.plan.graph, self.plan.loop
            assert graph is not None
            rounding = roundings(replay.magnitude)
            self._joint = Jointly(
                graph, self._loss, loop.loss, self._tree, rounding, self._bases, self._rng
            )
        return self._joint

    def _replay(
        self, tensor: Tensor, bases: Bases | None = None, memory: int | None = None
    ) -> ReplayEngine:
        """Return the replay engine of a tensor: on the host, unless base values are given."""
        graph, loop = self.plan.graph, self.plan.loop
        assert graph is not None

        def fallback(indices: np.ndarray, moves: np.ndarray) -> np.ndarray:
            return loop.differences(tensor.name, indices, moves, central=False).plus

        coarse = bases is not None and bases.dtype != np.float64
        return ReplayEngine(
            graph,
            tensor,
            loop.loss,
            self._memory if memory is None else memory,
            fallback,
            self._bases if bases is None else bases,
            loop.magnitude,
            self._replay(tensor) if coarse else None,
        )

    def _replay_on(self, tensor: Tensor) -> Callable[[Bases, int], ReplayEngine]:
        return lambda bases, memory: self._replay(tensor, bases, memory)

    def _insist(self, why: str) -> None:
        if self._engine in ("replay", "fused"):
            raise InputError(
                f"`engine` is '{self._engine}', but the loss cannot be replayed: {why}. "
                "Use engine='auto', which falls back to the loop engine and says so."
            )
