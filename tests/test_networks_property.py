"""Any small network: exact differences equal the loop's, and a verdict is never wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

import fastcheck
from fastcheck import Verdict
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.fusion.dims import NotFusable
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

Array = np.ndarray[Any, Any]
STEP = (
    0.3  # Large: exact differences hold for any step, and the loop's rounding does not hide them.
)


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


# name → (the activation as people write it, its derivative)
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "sigmoid": (sigmoid, lambda z: sigmoid(z) * (1 - sigmoid(z))),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(0, z), lambda z: (z > 0).astype(z.dtype)),
    "relu by mask": (lambda z: z * (z > 0), lambda z: (z > 0).astype(z.dtype)),
    "leaky": (lambda z: np.where(z > 0, z, 0.1 * z), lambda z: np.where(z > 0, 1.0, 0.1)),
    "softplus": (lambda z: np.logaddexp(0, z), sigmoid),
    "identity": (lambda z: z, np.ones_like),
}
KINKED = ("relu", "relu by mask", "leaky")


# -- losses: of scores z with samples in rows; each returns the loss and its derivative by z -------


def mse(z: Array, y: Array) -> tuple[Any, Array]:
    return 0.5 * np.sum((z - y) ** 2) / len(y), (z - y) / len(y)


def cross_entropy(z: Array, labels: Array) -> tuple[Any, Array]:
    rows = np.arange(len(labels))
    shifted = z - np.max(z, axis=1, keepdims=True)
    log_p = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    dz = np.exp(log_p)
    dz[rows, labels] -= 1
    return -np.mean(log_p[rows, labels]), dz / len(labels)


def one_hot_cross_entropy(z: Array, y: Array) -> tuple[Any, Array]:
    e = np.exp(z - z.max(axis=1)[:, None])
    p = e / e.sum(axis=1)[:, None]
    return -(y * np.log(p)).sum() / len(y), (p - y) / len(y)


def bce(z: Array, y: Array) -> tuple[Any, Array]:
    p = sigmoid(z)
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), (p - y) / y.size


def bce_of_scores(z: Array, y: Array) -> tuple[Any, Array]:
    return np.mean(np.logaddexp(0, z) - y * z), (sigmoid(z) - y) / y.size


def hinge(z: Array, y: Array) -> tuple[Any, Array]:
    margins = 1 - y * z
    return np.maximum(0, margins).mean(), -y * (margins > 0) / y.size


LOSSES = {
    "mse": mse,
    "cross-entropy": cross_entropy,
    "one-hot cross-entropy": one_hot_cross_entropy,
    "bce": bce,
    "bce of scores": bce_of_scores,
    "hinge": hinge,
}


# -- layouts: the weights and biases of all layers as one parameter tree, and back -----------------

LAYOUTS = ("dict", "nested", "pairs", "two lists", "flat")


def pack(layout: str, arrays: list[Array]) -> Any:
    """Make a parameter tree of [W1, b1, W2, b2, ...]."""
    pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
    if layout == "dict":
        return {f"{name}{i}": a for i, wb in enumerate(pairs, 1) for name, a in zip("Wb", wb)}  # noqa: B905
    if layout == "nested":
        return {"layers": [{"W": W, "b": b} for W, b in pairs]}
    if layout == "pairs":
        return pairs
    if layout == "two lists":
        return {"W": arrays[::2], "b": arrays[1::2]}
    return np.concatenate([a.ravel() for a in arrays])


def unpack(layout: str, params: Any, shapes: list[tuple[int, ...]]) -> list[Any]:
    """Return [W1, b1, W2, b2, ...] of a parameter tree."""
    layers = range(len(shapes) // 2)
    if layout == "dict":
        return [params[f"{name}{i + 1}"] for i in layers for name in "Wb"]
    if layout == "nested":
        return [params["layers"][i][name] for i in layers for name in "Wb"]
    if layout == "pairs":
        return [a for pair in params for a in pair]
    if layout == "two lists":
        return [params[name][i] for i in layers for name in "Wb"]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    starts = [0, *ends[:-1]]
    return [params[i:j].reshape(s) for i, j, s in zip(starts, ends, shapes, strict=True)]


# -- the network and its hand-written backward pass ------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron at some parameters, with its data."""

    activations: tuple[str, ...]
    loss_name: str
    rows: bool
    layout: str
    decay: float
    inputs: Array
    targets: Array
    arrays: tuple[Array, ...]

    @property
    def params(self) -> Any:
        return pack(self.layout, list(self.arrays))

    @property
    def smooth(self) -> bool:
        return self.loss_name != "hinge" and not set(self.activations) & set(KINKED)

    def largest_score(self) -> float:
        return float(np.max(np.abs(self._forward(list(self.arrays))[0])))

    def loss(self, params: Any) -> Any:
        arrays = unpack(self.layout, params, [a.shape for a in self.arrays])
        z, _ = self._forward(arrays)
        value, _ = LOSSES[self.loss_name](z if self.rows else z.T, self.targets)
        if self.decay:
            value = value + 0.5 * self.decay * sum(np.sum(W * W) for W in arrays[::2])
        return value

    def grads(self, params: Any) -> Any:
        arrays = unpack(self.layout, params, [a.shape for a in self.arrays])
        z, kept = self._forward(arrays)
        _, dz = LOSSES[self.loss_name](z if self.rows else z.T, self.targets)
        dz = dz if self.rows else dz.T
        found: list[Array] = []
        for layer in reversed(range(len(self.activations))):
            a, z = kept[layer]
            dz = dz * ACTIVATIONS[self.activations[layer]][1](z)
            W = arrays[2 * layer]
            dW = a.T @ dz if self.rows else dz @ a.T
            db = dz.sum(axis=0) if self.rows else dz.sum(axis=1, keepdims=True)
            dz = dz @ W.T if self.rows else W.T @ dz
            found = [(dW + self.decay * W).astype(W.dtype), db.astype(W.dtype), *found]
        return pack(self.layout, found)

    def _forward(self, arrays: list[Any]) -> tuple[Any, list[tuple[Any, Any]]]:
        a: Any = self.inputs if self.rows else self.inputs.T
        kept = []
        for layer, name in enumerate(self.activations):
            W, b = arrays[2 * layer : 2 * layer + 2]
            z = a @ W + b if self.rows else W @ a + b
            kept.append((a, z))
            a = ACTIVATIONS[name][0](z)
        return a, kept


