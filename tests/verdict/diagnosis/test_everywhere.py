"""The same mistake wherever a class or a loop runs, and all statistics of a layer at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(11)
STEPS, HIDDEN = 5, 4
SERIES = RNG.standard_normal((STEPS, 3))
WEIGHT = RNG.standard_normal((STEPS, HIDDEN))
RNN = {
    "Wx": RNG.standard_normal((HIDDEN, 3)),
    "Wh": RNG.standard_normal((HIDDEN, HIDDEN)),
    "b": np.zeros(HIDDEN),
}
X, ROWS = RNG.standard_normal((12, 5)), np.arange(12)
LABELS = RNG.integers(0, 3, 12)
MLP = {
    "W1": RNG.standard_normal((5, 6)),
    "b1": RNG.standard_normal(6),
    "W2": RNG.standard_normal((6, 6)),
    "b2": RNG.standard_normal(6),
    "W3": RNG.standard_normal((6, 3)),
}
NORMED = {
    "W1": RNG.standard_normal((5, 6)),
    "b1": np.zeros(6),
    "gamma": np.ones(6),
    "beta": np.zeros(6),
    "W2": RNG.standard_normal((6, 3)),
}


def only(loss: Any, params: Any, grads: Any) -> Any:
    """Return the one finding on gradients that are wrong, of which it has to be certain."""
    report = fastcheck.check(loss, params, grads)
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    (finding,) = report.diagnosis.findings
    assert finding.certainty == "exact"
    return finding


def rnn_states(p: Any) -> list[Any]:
    h = [np.zeros(HIDDEN)]
    for t in range(STEPS):
        h.append(np.tanh(p["Wx"] @ SERIES[t] + p["Wh"] @ h[-1] + p["b"]))
    return h


def rnn_loss(p: Any) -> Any:
    return sum(np.sum(WEIGHT[t] * h) for t, h in enumerate(rnn_states(p)[1:]))


def rnn_backward(back: Any) -> dict[str, Any]:
    h = rnn_states(RNN)
    g = {name: np.zeros_like(value) for name, value in RNN.items()}
    carried: Any = 0.0
    for t in reversed(range(STEPS)):
        d = (WEIGHT[t] + carried) * (1 - h[t + 1] ** 2)
        g["Wx"] += np.outer(d, SERIES[t])
        g["Wh"] += np.outer(d, h[t])
        g["b"] += d
        carried = back @ d
    return g


def test_a_loop_over_time_that_carries_nothing_back() -> None:
    assert fastcheck.check(rnn_loss, RNN, rnn_backward(RNN["Wh"].T))
    found = only(rnn_loss, RNN, rnn_backward(np.zeros((HIDDEN, HIDDEN))))
    assert (found.cause, found.tensors) == ("missing-path", ("Wx", "Wh", "b"))
    assert f"at each of {STEPS - 1} places" in found.evidence


def test_weights_that_are_not_transposed_at_any_step() -> None:
    found = only(rnn_loss, RNN, rnn_backward(RNN["Wh"]))
    assert (found.cause, found.tensors) == ("weights-not-transposed", ("Wx", "Wh", "b"))


Mask = Callable[[Any], Any]


def softmax(scores: Any) -> Any:
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def mlp(p: Any, act: Any) -> tuple[Any, ...]:
    z1 = X @ p["W1"] + p["b1"]
    a1 = act(z1)
    z2 = a1 @ p["W2"] + p["b2"]
    a2 = act(z2)
    return z1, a1, z2, a2, softmax(a2 @ p["W3"])


def mlp_backward(act: Any, slopes: tuple[Mask, Mask], turned: bool = True) -> dict[str, Any]:
    z1, a1, z2, a2, probabilities = mlp(MLP, act)
    d = (probabilities - np.eye(3)[LABELS]) / len(X)
    dz2 = (d @ MLP["W3"].T) * slopes[1](z2)
    dz1 = (dz2 @ (MLP["W2"].T if turned else MLP["W2"])) * slopes[0](z1)
    return {
        "W1": X.T @ dz1,
        "b1": dz1.sum(axis=0),
        "W2": a1.T @ dz2,
        "b2": dz2.sum(axis=0),
        "W3": a2.T @ d,
    }


def relu(z: Any) -> Any:
    return np.maximum(0, z)


def mlp_loss(p: Any, act: Any) -> Any:
    return -np.log(mlp(p, act)[-1][ROWS, LABELS]).mean()


def test_a_mask_that_a_layer_class_lacks() -> None:
    through, masked = np.ones_like, lambda z: z > 0
    loss = lambda p: mlp_loss(p, relu)  # noqa: E731
    assert fastcheck.check(loss, MLP, mlp_backward(relu, (masked, masked)))
    found = only(loss, MLP, mlp_backward(relu, (through, through)))
    assert (found.cause, found.tensors) == ("missing-mask", ("W1", "b1", "W2", "b2"))
    assert "at each of 2 places" in found.evidence
    found = only(loss, MLP, mlp_backward(relu, (masked, through)))
    assert "places" not in found.evidence


def test_a_wrong_derivative_in_both_layers() -> None:
    def wrong(z: Any) -> Any:
        return np.tanh(z) * (1 - np.tanh(z))

    loss = lambda p: mlp_loss(p, np.tanh)  # noqa: E731
    found = only(loss, MLP, mlp_backward(np.tanh, (wrong, wrong)))
    assert (found.cause, len(found.tensors)) == ("activation-derivative", 4)


def test_what_differs_from_layer_to_layer_is_no_mistake_of_their_class() -> None:
    loss = lambda p: mlp_loss(p, np.tanh)  # noqa: E731
    slopes = (lambda z: 1 - 0.9 * np.tanh(z) ** 2, np.ones_like)
    report = fastcheck.check(loss, MLP, mlp_backward(np.tanh, slopes))
    assert report.diagnosis is not None
    said = [f for f in report.diagnosis.findings if f.certainty == "exact"]
    assert all("places" not in f.evidence and "W1" not in f.tensors for f in said)


def test_weights_of_one_layer_that_are_not_transposed() -> None:
    loss = lambda p: mlp_loss(p, relu)  # noqa: E731
    grads = mlp_backward(relu, (lambda z: z > 0, lambda z: z > 0), turned=False)
    found = only(loss, MLP, grads)
    assert (found.cause, found.tensors) == ("weights-not-transposed", ("W1", "b1"))


def normed(p: Any) -> tuple[Any, ...]:
    z = X @ p["W1"] + p["b1"]
    spread = np.sqrt(z.var(axis=0) + 1e-8)
    n = (z - z.mean(axis=0)) / spread
    a = np.maximum(0, p["gamma"] * n + p["beta"])
    return n, spread, a, softmax(a @ p["W2"])


def normed_loss(p: Any) -> Any:
    return -np.log(normed(p)[-1][ROWS, LABELS]).mean()


@pytest.mark.parametrize(
    ("mean", "variance"), [(True, True), (False, False), (True, False), (False, True)]
)
def test_statistics_of_a_batch_that_are_taken_for_constants(mean: bool, variance: bool) -> None:
    n, spread, a, probabilities = normed(NORMED)
    d = (probabilities - np.eye(3)[LABELS]) / len(X)
    dy = (d @ NORMED["W2"].T) * (a > 0)
    dn = dy * NORMED["gamma"]
    dz = (dn - mean * dn.mean(axis=0) - variance * n * (dn * n).mean(axis=0)) / spread
    grads = {
        "W1": X.T @ dz,
        "b1": dz.sum(axis=0),
        "gamma": (dy * n).sum(axis=0),
        "beta": dy.sum(axis=0),
        "W2": a.T @ d,
    }
    if mean and variance:
        assert fastcheck.check(normed_loss, NORMED, grads)
        return
    found = only(normed_loss, NORMED, grads)
    assert found.cause == "missing-path"
    assert ("for a constant (" in found.evidence) == (not mean and not variance)


@pytest.mark.parametrize("masked", [True, False])
def test_a_mask_ahead_of_windows_whose_largest_elements_are_equal(masked: bool) -> None:
    """Windows of zeros: the gradient goes to the first of them, which argmax takes."""
    rng = np.random.default_rng(0)
    data, targets = rng.standard_normal((6, 5)), rng.standard_normal((6, 2))
    params = {
        "W1": rng.standard_normal((5, 12)),
        "b1": 0.1 * rng.standard_normal(12),
        "W2": rng.standard_normal((6, 2)),
    }

    def windows(p: Any) -> Any:
        return np.maximum(0, data @ p["W1"] + p["b1"]).reshape(6, 6, 2)

    def pooled_loss(p: Any) -> Any:
        return 0.5 * np.sum((windows(p).max(axis=2) @ p["W2"] - targets) ** 2)

    a = windows(params)
    d = a.max(axis=2) @ params["W2"] - targets
    da = np.zeros_like(a)
    np.put_along_axis(da, a.argmax(axis=2)[..., None], (d @ params["W2"].T)[..., None], 2)
    dz = (da * (a > 0) if masked else da).reshape(6, 12)
    grads = {"W1": data.T @ dz, "b1": dz.sum(axis=0), "W2": a.max(axis=2).T @ d}
    if masked:
        assert fastcheck.check(pooled_loss, params, grads)
        return
    found = only(pooled_loss, params, grads)
    assert (found.cause, found.tensors) == ("missing-mask", ("W1", "b1"))
