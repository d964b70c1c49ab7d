"""What rounding does to any analytic gradient of a traced loss, by trying it out.

A backward pass through the traced graph is run a few times with every intermediate value off by a
few units of roundoff, as unlucky roundings might leave it. How far its derivatives move is how far
a right gradient may be off: p − y of an all but certain softmax is rounding and little else, and so
is a residual near its solution.
"""

from __future__ import annotations

import math

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward_rules import NoRuleError, operand_gradients
from fastcheck.trace.collecting import without_collecting
from fastcheck.trace.graph import PARAMETER, Graph, Node
from fastcheck.trace.primitives import (
    BROADCAST,
    CONCATENATE,
    INDEX,
    LOG_SOFTMAX,
    MAX,
    MIN,
    RESHAPE,
    TRANSPOSE,
    WRITE,
    elementwise,
)
from fastcheck.trace.stacked import copies, gradients_one_by_one, one_by_one, stacked

_DRAWS = 6
_ROUNDINGS = 4.0
_MARGIN = 3.0
"""Times the largest deviation of the draws: they are few, and roundings need not be independent."""
_ROUGH_MARGIN = 3.5
"""Times the deviation of two draws from each other, which comes to the same on average."""

_DRAWN = 2**12
_MOST_HELD = 2**20
"""Elements of the intermediate values of passes that are taken at the same time."""

_MOVING = (RESHAPE, TRANSPOSE, BROADCAST, INDEX, CONCATENATE, WRITE)
"""These move values about, and round nothing."""

_CHOOSING = (
    MAX,
    MIN,
    *map(elementwise, (np.maximum, np.minimum, np.fmax, np.fmin, np.absolute, np.fabs)),
)
Gradients = dict[Node, FloatArray]


@without_collecting()
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
    sizes = np.full(2 if rough else 1 + _DRAWS, _ROUNDINGS * unit)
    if not rough:
        sizes[0] = 0.0  # the first one is right
    found: dict[str, list[FloatArray]] = {name: [] for name in parameters}
    try:
        with np.errstate(all="ignore"):
            for part in _in_memory(graph, sizes):
                gradients = _gradients(graph, part, rng)
                for name, node in parameters.items():
                    if node in gradients:
                        found[name].append(gradients[node].reshape(len(part), -1))
    except NoRuleError:
        return {}
    margin = _ROUGH_MARGIN if rough else _MARGIN
    return {
        name: margin * _largest_gap(passes) if passes else np.zeros(parameters[name].value.size)
        for name, passes in found.items()
    }


def differently_rounded(written: Graph | None, simplified: Graph | None) -> list[Graph]:
    """Return the forward passes whose gradients are rounded in ways of their own.

    Without a kind of operation that the user did not write, the simplified one rounds what the
    other rounds, or less.
    """
    graphs = [graph for graph in (written, simplified) if graph is not None]
    kinds = [{n.primitive for n in graph if not n.constant} - {*_MOVING} for graph in graphs]
    return graphs[:1] if len(graphs) > 1 and kinds[1] <= kinds[0] else graphs


