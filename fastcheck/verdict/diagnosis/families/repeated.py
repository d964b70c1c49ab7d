"""Rows taken several times, of which only the last is written back: ``grad[idx] += rows``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.trace.backward import Fault
from fastcheck.trace.backward_rules import operand_gradients
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import INDEX
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass

_COMPLEXITY = 0.9
_MOST = 12


def repeated(passed: RightPass, found: Found) -> None:
    """NumPy writes each of equal indices over the one before: only the last is in the sum."""
    nodes = [
        node
        for node in passed.graph
        if node.primitive is INDEX and node in passed.gradients and not node.constant
        if _repeats(node)
    ]
    by_line: dict[str, list[Node]] = {}
    for node in nodes:
        by_line.setdefault(str(node.source), []).append(node)
    together = [*by_line.values(), *([nodes] if len(by_line) > 1 else [])]
    alone = [[node] for node in nodes if len(by_line[str(node.source)]) > 1]
    for several in (*together, *alone)[:_MOST]:
        passed.add_with_faults(
            found,
            [Fault(node, node.operands[0], _all_but_last(node)) for node in several],
            "repeated-index",
            _COMPLEXITY,
            {
                "operation": "index",
                "source": ", ".join(dict.fromkeys(str(node.source) for node in several)),
                "places": len(several),
            },
        )


def _places(node: Node) -> IndexArray:
    (operand,) = node.operands
    every = np.arange(operand.value.size).reshape(operand.shape)
    return np.asarray(node.primitive.evaluate(every, **node.params)).reshape(-1)


def _repeats(node: Node) -> bool:
    index = node.params["index"]
    parts = index if isinstance(index, tuple) else (index,)
    if not any(isinstance(part, (np.ndarray, list)) for part in parts):
        return False  # slices take every place once
    places = _places(node)
    return len(np.unique(places)) < len(places)


def _all_but_last(node: Node) -> Callable[[FloatArray], FloatArray]:
    (operand,) = node.operands
    places = _places(node)

    def error(flow: FloatArray) -> FloatArray:
        (added,) = operand_gradients(node, flow)
        assert added is not None
        kept = np.zeros(operand.value.size)
        kept[places] = np.broadcast_to(flow, node.shape).reshape(-1)
        return np.asarray(kept.reshape(operand.shape) - added)

    return error
