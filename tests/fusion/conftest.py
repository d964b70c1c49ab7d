"""A plain evaluator of what kernels compute, and a cache folder for each test."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.replay import ReplayEngine
from fastcheck.fusion.dims import Dim, Label
from fastcheck.fusion.expression import (
    ADD,
    ANY,
    DIVIDE,
    EXCEEDS,
    LOAD,
    MULTIPLY,
    NUMBER,
    OR,
    SQRT,
    STEP,
    SUBTRACT,
    SUM,
    Expression,
)
from fastcheck.fusion.form import Form
from fastcheck.fusion.hoisted import Values
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.slices import Slice, slice_for
from fastcheck.trace.tracer import trace

_ARITHMETIC: dict[str, Callable[..., Any]] = {
    ADD: lambda a, b: a + b,
    SUBTRACT: lambda a, b: a - b,
    MULTIPLY: lambda a, b: a * b,
    DIVIDE: lambda a, b: a / b,
    SQRT: math.sqrt,
    EXCEEDS: lambda value, bound: not abs(value) <= bound,
    OR: lambda a, b: a or b,
}
Places = dict[Dim, int]
"""Where an expression is computed along its pins and labels."""


def evaluate(node: Expression, step: float, places: Places | None = None) -> Any:
    """Compute an expression for one copy, one number at a time."""
    places = {} if places is None else places
    if node.op == STEP:
        return step
    if node.op == NUMBER:
        return node.payload
    if node.op == LOAD:
        where = tuple(places[dim] for dim in node.payload.dims)
        return float(Values({}).of(node.payload)[where])
    if node.op in (SUM, ANY):
        label: Label = node.payload
        parts = [
            evaluate(node.operands[0], step, {**places, label: place})
            for place in range(label.size)
        ]
        return any(parts) if node.op == ANY else sum(parts)
    return _ARITHMETIC[node.op](*[evaluate(part, step, places) for part in node.operands])


def written_out(form: Form, step: float, at: Places) -> np.ndarray:
    """Compute a form for one copy, `at` positions of its pins, as an array."""
    shape = [1 if axis is None else axis.size for axis in form.axes]
    result = np.zeros(shape)
    for index in np.ndindex(*shape):
        places: Places = dict(at)
        inside = True
        for axis, place in zip(form.axes, index, strict=True):
            if isinstance(axis, Label):
                places[axis] = place
            elif axis is not None:
                inside = inside and at[axis] == place
        if inside:
            result[index] = sum(_term(term, step, places) for term in form.terms)
    return result


def _term(term: Any, step: float, places: Places) -> float:
    value = evaluate(term.variable, step, places) * term.scale
    for factor in term.factors:
        where = tuple(places[dim] for dim in factor.dims)
        value *= float(Values({}).of(factor)[where])
    return float(value)


def slice_of(loss: Callable[[Any], Any], params: dict[str, Any], tensor: str) -> Slice:
    tree = ParamTree.from_user(params)
    return slice_for(simplify(trace(loss, tree)), tensor)


def fused_of(
    loss: Callable[[Any], Any], params: dict[str, Any], tensor: str, memory: int = 2**26
) -> FusedEngine:
    tree = ParamTree.from_user(params)
    graph = simplify(trace(loss, tree))
    assert graph.output is not None
    replay = ReplayEngine(graph, tree[tensor], float(graph.output.value), 2**26, _no_fallback)
    return FusedEngine(replay, tree[tensor], memory)


def _no_fallback(indices: Any, moves: Any) -> Any:
    raise AssertionError("no branch of these losses depends on the parameters")


class Tools:
    """What tests here share."""

    evaluate = staticmethod(evaluate)
    written_out = staticmethod(written_out)
    slice_of = staticmethod(slice_of)
    fused_of = staticmethod(fused_of)


@pytest.fixture
def tools() -> type[Tools]:
    return Tools


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of kernels."""
    folder = tmp_path / "kernels"
    monkeypatch.setenv("FASTCHECK_CACHE_DIR", str(folder))
    return folder
