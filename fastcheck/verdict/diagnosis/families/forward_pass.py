"""Mistakes in a backward pass, found by making them in one that is right."""

from __future__ import annotations

from contextlib import suppress

from fastcheck.trace.backward_rules import at_corners, has_corners
from fastcheck.trace.graph import Graph
from fastcheck.verdict.diagnosis.evidence import Evidence, Tensors
from fastcheck.verdict.diagnosis.families.activations import activations, paths
from fastcheck.verdict.diagnosis.families.batch import of_samples
from fastcheck.verdict.diagnosis.families.everywhere import everywhere
from fastcheck.verdict.diagnosis.families.guards import guards
from fastcheck.verdict.diagnosis.families.inputs import inputs
from fastcheck.verdict.diagnosis.families.repeated import repeated
from fastcheck.verdict.diagnosis.right_pass import Found, RightPass, are_trusted

_SIDES = (0.5, 0.0, 1.0)
"""Slopes of ``maximum(0, z)`` at z = 0: between the sides, and those of either."""

_FAMILIES = (activations, paths, inputs, repeated, of_samples, guards, everywhere)


def forward_pass(evidence: Evidence, unexplained: Tensors) -> Found:
    """Return hypotheses on the tensors that nothing simpler explains; none without a trace."""
    found: Found = {facts.name: [] for facts in unexplained}
    graph = evidence.graph
    if graph is None or not unexplained:
        return found
    try:
        sides = _SIDES if has_corners(graph.nodes) else _SIDES[:1]
        passes = [_pass(evidence, graph, unexplained, share, len(sides) > 1) for share in sides]
        if not are_trusted(passes):
            return found
    except Exception:
        # A trace may hold anything; what is known without it must not be lost for it.
        return found
    for share, passed in zip(sides, passes, strict=True):
        for family in _FAMILIES:
            with at_corners(share), suppress(Exception):  # nor what another family finds
                family(passed, found)
    return found


def _pass(
    evidence: Evidence, graph: Graph, unexplained: Tensors, share: float, one_sided: bool
) -> RightPass:
    passed = RightPass(evidence, graph, unexplained, one_sided)
    with at_corners(share):
        _ = passed.gradients  # computed once, here
    return passed
