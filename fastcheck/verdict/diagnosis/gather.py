"""The evidence of a finished check: judgements, the plan, and what the user knows besides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fastcheck.engines.base import FloatArray
from fastcheck.params import ParamTree
from fastcheck.report.data import Verdict
from fastcheck.trace.graph import Graph
from fastcheck.verdict.bars import largest
from fastcheck.verdict.diagnosis.complex_parts import by_parts
from fastcheck.verdict.diagnosis.depths import depths_by_order, depths_in
from fastcheck.verdict.diagnosis.evidence import Evidence, TensorFacts
from fastcheck.verdict.judgement import Judgement

_SMALL = 2.0**-200


def gather(
    tree: ParamTree,
    judgements: Sequence[Judgement],
    graph: Graph | None,
    *,
    batch_size: int | None = None,
    previous: Mapping[str, FloatArray] | None = None,
    samples: Mapping[str, FloatArray] | None = None,
) -> Evidence:
    """Return the evidence on the tensors of which something was checked.

    Parameters
    ----------
    tree : ParamTree
        The parameters at θ.
    judgements : sequence of Judgement
        One a tensor.
    graph : Graph or None
        The traced forward pass, simplified.
    batch_size, previous, samples
        M, the gradient of the step before in the shapes of the tensors, and each sample's own with
        one axis more; all of them optional.
    """
    checked = [judgement for judgement in judgements if judgement.checked]
    if graph is not None and not _is_whole(graph, checked):
        graph = None
    depths = depths_by_order(tree.names) if graph is None else depths_in(graph)
    unit = _unit(checked)
    evidence = Evidence(
        tensors=tuple(_facts(tree, j, depths[j.name], unit) for j in checked),
        batch_size=batch_size,
        previous=None
        if previous is None
        else {j.name: previous[j.name].reshape(-1)[j.indices] / unit for j in checked},
        samples=None
        if samples is None
        else {
            j.name: samples[j.name].reshape(len(samples[j.name]), -1)[:, j.indices] / unit
            for j in checked
        },
        graph=graph,
        certain_depths=graph is not None,
        unit=unit,
    )
    complex_ones = frozenset(tensor.name for tensor in tree if tensor.is_complex)
    return by_parts(evidence, complex_ones) if complex_ones else evidence


def _unit(judgements: Sequence[Judgement]) -> float:
    """Return 1, or the size of the gradients where their squares leave the range of floats."""
    top = max((largest(x) for j in judgements for x in (j.analytic, j.values)), default=0.0)
    if top == 0 or _SMALL < top < 1 / _SMALL:
        return 1.0
    return 2.0 ** math.floor(math.log2(top))


def _is_whole(graph: Graph, checked: Sequence[Judgement]) -> bool:
    """Whether all that moves the loss does so in the trace too; numbers may have left it."""
    reached: frozenset[str] = frozenset() if graph.output is None else graph.output.tensors
    return all(judgement.name in reached for judgement in checked if judgement.reacts)


def _facts(tree: ParamTree, judgement: Judgement, depth: int, unit: float) -> TensorFacts:
    tensor, j = tree[judgement.name], judgement
    return TensorFacts(
        name=j.name,
        shape=tensor.shape,
        analytic=j.analytic / unit if unit != 1 else j.analytic,
        numeric=j.values / unit if unit != 1 else j.values,
        bars=np.nan_to_num(j.error_bar, nan=0.0) / unit,
        theta=tensor.value.ravel(order="C")[j.indices],
        indices=j.indices,
        size=tensor.size,
        failed=j.verdict is Verdict.FAIL,
        passed=j.verdict is Verdict.PASS,
        reacts=j.reacts,
        hidden=j.hidden,
        floor=j.floor / unit,
        depth=depth,
        tolerance=j.tolerance,
    )
