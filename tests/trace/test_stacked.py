"""Operations on several copies at once give what each copy gives alone, forwards and backwards."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.params import ParamTree
from fastcheck.trace.backward_rules import operand_gradients
from fastcheck.trace.graph import PARAMETER
from fastcheck.trace.simplify import simplify
from fastcheck.trace.stacked import copies, gradients_one_by_one, one_by_one, stacked
from fastcheck.trace.tracer import trace

COUNT = 3
W = np.random.default_rng(0).uniform(0.5, 1.5, (3, 4))
X = np.random.default_rng(1).standard_normal((4, 5))


def softmax(w):
    z = w @ X
    z = z - z.max(axis=1, keepdims=True)
    return -(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))[:, 0].sum()


def filled(w):
    out = np.zeros((2, 3, 4))
    out[1] = w
    out[0, 1:, None, :] = w[0]
    out[0, 0] = 2.0
    out[1, :, 1] += w[:, 0]
    return (out**3).sum()


def picked(w):
    return (w[[0, 2, 2], [1, 1, 3]] ** 2).sum() + (w[..., None, ::-2] ** 3).sum() + w[-1, 1]


LOSSES = {
    "elementwise": lambda w: (np.exp(w) / (1 + w[0]) - w[:, :1] * 3 + np.sqrt(w)[1, 2]).sum(),
    "broadcast": lambda w: (np.broadcast_to(w[0], (3, 4)) * w).sum() + (w.sum() * w).sum(),
    "where": lambda w: np.where(w > 1, w**2, w[0]).sum(),
    "clip": lambda w: np.maximum(w, 1.0).sum() + np.minimum(w[0], w).sum() + np.abs(w - 1).sum(),
    "reductions": lambda w: w.max() + (w.min(axis=0) * w.sum(axis=1, keepdims=True)).sum(),
    "cumsum": lambda w: (np.cumsum(w, axis=-1) ** 2).sum() + (np.cumsum(w) ** 2).sum(),
    "prod": lambda w: np.exp(w.prod(axis=0)).sum(),
    "reshape": lambda w: (w.reshape(2, 6)[0] * w.T.ravel()[6:]).sum(),
    "transpose": lambda w: (np.transpose(w[None], (2, 0, 1)) * w.T[:, None] ** 2).sum(),
    "concatenate": lambda w: (np.concatenate([w, np.ones((3, 1)), w**2], axis=-1) ** 2).sum(),
    "stack": lambda w: (np.array([w[0, 0], 2.0, w[1, 1] * w[0, 0]]) ** 2).sum(),
    "products": lambda w: np.tanh(w @ X).sum() + w[0] @ w[1] + np.einsum("ij,kj->k", w, w).sum(),
    "diagonal": lambda w: np.log(np.diag(w @ w.T)).sum(),
    "sigmoid": lambda w: np.log(1 / (1 + np.exp(-w))).sum(),
    "softmax": softmax,
    "filled": filled,
    "picked": picked,
    "float32": lambda w: (w.astype(np.float32) ** 2).sum(),
    "empty": lambda w: (w[:0] @ X).sum() + np.concatenate([w[:0], w**2]).sum(),
}


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_copies_are_computed_as_alone(name, rewritten):
    rng = np.random.default_rng(2)
    graph = trace(LOSSES[name], ParamTree.from_user(W))
    twins = {}
    for node in (simplify(graph) if rewritten else graph).nodes:
        if node.constant:
            continue
        operands = [twins.get(operand, operand) for operand in node.operands]
        if node.primitive is PARAMETER:
            values = node.value + 0.1 * rng.standard_normal((COUNT, *node.shape))
        else:
            values = one_by_one(node, operands, COUNT)
        twins[node] = copies(node, values)
        at = None if node.primitive is PARAMETER else stacked(node, operands, COUNT)
        if at is None:
            continue
        np.testing.assert_allclose(at.value, values, rtol=1e-12, atol=1e-14)
        gradient = rng.standard_normal(values.shape)
        if node.primitive.discrete or node.primitive.name == "prod":
            continue
        together = operand_gradients(at, gradient)
        alone = gradients_one_by_one(node, operands, values, gradient)
        for operand, one, other in zip(node.operands, together, alone, strict=True):
            assert (one is None) == (other is None) == operand.constant
            if one is not None:
                found = one.reshape(other.shape)
                np.testing.assert_allclose(found, other, rtol=1e-12, atol=1e-14)


def test_most_operations_of_a_loop_have_a_rule():
    def loss(w):
        x, total = np.array([1.0, 0.5]), 0.0
        for _ in range(3):
            x = x + 0.1 * np.array([w[0, 0] * x[0] - w[0, 1] * x[1], x[1] / (1 + x[0] ** 2)])
            total += (x**2).sum()
        return total

    twins = {}
    for node in trace(loss, ParamTree.from_user(W)).nodes:
        if node.primitive is PARAMETER:
            twins[node] = copies(node, np.stack([node.value] * COUNT))
        elif not node.constant:
            at = stacked(node, [twins.get(o, o) for o in node.operands], COUNT)
            assert at is not None, node
            twins[node] = copies(node, at.value)
