"""The fused engine gives what the replay gives, for losses as people write them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.engines import onhost, plan
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.errors import InputError
from fastcheck.fusion.dims import NotFusable
from fastcheck.fusion.kernel import Kernel
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

MEMORY = 2**26
SAMPLES = (21, 1)  # 21 is no multiple of the vector's width
INPUTS, HIDDEN, CLASSES = 5, 4, 3
FLAT = INPUTS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
Params = dict[str, Any]


class Data:
    """Inputs and every kind of target for one number of samples."""

    def __init__(self, samples: int) -> None:
        rng = np.random.default_rng(samples)
        self.n = samples
        self.rows = np.arange(samples)
        self.X = rng.normal(size=(samples, INPUTS))
        self.labels = rng.integers(CLASSES, size=samples)
        self.Y = np.eye(CLASSES)[self.labels]
        self.T = rng.normal(size=(samples, CLASSES))
        self.signs = 2 * self.Y - 1


Loss = Callable[[Params, Data], Any]


# -- layers ----------------------------------------------------------------------------------------


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def scores(p: Params, d: Data, activation: Any = np.tanh) -> Any:
    return activation(d.X @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]


def regression(activation: Any) -> Loss:
    return lambda p, d: np.mean((scores(p, d, activation) - d.T) ** 2)


def softmax(z: Any) -> Any:
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


# -- softmax and cross-entropy, in different spellings ---------------------------------------------


def exp_sum_log(p: Params, d: Data) -> Any:
    e = np.exp(scores(p, d))
    return -np.sum(d.Y * np.log(e / np.sum(e, axis=1, keepdims=True))) / d.n


def shifted_by_the_maximum(p: Params, d: Data) -> Any:
    return -np.sum(d.Y * np.log(softmax(scores(p, d)))) / d.n


def log_softmax(p: Params, d: Data) -> Any:
    z = scores(p, d)
    z = z - z.max(axis=1, keepdims=True)
    return -np.mean(np.sum(d.Y * (z - np.log(np.exp(z).sum(axis=1, keepdims=True))), axis=1))


def log_with_an_epsilon(p: Params, d: Data) -> Any:
    return -np.mean(np.sum(d.Y * np.log(softmax(scores(p, d)) + 1e-9), axis=1))


def log_of_picked_probabilities(p: Params, d: Data) -> Any:
    return -np.log(softmax(scores(p, d))[d.rows, d.labels]).mean()


def logsumexp_less_the_picked_score(p: Params, d: Data) -> Any:
    z = scores(p, d)
    largest = np.max(z, axis=1)
    total = largest + np.log(np.sum(np.exp(z - largest[:, None]), axis=1))
    return np.mean(total - z[d.rows, d.labels])


def picked_log_softmax(p: Params, d: Data) -> Any:
    z = scores(p, d, lambda z: np.maximum(0, z))
    log_p = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    return -log_p[d.rows, d.labels].sum() / d.n


def samples_in_columns(p: Params, d: Data) -> Any:
    A1 = np.tanh(np.dot(p["W1"].T, d.X.T) + p["b1"].reshape(-1, 1))
    Z2 = np.dot(p["W2"].T, A1) + p["b2"].reshape(-1, 1)
    e = np.exp(Z2 - Z2.max(axis=0))
    return -np.sum(d.Y.T * np.log(e / e.sum(axis=0))) / d.n


# -- other losses ----------------------------------------------------------------------------------


def sigmoid_and_squared_error(p: Params, d: Data) -> Any:
    return 0.5 * np.sum((sigmoid(scores(p, d, sigmoid)) - d.Y) ** 2) / d.n


def binary(p: Params, d: Data, keep: Callable[[Any], Any] = lambda a: a) -> Any:
    a = keep(sigmoid(scores(p, d)))
    return -np.mean(d.Y * np.log(a) + (1 - d.Y) * np.log(1 - a))


def clipped_binary(p: Params, d: Data) -> Any:
    return binary(p, d, lambda a: np.clip(a, 1e-7, 1 - 1e-7))


def binary_with_an_epsilon(p: Params, d: Data) -> Any:
    a = sigmoid(scores(p, d))
    return -np.mean(d.Y * np.log(a + 1e-8) + (1 - d.Y) * np.log(1 - a + 1e-8))


def hinge(p: Params, d: Data) -> Any:
    return np.maximum(0, 1 - d.signs * scores(p, d)).mean()


def huber(p: Params, d: Data) -> Any:
    error = scores(p, d) - d.T
    size = np.abs(error)
    return np.mean(np.where(size < 1.0, 0.5 * error**2, size - 0.5))


def root_of_the_mean(p: Params, d: Data) -> Any:
    return np.sqrt(np.mean((scores(p, d) - d.T) ** 2))


def squared_weights(p: Params, d: Data) -> Any:
    return exp_sum_log(p, d) + 0.05 * (np.sum(p["W1"] ** 2) + np.sum(p["W2"] * p["W2"])) / 2


def absolute_weights(p: Params, d: Data) -> Any:
    return regression(np.tanh)(p, d) + 0.05 * (np.abs(p["W1"]).sum() + np.abs(p["W2"]).sum())


def one_output(p: Params, d: Data) -> Any:
    prediction = np.tanh(d.X @ p["W1"] + p["b1"]) @ p["w"] + p["c"]
    return np.mean((prediction - d.T[:, 0]) ** 2)


def one_output_column(p: Params, d: Data) -> Any:
    prediction = sigmoid(d.X @ p["W1"] + p["b1"]) @ p["w"].reshape(-1, 1) + p["c"]
    return ((prediction - d.T[:, :1]) ** 2).sum() / (2 * d.n)


def residual(p: Params, d: Data) -> Any:
    h = np.tanh(d.X @ p["W1"] + p["b1"])
    h = h + np.tanh(h @ p["V"])
    return np.mean((h @ p["W2"] + p["b2"] - d.T) ** 2)


def three_hidden_layers(p: Params, d: Data) -> Any:
    h = np.tanh(d.X @ p["W1"] + p["b1"])
    h = sigmoid(h @ p["V"])
    h = np.maximum(0, h @ p["U"])
    return -np.mean(np.log(softmax(h @ p["W2"] + p["b2"])[d.rows, d.labels]))


def batch_norm(p: Params, d: Data) -> Any:
    z = d.X @ p["W1"] + p["b1"]
    z = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
    return np.mean((np.tanh(p["g"] * z + p["s"]) @ p["W2"] + p["b2"] - d.T) ** 2)


def layer_norm(p: Params, d: Data) -> Any:
    z = d.X @ p["W1"] + p["b1"]
    z = (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)
    return np.mean((z @ p["W2"] + p["b2"] - d.T) ** 2)


def flat(p: Params, d: Data) -> Any:
    theta, cut = p["theta"], INPUTS * HIDDEN
    second = cut + HIDDEN
    third = second + HIDDEN * CLASSES
    pieces = {
        "W1": theta[:cut].reshape(HIDDEN, INPUTS).T,
        "b1": theta[cut:second],
        "W2": theta[second:third].reshape((HIDDEN, CLASSES)),
        "b2": theta[third:],
    }
    return exp_sum_log(pieces, d) + 0.01 * np.sum(theta**2)


def elu(z: Any) -> Any:
    return np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1)


def gelu(z: Any) -> Any:
    return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def stable_softplus(z: Any) -> Any:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def assigned_relu(z: Any) -> Any:
    a = z.copy()
    a[a < 0] = 0
    return a


def spread(p: Params, d: Data) -> Any:
    return np.std(scores(p, d))


def decorrelated(p: Params, d: Data) -> Any:
    h = np.tanh(d.X @ p["W1"] + p["b1"])
    return regression(np.tanh)(p, d) + np.sum((h - h.mean(axis=0)) ** 3)


def gate(p: Params, d: Data) -> Any:
    z = d.X @ p["W1"] + p["b1"]
    return np.mean(((np.tanh(z) * sigmoid(z @ p["V"])) @ p["W2"] - d.T) ** 2)


def cosine(p: Params, d: Data) -> Any:
    z = scores(p, d)
    sizes = np.linalg.norm(z, axis=1) * np.linalg.norm(d.T, axis=1)
    return -np.mean(np.sum(z * d.T, axis=1) / sizes)


def entropy(p: Params, d: Data) -> Any:
    a = softmax(scores(p, d))
    return -np.mean(np.sum(a * np.log(a), axis=1))


def two_heads(p: Params, d: Data) -> Any:
    h = np.tanh(d.X @ p["W1"] + p["b1"])
    return np.mean((h @ p["W2"] - d.T) ** 2) + np.mean(np.abs(h @ p["w"] - d.T[:, 0]))


def pairs(p: Params, d: Data) -> Any:
    z = scores(p, d)
    apart = z[:, None] - z[None]
    return np.mean(apart.mean(axis=1) ** 2) + np.mean((apart[..., 0] @ d.X) ** 2)


def first_class_only(p: Params, d: Data) -> Any:
    e = np.exp(scores(p, d))
    return -np.mean(np.log(e / np.sum(e, axis=1, keepdims=True))[:, 0])


def one_sample_picked(p: Params, d: Data) -> Any:
    z = np.tanh(d.X[:1] @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    return -np.log(softmax(z)[0, d.labels[0]])


def bias_as_a_weight(p: Params, d: Data) -> Any:
    h = np.hstack([np.tanh(d.X @ p["W1"]), np.ones((d.n, 1))])
    return np.mean((h @ np.vstack([p["W2"], p["b2"]]) - d.T) ** 2)


# -- what no kernel does ---------------------------------------------------------------------------


def tied_weights(p: Params, d: Data) -> Any:
    return np.mean((np.tanh(d.X @ p["W1"]) @ p["W1"].T - d.X) ** 2)


def recurrent(p: Params, d: Data) -> Any:
    h = np.zeros((d.n, HIDDEN))
    for _ in range(3):
        h = np.tanh(d.X @ p["W1"] + h @ p["V"])
    return np.mean((h @ p["W2"] - d.T) ** 2)


def taken_along_an_axis(p: Params, d: Data) -> Any:
    picked = np.take_along_axis(softmax(scores(p, d)), d.labels[:, None], axis=1)
    return -np.mean(np.log(picked))


def picked_one_by_one(p: Params, d: Data) -> Any:
    a = softmax(scores(p, d))
    return -sum(np.log(a[i, d.labels[i]]) for i in d.rows) / d.n


def wide_recurrent(p: Params, d: Data) -> Any:
    U = np.tile(p["U"], (5, 5)) / 3
    h = np.tanh(np.tile(d.X @ p["W1"] + p["b1"], 5))
    for _ in range(3):
        h = np.tanh(h * 0.5 + h @ U)
    return np.mean(h**2)


def wide_gates(p: Params, d: Data) -> Any:
    U = np.cos(np.arange(20.0 * 40.0)).reshape(20, 40) / 4
    h = c = np.tanh(np.tile(d.X @ p["W1"] + p["b1"], 5))
    for _ in range(3):
        a = h @ U
        f, g = sigmoid(a[:, :20]), np.tanh(a[:, 20:])
        c = f * c + (1 - f) * g
        h = np.maximum(c, 0.01 * g)
    return np.mean(h**2)


def similarities(p: Params, d: Data) -> Any:
    u, v = np.tanh(d.X @ p["W1"]), np.tanh(d.X[::-1] @ p["W1"] @ p["V"])
    s = np.dot(u, v.T)
    return np.mean(np.log(np.sum(np.exp(s), axis=1)) - s[d.rows, d.rows])


def known_ratings(p: Params, d: Data) -> Any:
    error = np.tanh(d.X @ p["W1"]) @ p["V"] - 0.1
    known = np.arange(error.size).reshape(error.shape) % 3 > 0
    return np.mean(error[known] ** 2)


def heads(p: Params, d: Data) -> Any:
    q = (d.X @ p["W1"]).reshape(d.n, 2, HIDDEN // 2)
    k = np.tanh(d.X @ p["W1"] @ p["V"]).reshape(d.n, 2, HIDDEN // 2)
    a = softmax(np.einsum("nhd,nhe->nhd", q, k).reshape(d.n, -1))
    return np.mean((a.reshape(d.n, HIDDEN) @ p["W2"] - d.T) ** 2)


def moving_exponent(p: Params, d: Data) -> Any:
    return np.mean(np.abs(d.T) ** np.exp(scores(p, d)))


def many_layers(p: Params, d: Data) -> Any:
    h = d.X @ p["W1"]
    for _ in range(100):
        h = np.tanh(h * 1.01)
    return np.mean(h)


# -- the table -------------------------------------------------------------------------------------

SHAPES = {
    "W1": (INPUTS, HIDDEN),
    "b1": (HIDDEN,),
    "W2": (HIDDEN, CLASSES),
    "b2": (CLASSES,),
    "V": (HIDDEN, HIDDEN),
    "U": (HIDDEN, HIDDEN),
    "w": (HIDDEN,),
    "c": (1,),
    "g": (HIDDEN,),
    "s": (HIDDEN,),
    "theta": (FLAT,),
}
LAYERS = "W1 b1 W2 b2"
SMOOTH: dict[str, tuple[Loss, str]] = {
    "exp, sum, log": (exp_sum_log, LAYERS),
    "shifted by the maximum": (shifted_by_the_maximum, LAYERS),
    "log-softmax": (log_softmax, LAYERS),
    "log with an epsilon": (log_with_an_epsilon, LAYERS),
    "log of picked probabilities": (log_of_picked_probabilities, LAYERS),
    "logsumexp": (logsumexp_less_the_picked_score, LAYERS),
    "samples in columns": (samples_in_columns, LAYERS),
    "sigmoid and squared error": (sigmoid_and_squared_error, LAYERS),
    "binary cross-entropy": (binary, LAYERS),
    "clipped binary cross-entropy": (clipped_binary, LAYERS),
    "binary cross-entropy with an epsilon": (binary_with_an_epsilon, LAYERS),
    "tanh": (regression(np.tanh), LAYERS),
    "softplus by logaddexp": (regression(lambda z: np.logaddexp(0, z)), LAYERS),
    "softplus by log1p": (regression(lambda z: np.log1p(np.exp(z))), LAYERS),
    "root of the mean": (root_of_the_mean, LAYERS),
    "squared weights": (squared_weights, LAYERS),
    "one output": (one_output, "W1 b1 w c"),
    "one output in a column": (one_output_column, "W1 b1 w c"),
    "residual": (residual, "W1 b1 V W2 b2"),
    "flat parameters": (flat, "theta"),
}
KINKED: dict[str, tuple[Loss, str]] = {
    "picked log-softmax behind ReLU": (picked_log_softmax, LAYERS),
    "leaky by where": (regression(lambda z: np.where(z > 0, z, 0.1 * z)), LAYERS),
    "leaky by maximum": (regression(lambda z: np.maximum(0.1 * z, z)), LAYERS),
    "ReLU by mask": (regression(lambda z: z * (z > 0)), LAYERS),
    "hinge": (hinge, LAYERS),
    "Huber": (huber, LAYERS),
    "absolute weights": (absolute_weights, LAYERS),
    "three hidden layers": (three_hidden_layers, "W1 b1 V U W2 b2"),
}
RARER: dict[str, tuple[Loss, str]] = {
    "elu": (regression(elu), LAYERS),
    "gelu": (regression(gelu), LAYERS),
    "softplus that does not overflow": (regression(stable_softplus), LAYERS),
    "ReLU by assignment": (regression(assigned_relu), LAYERS),
    "dropout": (regression(lambda z: np.tanh(z) * (np.arange(HIDDEN) % 2) / 0.5), LAYERS),
    "batch norm": (batch_norm, "W1 b1 g s W2 b2"),
    "layer norm": (layer_norm, LAYERS),
    "spread": (spread, LAYERS),
    "third moment of the samples": (decorrelated, LAYERS),
    "gate": (gate, "W1 b1 V W2"),
    "cosine": (cosine, LAYERS),
    "entropy": (entropy, LAYERS),
    "two heads": (two_heads, "W1 b1 W2 w"),
    "bias as a weight": (bias_as_a_weight, "W1 W2 b2"),
    "first class only": (first_class_only, LAYERS),
    "pairs of samples": (pairs, LAYERS),
    "one sample picked": (one_sample_picked, LAYERS),
    "tied weights": (tied_weights, "W1"),
    "recurrent": (recurrent, "W1 V W2"),
    "taken along an axis": (taken_along_an_axis, LAYERS),
    "picked one by one": (picked_one_by_one, LAYERS),
    "all samples with all samples": (similarities, "W1 V"),
    "a known part of a product": (known_ratings, "W1 V"),
    "heads": (heads, "W1 V W2"),
    "many layers": (many_layers, "W1"),
    "a wide recurrent layer": (wide_recurrent, "W1 b1 U"),
    "wide gates": (wide_gates, "W1 b1"),
}
LOSSES = SMOOTH | KINKED | RARER
# What is left to the replay engine: the loss, its parameters, those without a kernel, and why.
REFUSED: dict[str, tuple[Loss, str, str, str]] = {
    "moving exponent": (moving_exponent, LAYERS, LAYERS, "an exponent is an array, or moves"),
}


@dataclass(frozen=True)
class Engines:
    """The engines for one tensor; all answer the same questions."""

    tensor: Tensor
    fused: FusedEngine
    replay: ReplayEngine
    loop: LoopEngine

    def indices(self) -> np.ndarray:
        return np.arange(self.tensor.size)


def parameters(names: str, seed: int = 5) -> Params:
    rng = np.random.default_rng(seed)
    return {name: 0.6 * rng.normal(size=SHAPES[name]) for name in names.split()}


def engines(loss: Callable[[Any], Any], params: Params) -> dict[str, Engines]:
    tree = ParamTree.from_user(params)
    loop = LoopEngine(LossFunction(loss, tree), tree)
    graph = simplify(trace(loss, tree))
    found = {}
    for tensor in tree:

        def fallback(indices: Any, moves: Any, name: str = tensor.name) -> Any:
            return loop.differences(name, indices, moves, central=False).plus

        replay = ReplayEngine(graph, tensor, loop.loss, MEMORY, fallback)
        found[tensor.name] = Engines(tensor, FusedEngine(replay, tensor, MEMORY), replay, loop)
    return found


@cache
def engines_of(name: str, samples: int) -> list[Engines]:
    loss, names = LOSSES[name]
    data = Data(samples)
    return list(engines(lambda p: loss(p, data), parameters(names)).values())


def assert_alike(ours: Any, other: Any, relative: float, rounding: float) -> None:
    size = max(np.abs(other.plus).max(), np.abs(other.minus).max())
    for one, wanted in ((ours.plus, other.plus), (ours.minus, other.minus)):
        np.testing.assert_allclose(one, wanted, rtol=relative, atol=1e-11 * size + rounding)


everywhere = pytest.mark.parametrize("samples", SAMPLES)


@everywhere
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("exponent", [-31, -22, -11])
def test_differences_are_those_of_the_replay(name: str, samples: int, exponent: int) -> None:
    for one in engines_of(name, samples):
        steps = np.full(one.tensor.size, 2.0**exponent)
        ours = one.fused.differences(one.tensor.name, one.indices(), steps)
        other = one.replay.differences(one.tensor.name, one.indices(), steps)
        assert_alike(ours, other, 1e-9, 1e-13 * 2.0**exponent * max(1.0, one.replay.magnitude))
        np.testing.assert_array_equal(ours.kinked, other.kinked)


@everywhere
@pytest.mark.parametrize("name", LOSSES)
def test_differences_are_those_of_the_loop(name: str, samples: int) -> None:
    for one in engines_of(name, samples):
        steps = np.full(one.tensor.size, 2.0**-9)
        ours = one.fused.differences(one.tensor.name, one.indices(), steps)
        other = one.loop.differences(one.tensor.name, one.indices(), steps)
        assert_alike(ours, other, 1e-8, 1e-14 * max(1.0, one.replay.magnitude))


@everywhere
@pytest.mark.parametrize("name", SMOOTH)
def test_no_copy_of_a_smooth_loss_is_refused_at_a_tiny_step(name: str, samples: int) -> None:
    for one in engines_of(name, samples):
        before = one.fused.refused
        one.fused.differences(one.tensor.name, one.indices(), np.full(one.tensor.size, 2.0**-31))
        assert one.fused.refused == before


def masked_attention(p: Params, d: Data) -> Any:
    x = np.cos(np.arange(d.n * 3.0 * INPUTS)).reshape(d.n, 3, INPUTS)
    s = (x @ p["W1"]) @ np.transpose(x @ p["W1"] @ p["V"], (0, 2, 1))
    s = np.where(np.tril(np.ones((3, 3), dtype=bool)), s, -np.inf)
    e = np.exp(s - np.max(s, axis=-1, keepdims=True))
    return np.mean((e / np.sum(e, axis=-1, keepdims=True) @ x) ** 2)


@pytest.mark.parametrize("tensor", ["W1", "V"])
def test_the_winner_of_a_maximum_does_not_fall_behind_itself(tensor: str) -> None:
    data, params = Data(21), parameters("W1 V")
    one = engines(lambda p: masked_attention({**params, **p}, data), {tensor: params[tensor]})
    steps = np.full(params[tensor].size, 2.0**-22)
    indices = np.arange(len(steps))
    ours = one[tensor].fused.differences(tensor, indices, steps)
    other = one[tensor].replay.differences(tensor, indices, steps)
    assert_alike(ours, other, 1e-9, 1e-13 * 2.0**-22)
    assert not one[tensor].fused.refused


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_kernel_is_refused_with_the_reason(name: str) -> None:
    loss, names, without, why = REFUSED[name]
    data, params = Data(21), parameters(names)
    refused = {}
    for tensor in names.split():

        def one(p: Params, tensor: str = tensor) -> Any:
            return loss({**params, tensor: p[tensor]}, data)

        try:
            engines(one, {tensor: params[tensor]})
        except NotFusable as reason:
            refused[tensor] = str(reason)
    assert list(refused) == without.split()
    assert all(reason.startswith(why) for reason in refused.values()), refused


# -- steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shifted by the maximum", "sigmoid and squared error", "hinge"])
def test_large_steps_equal_the_loop(name: str) -> None:
    for one in engines_of(name, 21):
        steps = np.full(one.tensor.size, 0.3)
        ours = one.fused.differences(one.tensor.name, one.indices(), steps)
        other = one.loop.differences(one.tensor.name, one.indices(), steps)
        assert_alike(ours, other, 1e-10, 1e-13)


def test_a_one_sided_difference_leaves_the_other_side_zero() -> None:
    one = engines_of("tanh", 21)[0]
    steps = np.full(one.tensor.size, 2.0**-20)
    both = one.fused.differences(one.tensor.name, one.indices(), steps)
    alone = one.fused.differences(one.tensor.name, one.indices(), steps, central=False)
    np.testing.assert_array_equal(alone.plus, both.plus)
    assert not alone.minus.any()
    assert not alone.step_minus.any()


def test_each_copy_may_have_a_step_of_its_own() -> None:
    one = engines_of("tanh", 21)[0]
    steps = 2.0 ** -np.linspace(3, 40, one.tensor.size)
    ours = one.fused.differences(one.tensor.name, one.indices(), steps)
    other = one.replay.differences(one.tensor.name, one.indices(), steps)
    np.testing.assert_allclose(ours.plus, other.plus, rtol=1e-9)
    np.testing.assert_allclose(ours.minus, other.minus, rtol=1e-9)


def test_no_element_gives_no_difference() -> None:
    one = engines_of("tanh", 21)[0]
    found = one.fused.differences(one.tensor.name, np.zeros(0, dtype=np.int64), np.zeros(0))
    assert found.plus.shape == found.minus.shape == found.kinked.shape == (0,)


def layers_of_tanh(p: Params) -> Any:
    h = p["z"]
    for _ in range(10):
        h = np.tanh(h)
    return np.sum(h)


def test_steps_too_large_for_any_kernel_are_replayed() -> None:
    # Ten layers are a kernel while every polynomial is short, but not with those of large steps.
    one = engines(layers_of_tanh, {"z": np.array([0.3, 0.4])})["z"]
    steps = np.full(2, 2.0**-6)
    ours = one.fused.differences("z", one.indices(), steps)
    other = one.replay.differences("z", one.indices(), steps)
    np.testing.assert_allclose(ours.plus, other.plus, rtol=1e-9)


# -- kinks -----------------------------------------------------------------------------------------


def relu_mean(p: Params) -> Any:
    return np.mean(np.maximum(0, p["z"]) * np.arange(1.0, 4.0))


def test_a_copy_that_crosses_a_kink_is_replayed_and_marked() -> None:
    one = engines(relu_mean, {"z": np.array([0.1, -2.0, 5.0])})["z"]
    found = one.fused.differences("z", one.indices(), np.full(3, 0.25))
    assert one.fused.refused == 1
    assert found.kinked.tolist() == [True, False, False]
    np.testing.assert_allclose(found.plus, [0.25 / 3, 0, 0.25])
    np.testing.assert_allclose(found.minus, [0.1 / 3, 0, 0.25])


def test_a_copy_at_a_kink_is_replayed_at_any_step() -> None:
    one = engines(relu_mean, {"z": np.array([0.0, 1.0, 1.0])})["z"]
    found = one.fused.differences("z", one.indices(), np.full(3, 2.0**-40))
    assert found.kinked.tolist() == [True, False, False]
    assert found.minus[0] == 0


@pytest.mark.parametrize("name", KINKED)
def test_kinks_are_those_of_the_replay(name: str) -> None:
    for one in engines_of(name, 21):
        steps = np.full(one.tensor.size, 0.125)
        ours = one.fused.differences(one.tensor.name, one.indices(), steps)
        other = one.replay.differences(one.tensor.name, one.indices(), steps)
        assert_alike(ours, other, 1e-9, 1e-13)
        np.testing.assert_array_equal(ours.kinked, other.kinked)


# -- in a check ------------------------------------------------------------------------------------

DATA = Data(21)


def network_loss(p: Params) -> Any:
    return shifted_by_the_maximum(p, DATA)


def network_grads(p: Params) -> Params:
    h = np.tanh(DATA.X @ p["W1"] + p["b1"])
    dz = (softmax(h @ p["W2"] + p["b2"]) - DATA.Y) / DATA.n
    dh = dz @ p["W2"].T * (1 - h**2)
    return {"W1": DATA.X.T @ dh, "b1": dh.sum(axis=0), "W2": h.T @ dz, "b2": dz.sum(axis=0)}


def test_the_right_gradient_passes_by_the_fused_engine() -> None:
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params), engine="fused")
    assert report.passed, str(report)
    assert {tensor.engine for tensor in report.tensors.values()} == {"fused"}


@pytest.mark.parametrize("name", LAYERS.split())
def test_an_error_of_a_thousandth_fails_in_its_tensor(name: str) -> None:
    params = parameters(LAYERS)
    grads = network_grads(params)
    grads[name] = grads[name] * 1.001
    report = fastcheck.check(network_loss, params, grads, engine="fused")
    assert report.failed == (name,), str(report)


def raised_loss(p: Params) -> Any:
    return np.mean(0.5 ** np.dot(DATA.X, p["W1"]))


def raised_grads(p: Params) -> Params:
    z = DATA.X @ p["W1"]
    return {"W1": np.log(0.5) * DATA.X.T @ 0.5**z / z.size}


def test_asking_for_a_kernel_that_there_is_none_for_raises() -> None:
    params = parameters("W1")
    with pytest.raises(InputError) as error:
        fastcheck.check(raised_loss, params, raised_grads(params), engine="fused")
    assert str(error.value) == (
        "`engine` is 'fused', but there is no kernel for W1: an exponent is an array, or moves. "
        "Use engine='auto', which falls back to the replay engine."
    )


@pytest.fixture
def kernels_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let engine="auto" think that a kernel is quicker, however small the network is."""
    monkeypatch.setattr("fastcheck.engines.onhost.WORTH_A_KERNEL", 0.0)
    monkeypatch.setattr("fastcheck.engines.onhost.kernel_pays", lambda *_: True)
    monkeypatch.setattr("fastcheck.engines.fused._SECONDS_TO_PRINT", 0.0)
    monkeypatch.setattr("fastcheck.engines.fused._SECONDS_TO_LOWER", 1e-12)


