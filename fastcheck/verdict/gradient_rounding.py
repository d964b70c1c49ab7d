"""What rounding does to any analytic gradient of a traced loss, by trying it out.

A backward pass through the traced graph is run a few times with every intermediate value off by a
few units of roundoff, as unlucky roundings might leave it. How far its derivatives move is how far
a right gradient may be off: p − y of an all but certain softmax is rounding and little else, and so
is a residual near its solution.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward import NoRuleError, operand_gradients
from fastcheck.trace.graph import PARAMETER, Graph, Node
from fastcheck.trace.primitives import LOG_SOFTMAX, MAX, MIN, elementwise

_DRAWS = 6
_ROUNDINGS = 4.0
_MARGIN = 3.0
"""Times the largest deviation of the draws: they are few, and roundings need not be independent."""
_ROUGH_MARGIN = 3.5
"""Times the deviation of two draws from each other, which comes to the same on average."""

_CHOOSING = (
    MAX,
    MIN,
    *map(elementwise, (np.maximum, np.minimum, np.fmax, np.fmin, np.absolute, np.fabs)),
)
Gradients = dict[Node, FloatArray]


def gradient_rounding(
    graph: Graph, unit: float, rng: np.random.Generator, *, rough: bool = False
) -> dict[str, FloatArray]:
    """Return how far rounding may move each derivative: by tensor, flat in C order.

    Nothing where no backward pass through the graph is known.

    Parameters
    ----------
    graph : Graph
        The forward pass.
    unit : float
        The unit roundoff of the user's arithmetic.
    rng : numpy.random.Generator
        Draws the roundings.
    rough : bool
        Two backward passes instead of seven: enough for the norm over a tensor, not for what is
        to be believed of a single element.

    Returns
    -------
    dict of str to (size,) float64
    """
    assert graph.output is not None
    parameters = {name: node for name, node in graph.parameters.items() if node.tensors}
    moved = {name: np.zeros(node.value.size) for name, node in parameters.items()}
    try:
        with np.errstate(all="ignore"):
            right = _gradients(graph, _ROUNDINGS * unit if rough else 0.0, rng)
            for _ in range(1 if rough else _DRAWS):
                found = _gradients(graph, _ROUNDINGS * unit, rng)
                for name, node in parameters.items():
                    if node in right and node in found:
                        gap = np.abs(found[node] - right[node]).ravel(order="C")
                        moved[name] = np.fmax(moved[name], gap)
    except NoRuleError:
        return {}
    margin = _ROUGH_MARGIN if rough else _MARGIN
    return {name: margin * gap for name, gap in moved.items()}


def _gradients(graph: Graph, size: float, rng: np.random.Generator) -> Gradients:
    """Return the gradients of all nodes, with relative roundings of `size` on the way."""
    twins = _jittered(graph, size, rng)
    assert graph.output is not None
    known: Gradients = {graph.output: np.ones(graph.output.shape)}
    for node in reversed(graph.nodes):
        if node not in known or node.constant or node.primitive is PARAMETER:
            continue
        at = twins[node]
        parts = operand_gradients(at, known[node])
        if node.primitive in _CHOOSING:
            # Roundings may decide between what is nearly alike; a tie is a kink, and no rounding.
            tied, chosen = _tied(node), operand_gradients(node, known[node])
            parts = [_blended(tied, there, part) for part, there in zip(parts, chosen, strict=True)]
        if node.primitive is LOG_SOFTMAX and parts[0] is not None:
            # By hand it is p − y, where p is rounded before anything is subtracted from it.
            total = known[node].sum(axis=node.params["axes"], keepdims=True)
            shares = np.exp(np.asarray(at.value, dtype=np.float64)) * total
            parts = [parts[0] + (_rounded(shares, size, rng) - shares)]
        for operand, part in zip(node.operands, parts, strict=True):
            if part is not None:
                part = _rounded(part, size, rng)
                known[operand] = known[operand] + part if operand in known else part
    return known


def _blended(
    tied: np.ndarray, there: FloatArray | None, part: FloatArray | None
) -> FloatArray | None:
    """Return `part`, but `there` where something is tied; or all of it, where shapes differ."""
    if part is None or there is None or np.broadcast_shapes(tied.shape, part.shape) != part.shape:
        return there
    return np.where(tied, there, part)


def _tied(node: Node) -> np.ndarray:
    """Return where an operation chooses between equals, in a shape that its operands fit."""
    values = [np.asarray(operand.value) for operand in node.operands]
    if node.primitive in (MAX, MIN):
        axes = node.params["axes"]
        best = values[0].max(axis=axes, keepdims=True)
        if node.primitive is MIN:
            best = values[0].min(axis=axes, keepdims=True)
        return np.asarray((values[0] == best).sum(axis=axes, keepdims=True) > 1)
    return np.asarray(values[0] == (values[1] if len(values) > 1 else 0.0))


def _jittered(graph: Graph, size: float, rng: np.random.Generator) -> dict[Node, Node]:
    """Compute the forward pass again with roundings; masks stay what they are."""
    twins: dict[Node, Node] = {}
    for node in graph.nodes:
        operands = tuple(twins[operand] for operand in node.operands)
        value = node.value
        fixed = node.constant or node.primitive is PARAMETER or node.primitive.discrete
        if size and not fixed and value.dtype.kind == "f":
            values = [operand.value for operand in operands]
            value = node.primitive.evaluate(*values, **node.params)
            if node.primitive not in _CHOOSING:
                value = _rounded(value, size, rng)
        twins[node] = replace(node, operands=operands, value=value)
    return twins


def _rounded(values: FloatArray, size: float, rng: np.random.Generator) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    if not size:
        return values
    rounded: FloatArray = values * (1.0 + size * rng.uniform(-1.0, 1.0, values.shape))
    return rounded
