"""Whether an axis in the forward pass is that of the batch, by what becomes of it.

Samples stay apart until the loss is a single number. The axes of time, of windows or of the nodes
of a graph do not: they are cut, mixed, or summed over while others are left.
"""

from __future__ import annotations

from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT, CUMSUM, LOG_SOFTMAX, LOGSUMEXP, MAX, MIN, SUM
from fastcheck.verdict.diagnosis.right_pass import RightPass

_ENDS = (SUM, MAX, MIN, LOGSUMEXP, CONTRACT)


def is_batch_axis(passed: RightPass, node: Node, axis: int) -> bool:
    """Whether an axis of a node's result is kept apart from the others up to the loss.

    It is followed by its length, so it must not be that of another axis.
    """
    count = node.shape[axis]
    if node.shape.count(count) != 1 or count in passed.evidence.parameter_lengths:
        return False
    seen, ahead = {node}, [node]
    while ahead:
        for user, _ in passed.users.get(ahead.pop(), []):
            if user in seen:
                continue
            seen.add(user)
            shapes = [operand.shape for operand in user.operands]
            if max(shape.count(count) for shape in (*shapes, user.shape)) > 1:
                return False
            if _mixes(user, count):
                return False
            if count in user.shape:
                ahead.append(user)
            elif user.primitive not in _ENDS or user.value.size != 1:
                return False
    return True


def _mixes(node: Node, count: int) -> bool:
    """Whether an operation runs along an axis of this length and keeps it."""
    if node.primitive is CUMSUM:
        return bool(node.shape[node.params["axis"]] == count)
    if node.primitive is LOG_SOFTMAX:
        return any(node.shape[axis] == count for axis in node.params["axes"])
    return False
