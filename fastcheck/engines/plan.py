"""Which engine computes which tensor, and why.

Nothing is run on a guess: a tensor is replayed only if the trace is whole, no number left it on
the way, and the cross-check against the user's function agrees. Otherwise it is the loop's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from threading import RLock

import numpy as np

from fastcheck.devices import Device, budget, resolve_devices
from fastcheck.devices.cpu import cpu_device
from fastcheck.devices.gpu import seconds_to_start_gpu
from fastcheck.differences import Bases
from fastcheck.engines.base import Engine
from fastcheck.engines.batched import REASON as BATCHED
from fastcheck.engines.batched import BatchedEngine
from fastcheck.engines.choice import WORTH_A_KERNEL, Costs, costs_of, kernel_pays
from fastcheck.engines.crosscheck import Noise, disagreement
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.kernelcheck import unlike_replay
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.ondevice import DevicePlanner, OnDevice
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.rounding import rounding_of, term_size
from fastcheck.engines.spread import SpreadEngine
from fastcheck.engines.stacked_loss import StackedLoss
from fastcheck.errors import FastcheckError, InputError
from fastcheck.fusion.dims import NotFusable
from fastcheck.keep import keep
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.graph import Graph
from fastcheck.trace.simplify import simplify
from fastcheck.trace.slices import slice_for
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace

ENGINES = ("auto", "loop", "replay", "fused")
_CALLING = RLock()
_TRUSTED = "traced, and cross-checked against `loss`"


@dataclass(frozen=True)
class Assignment:
    """The engine of one tensor, the sentence that says why, and what each would have cost."""

    engine: Engine
    reason: str
    costs: Costs


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


class Planner:
    """Traces the loss and assigns engines.

    Parameters
    ----------
    loss : LossFunction
    tree : ParamTree
    engine : {"auto", "loop", "replay", "fused"}
        "replay" raises where "auto" would fall back to the loop, "fused" where a kernel cannot be
        made.
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
    ) -> None:
        self._loss = loss
        self._tree = tree
        self._engine = engine
        self._memory = budget(cpu_device(), memory)
        self._elsewhere = DevicePlanner(devices, precision, memory, rng)
        self._choose_device = choose_device
        self._given_memory = memory
        self._precision = precision
        self._noise = noise
        self._rng = rng
        self._bases = Bases()
        self._other_bases: dict[tuple[str, str], Bases] = {}
        self._used: set[Device] = set()
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
            self._trace_for_rounding()
            self._still_runs()
            return self.plan
        try:
            graph = self._trace()
            self._compare_loss(graph)
            self.plan.graph, self.plan.traced = _simplified(graph), graph
            self.plan.loop.magnitude = self._term_size(self.plan.graph)
        except Untraceable as refusal:
            self.plan.refusal = str(refusal)
            self._insist(self.plan.refusal)
        self._still_runs()
        return self.plan

    def close(self) -> None:
        """Give back what lies on other devices; engines that go on send it again."""
        if not self._used:
            return
        for assignment in self.plan.assignments.values():
            engine = assignment.engine
            for part in engine.parts if isinstance(engine, SpreadEngine) else (engine,):
                if isinstance(part, FusedEngine):
                    part.forget()
        for bases in self._other_bases.values():
            bases.clear()
        for device in self._used:
            device.release()

    def _trace(self) -> Graph:
        # Whatever the loss stores (running means, caches) must not stay traced.
        with keep(self._loss.function, None):
            return trace(self._loss.function, self._tree, self._loss.count)

    def _trace_for_rounding(self) -> None:
        """Trace for what the graph shows of rounding alone; without it, the loop knows less."""
        try:
            self.plan.traced = self._trace()
        except Untraceable:
            return
        self.plan.loop.magnitude = self._term_size(self.plan.traced)

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
        if self.plan.graph is None:
            return self._by_loop(count, self.plan.refusal)
        obstacle = escaped_number(self.plan.graph, tensor.name)
        if obstacle is None:
            try:
                replay = self._replay(self.plan.graph, tensor)
                obstacle = self._disagreement(replay, tensor)
            except FastcheckError:
                raise
            except Exception as fault:
                obstacle = f"replaying it is not possible ({type(fault).__name__}: {fault})"
        if obstacle is not None:
            self._insist(obstacle)
            return self._by_loop(count, obstacle)
        if not tensor.size:
            return self._by_kernel_or_replay(tensor, count, replay, trial)
        if self._elsewhere.devices[0].is_gpu:
            return self._by_devices(self._elsewhere, tensor, count, replay)
        assignment = self._by_kernel_or_replay(tensor, count, replay, trial)
        gpu = self._worth_a_gpu(assignment) if self._choose_device else None
        if gpu is not None:
            return self._by_devices(gpu, tensor, count, replay)
        if self._precision != "float64" and assignment.engine is replay and replay.exact:
            # Kernels on the CPU are quicker in float64 than stacks are in float32.
            return self._by_stacks_on(self._elsewhere, tensor, count, replay)
        return assignment

    def _worth_a_gpu(self, assignment: Assignment) -> DevicePlanner | None:
        """Return a planner for the first GPU, where there is one and the CPU would take long."""
        seconds = assignment.costs.of(assignment.engine.name)
        if self._engine == "loop" or seconds < seconds_to_start_gpu():
            return None
        try:
            device = resolve_devices("gpu")
        except FastcheckError:
            return None
        return DevicePlanner(device, self._precision, self._given_memory, self._rng)

    def _by_devices(
        self, gpus: DevicePlanner, tensor: Tensor, count: int, host: ReplayEngine
    ) -> Assignment:
        """Assign kernels on the devices, or stacks on them; failing these, the host's engine."""
        self._used.update(gpus.devices)
        if self._engine == "replay":
            return self._by_stacks_on(gpus, tensor, count, host)
        found = gpus.fused(host, tensor, count)
        if found.engine is not None:
            return self._on_devices(found, host, count)
        self._insist_on_kernels(tensor, found.note)
        return self._by_stacks_on(gpus, tensor, count, host, f"no kernel, because {found.note}")

    def _by_stacks_on(
        self, devices: DevicePlanner, tensor: Tensor, count: int, host: ReplayEngine, *notes: str
    ) -> Assignment:
        def replay_on(device: Device, memory: int, precision: str) -> ReplayEngine:
            assert self.plan.graph is not None
            return self._replay(self.plan.graph, tensor, device, memory, precision)

        found = devices.replay(host, tensor, replay_on)
        if found.engine is not None:
            return self._on_devices(found, host, count, *notes)
        reason = "; ".join([_TRUSTED, *notes, f"on the host, because {found.note}"])
        return Assignment(host, reason, costs_of(host, None, count, self._seconds_a_call()))

    def _on_devices(
        self, found: OnDevice, host: ReplayEngine, count: int, *notes: str
    ) -> Assignment:
        assert found.engine is not None
        seconds = self._seconds_a_call()
        engine = found.engine.parts[0] if isinstance(found.engine, SpreadEngine) else found.engine
        costs = costs_of(host, None, count, seconds)
        if isinstance(engine, FusedEngine):
            costs = replace(costs, fused=engine.seconds(count))
        elif isinstance(engine, ReplayEngine):
            costs = replace(costs, replay=engine.seconds(count))
        return Assignment(found.engine, "; ".join([_TRUSTED, found.note, *notes]), costs)

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

    def _by_loop(self, count: int, why: str) -> Assignment:
        return Assignment(self.plan.loop, why, Costs(2 * count * self._seconds_a_call()))

    def _by_kernel_or_replay(
        self, tensor: Tensor, count: int, replay: ReplayEngine, trial: bool
    ) -> Assignment:
        small = self._engine == "auto" and replay.seconds(count) < WORTH_A_KERNEL
        if self._engine == "replay" or small or not tensor.size:
            costs = costs_of(replay, None, count, self._seconds_a_call())
            return Assignment(replay, _TRUSTED, costs)
        fused, obstacle, costs = self._kernel(tensor, count, replay)
        if fused is not None and self._engine == "auto" and not kernel_pays(fused, costs, trial):
            return Assignment(replay, f"{_TRUSTED}; making a kernel would take longer", costs)
        if fused is not None:
            obstacle = self._unlike_replay(fused, tensor, count)
        if fused is not None and obstacle is None:
            return Assignment(fused, _TRUSTED, costs)
        self._insist_on_kernels(tensor, obstacle)
        return Assignment(replay, f"{_TRUSTED}; no kernel, because {obstacle}", costs)

    def _kernel(
        self, tensor: Tensor, count: int, replay: ReplayEngine
    ) -> tuple[FusedEngine | None, str | None, Costs]:
        """Make the kernels of a tensor, or say what stands in the way; and what engines cost."""
        worth = inf
        if self._engine == "auto":
            worth = max(2 * WORTH_A_KERNEL, replay.seconds(count))
        seconds = self._seconds_a_call()
        try:
            fused = FusedEngine(replay, tensor, self._memory, worth)
            return fused, None, costs_of(replay, fused, count, seconds)
        except NotFusable as why:
            obstacle = str(why)
        except Exception as fault:
            obstacle = f"it could not be made ({type(fault).__name__}: {fault})"
        return None, obstacle, costs_of(replay, None, count, seconds)

    def _unlike_replay(self, fused: FusedEngine, tensor: Tensor, count: int) -> str | None:
        """Run the kernel for the first time; whatever goes wrong with it, there is the replay."""
        try:
            return unlike_replay(fused, tensor, count, self._rng)
        except Exception as fault:
            return f"it could not be made ({type(fault).__name__}: {fault})"

    def _seconds_a_call(self) -> float:
        # The fastest: others may have waited for the cores.
        return self._loss.fastest if self._loss.calls else 0.0

    def _disagreement(self, replay: ReplayEngine, tensor: Tensor) -> str | None:
        found = disagreement(
            replay, self.plan.loop, self._loss, self._tree, tensor, self._noise, self._rng
        )
        return None if found is None else f"the cross-check failed: {found}"

    def _replay(
        self,
        graph: Graph,
        tensor: Tensor,
        device: Device | None = None,
        memory: int = 0,
        precision: str = "float64",
    ) -> ReplayEngine:
        """Return the replay engine of a tensor: on the host, unless a device is given."""
        loop = self.plan.loop

        def fallback(indices: np.ndarray, moves: np.ndarray) -> np.ndarray:
            with _CALLING:  # engines of several devices may come at the same time
                return loop.differences(tensor.name, indices, moves, central=False).plus

        if device is None:
            return ReplayEngine(
                graph, tensor, loop.loss, self._memory, fallback, self._bases, loop.magnitude
            )
        bases = self._other_bases.get((device.name, precision))
        if bases is None:
            bases = self._other_bases[device.name, precision] = Bases(device, precision)
        careful = None if precision == "float64" else self._replay(graph, tensor)
        return ReplayEngine(
            graph, tensor, loop.loss, memory, fallback, bases, loop.magnitude, careful
        )

    def _compare_loss(self, graph: Graph) -> None:
        assert graph.output is not None
        traced, called = float(graph.output.value), self.plan.loop.loss
        allowed = 1e-10 * abs(called) + rounding_of(graph.output)
        if abs(traced - called) > allowed and abs(traced - called) > 32 * self._noise():
            raise Untraceable(f"the traced loss is {traced!r}, but `loss` returns {called!r}")

    def _term_size(self, graph: Graph) -> float:
        assert graph.output is not None
        return max(self.plan.loop.magnitude, term_size(graph.output))

    def _still_runs(self) -> None:
        """Call the loss once more: nothing of the trace may be left in what it stores."""
        try:
            self._loss.base()
        except Untraceable as left:
            raise InputError(
                "`loss` stores arrays where they cannot be put back after the trace, and finds "
                f"them in its next call ({left}). Use engine='loop', on a network made anew."
            ) from None

    def _insist_on_kernels(self, tensor: Tensor, obstacle: str | None) -> None:
        if self._engine == "fused":
            raise InputError(
                f"`engine` is 'fused', but there is no kernel for {tensor.name}: {obstacle}. "
                "Use engine='auto', which falls back to the replay engine."
            )

    def _insist(self, why: str) -> None:
        if self._engine in ("replay", "fused"):
            raise InputError(
                f"`engine` is '{self._engine}', but the loss cannot be replayed: {why}. "
                "Use engine='auto', which falls back to the loop engine and says so."
            )


def _simplified(graph: Graph) -> Graph:
    """Simplify a graph; what the rewriting trips over is replayed as it was written."""
    try:
        return simplify(graph)
    except Exception:
        return graph


def escaped_number(graph: Graph, tensor: str) -> str | None:
    """Say where a number that moves with the tensor was read out of the trace, if one was.

    Branches and indices keep their value for most copies, and the others are computed by the
    user's function; a real number changes with every copy.
    """
    for guard in slice_for(graph, tensor).guards:
        discrete = guard.node.primitive.discrete or guard.node.value.dtype.kind in "biu"
        if not discrete:
            return (
                f"a plain Python number is made of an array that depends on {tensor} "
                f"({guard.source}), so that NumPy no longer sees it; use NumPy functions there"
            )
    return None
