"""In which floating-point type a traced loss computes, whatever the type of its parameters."""

from __future__ import annotations

import numpy as np

from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.primitives import CAST, STRUCTURAL


def coarsest(graph: Graph | None) -> Node | None:
    """Return the operation whose result has the coarsest type below float64; None without any.

    A backward pass by hand computes in the types of the forward pass, so its derivatives are
    rounded to that one. A loss that is rounded at its very end is not: nothing flows back through
    what it was rounded to.
    """
    if graph is None or graph.output is None:
        return None
    last = _before_the_end(graph.output)
    coarse = [node for node in graph if node.index <= last.index and _is_coarse(node)]
    return min(coarse, key=lambda node: node.value.dtype.itemsize, default=None)


def _before_the_end(node: Node) -> Node:
    while node.operands and (node.primitive is CAST or node.primitive in STRUCTURAL):
        node = node.operands[0]
    return node


def _is_coarse(node: Node) -> bool:
    if node.constant or node.value.dtype.kind != "f":
        return False
    if node.value.dtype.itemsize >= np.dtype(np.float64).itemsize:
        return False
    # A mask is zeros and ones in any type.
    return not (node.primitive is CAST and node.operands[0].value.dtype.kind in "biu")
