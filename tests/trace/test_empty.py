"""Arrays without elements: nothing depends on them, and the rest is traced as ever."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck

from .conftest import traced

W = np.random.default_rng(1).uniform(0.5, 1.5, 5)
NONE = np.zeros((0, 3))


def square(w):
    return np.outer(w, w)


def cholesky(w):
    K = square(w) + np.eye(5)
    L = np.zeros((5, 5))
    for j in range(5):
        L[j, j] = np.sqrt(K[j, j] - L[j, :j] @ L[j, :j])
        for i in range(j + 1, 5):
            L[i, j] = (K[i, j] - np.dot(L[i, :j], L[j, :j])) / L[j, j]
    return np.log(np.diag(L)).sum()


def written(w):
    L = np.zeros(5)
    L[:0] = w[0]
    L[:0] += w[:0]
    for i in range(5):
        L[i:i] = 2 * w[:0]
        L[i] = w[i]
    L[5:] *= w[5:]
    return (L**3).sum()


LOSSES = {
    "cholesky": cholesky,
    "written": written,
    "vector @ vector": lambda w: w[:0] @ w[:0] + np.exp(w).sum(),
    "matrix @ matrix": lambda w: (square(w)[:, :0] @ square(w)[:0] + square(w)).sum(),
    "data @ matrix": lambda w: (NONE @ square(w)[:3]).sum() + np.exp(w).sum(),
    "matrix @ data": lambda w: (square(w)[:, :0] @ NONE + w[:3]).sum() + (w[3:] ** 2).sum(),
    "matrix @ vector": lambda w: (square(w)[:0] @ w).sum() + np.exp(w).sum(),
    "inner": lambda w: np.inner(w[:0], w[:0]) + np.exp(w).sum(),
    "vdot": lambda w: np.vdot(w[2:2], w[:0]) + np.exp(w).sum(),
    "outer": lambda w: np.outer(w[:0], w).sum() + np.exp(w).sum(),
    "tensordot": lambda w: np.tensordot(w[:0], w[:0], 1) + np.exp(w).sum(),
    "einsum": lambda w: np.einsum("i,i->", w[:0], w[:0]) + np.exp(w).sum(),
    "einsum beside elements": lambda w: np.einsum("i,j->i", w, w[:0]).sum() + np.exp(w).sum(),
    "einsum of three": lambda w: np.einsum("i,j,k->k", w, w[:0], w).sum() + np.exp(w).sum(),
    "einsum of one": lambda w: np.einsum("i->", w[:0]) + np.exp(w).sum(),
    "sum": lambda w: w[:0].sum() + np.exp(w).sum(),
    "prod": lambda w: w[:0].prod() * np.exp(w).sum(),
    "max": lambda w: np.max(w[:0], initial=0.5) * np.exp(w).sum(),
    "max of an axis": lambda w: np.max(square(w)[:, :0], axis=1, initial=2.0) @ np.exp(w),
    "max, a start that moves": lambda w: np.max(w[:0], initial=w[0] ** 2) * np.exp(w).sum(),
    "min": lambda w: np.minimum.reduce(w[:0], initial=2.0) * np.exp(w).sum(),
    "cumsum": lambda w: np.cumsum(w[:0]).sum() + np.exp(w).sum(),
    "norm": lambda w: np.linalg.norm(w[:0]) + np.exp(w).sum(),
    "sort": lambda w: np.sort(w[:0]).sum() + np.exp(w).sum(),
    "diff": lambda w: np.diff(w[:1]).sum() + np.exp(w).sum(),
    "where": lambda w: np.where(w[:0] > 0, w[:0], 0).sum() + np.exp(w).sum(),
    "broadcast": lambda w: (w[:0] + w[:1]).sum() + np.exp(w).sum(),
    "concatenate": lambda w: (np.concatenate([w[:0], w**2, w[5:]]) ** 2).sum(),
    "concatenate columns": lambda w: (np.hstack([square(w)[:, :0], square(w)]) ** 2).sum(),
    "append": lambda w: (np.append(w[:0], w[0] ** 2) ** 2).sum() + (w[1:] ** 3).sum(),
    "split": lambda w: sum((part**2).sum() for part in np.split(w, [0, 2, 5])),
    "pad": lambda w: np.pad(w[:0], 2).sum() + np.exp(w).sum(),
}


@pytest.mark.parametrize("engine", ["auto", "replay", "fused"])
@pytest.mark.parametrize("name", LOSSES)
def test_they_are_traced(name, engine):
    loss = LOSSES[name]
    right = fastcheck.numerical_gradient(loss, W, engine="loop")
    options = {"engine": engine, "tolerance": 1e-5}
    report = fastcheck.check(loss, W, right, **options)
    assert report.passed, str(report)
    assert all(tensor.engine != "loop" for tensor in report.tensors.values()), str(report)
    wrong = right.copy()
    wrong[2] *= 1.001
    assert fastcheck.check(loss, W, wrong, **options).failed


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_depends_on_them(name):
    graph = traced(LOSSES[name], W)
    assert all(node.constant for node in graph if not node.value.size)
    assert graph.output is not None
    assert not graph.output.constant


def test_a_maximum_of_nothing_is_an_error_as_ever():
    with pytest.raises(ValueError, match="zero-size"):
        fastcheck.check(lambda w: np.max(w[:0]) + w.sum(), W, np.ones(5))
