"""Products one after the other: what does not move in a slice is multiplied beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.params import ParamTree
from fastcheck.report.data import Verdict
from fastcheck.trace.chains import shortened
from fastcheck.trace.primitives import CONTRACT
from fastcheck.trace.slices import Slice, slice_for
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(12)
X = RNG.standard_normal((5, 4, 6))
PARAMS = {
    "Q": RNG.standard_normal((6, 8)) / 3,
    "V": RNG.standard_normal((6, 8)) / 3,
    "W": RNG.standard_normal((8, 2)) / 3,
}


def attention(p: Any) -> Any:
    scores = np.exp(np.tanh((X @ p["Q"]) @ (X @ p["V"]).transpose(0, 2, 1)))
    return np.sum(np.tanh((scores @ (X @ p["V"])) @ p["W"]))


def by_einsum(p: Any) -> Any:
    a = np.einsum("ntd,dk,nsk->nts", X, p["Q"], X @ p["V"])
    return np.sum(np.einsum("nts,nsk,ko->ont", np.tanh(a), X @ p["V"], p["W"]) ** 2)


def three_in_a_row(p: Any) -> Any:
    return np.sum(((np.tanh(X[0] @ p["Q"]) @ p["V"].T) @ p["V"] @ p["W"]) ** 3)


def used_twice(p: Any) -> Any:
    mixed = np.tanh(X[0] @ p["Q"]) @ p["V"].T
    return np.sum((mixed @ p["V"] @ p["W"]) ** 2) + np.sum(mixed**2)


LOSSES = [attention, by_einsum, three_in_a_row, used_twice]


def slices(loss: Any, name: str) -> tuple[Slice, Slice]:
    part = slice_for(trace(loss, ParamTree.from_user(PARAMS)), name)
    return part, shortened(part)


def products(part: Slice) -> int:
    return sum(node.primitive is CONTRACT for node in part.nodes)


def at(part: Slice, value: Any) -> float:
    """Compute the loss again from another value of the slice's tensor."""
    known = {part.parameter: value}
    for node in part.nodes:
        operands = [known.get(operand, operand.value) for operand in node.operands]
        known[node] = node.primitive.evaluate(*operands, **node.params)
    return float(np.reshape(known[part.output], ()))


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_same_at_other_values(loss, name) -> None:
    _, shorter = slices(loss, name)
    for _ in range(3):
        moved = PARAMS | {name: RNG.standard_normal(PARAMS[name].shape)}
        np.testing.assert_allclose(at(shorter, moved[name]), float(loss(moved)), rtol=1e-11)


@pytest.mark.parametrize(
    ("loss", "fewer"), [(attention, 1), (by_einsum, 1), (three_in_a_row, 2), (used_twice, 1)]
)
def test_a_query_moves_fewer_products(loss, fewer) -> None:
    before, after = slices(loss, "Q")
    assert products(before) - products(after) == fewer
    used = {operand for node in after.nodes for operand in node.operands}
    assert used <= set(after.last_use)


def test_what_would_be_large_is_not_multiplied() -> None:
    def loss(p: Any) -> Any:
        return np.sum(np.tanh(X[0] @ p["Q"] @ p["W"]))

    before, after = slices(loss, "Q")
    assert after is before


@pytest.mark.parametrize("loss", LOSSES)
def test_right_passes_and_wrong_fails(loss) -> None:
    right = fastcheck.numerical_gradient(loss, PARAMS, engine="loop")
    assert fastcheck.check(loss, PARAMS, right, engine="replay")
    wrong = {name: value.copy() for name, value in right.items()}
    wrong["Q"][1, 2] *= 1.01
    report = fastcheck.check(loss, PARAMS, wrong, engine="replay")
    assert report.tensors["Q"].verdict is Verdict.FAIL
    assert report.tensors["W"].verdict is Verdict.PASS
