"""Derivatives that are exactly zero, in words: which input, or which unit, keeps them so.

That is information and no failure: a pixel that is black in every sample moves nothing, and neither
does a unit that a ReLU or a dropout mask switches off throughout.
"""

from __future__ import annotations

import numpy as np

from fastcheck.engines.base import BoolArray
from fastcheck.trace.graph import Graph, Node
from fastcheck.trace.primitives import CAST, CONTRACT, RESHAPE, TRANSPOSE

_MOVES = (TRANSPOSE, RESHAPE)


def silent_elements(graph: Graph | None, tensor: str, zero: BoolArray) -> str:
    """Say why elements of a tensor have derivatives of exactly zero; nothing if none have.

    Parameters
    ----------
    graph : Graph or None
        The traced forward pass, if there is one.
    tensor : str
        The tensor's name.
    zero : bool array of the tensor's shape
        Where both derivatives are exactly zero.
    """
    count = int(np.count_nonzero(zero))
    if not count or count == zero.size:
        return ""
    said = f"{count:,} of {zero.size:,} derivatives are exactly 0"
    unfed = None if graph is None else _without_input(graph, tensor)
    by_input = 0 if unfed is None else int(np.count_nonzero(zero & unfed))
    if by_input == count:
        return f"{said}, because their input is 0 in every sample."
    if by_input:
        return (
            f"{said}: {by_input:,} because their input is 0 in every sample, {count - by_input:,} "
            "because what they feed does nothing in any (a unit that ReLU or dropout keeps off)."
        )
    return (
        f"{said}: the loss does not depend on them at these samples (a unit that ReLU or dropout "
        "keeps off in all of them, say)."
    )


def _without_input(graph: Graph, tensor: str) -> BoolArray | None:
    """Return which elements are multiplied by zeros alone; None if that cannot be seen."""
    parameter = graph.parameters[tensor]
    places = np.arange(parameter.value.size).reshape(parameter.shape)
    known: dict[Node, np.ndarray] = {parameter: places}
    unfed = np.ones(parameter.value.size, dtype=bool)
    used = False
    for node in graph.nodes:
        reached = [operand for operand in node.operands if operand in known]
        if not reached:
            continue
        if node.primitive is CAST:
            known[node] = known[reached[0]]  # places are no values
        elif node.primitive in _MOVES:
            known[node] = node.primitive.evaluate(known[reached[0]], **node.params)
        elif node.primitive is CONTRACT and len(reached) == 1:
            used = True
            unfed[known[reached[0]][~_multiplied_by_zeros(node, reached[0])]] = False
        else:
            return None
    return unfed.reshape(parameter.shape) if used else None


def _multiplied_by_zeros(node: Node, moving: Node) -> BoolArray:
    """Return which elements of one factor meet nothing but zeros in the other."""
    place = node.operands.index(moving)
    mine, theirs = node.params["labels"][place], node.params["labels"][1 - place]
    other = np.asarray(node.operands[1 - place].value) == 0
    away = tuple(axis for axis, label in enumerate(theirs) if label not in mine)
    zeros = other.all(axis=away)
    kept = [label for label in theirs if label in mine]
    order = sorted(range(len(kept)), key=lambda k: mine.index(kept[k]))
    zeros = zeros.transpose(order)
    shape = [n if label in kept else 1 for n, label in zip(moving.shape, mine, strict=True)]
    found: BoolArray = np.broadcast_to(zeros.reshape(shape), moving.shape)
    return found
