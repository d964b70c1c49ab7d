"""The trace of a loss, as far as it can be trusted, and what it shows of rounding."""

from __future__ import annotations

from fastcheck.engines.assignment import Plan
from fastcheck.engines.crosscheck import Noise
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.rounding import rounding_of, term_size
from fastcheck.errors import InputError
from fastcheck.keep import keep
from fastcheck.params import ParamTree
from fastcheck.trace.graph import Graph
from fastcheck.trace.simplify import simplify
from fastcheck.trace.slices import slice_for
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace

_LIKE = 1e-8
"""How close to `loss` a trace must come that is used for what it shows of rounding alone."""


def trace_into(plan: Plan, loss: LossFunction, tree: ParamTree, noise: Noise) -> None:
    """Trace the loss, compare its value, and put the graph into the plan.

    Raises
    ------
    Untraceable
        What stands in the way of a trace.
    """
    graph = _traced(loss, tree)
    _compare_loss(graph, plan.loop.loss, noise)
    plan.graph, plan.traced = simplified(graph), graph
    plan.loop.magnitude = _term_size(plan, plan.graph)


def trace_for_rounding(plan: Plan, loss: LossFunction, tree: ParamTree) -> None:
    """Trace for what the graph shows of rounding alone; without it, the loop knows less."""
    called = plan.loop.loss
    try:
        graph = _traced(loss, tree)
        _compare_loss(graph, called, lambda: _LIKE * abs(called))
    except Untraceable:
        return
    plan.traced = graph
    plan.loop.magnitude = _term_size(plan, graph)


def simplified(graph: Graph) -> Graph:
    """Simplify a graph; what the rewriting trips over is left as it was written."""
    try:
        return simplify(graph)
    except Exception:
        return graph


def still_runs(loss: LossFunction) -> None:
    """Call the loss once more: nothing of the trace may be left in what it stores.

    Raises
    ------
    InputError
        Something is.
    """
    try:
        loss.base()
    except Untraceable as left:
        raise InputError(
            "`loss` stores arrays where they cannot be put back after the trace, and finds "
            f"them in its next call ({left}). Use engine='loop', on a network made anew."
        ) from None


def escaped_number(graph: Graph, tensor: str) -> str | None:
    """Say where a number that moves with the tensor was read out of the trace, if one was.

    Branches and indices keep their value for most copies, and the others are computed by the
    user's function; a real number changes with every copy.
    """
    for guard in slice_for(graph, tensor).guards:
        if not guard.discrete:
            return (
                f"a plain Python number is made of an array that depends on {tensor} "
                f"({guard.source}), so that NumPy no longer sees it; use NumPy functions there"
            )
    return None


def _traced(loss: LossFunction, tree: ParamTree) -> Graph:
    # Whatever the loss stores (running means, caches) must not stay traced.
    return trace(loss.single, tree, loss.count, lambda: keep(loss.function, None))


def _compare_loss(graph: Graph, called: float, noise: Noise) -> None:
    assert graph.output is not None
    traced = float(graph.output.value)
    allowed = 1e-10 * abs(called) + rounding_of(graph.output)
    if abs(traced - called) > allowed and abs(traced - called) > 32 * noise():
        raise Untraceable(f"the traced loss is {traced!r}, but `loss` returns {called!r}")


def _term_size(plan: Plan, graph: Graph) -> float:
    assert graph.output is not None
    return max(plan.loop.magnitude, term_size(graph.output))
