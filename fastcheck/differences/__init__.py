"""How finite differences pass through the graph, exactly and for stacks of copies at once."""

from fastcheck.differences import contraction as contraction  # importing registers the rules
from fastcheck.differences import extremes as extremes
from fastcheck.differences import indexing as indexing
from fastcheck.differences import kinks as kinks
from fastcheck.differences import order as order
from fastcheck.differences import reductions as reductions
from fastcheck.differences import smooth as smooth
from fastcheck.differences import softmax as softmax
from fastcheck.differences import special as special
from fastcheck.differences import structure as structure
from fastcheck.differences.context import Bases, Context
from fastcheck.differences.delta import Delta, Pin
from fastcheck.differences.opaque import copy_by_copy
from fastcheck.differences.rules import CANCELLING, RULES, Deltas
from fastcheck.trace.graph import Node

__all__ = ["Bases", "Context", "Delta", "Pin", "cancels", "propagate"]


def propagate(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    """Pass the operands' differences through `node`; None where no copy changes."""
    # An array without elements has nothing that could change.
    deltas = [delta if delta is not None and delta.values.size else None for delta in deltas]
    if not node.value.size or all(delta is None for delta in deltas):
        return None
    context.node = node
    return RULES.get(node.primitive, copy_by_copy)(context, node, deltas)


def cancels(node: Node) -> bool:
    """Whether the node's rule subtracts nearly equal numbers, so that tiny steps lose digits."""
    primitive = node.primitive
    return primitive in CANCELLING or (primitive not in RULES and not primitive.discrete)
