"""The gradient of weights was formed with another array than the input of their layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.trace.backward_rules import factor_gradient
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import CONTRACT
from fastcheck.verdict.diagnosis.depths import is_parameter_itself
from fastcheck.verdict.diagnosis.functions import Function, functions_of
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis, fit
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass
from fastcheck.verdict.diagnosis.uses import uses_of

_MOST_FUNCTIONS = 4
_MOST_INPUTS = 12


def inputs(passed: RightPass, found: Found) -> None:
    """The gradient of weights was formed with another array than the layer's input."""
    for facts in passed.unexplained:
        uses = uses_of(passed, facts.name)
        if len(uses) != 1 or uses[0].node.primitive is not CONTRACT:
            continue
        (use,) = uses
        right = use.node.operands[1 - use.place]
        for array, figures in _in_its_place(passed, right):
            flow = passed.gradients[use.node]
            error = factor_gradient(use.node, use.place, flow, array - np.asarray(right.value))
            change = use.back(error).reshape(-1)[facts.indices]
            cause = "overwritten-buffer" if figures["taken"] == "slope" else "wrong-input"
            key = (cause, facts.name, *sorted((k, str(v)) for k, v in figures.items()))
            hypothesis = Hypothesis(cause, key, 1.2, passed.changed(facts, change), figures=figures)
            if fit(facts, hypothesis).exact:
                found[facts.name].append(hypothesis)


def _in_its_place(passed: RightPass, right: Node) -> Iterator[tuple[FloatArray, dict[str, Any]]]:
    """Yield arrays that may have been taken for a layer's input."""
    made_of = {node: None for made in _ending_at(passed, right) for node in made.operations}
    for made in (made for node in made_of for made in _ending_at(passed, node)):
        figures = {"taken": "slope", "source": str(right.source), "right": made.name}
        yield made.slope, figures
    others = [
        node
        for node in passed.graph
        if node is not right
        and node.shape == right.shape
        and node.value.dtype.kind == "f"
        and not is_parameter_itself(node)
    ]
    for node in sorted(others, key=lambda n: abs(n.index - right.index))[:_MOST_INPUTS]:
        taken = "data" if node.constant else node.primitive.name
        figures = {"taken": taken, "at": str(node.source), "right": right.primitive.name}
        yield np.asarray(node.value), {**figures, "source": str(right.source)}


def _ending_at(passed: RightPass, result: Node) -> list[Function]:
    """Return the elementwise functions that an array is the result of."""
    before = [n for n in passed.gradients if n.index < result.index and n.shape == result.shape]
    found = [
        made
        for start in sorted(before, key=lambda n: -n.index)[:_MOST_FUNCTIONS]
        for made in functions_of(passed.graph.nodes[: result.index + 1], start)
    ]
    return [made for made in found if made.result is result]
