"""The terms that a loss is the sum of, and what those of the parameters alone add to gradients.

A penalty is a term that no data enter, however it is written: ``lam * np.sum(w**2)``, or
``lam * w @ w``, or a norm. It is found where the loss is taken apart, and not by what its tensor
goes into: a product of a tensor with itself is no layer.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward import pull_back
from fastcheck.trace.backward_rules import operand_gradients
from fastcheck.trace.graph import PARAMETER, Graph, Node
from fastcheck.trace.primitives import (
    BROADCAST,
    CAST,
    CONCATENATE,
    INDEX,
    RESHAPE,
    SUM,
    TRANSPOSE,
    elementwise,
)
from fastcheck.verdict.diagnosis.evidence import Evidence, Tensors

_SUMS = (
    *(BROADCAST, CAST, CONCATENATE, INDEX, RESHAPE, SUM, TRANSPOSE),
    *map(elementwise, (np.add, np.subtract, np.negative, np.positive)),
)
_MULTIPLY, _DIVIDE = elementwise(np.multiply), elementwise(np.divide)
_ALONG = 1e-9
_MOST_TERMS = 8
"""Of more terms it is not asked what each adds to the gradients."""


def own_penalties(evidence: Evidence, tensors: Tensors) -> dict[str, FloatArray]:
    """Return what penalties add to the gradients of tensors; nothing where there is no trace.

    Zeros where the trace shows that there are none. Tensors that no other term of the loss reaches
    are left out.
    """
    graph = evidence.graph
    if graph is None or graph.output is None:
        return {}
    found = {}
    with suppress(Exception):  # a trace may hold anything
        terms = _terms(graph, 1 / evidence.unit)
        free = without_data(graph)
        own = {node: flow for node, flow in terms.items() if node in free}
        rest = {node: flow for node, flow in terms.items() if node not in free}
        if len(rest) <= _MOST_TERMS:
            own |= {node: flow for node, flow in rest.items() if _pulls(graph, node, flow)}
        others: frozenset[str] = frozenset().union(*(n.tensors for n in terms if n not in own))
        flows = pull_back(graph.nodes, own)
        for facts in tensors:
            node = graph.parameters[facts.name]
            if facts.name in others:
                added = np.broadcast_to(flows.get(node, np.zeros(())), node.shape)
                found[facts.name] = added.reshape(-1)[facts.indices]
    return found


def _terms(graph: Graph, unit: float) -> dict[Node, FloatArray]:
    """Return what the loss is a sum of, and the gradient of the loss with respect to each."""
    assert graph.output is not None
    flows = {graph.output: np.full(graph.output.shape, unit)}
    terms = {}
    for node in reversed(graph.nodes):
        if node not in flows:
            continue
        if not _only_adds(node):
            terms[node] = flows[node]
            continue
        parts = operand_gradients(node, flows[node])
        for operand, part in zip(node.operands, parts, strict=True):
            if part is not None:
                flows[operand] = flows[operand] + part if operand in flows else part
    return terms


def _only_adds(node: Node) -> bool:
    if node.primitive in _SUMS:
        return True
    constant = [operand.constant for operand in node.operands]
    return (node.primitive is _MULTIPLY and any(constant)) or (
        node.primitive is _DIVIDE and constant[1]
    )


def without_data(graph: Graph) -> set[Node]:
    """Return what is made of parameters and numbers alone."""
    free: set[Node] = set()
    for node in graph:
        if node.constant:
            values = np.asarray(node.value)
            if values.size and np.all(values == values.flat[0]):
                free.add(node)
        elif node.primitive is PARAMETER or all(operand in free for operand in node.operands):
            free.add(node)
    return free


def _pulls(graph: Graph, term: Node, flow: FloatArray) -> bool:
    """Whether a term pulls all that it reaches towards zero, whatever stands in it.

    A matrix may stand in a penalty, and be no data: ``w @ (lam * np.eye(n)) @ w``.
    """
    flows = pull_back(graph.nodes, {term: flow})
    reached = [graph.parameters[name] for name in term.tensors]
    return bool(reached) and all(node in flows and _is_along(flows[node], node) for node in reached)


def _is_along(flow: FloatArray, node: Node) -> bool:
    theta = np.asarray(node.value, dtype=np.float64)
    square = float(np.sum(theta * theta))
    if not square or theta.size == 1:
        return False
    strength = float(np.sum(flow * theta)) / square
    left = float(np.linalg.norm(flow - strength * theta))
    return strength > 0 and left <= _ALONG * strength * float(np.sqrt(square))
