"""How many layers lie between each parameter tensor and the loss."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from fastcheck.trace.graph import PARAMETER, Graph, Node
from fastcheck.trace.primitives import CAST, CONTRACT, STRUCTURAL


def depths_in(graph: Graph) -> dict[str, int]:
    """Return for each tensor how many matrix products lie between its layer and the loss.

    The product that the tensor itself goes into belongs to its layer: the weights and the bias of a
    layer have the same depth. The longest way counts: a penalty on the weights is a shortcut, and
    so are the paths around a block. Where there are no products at all, operations are counted
    instead. Tensors that do not reach the loss are deepest.
    """
    products = _distances(graph, products_only=True)
    if len(set(products.values())) == 1 and len(products) > 1:
        return _ranks(_distances(graph, products_only=False))
    return _ranks(products)


def depths_by_order(names: Sequence[str]) -> dict[str, int]:
    """Guess the depths from the order of the tensors: the last is next to the loss.

    Neighbours with the same numbers in their names (W1 and b1) are of one layer.
    """
    depths: dict[str, int] = {}
    depth, layer = -1, None
    for name in reversed(names):
        numbers = re.findall(r"\d+", name)
        if not numbers or numbers != layer:
            depth += 1
        layer = numbers
        depths[name] = depth
    return depths


def _distances(graph: Graph, *, products_only: bool) -> dict[str, float]:
    # Operands come before what is made of them: one pass from the output back is enough.
    distance: dict[Node, float] = {}
    if graph.output is not None:
        distance[graph.output] = 0
    for node in reversed(graph.nodes):
        for operand in node.operands if node in distance else ():
            if products_only:
                step = node.primitive is CONTRACT and not is_parameter_itself(operand)
            else:
                step = node.primitive is not CAST
            distance[operand] = max(distance.get(operand, 0), distance[node] + step)
    return {name: distance.get(node, math.inf) for name, node in graph.parameters.items()}


def is_parameter_itself(node: Node) -> bool:
    """Whether a node is a parameter tensor, perhaps reshaped, transposed or cut."""
    while node.primitive in STRUCTURAL or node.primitive is CAST:
        node = node.operands[0]
    return node.primitive is PARAMETER


def _ranks(distances: dict[str, float]) -> dict[str, int]:
    order = sorted(set(distances.values()))
    return {name: order.index(distance) for name, distance in distances.items()}