@pytest.mark.usefixtures("kernels_pay")
def test_a_kernel_that_pays_is_used() -> None:
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert report.passed
    assert {tensor.engine for tensor in report.tensors.values()} == {"fused"}


def test_a_small_network_is_replayed() -> None:
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert {tensor.engine for tensor in report.tensors.values()} == {"replay"}


@pytest.mark.usefixtures("kernels_pay")
def test_without_a_kernel_the_report_says_why_and_passes() -> None:
    params = parameters("W1")
    report = fastcheck.check(raised_loss, params, raised_grads(params))
    (tensor,) = report.tensors.values()
    assert tensor.engine == "replay"
    assert tensor.engine_reason.endswith("; no kernel, because an exponent is an array, or moves")
    assert report.passed


def broken(*_: Any) -> None:
    raise OSError("no machine")


@pytest.mark.usefixtures("kernels_pay")
@pytest.mark.parametrize(
    "place",
    [
        "fastcheck.fusion.kernel.compiled",
        "fastcheck.engines.fused.lower",
        "fastcheck.engines.fused.print_kernel",
    ],
)
def test_a_kernel_that_cannot_be_made_leaves_the_replay(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(place, broken)
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert report.passed
    for tensor in report.tensors.values():
        assert tensor.engine == "replay"
        assert tensor.engine_reason.endswith(
            "; no kernel, because it could not be made (OSError: no machine)"
        )


def spoil(monkeypatch: pytest.MonkeyPatch, where: Any, least: int) -> None:
    """Let kernels that compute at least so many copies be wrong about some of them."""
    original = Kernel.run

    def run(self: Kernel, positions: Any, steps: Any) -> Any:
        plus, minus, refused = original(self, positions, steps)
        if len(plus) >= least:
            plus[where] *= 1.001
            minus[where] *= 1.001
        return plus, minus, refused

    monkeypatch.setattr(Kernel, "run", run)


@pytest.mark.usefixtures("kernels_pay")
@pytest.mark.parametrize(
    ("where", "least", "why"),
    [
        (slice(None), 0, "it changes the loss by"),
        (-3, 20, "its derivatives add up to"),
    ],
    ids=["all elements", "one element of many"],
)
@pytest.mark.parametrize("at_hand", [False, True])
def test_a_kernel_unlike_the_replay_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, where: Any, least: int, why: str, at_hand: bool
) -> None:
    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: at_hand)
    spoil(monkeypatch, where, least)
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert report.passed
    assert report.tensors["W1"].engine == "replay"
    why = "its derivative of element" if at_hand else why
    assert f"; no kernel, because {why}" in report.tensors["W1"].engine_reason


