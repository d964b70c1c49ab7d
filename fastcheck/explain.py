"""What a check of a loss would do: the graph, a slice per tensor, engine, chunk, memory, time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fastcheck.engines.arithmetic import own_arithmetic
from fastcheck.engines.batched import BatchedEngine
from fastcheck.engines.device_engine import parts_of
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.lanes import LanesEngine
from fastcheck.engines.replay import ReplayEngine
from fastcheck.keep import keep
from fastcheck.options import Options
from fastcheck.params import ParamTree, Tensor
from fastcheck.run import ONE_AT_A_TIME, Run, moving
from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.slices import slice_for
from fastcheck.verdict.tolerances import tolerance_for


@dataclass(frozen=True)
class NodeLine:
    """One operation of the graph: what it computes, from what, and on which line of the loss."""

    number: int
    operation: str
    operands: tuple[str, ...]
    shape: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class TensorPlan:
    """How one tensor would be checked.

    Attributes
    ----------
    operations : tuple of int
        The numbers of the operations that are computed again for every perturbed copy.
    device : str
        Where: ``"cpu"``, ``"gpu:0"`` or ``"gpu:0,1"``.
    chunk : int
        Parameters per chunk; 1 for the loop.
    bytes_per_chunk : int
        Peak size of the stacks of one chunk.
    seconds : float
        The estimated time of the engine chosen, compiling included.
    estimates : dict of str to float
        Engine → estimated seconds, for every engine that could do it.
    compiling : float
        Estimated seconds to compile the kernel; 0 if it is at hand.
    """

    name: str
    shape: tuple[int, ...]
    engine: str
    device: str
    reason: str
    operations: tuple[int, ...]
    chunk: int
    bytes_per_chunk: int
    seconds: float
    estimates: dict[str, float]
    compiling: float


@dataclass(frozen=True)
class Explanation:
    """The plan of a check as plain data; ``str()`` gives the page."""

    loss: float
    refusal: str
    graph: tuple[NodeLine, ...]
    guards: tuple[str, ...]
    tensors: tuple[TensorPlan, ...]

    @property
    def seconds(self) -> float:
        """The estimated time of the differences of a whole check, in seconds.

        Tracing, the cross-check and error bars take some 20 ms besides.
        """
        return sum(tensor.seconds for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as dicts, lists, strings and numbers."""
        return asdict(self)

    def __str__(self) -> str:
        from fastcheck.report.explanation import render

        return render(self)


def explain(
    loss: Callable[[Any], Any],
    params: Any,
    *,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "float64",
    batched: bool = False,
    memory: int | float | str | None = None,
) -> Explanation:
    """Say how `check` would go about a loss, without running the whole check.

    Parameters
    ----------
    loss, params, engine, device, precision, batched, memory
        As for `check`.

    Returns
    -------
    Explanation
        The traced graph with the source line of every operation; for each tensor the part of the
        graph that is replayed, the engine and why, the chunk, its memory, and the estimated time.
    """
    tree = ParamTree.from_user(params)
    options = Options.validated(
        tree,
        method="central",
        step="auto",
        engine=engine,
        device=device,
        precision=precision,
        batched=batched,
        memory=memory,
        progress=False,
        seed=0,
    )
    tolerances = tolerance_for([tensor.dtype for tensor in tree])
    with (
        own_arithmetic(),
        ONE_AT_A_TIME,
        keep(loss, params),
        Run(loss, tree, options, tolerances) as run,
    ):
        tensors = tuple(_tensor_plan(run, tensor) for tensor in tree)
    graph = run.plan.graph
    return Explanation(
        loss=run.plan.loop.loss,
        refusal=run.plan.refusal,
        graph=() if graph is None else _lines(graph),
        guards=() if graph is None else tuple(f"{g.action} ({g.source})" for g in graph.guards),
        tensors=tensors,
    )


def _lines(graph: Graph) -> tuple[NodeLine, ...]:
    names = {node: name for name, node in graph.parameters.items()}
    numbers = _numbers(graph)

    def reference(node: Node) -> str:
        return names.get(node, "constant" if node.constant else f"%{numbers[node]}")

    return tuple(
        NodeLine(
            number=number,
            operation=names.get(node, node.primitive.name),
            operands=tuple(map(reference, node.operands)),
            shape=node.shape,
            source="" if node in names else str(node.source),
        )
        for node, number in numbers.items()
    )


def _numbers(graph: Graph) -> dict[Node, int]:
    """Number the operations as a reader sees them, without the constants."""
    moving = [node for node in graph if not node.constant]
    return {node: number for number, node in enumerate(moving)}


def _tensor_plan(run: Run, tensor: Tensor) -> TensorPlan:
    with moving(tensor):
        assignment = run.assign(tensor, trial=True)
    engine, costs = assignment.engine, assignment.costs
    graph = run.plan.graph
    operations: tuple[int, ...] = ()
    first = parts_of(engine)[0]
    replay = first.replay if isinstance(first, FusedEngine | LanesEngine) else first
    chunk, per_parameter = 1, 0
    if isinstance(replay, ReplayEngine) and graph is not None:
        numbers = _numbers(graph)
        operations = tuple(numbers[node] for node in slice_for(graph, tensor.name).nodes)
        chunk, per_parameter = replay.chunk, replay.bytes_per_parameter
    if isinstance(engine, BatchedEngine):
        chunk, per_parameter = engine.parameters_per_stack(tensor.name), engine.bytes_per_parameter
    return TensorPlan(
        name=tensor.name,
        shape=tensor.user_shape,
        engine=engine.name,
        device=engine.device,
        reason=assignment.reason,
        operations=operations,
        chunk=chunk,
        bytes_per_chunk=min(chunk, tensor.size) * per_parameter,
        seconds=costs.of(engine.name),
        estimates=costs.known(),
        compiling=costs.compiling,
    )
