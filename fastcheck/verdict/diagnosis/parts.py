"""One flat vector of all parameters, taken apart as the forward pass takes it apart.

``W1 = theta[:6].reshape(2, 3)`` makes of one tensor what a reader knows as several: the evidence on
it is split likewise, and so is the trace, so that layers have depths and mistakes have a place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.trace.graph import PARAMETER, Graph, Node
from fastcheck.trace.primitives import INDEX, RESHAPE
from fastcheck.verdict.diagnosis.depths import depths_in
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts

_MOST = 64

Cuts = dict[Node, IndexArray]
"""Nodes that are parts of a vector, and the flat places that they hold."""


def take_apart(evidence: Evidence) -> Evidence:
    """Return the evidence with each vector that the forward pass cuts up in those parts."""
    if evidence.graph is None:
        return evidence
    cuts = {facts.name: _cuts(evidence.graph, facts) for facts in evidence.tensors}
    cuts = {name: found for name, found in cuts.items() if found}
    if not cuts:
        return evidence
    graph = _with_parts(evidence.graph, cuts)
    depths = depths_in(graph)
    tensors: list[TensorFacts] = []
    previous: dict[str, FloatArray] = dict(evidence.previous or {})
    samples: dict[str, FloatArray] = dict(evidence.samples or {})
    for facts in evidence.tensors:
        if facts.name not in cuts:
            tensors.append(replace(facts, depth=depths[facts.name]))
            continue
        for node, places in cuts[facts.name].items():
            part = _part(facts, node, places)
            tensors.append(replace(part, depth=depths[part.name]))
            if evidence.previous is not None:
                previous[part.name] = previous[facts.name][places]
            if evidence.samples is not None:
                samples[part.name] = samples[facts.name][:, places]
    return replace(
        evidence,
        tensors=tuple(tensors),
        previous=None if evidence.previous is None else previous,
        samples=None if evidence.samples is None else samples,
        graph=graph,
    )


def _cuts(graph: Graph, facts: TensorFacts) -> Cuts:
    """Return the parts of a vector; none unless they are its whole, and no two overlap."""
    parameter = graph.parameters[facts.name]
    users = [node for node in graph if parameter in node.operands]
    if not 2 <= len(users) <= _MOST or len(facts.axis_lengths) != 1 or not facts.complete:
        return {}
    if any(node.primitive is not INDEX for node in users):
        return {}
    everything = np.arange(facts.size).reshape(facts.shape)
    cuts: Cuts = {}
    for user in users:
        places = np.asarray(everything[user.params["index"]]).reshape(-1)
        if not len(places) or not np.array_equal(np.diff(places), np.ones(len(places) - 1)):
            return {}
        cuts[_shaped(graph, user)] = places
    if not any(sum(length > 1 for length in node.shape) > 1 for node in cuts):
        return {}  # elements of a vector, and no layers in one
    together = np.concatenate(list(cuts.values()))
    whole = len(together) == facts.size and len(np.unique(together)) == facts.size
    return cuts if whole else {}


def _shaped(graph: Graph, node: Node) -> Node:
    """Return the node, or what it is reshaped to if it is used for nothing else."""
    users = [user for user in graph if node in user.operands]
    return users[0] if len(users) == 1 and users[0].primitive is RESHAPE else node


def _name(facts_name: str, places: IndexArray) -> str:
    return f"{facts_name}[{places[0]}:{places[-1] + 1}]"


def _part(facts: TensorFacts, node: Node, places: IndexArray) -> TensorFacts:
    part = replace(
        facts,
        name=_name(facts.name, places),
        owner=facts.name,
        shape=node.shape,
        analytic=facts.analytic[places],
        numeric=facts.numeric[places],
        bars=facts.bars[places],
        theta=facts.theta[places],
        indices=np.arange(len(places)),
        size=len(places),
    )
    # Where no element stands out, the whole is what is wrong, and so is each of its parts.
    local = bool(facts.wrong.any() or not facts.finite)
    wrong = bool(part.wrong.any() or not np.isfinite(part.analytic).all()) if local else part.alive
    failed = facts.failed and wrong
    return replace(part, failed=failed, passed=facts.passed or (facts.failed and not wrong))


def _with_parts(graph: Graph, cuts: dict[str, Cuts]) -> Graph:
    """Return the graph with the parts as its parameters."""
    named = {
        node: _name(name, places) for name, parts in cuts.items() for node, places in parts.items()
    }
    new: dict[Node, Node] = {}
    parameters = {}
    for node in graph:
        if node in named:
            name = named[node]
            new[node] = Node(
                node.index,
                PARAMETER,
                (),
                {"name": name},
                node.value,
                frozenset({name}),
                node.source,
            )
            parameters[name] = new[node]
            continue
        operands = tuple(new[operand] for operand in node.operands)
        tensors = frozenset().union(*(o.tensors for o in operands)) if operands else node.tensors
        new[node] = replace(node, operands=operands, tensors=tensors)
    parameters |= {name: new[node] for name, node in graph.parameters.items() if name not in cuts}
    output = None if graph.output is None else new[graph.output]
    return Graph(list(new.values()), parameters, [], output)