@pytest.mark.parametrize("size", [3, 40, 100])
@pytest.mark.parametrize("at_hand", [False, True])
def test_large_inputs_need_a_longer_reach_however_few_elements_there_are(
    size: int, at_hand: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: at_hand)
    made: list[FusedEngine] = []

    class Recorded(FusedEngine):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            made.append(self)

    monkeypatch.setattr(onhost, "FusedEngine", Recorded)
    rng = np.random.default_rng(0)
    X, w = 400.0 * rng.standard_normal((32, size)), rng.standard_normal(size)
    b = rng.standard_normal(32) - X @ w

    def loss(p: Params) -> Any:
        return np.mean(np.tanh(X @ p["w"] + b) * p["c"])

    params = {"w": w, "c": rng.standard_normal(32)}
    grads = fastcheck.numerical_gradient(loss, params, engine="fused")
    assert fastcheck.check(loss, params, grads, engine="fused").passed
    kernels = [one for one in made if one.slice.tensor == "w"]
    assert [one.refused for one in kernels] == [0, 0]
    # A ladder of second looks goes down as well, and far.
    indices = np.arange(size)
    for steps in (np.full(size, -(2.0**-20)), np.full(size, -(2.0**-9))):
        ours, theirs = (
            engine.differences("w", indices, steps, central=False)
            for engine in (kernels[-1], kernels[-1].replay)
        )
        np.testing.assert_allclose(ours.plus, theirs.plus, rtol=1e-9)


