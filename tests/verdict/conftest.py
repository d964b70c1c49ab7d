"""What the tests of the verdict share: whole judgements, small networks, and an exact engine."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fastcheck.engines.base import Differences
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.params import ParamTree, match_gradients, select_indices
from fastcheck.verdict.judge import judge, overall, revise, rounding_floors
from fastcheck.verdict.measure import measure, second_look
from fastcheck.verdict.noise import estimate_noise
from fastcheck.verdict.tolerances import tolerance_for


class ExactEngine:
    """Differences from a function (tensor, index, h) -> (J(θ+h) − J(θ), took another branch)."""

    name, exact, device, unit_roundoff = "exact", True, "cpu", 2.0**-53

    def __init__(self, loss, change):
        self.loss, self.magnitude, self._change = loss, abs(loss), change
        self.careful = self

    def differences(self, tensor, indices, steps, *, central=True):
        n = len(indices)
        plus, minus, kinked = np.zeros(n), np.zeros(n), np.zeros(n, dtype=bool)
        for k, (index, h) in enumerate(zip(indices, steps, strict=True)):
            plus[k], up = self._change(tensor, int(index), h)
            down = False
            if central:
                change, down = self._change(tensor, int(index), -h)
                minus[k] = -change
            kinked[k] = up or down
        steps = np.array(steps, dtype=float)
        return Differences(plus, minus, steps, steps * central, kinked, 0)


class ReluNet:
    """A ReLU and softmax network, samples in columns, with right gradients and exact changes."""

    def __init__(
        self, sizes=(12, 6, 4), samples=16, seed=0, dtype=np.float64, rescale=1.0, loss_scale=1.0
    ):
        rng = np.random.default_rng(seed)
        inputs, hidden, outputs = sizes
        self.X = rng.standard_normal((inputs, samples))
        self.labels = rng.integers(0, outputs, samples)
        self.columns = np.arange(samples)
        self.loss_scale = loss_scale
        params = {
            "W1": rng.standard_normal((hidden, inputs)) * (2 / inputs) ** 0.5 * rescale,
            "b1": np.zeros((hidden, 1)),
            "W2": rng.standard_normal((outputs, hidden)) * (2 / hidden) ** 0.5 / rescale,
            "b2": np.zeros((outputs, 1)),
        }
        self.params = {name: value.astype(dtype) for name, value in params.items()}

    def loss(self, p):
        hidden = np.maximum(p["W1"] @ self.X + p["b1"], 0)
        logits = p["W2"] @ hidden + p["b2"]
        logits = logits - logits.max(0)
        sums = np.log(np.exp(logits).sum(0))
        return self.loss_scale * np.mean(sums - logits[self.labels, self.columns])

    def grads(self):
        p = self.params
        X = self.X.astype(p["W1"].dtype)
        z = p["W1"] @ X + p["b1"]
        hidden = np.maximum(z, 0)
        logits = p["W2"] @ hidden + p["b2"]
        d = np.exp(logits - logits.max(0))
        d /= d.sum(0)
        d[self.labels, self.columns] -= 1
        d *= d.dtype.type(self.loss_scale / len(self.columns))
        dz = (p["W2"].T @ d) * (z > 0)
        return {
            "W1": dz @ X.T,
            "b1": dz.sum(1, keepdims=True),
            "W2": d @ hidden.T,
            "b2": d.sum(1, keepdims=True),
        }

    def train(self, steps, rate=0.5):
        for _ in range(steps):
            grads = self.grads()
            self.params = {k: v - v.dtype.type(rate) * grads[k] for k, v in self.params.items()}
        return self

    def exact_engine(self):
        p = {name: value.astype(float) for name, value in self.params.items()}
        z = p["W1"] @ self.X + p["b1"]
        hidden = np.maximum(z, 0)
        logits = p["W2"] @ hidden + p["b2"]
        shares = np.exp(logits - logits.max(0))
        shares /= shares.sum(0)

        def change(tensor, index, h):
            d = np.zeros(p[tensor].size)
            d[index] = h
            d = d.reshape(p[tensor].shape)
            kinked = False
            if tensor in ("W1", "b1"):
                dz = d @ self.X if tensor == "W1" else np.broadcast_to(d, z.shape)
                on, then = z > 0, z + dz > 0
                kinked = bool((on != then).any())
                crossing = np.where(then, z + dz, 0) - np.where(on, z, 0)
                dlogits = p["W2"] @ np.where(on & then, dz, crossing)
            else:
                dlogits = d @ hidden if tensor == "W2" else np.broadcast_to(d, logits.shape)
            gaps = np.expm1(dlogits - dlogits[self.labels, self.columns])
            return self.loss_scale * np.mean(np.log1p((shares * gaps).sum(0))), kinked

        return ExactEngine(self.loss(p), change)

    def engine(self, kind):
        """None for a black box: `check` then makes the loop."""
        return self.exact_engine() if kind == "exact" else None


def check(
    loss,
    params,
    grads,
    *,
    engine=None,
    method="central",
    step="auto",
    tolerance=None,
    select="all",
    seed=0,
):
    """Judge every tensor, as the front door does."""
    tree = ParamTree.from_user(params)
    analytic = match_gradients(tree, grads)
    function = LossFunction(loss, tree)
    rng = np.random.default_rng(seed)
    chosen = tolerance_for([t.dtype for t in tree], tolerance)
    engine = engine or LoopEngine(function, tree)
    noises = {
        t.name: 0.0 if engine.exact or not t.size else estimate_noise(function, tree, rng, t.name)
        for t in tree
    }
    selected = select_indices(tree, select, seed)
    floors = rounding_floors(tree, analytic, chosen)
    judgements = []
    for tensor in tree:
        indices = selected[tensor.name]
        how = {
            "method": method,
            "step": step,
            "tolerance": chosen,
            "rng": rng,
            "noise": noises[tensor.name],
            "stairs": max(noises.values()),
        }
        first = measure(engine, tensor, indices, **how)
        judgements.append(
            judge(
                tensor.name,
                tensor.shape,
                analytic[tensor.name].ravel()[indices],
                indices,
                first,
                chosen,
                second_look(engine, tensor, indices, first, **how),
                floor=floors[tensor.name],
                step=None if step == "auto" else step,
            )
        )
    judgements = revise(judgements)
    verdict, reason = overall(judgements)
    return SimpleNamespace(
        verdict=verdict,
        reason=reason,
        tensors={j.name: j for j in judgements},
        calls=function.calls,
    )


def planted(grads):
    """(name of the bug, tensor it is in, gradients) of wrong gradients."""
    for name, right in grads.items():
        one = right.copy()
        one.flat[np.argmax(np.abs(right))] *= right.dtype.type(1.01)
        for bug, wrong in (
            ("scaled by 1.0002", right * 1.0002),
            ("doubled", right * 2),
            ("sign", -right),
            ("missing", right * 0),
            ("one element off by 1%", one),
        ):
            yield bug, name, {**grads, name: wrong}


@pytest.fixture(name="check")
def _check():
    return check


@pytest.fixture(name="ReluNet")
def _relu_net():
    return ReluNet


@pytest.fixture(name="ExactEngine")
def _exact_engine():
    return ExactEngine


@pytest.fixture(name="planted")
def _planted():
    return planted
