"""Where to look when no mistake fits: the layer next to the loss that is wrong first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastcheck.trace.graph import Node
from fastcheck.verdict.diagnosis.cleared import Cleared, cleared
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts

_STRUCTURE = ("reshape", "transpose", "broadcast", "cast", "index", "contract", "add", "parameter")
_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class Place:
    """The first wrong layer, seen from the loss.

    Attributes
    ----------
    first : tuple of TensorFacts
        The wrong tensors of that layer.
    beside : tuple of TensorFacts
        Right ones of the same layer.
    nearer : tuple of TensorFacts
        Right ones between it and the loss.
    behind : tuple of TensorFacts
        Wrong ones behind it.
    operations : tuple of Node
        What lies between its result and the next layer, or the loss.
    next_to_loss : bool
        Whether no other layer lies between it and the loss, right or wrong.
    cleared : Cleared or None
        What right tensors show of what flows back to it.
    """

    first: tuple[TensorFacts, ...]
    beside: tuple[TensorFacts, ...]
    nearer: tuple[TensorFacts, ...]
    behind: tuple[TensorFacts, ...]
    operations: tuple[Node, ...]
    next_to_loss: bool
    cleared: Cleared | None


def place_of(evidence: Evidence, wrong: tuple[TensorFacts, ...]) -> Place:
    """Return where the tensors that nothing explains go wrong first."""
    depth = min(facts.depth for facts in wrong)
    first = tuple(facts for facts in wrong if facts.depth == depth)
    return Place(
        first=first,
        beside=tuple(facts for facts in evidence.right if facts.depth == depth),
        nearer=tuple(facts for facts in evidence.right if facts.depth < depth),
        behind=tuple(facts for facts in wrong if facts.depth > depth),
        operations=_after(evidence, first, depth),
        next_to_loss=all(facts.depth >= depth for facts in evidence.tensors),
        cleared=cleared(evidence, first),
    )


def _after(evidence: Evidence, first: tuple[TensorFacts, ...], depth: int) -> tuple[Node, ...]:
    """Return the operations that a layer goes through before the next one, in order."""
    if evidence.graph is None:
        return ()
    names = {facts.name for facts in first}
    layer = {facts.name for facts in evidence.tensors if facts.depth >= depth}
    beside = {facts.name for facts in evidence.tensors if facts.depth == depth}
    nodes = [
        node
        for node in evidence.graph
        # What all of the layer reaches is its result; a penalty reaches weights alone.
        if names <= node.tensors <= layer and beside <= node.tensors
    ]
    if not telling(nodes):  # what is beside it may be on another branch
        nodes = [node for node in evidence.graph if node.tensors == names]
    return telling(nodes)[:_MOST_NAMED]


def telling(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the operations that have a derivative to get wrong, one of each line, in order."""
    nodes = [n for n in nodes if n.primitive.name not in _STRUCTURE and not n.primitive.discrete]
    once = {(node.primitive, node.source): node for node in reversed(nodes)}
    return tuple(sorted(once.values(), key=lambda node: node.index))