def test_a_tensor_that_is_only_compared_is_left_to_the_replay() -> None:
    X = np.arange(20.0)[:, None] * np.ones((20, 4))
    params = {"t": np.array([0.5, 0.05, -0.2, 0.1]), "w": np.ones(4)}

    def loss(p: Params) -> Any:
        return np.mean(X * (p["t"] > 0.1) * p["w"])

    with pytest.raises(InputError, match="no kernel for t: the tensor is compared"):
        fastcheck.check(loss, params, params, engine="fused")


@pytest.mark.usefixtures("kernels_pay")
def test_without_llvm_a_check_is_replayed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise ImportError("No module named 'llvmlite'")

    monkeypatch.setattr("fastcheck.fusion.compiler._host", missing)
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert report.passed
    for tensor in report.tensors.values():
        assert tensor.engine == "replay"
        assert "ImportError: No module named 'llvmlite'" in tensor.engine_reason


def test_a_loss_that_overflows_on_the_way_warns_of_nothing() -> None:
    X = np.random.default_rng(0).normal(size=(24, 3)) * 300

    def loss(p: Params) -> Any:
        with np.errstate(all="ignore"):
            return np.mean(np.tanh(np.expm1(X @ p["W"])))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engines(loss, {"W": np.ones((3, 2))})