@st.composite
def networks(draw: st.DrawFn) -> Network:
    depth = draw(st.integers(1, 4))
    # Sixteen samples fill vectors, 21 do not; a layer of 20 units is a loop.
    width = st.one_of(st.integers(1, 6), st.integers(1, 6), st.just(20))
    widths = draw(st.lists(width, min_size=depth + 1, max_size=depth + 1))
    loss_name = draw(st.sampled_from(sorted(LOSSES)))
    if "cross-entropy" in loss_name:
        widths[-1] = max(widths[-1], 2)  # One class is certain whatever the parameters are.
    hidden = draw(st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=depth, max_size=depth))
    rows = draw(st.booleans())
    dtype = draw(st.sampled_from([np.float64, np.float64, np.float32]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples = draw(st.one_of(st.integers(1, 9), st.sampled_from([16, 21, 40])))
    inputs = rng.normal(size=(samples, widths[0])).astype(dtype)
    if draw(st.booleans()):
        inputs[rng.random(inputs.shape) < 0.5] = 0  # as most pixels are
    network = Network(
        # A loss of scores has its own last nonlinearity; a squared error takes any.
        activations=(*hidden[:-1], hidden[-1] if loss_name == "mse" else "identity"),
        loss_name=loss_name,
        rows=rows,
        layout=draw(st.sampled_from(LAYOUTS)),
        decay=draw(st.sampled_from([0.0, 0.0, 0.01])),
        inputs=inputs,
        targets=_targets(loss_name, samples, widths[-1], dtype, rng),
        arrays=tuple(_arrays(widths, rows, dtype, rng, draw(st.sampled_from([0.3, 1.0, 2.0])))),
    )
    # Of a classifier that is all but certain, p − y is rounding: its gradient has no digits left.
    assume(loss_name in ("mse", "hinge") or network.largest_score() < 10)
    assume(network.loss(network.params) > (1e-2 if dtype == np.float32 else 1e-8))
    return network


def _targets(loss: str, samples: int, classes: int, dtype: Any, rng: np.random.Generator) -> Array:
    if loss == "cross-entropy":
        return rng.integers(classes, size=samples)
    if loss == "one-hot cross-entropy":
        return np.eye(classes, dtype=dtype)[rng.integers(classes, size=samples)]
    if loss == "mse":
        return rng.normal(size=(samples, classes)).astype(dtype)
    binary = rng.integers(2, size=(samples, classes)).astype(dtype)
    return 2 * binary - 1 if loss == "hinge" else binary


def _arrays(
    widths: list[int], rows: bool, dtype: Any, rng: np.random.Generator, scale: float
) -> list[Array]:
    arrays = []
    for n_in, n_out in pairwise(widths):
        W = scale * rng.normal(size=(n_in, n_out)) / np.sqrt(n_in)
        b = 0.1 * rng.normal(size=(1, n_out))
        arrays += [W if rows else W.T, b[0] if rows else b.T]
    return [np.ascontiguousarray(a, dtype=dtype) for a in arrays]


# -- properties ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(networks())
def test_replay_equals_the_loop_at_a_large_step(network: Network) -> None:
    tree = ParamTree.from_user(network.params)
    loop = LoopEngine(LossFunction(network.loss, tree), tree)
    graph = trace(network.loss, tree)
    for tensor in tree:
        indices = np.arange(tensor.size, dtype=np.int64)
        plain = loop.differences(tensor.name, indices, np.full(tensor.size, STEP))
        replay = ReplayEngine(graph, tensor, loop.loss, 10**9, _no_fallback)
        # The loop's steps are rounded: θ + 0.3 − θ is not 0.3.
        up = replay.differences(tensor.name, indices, plain.step_plus).plus
        down = replay.differences(tensor.name, indices, plain.step_minus).minus
        rounding = 1e-14 * max(1.0, abs(loop.loss))
        np.testing.assert_allclose(up, plain.plus, rtol=1e-10, atol=rounding)
        np.testing.assert_allclose(down, plain.minus, rtol=1e-10, atol=rounding)


def _no_fallback(indices: Any, moves: Any) -> Any:
    raise AssertionError("no branch of these networks depends on the parameters")


def fused_engines(network: Network) -> list[tuple[FusedEngine, ReplayEngine, LoopEngine, Tensor]]:
    """Return the engines of all tensors that have a kernel."""
    tree = ParamTree.from_user(network.params)
    loop = LoopEngine(LossFunction(network.loss, tree), tree)
    graph = simplify(trace(network.loss, tree))
    found = []
    for tensor in tree:
        replay = ReplayEngine(graph, tensor, loop.loss, 10**9, _no_fallback)
        try:
            found.append((FusedEngine(replay, tensor, 2**26), replay, loop, tensor))
        except NotFusable as why:
            event(f"no kernel: {why}")
    return found


@settings(max_examples=50, deadline=None)
@given(networks())
def test_a_kernel_equals_the_loop_at_a_moderate_step(network: Network) -> None:
    for fused, replay, loop, tensor in fused_engines(network):
        indices = np.arange(tensor.size, dtype=np.int64)
        plain = loop.differences(tensor.name, indices, np.full(tensor.size, 2.0**-9))
        up = fused.differences(tensor.name, indices, plain.step_plus).plus
        down = fused.differences(tensor.name, indices, plain.step_minus).minus
        rounding = 1e-14 * max(1.0, replay.magnitude)
        np.testing.assert_allclose(up, plain.plus, rtol=1e-8, atol=rounding)
        np.testing.assert_allclose(down, plain.minus, rtol=1e-8, atol=rounding)


@settings(max_examples=50, deadline=None)
@given(networks(), st.sampled_from([-31, -20]))
def test_a_kernel_equals_the_replay_at_a_tiny_step(network: Network, exponent: int) -> None:
    for fused, replay, _, tensor in fused_engines(network):
        indices, steps = np.arange(tensor.size), np.full(tensor.size, 2.0**exponent)
        ours = fused.differences(tensor.name, indices, steps)
        other = replay.differences(tensor.name, indices, steps)
        size = max(np.abs(other.plus).max(), np.abs(other.minus).max())
        rounding = 1e-11 * size + 1e-13 * 2.0**exponent * max(1.0, replay.magnitude)
        np.testing.assert_allclose(ours.plus, other.plus, rtol=1e-9, atol=rounding)
        np.testing.assert_allclose(ours.minus, other.minus, rtol=1e-9, atol=rounding)
        np.testing.assert_array_equal(ours.kinked, other.kinked)


@settings(max_examples=60, deadline=None)
@given(networks(), st.booleans())
def test_the_right_gradient_passes(network: Network, as_function: bool) -> None:
    params = network.params
    grads = network.grads if as_function else network.grads(params)
    report = fastcheck.check(network.loss, params, grads, engine="replay")
    event(f"{report.verdict.value}")
    assert report.verdict is not Verdict.FAIL, str(report)
    if network.smooth:
        assert report.passed, str(report)


@settings(max_examples=60, deadline=None)
@given(networks(), st.data())
def test_a_planted_error_of_a_thousandth_fails_in_that_tensor_alone(
    network: Network, data: st.DataObject
) -> None:
    params = network.params
    tree = ParamTree.from_user(params)
    right = fastcheck.params.match_gradients(tree, network.grads(params))
    norms = {name: np.linalg.norm(gradient) for name, gradient in right.items()}
    single = tree.tensors[0].dtype == np.float32
    # Rounding in float32 may well move a small gradient beside a large one by a thousandth.
    least, size = (max(1e-2, 0.1 * max(norms.values())), 1e-2) if single else (1e-6, 1e-3)
    live = [name for name, norm in norms.items() if norm > least]
    assume(live)
    name = data.draw(st.sampled_from(live))
    wrong = dict(right)
    if data.draw(st.booleans()):
        wrong[name] = right[name] * (1 + size)
    else:
        place = data.draw(st.integers(0, tree[name].size - 1))
        wrong[name].flat[place] += size * norms[name]
    report = fastcheck.check(network.loss, params, tree.build(wrong))
    assert report.failed == (name,), str(report)
