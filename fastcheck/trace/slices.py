"""The part of the graph that one parameter tensor reaches."""

from __future__ import annotations

from dataclasses import dataclass

from fastcheck.trace.graph import Graph, Guard, Node


@dataclass(frozen=True, eq=False)
class Slice:
    """What has to be computed again when one tensor is perturbed.

    `nodes` is in order, without the parameter itself; `last_use` tells after which node (by its
    place in `nodes`) a result is no longer needed.
    """

    tensor: str
    parameter: Node
    nodes: tuple[Node, ...]
    guards: tuple[Guard, ...]
    output: Node
    last_use: dict[Node, int]

    @property
    def reaches_output(self) -> bool:
        return self.tensor in self.output.tensors


def slice_for(graph: Graph, tensor: str) -> Slice:
    """Cut out the nodes between `tensor` and the loss (or a guard), in order."""
    if graph.output is None:
        raise ValueError("the graph has no output")
    parameter = graph.parameters[tensor]
    guards = tuple(guard for guard in graph.guards if tensor in guard.node.tensors)
    wanted: set[Node] = {graph.output, *(guard.node for guard in guards)}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node in wanted and tensor in node.tensors:
            wanted.update(node.operands)
            if node is not parameter:
                kept.append(node)
    kept.reverse()
    nodes = tuple(kept)
    last_use = last_uses(nodes, graph.output, guards)
    return Slice(tensor, parameter, nodes, guards, graph.output, last_use)


def last_uses(nodes: tuple[Node, ...], output: Node, guards: tuple[Guard, ...]) -> dict[Node, int]:
    """Return after which node each result is no longer needed."""
    last: dict[Node, int] = {}
    for place, node in enumerate(nodes):
        last.update(dict.fromkeys(node.operands, place))
    end = len(nodes)
    last.update(dict.fromkeys((guard.node for guard in guards), end))
    last[output] = end
    return last
