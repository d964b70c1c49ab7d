"""The replay engine gives what the loop gives, for losses as people write them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.tracing import escaped_number
from fastcheck.errors import InputError
from fastcheck.params import ParamTree, Tensor
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 3))
LABELS = RNG.integers(3, size=6)
ONE_HOT = np.eye(3)[LABELS]
IMAGES = RNG.normal(size=(2, 5, 5))
MEMORY = 2**26


def weights(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"W{k}": 0.5 * RNG.normal(size=shape) for k, shape in enumerate(shapes)}


def sigmoid(z: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-z))


def column_samples(p: dict[str, Any]) -> Any:
    Z1 = np.dot(p["W0"], X.T) + p["W1"]
    A1 = np.maximum(0, Z1)
    Z2 = np.dot(p["W2"], A1) + p["W3"]
    A2 = sigmoid(Z2)
    m = X.shape[0]
    cost = -np.sum(np.multiply(np.log(A2), ONE_HOT.T) + np.multiply(np.log(1 - A2), 1 - ONE_HOT.T))
    return np.squeeze(cost / m)


def softmax_rows(p: dict[str, Any]) -> Any:
    h = np.tanh(X @ p["W0"] + p["W1"])
    scores = h.dot(p["W2"]) + p["W3"]
    scores -= np.max(scores, axis=1, keepdims=True)
    probs = np.exp(scores) / np.sum(np.exp(scores), axis=1, keepdims=True)
    loss = -np.mean(np.log(probs[np.arange(6), LABELS]))
    loss += 0.5 * 1e-2 * (np.sum(p["W0"] * p["W0"]) + np.sum(p["W2"] ** 2))
    return float(loss)


def masked_relu(p: dict[str, Any]) -> Any:
    z = X.dot(p["W0"])
    out = z.copy()
    out[z <= 0] = 0
    leak = np.where(out > 0.5, out, 0.1 * out)
    leak[leak > 2] = 2.0
    return ((leak @ p["W1"] - Y) ** 2).mean()


def recurrent(p: dict[str, Any]) -> Any:
    h = np.zeros((7, 3))
    for t in range(6):
        h[t + 1] = np.tanh(p["W0"] @ X[t] + p["W1"] @ h[t])
    return np.sum((h[1:] - Y) ** 2) / 2


def convolution(p: dict[str, Any]) -> Any:
    out = np.zeros((2, 3, 3))
    for n in range(2):
        for i in range(3):
            for j in range(3):
                out[n, i, j] = np.sum(IMAGES[n, i : i + 3, j : j + 3] * p["W0"]) + p["W1"][0]
    pooled = out.reshape(2, -1).max(axis=1)
    return (pooled**2).sum()


def strided_convolution(p: dict[str, Any]) -> Any:
    columns = np.stack(
        [IMAGES[:, i : i + 3, j : j + 3] for i in range(3) for j in range(3)], axis=1
    )
    out = np.einsum("npij,kij->nkp", columns, p["W0"]) + p["W1"][:, None]
    return np.mean(np.maximum(out, 0.05) ** 2)


def batch_norm(p: dict[str, Any]) -> Any:
    z = X @ p["W0"]
    mean, var = z.mean(axis=0), z.var(axis=0)
    normal = (z - mean) / np.sqrt(var + 1e-5)
    return np.sum((p["W1"] * normal + p["W2"] - Y) ** 2)


def attention(p: dict[str, Any]) -> Any:
    q, k, v = (np.tensordot(X, p[name], axes=1) for name in ("W0", "W1", "W2"))
    scores = q @ k.T / np.sqrt(3)
    scores = scores + np.triu(np.full((6, 6), -1e9), 1)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.sum((e / e.sum(-1, keepdims=True)) @ v * Y)


def embedding(p: dict[str, Any]) -> Any:
    rows = p["W0"][LABELS]
    counts = np.zeros_like(p["W1"])
    np.add.at(counts, LABELS, rows[:, 0] * p["W1"][LABELS])
    return np.linalg.norm(counts) + np.logaddexp(rows[:, 0], rows[:, 1]).sum()


def many_layers(p: dict[str, Any]) -> Any:
    a = X.T
    for name in ("W0", "W1", "W2"):
        a = np.maximum(p[name] @ a, 0.01 * (p[name] @ a))
    return np.abs(a - 0.1).sum() + sum(np.sum(w**2) for w in p.values())


LOSSES: dict[str, tuple[Callable[..., Any], dict[str, np.ndarray]]] = {
    "column samples": (column_samples, weights((5, 4), (5, 1), (3, 5), (3, 1))),
    "softmax rows": (softmax_rows, weights((4, 5), (5,), (5, 3), (3,))),
    "masked relu": (masked_relu, weights((4, 5), (5, 3))),
    "recurrent": (recurrent, weights((3, 4), (3, 3))),
    "convolution": (convolution, weights((3, 3), (1,))),
    "strided convolution": (strided_convolution, weights((4, 3, 3), (4,))),
    "batch norm": (batch_norm, weights((4, 3), (3,), (3,))),
    "attention": (attention, weights((4, 3), (4, 3), (4, 3))),
    "embedding": (embedding, weights((3, 2), (3,))),
    "many layers": (many_layers, weights((5, 4), (3, 5), (3, 3))),
}


class Both:
    """The two engines on one loss."""

    def __init__(self, loss: Callable[..., Any], params: Any) -> None:
        self.tree = ParamTree.from_user(params)
        self.function = LossFunction(loss, self.tree)
        self.loop = LoopEngine(self.function, self.tree)
        self.graph = trace(loss, self.tree)

    def replay(self, tensor: Tensor, memory: int = MEMORY) -> ReplayEngine:
        def fallback(indices: Any, moves: Any) -> Any:
            return self.loop.differences(tensor.name, indices, moves, central=False).plus

        return ReplayEngine(self.graph, tensor, self.loop.loss, memory, fallback)


@pytest.fixture(params=LOSSES)
def both(request: pytest.FixtureRequest) -> Both:
    return Both(*LOSSES[request.param])


@pytest.mark.parametrize("step", [0.3, 1e-3])
def test_replay_equals_the_loop(both, step) -> None:
    for tensor in both.tree:
        assert escaped_number(both.graph, tensor.name) is None
        indices, steps = np.arange(tensor.size), np.full(tensor.size, step)
        slow = both.loop.differences(tensor.name, indices, steps)
        fast = both.replay(tensor).differences(tensor.name, indices, steps)
        size = 1e-12 + 1e-14 * abs(both.loop.loss)
        np.testing.assert_allclose(fast.plus, slow.plus, rtol=1e-10, atol=size)
        np.testing.assert_allclose(fast.minus, slow.minus, rtol=1e-10, atol=size)


def test_the_traced_loss_is_the_loss(both) -> None:
    assert float(both.graph.output.value) == pytest.approx(both.loop.loss, rel=1e-13)


def test_the_graph_computes_the_loss_elsewhere(both) -> None:
    rng = np.random.default_rng(3)
    moved = {t.name: t.value + 1e-3 * rng.normal(size=t.shape) for t in both.tree}
    wanted = both.function.evaluate(both.tree.build(moved))
    assert both.graph.evaluate(moved) == pytest.approx(wanted, rel=1e-12)


def test_forward_differences_leave_the_lower_side_out(both) -> None:
    tensor = next(iter(both.tree))
    indices, steps = np.arange(tensor.size), np.full(tensor.size, 1e-3)
    central = both.replay(tensor).differences(tensor.name, indices, steps)
    forward = both.replay(tensor).differences(tensor.name, indices, steps, central=False)
    np.testing.assert_allclose(forward.plus, central.plus, rtol=1e-12, atol=1e-17)
    assert not forward.minus.any()
    assert not forward.step_minus.any()


def test_the_memory_changes_nothing_but_the_chunks(both) -> None:
    for tensor in both.tree:
        indices, steps = np.arange(tensor.size), np.full(tensor.size, 1e-2)
        whole = both.replay(tensor)
        small = both.replay(tensor, memory=whole.bytes_per_parameter)
        assert small.chunk == 1
        one, other = (e.differences(tensor.name, indices, steps) for e in (whole, small))
        size = 1e-15 * abs(both.loop.loss)
        np.testing.assert_allclose(one.plus, other.plus, rtol=1e-11, atol=size)
        np.testing.assert_allclose(one.minus, other.minus, rtol=1e-11, atol=size)
        np.testing.assert_array_equal(one.kinked, other.kinked)


def test_too_little_memory_names_the_argument(both) -> None:
    tensor = next(iter(both.tree))
    replay = both.replay(tensor, memory=8)
    with pytest.raises(InputError, match=r"`memory` is 8 bytes, but one perturbed copy .* needs"):
        replay.differences(tensor.name, np.array([0]), np.array([0.1]))


def test_any_indices_in_any_order(both) -> None:
    tensor = next(iter(both.tree))
    indices = np.array([1, 0, 1, tensor.size - 1])
    steps = np.array([0.1, 0.2, 0.3, 0.4])
    slow = both.loop.differences(tensor.name, indices, steps)
    fast = both.replay(tensor).differences(tensor.name, indices, steps)
    np.testing.assert_allclose(fast.plus, slow.plus, rtol=1e-10, atol=1e-12)


def test_a_flat_vector_is_measured_at_its_largest() -> None:
    """Elements of one vector reach slices of very different sizes."""

    def loss(theta: Any) -> Any:
        small, large = theta[:3], theta[3:].reshape(4, 3)
        return np.sum(small) + np.sum((np.tanh(X @ large) @ large.T) ** 2)

    both = Both(loss, RNG.normal(size=15))
    tensor = next(iter(both.tree))
    assert both.replay(tensor).bytes_per_parameter > 2 * X.shape[0] * 3 * 8
    indices, steps = np.arange(15), np.full(15, 0.1)
    slow = both.loop.differences("params", indices, steps)
    fast = both.replay(tensor).differences("params", indices, steps)
    np.testing.assert_allclose(fast.plus, slow.plus, rtol=1e-10, atol=1e-12)


def test_copies_that_branch_otherwise_are_computed_by_the_loss() -> None:
    def loss(w: Any) -> Any:
        return np.sum(w) if w[0] > 0 else np.sum(w**2)

    both = Both(loss, np.array([0.1, 5.0]))
    fast = both.replay(both.tree["params"]).differences(
        "params", np.array([0, 1]), np.array([0.3, 0.3])
    )
    np.testing.assert_allclose(fast.plus, [0.3, 0.3])
    np.testing.assert_allclose(fast.minus, [5.1 - 0.04 - 25.0, 0.3])
    assert fast.loss_calls == 1
    assert fast.kinked.tolist() == [True, False]


def test_a_tensor_that_the_loss_ignores_changes_nothing() -> None:
    both = Both(lambda p: np.sum(p["a"]), {"a": np.ones(2), "b": np.ones(3)})
    fast = both.replay(both.tree["b"]).differences("b", np.arange(3), np.full(3, 0.1))
    assert not fast.plus.any()
    assert not fast.minus.any()
    assert not fast.kinked.any()


def test_one_direction_of_the_whole_tensor(both) -> None:
    rng = np.random.default_rng(5)
    for tensor in both.tree:
        move = 1e-2 * rng.normal(size=tensor.shape)
        moved = {t.name: t.value for t in both.tree} | {tensor.name: tensor.value + move}
        wanted = both.function.evaluate(both.tree.build(moved)) - both.loop.loss
        (found,) = both.replay(tensor).directional(move)
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
