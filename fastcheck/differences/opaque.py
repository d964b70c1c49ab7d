"""The rule for functions without one: compute the function for every copy, and subtract.

It is right for any function of one copy at a time. It cancels digits where the function is smooth,
so it is registered as such; a function that moves in jumps loses nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Delta, spread
from fastcheck.differences.rules import Deltas
from fastcheck.trace.graph import Node


def copy_by_copy(context: Context, node: Node, deltas: Deltas) -> Delta | None:
    """Return f(b + d) − f(b), one copy after the other, on the host."""
    xp, device = context.xp, context.bases.device
    stacks = [
        None if delta is None else device.to_host(spread(xp, delta, operand.shape))
        for delta, operand in zip(deltas, node.operands, strict=True)
    ]
    old = np.asarray(node.value)
    change = np.zeros((context.copies, *node.shape))
    with np.errstate(all="ignore"):
        for copy in range(context.copies):
            moved = [
                operand.value if stack is None else _moved(operand, stack[copy])
                for operand, stack in zip(node.operands, stacks, strict=True)
            ]
            new = np.asarray(node.primitive.evaluate(*moved, **node.params))
            change[copy] = new.astype(np.float64) - old.astype(np.float64)
    if not change.any():
        return None
    values = xp.asarray(change.astype(context.dtype, copy=False))
    if node.primitive.discrete:
        context.mark_kinks(values != 0)
    return Delta(values, {})


def _moved(operand: Node, change: Any) -> Any:
    moved = operand.value + change
    dtype = operand.value.dtype
    return moved.astype(dtype) if dtype.kind in "biu" else moved