def _in_memory(graph: Graph, sizes: FloatArray) -> list[FloatArray]:
    """Split backward passes into those that are taken at the same time."""
    held = sum(node.value.size for node in graph.nodes if not node.constant)
    at_once = max(1, _MOST_HELD // max(held, 1))
    return [sizes[start : start + at_once] for start in range(0, len(sizes), at_once)]


def _largest_gap(passes: list[FloatArray]) -> FloatArray:
    first, *others = np.concatenate(passes)
    gaps = [np.abs(other - first) for other in others]
    largest: FloatArray = np.fmax.reduce([np.zeros(first.shape), *gaps])
    return largest


def _gradients(graph: Graph, sizes: FloatArray, rng: np.random.Generator) -> Gradients:
    """Return the gradients of all nodes, with relative roundings of these sizes on the way.

    All are taken at once: they lie along the first axis.
    """
    count = len(sizes)
    draws = _Draws(rng)
    twins, made = _jittered(graph, sizes, draws)
    assert graph.output is not None
    known: Gradients = {graph.output: np.ones((count, *graph.output.shape))}
    for node in reversed(graph.nodes):
        if node not in known or node.constant or node.primitive is PARAMETER:
            continue
        if node.primitive.discrete or all(operand.constant for operand in node.operands):
            continue
        gradient, at = known[node], made.get(node)
        if at is not None:
            parts = operand_gradients(at, gradient)
        else:
            operands = [twins.get(operand, operand) for operand in node.operands]
            parts = gradients_one_by_one(node, operands, twins[node].value, gradient)
        if node.primitive in _CHOOSING and np.any(tied := _tied(node)):
            # Roundings may decide between what is nearly alike; a tie is a kink, and no rounding.
            here = np.broadcast_to(node.value, gradient.shape)
            chosen = gradients_one_by_one(node, node.operands, here, gradient)
            parts = [_blended(tied, there, part) for part, there in zip(parts, chosen, strict=True)]
        if node.primitive is LOG_SOFTMAX and parts[0] is not None:
            # By hand it is p − y, where p is rounded before anything is subtracted from it.
            axes = tuple(axis % node.ndim + 1 for axis in node.params["axes"])
            total = gradient.sum(axis=axes, keepdims=True)
            shares = np.exp(np.asarray(twins[node].value, dtype=np.float64)) * total
            parts = [parts[0] + (_rounded(shares, sizes, draws) - shares)]
        for operand, part in zip(node.operands, parts, strict=True):
            if part is not None:
                part = _rounded(part.reshape((count, *operand.shape)), sizes, draws)
                known[operand] = known[operand] + part if operand in known else part
    return known


def _blended(
    tied: np.ndarray, there: FloatArray | None, part: FloatArray | None
) -> FloatArray | None:
    """Return `part`, but `there` where something is tied; or all of it, where shapes differ."""
    if part is None or there is None:
        return there
    part = part.reshape(there.shape)
    if np.broadcast_shapes(tied.shape, part.shape[1:]) != part.shape[1:]:
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


def _jittered(
    graph: Graph, sizes: FloatArray, draws: _Draws
) -> tuple[dict[Node, Node], dict[Node, Node]]:
    """Compute the forward pass again with roundings; masks stay what they are.

    Returns the nodes with the values of all passes, and of these the operations on stacks.
    """
    count = len(sizes)
    twins: dict[Node, Node] = {}
    made: dict[Node, Node] = {}
    for node in graph.nodes:
        if node.constant:
            continue
        if not _is_rounded(node):
            twins[node] = copies(node, np.broadcast_to(node.value, (count, *node.shape)))
            continue
        operands = [twins.get(operand, operand) for operand in node.operands]
        at = stacked(node, operands, count)
        value = one_by_one(node, operands, count) if at is None else at.value
        if node.primitive not in _CHOOSING:
            value = _rounded(value, sizes, draws)
        if sizes[0] == 0.0:
            value = np.array(value)
            value[0] = node.value
        twins[node] = copies(node, value)
        if at is not None:
            made[node] = copies(at, value)
    return twins, made


def _is_rounded(node: Node) -> bool:
    """Whether an operation is computed again: not masks, nor what only looks as if it moved.

    A part of an array that was read where nothing has been written yet is such a constant.
    """
    if node.primitive is PARAMETER or node.primitive.discrete or node.value.dtype.kind != "f":
        return False
    return any(not operand.constant for operand in node.operands)


class _Draws:
    """Random numbers between −1 and 1, drawn many at a time: one by one takes much longer."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._drawn = np.empty(0)
        self._used = 0

    def take(self, shape: tuple[int, ...]) -> FloatArray:
        size = math.prod(shape)
        if size > _DRAWN // 2:
            return self._rng.uniform(-1.0, 1.0, shape)
        if self._used + size > len(self._drawn):
            self._drawn, self._used = self._rng.uniform(-1.0, 1.0, _DRAWN), 0
        start, self._used = self._used, self._used + size
        return self._drawn[start : self._used].reshape(shape)


def _rounded(values: FloatArray, sizes: FloatArray, draws: _Draws) -> FloatArray:
    values = np.asarray(values, dtype=np.float64)
    size = sizes.reshape((-1,) + (1,) * (values.ndim - 1))
    rounded: FloatArray = values * (1.0 + size * draws.take(values.shape))
    return rounded
