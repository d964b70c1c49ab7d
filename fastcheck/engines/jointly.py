"""All tensors moved at once: one comparison with the user's function that every node takes part in.

It spares each tensor the comparison along a direction of its own, which costs two calls of the
loss and a pass through nearly all of the graph. A tensor that moves the loss hardly beside others
keeps its own: what is wrong with it would not show here.
"""

from __future__ import annotations

import math

import numpy as np

from fastcheck.differences import Bases, Context, Delta, propagate
from fastcheck.engines.base import FloatArray
from fastcheck.engines.loss import LossFunction
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.slices import last_uses

STEP = 2.0**-8
"""Of the parameters' size: exact differences hold for any step, and rounding hides nothing then."""
_RELATIVE = 1e-9
_SHARE = 1e-3
"""Of the change along the direction. An error of one part in a million of a tensor shows then."""


class Jointly:
    """The comparison of a graph with the user's function along one direction of all tensors.

    It is made when it is first asked for.

    Parameters
    ----------
    graph : Graph
    loss : LossFunction
        The user's function.
    base : float
        J(θ).
    tree : ParamTree
        θ.
    rounding : float
        How far J may be off by rounding.
    bases : Bases
        Base values on the host, in float64.
    rng : numpy.random.Generator
        Draws the direction.
    """

    def __init__(
        self,
        graph: Graph,
        loss: LossFunction,
        base: float,
        tree: ParamTree,
        rounding: float,
        bases: Bases,
        rng: np.random.Generator,
    ) -> None:
        self._graph, self._loss, self._base, self._tree = graph, loss, base, tree
        self._rounding, self._bases, self._rng = rounding, bases, rng
        self._change: float | None = None

    def covers(self, tensor: Tensor, slope: float) -> bool:
        """Whether the two agree, and this tensor has a part in it that is worth the name.

        The `slope` is what its derivatives typically are.
        """
        if self._change is None:
            self._change = self._compared()
        part = slope * STEP * size_of(tensor) * math.sqrt(tensor.size)
        return self._change > 0 and part >= _SHARE * self._change

    def _compared(self) -> float:
        """Return |ΔJ|, or 0 where the two do not agree: then each tensor is looked at by itself."""
        moved = {t.name: t.value.copy(order="K") for t in self._tree}
        moves = {}
        for t in self._tree:
            moved[t.name] += direction(t, self._rng)
            moves[t.name] = moved[t.name] - t.value
        leaves = {t.name: moved[t.name][()] if t.scalar else moved[t.name] for t in self._tree}
        try:
            plain = self._loss.evaluate(self._tree.build(leaves)) - self._base
            fast = self._replayed(moves)
        except Exception:  # some tensor must not be moved so far
            return 0.0
        if fast is None or not math.isfinite(plain) or not math.isfinite(fast):
            return 0.0
        size = max(abs(fast), abs(plain))
        return size if abs(fast - plain) <= max(_RELATIVE * size, self._rounding) else 0.0

    def _replayed(self, moves: dict[str, FloatArray]) -> float | None:
        """Return J(θ + moves) − J(θ) by the graph; None where it does not hold there."""
        graph = self._graph
        assert graph.output is not None
        nodes = tuple(node for node in graph.nodes if node.tensors)
        last = last_uses(nodes, graph.output, tuple(graph.guards))
        context = Context(self._bases, 1)
        live: dict[Node, Delta] = {
            node: Delta(moves[name][None], {}) for name, node in graph.parameters.items()
        }
        with np.errstate(all="ignore"):
            for place, node in enumerate(nodes):
                if node in live:
                    continue
                delta = propagate(context, node, [live.get(operand) for operand in node.operands])
                if delta is not None:
                    live[node] = delta
                for operand in node.operands:
                    if last[operand] == place:
                        live.pop(operand, None)
        self._bases.pool.clear()
        held = (live.get(guard.node) for guard in graph.guards)
        if any(delta is not None and np.any(delta.values != 0) for delta in held):
            return None
        change = live.get(graph.output)
        return 0.0 if change is None else float(change.values.reshape(-1)[0])


def size_of(tensor: Tensor) -> float:
    """Return the root mean square of a tensor; 1 for one of zeros."""
    return tensor.rms or 1.0


def direction(tensor: Tensor, rng: np.random.Generator) -> FloatArray:
    """Draw a direction in which every element of a tensor moves by about `STEP` of its size."""
    along: FloatArray = STEP * size_of(tensor) * rng.uniform(0.5, 1.5, tensor.shape)
    along *= rng.choice((-1.0, 1.0), tensor.shape)
    return along
