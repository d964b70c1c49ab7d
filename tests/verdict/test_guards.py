"""A gradient of the textbook, without the ε of the loss, passes where ε hardly counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict
from fastcheck.params import ParamTree
from fastcheck.planted import BUGS, BackwardPass, passes
from fastcheck.problems import mlp
from fastcheck.trace.tracer import trace
from fastcheck.verdict.diagnosis.guards import guards_of
from fastcheck.verdict.diagnosis.unguarded import unguarded

MOST = 1e-4
SAMPLES = 24
KINDS = ("log", "clip", "maximum", "where", "bce")
Arrays = dict[str, np.ndarray]


@dataclass
class Net:
    """A network with an ε in its loss, and its backward pass by p − y, which has none."""

    params: Arrays
    loss: Callable[[Any], Any]
    backward: BackwardPass
    previous: Arrays

    def right(self) -> Any:
        return fastcheck.numerical_gradient(self.loss, self.params)

    def apart(self) -> float:
        """The largest part of a tensor's gradient that the ε makes up."""
        textbook, right = self.backward.gradients(), self.right()
        return max(
            float(np.linalg.norm(textbook[n] - right[n]) / np.linalg.norm(right[n])) for n in right
        )


def guarded(kind: str, eps: float, P: Any, Y: np.ndarray) -> Any:
    if kind == "log":
        return -np.sum(Y * np.log(P + eps)) / SAMPLES
    if kind == "clip":
        return -np.sum(Y * np.log(np.clip(P, eps, 1 - eps))) / SAMPLES
    if kind == "maximum":
        return -np.sum(Y * np.log(np.maximum(P, eps))) / SAMPLES
    if kind == "where":
        return -np.sum(Y * np.log(np.where(eps > P, eps, P))) / SAMPLES
    return -np.sum(Y * np.log(P + eps) + (1 - Y) * np.log(1 - P + eps)) / SAMPLES


def network(kind: str, eps: float, seed: int, iterations: int = 0) -> Net:
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(6, SAMPLES)), np.eye(3)[rng.integers(3, size=SAMPLES)].T
    start = mlp.init((6, 7, 7, 3), seed)
    params = {n: np.array(v) + 0.01 * rng.normal(size=v.shape) for n, v in start.items()}

    def outputs(p: Any) -> Any:
        A = X
        for i in (1, 2):
            A = np.maximum(0, p[f"W{i}"] @ A + p[f"b{i}"])
        Z = p["W3"] @ A + p["b3"]
        return 1 / (1 + np.exp(-Z)) if kind == "bce" else mlp.softmax(Z)

    def back(p: Arrays) -> BackwardPass:
        if kind != "bce":
            return passes.of_mlp(p, X, Y)
        return BackwardPass.dense(p, X, (outputs(p) - Y) / SAMPLES, ["relu", "relu"])

    previous = {n: 0.9 * g + 0.01 * np.cos(g) for n, g in back(params).gradients().items()}
    for _ in range(iterations):
        previous = back(params).gradients()
        params = {n: params[n] - 0.5 * previous[n] for n in params}
    return Net(params, lambda p: guarded(kind, eps, outputs(p), Y), back(params), previous)


@pytest.mark.parametrize("iterations", [0, 300])
@pytest.mark.parametrize(
    ("kind", "eps"),
    [("log", 1e-7), ("log", 1e-8), ("log", 1e-12), *((kind, 1e-7) for kind in KINDS[1:])],
)
def test_the_gradient_of_the_textbook_passes_where_the_constant_hardly_counts(
    kind: str, eps: float, iterations: int
) -> None:
    for seed in range(5):
        net = network(kind, eps, seed, iterations)
        report = fastcheck.check(net.loss, net.params, net.backward.gradients())
        assert report.passed == (net.apart() <= MOST), str(report)
        # And that of the loss as it is, whatever the constant.
        assert fastcheck.check(net.loss, net.params, net.right()).passed


def beyond_what_is_said(report: fastcheck.Report, wrong: Arrays, right: Arrays) -> list[str]:
    """Return the tensors that are further off than resolution and tolerance say."""
    return [
        name
        for name, tensor in report.tensors.items()
        if np.linalg.norm(wrong[name] - right[name])
        > (1.05 * tensor.resolution + 2e-6) * np.linalg.norm(right[name])
    ]


@pytest.mark.parametrize(
    ("kind", "eps", "iterations"), [("log", 1e-7, 0), ("log", 1e-12, 300), ("clip", 1e-8, 300)]
)
def test_no_bug_passes_for_a_constant_left_out(kind: str, eps: float, iterations: int) -> None:
    planted = 0
    net = network(kind, eps, 1, iterations)
    right = net.right()
    for grads in (net.backward.gradients(), right):
        known: dict[str, Any] = {
            "params": net.params,
            "previous": net.previous,
            "batch_size": SAMPLES,
            "backward": net.backward,
        }
        small = (BUGS["one-element"].but(factor=1.01), BUGS["scale"].but(factor=1.00001))
        variants = [v for bug in BUGS if bug.name != "shallow-copy" for v in bug.variants]
        for bug in (*variants, *small):
            if bug.applies(grads, **known):
                wrong = bug(grads, **known)
                report = fastcheck.check(net.loss, net.params, wrong)
                planted += 1
                assert not report.passed or not beyond_what_is_said(report, wrong, right), bug
    assert planted > 30


def test_a_pass_names_the_line_and_states_what_it_would_not_see() -> None:
    net = network("log", 1e-7, 3)
    report = fastcheck.check(net.loss, net.params, net.backward.gradients())
    right = net.right()
    assert report.passed
    assert "Notes" in str(report)
    excused = {n: t for n, t in report.tensors.items() if "without" in t.reason}
    assert excused
    for name, tensor in excused.items():
        assert "is that of the loss without the 1e-7 in `log`" in tensor.notes[0]
        assert "test_guards.py:" in tensor.notes[0]
        assert "and differs by" in tensor.reason
        off = np.linalg.norm(net.backward.gradients()[name] - right[name])
        assert tensor.resolution * np.linalg.norm(right[name]) >= 0.999 * off
        assert tensor.relative_error > 0


def test_a_constant_that_counts_fails_and_is_named() -> None:
    W = np.array([[8.0, -8.0], [0.5, -0.3]])
    X, Y = np.array([[1.0, 0.2], [0.3, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])

    def loss(W: Any) -> Any:
        E = np.exp(X @ W)
        return -np.sum(Y * np.log(E / E.sum(axis=1, keepdims=True) + 1e-8))

    E = np.exp(X @ W)
    textbook = X.T @ (E / E.sum(axis=1, keepdims=True) - Y)
    report = fastcheck.check(loss, W, textbook)
    assert report.failed
    assert report.diagnosis is not None
    (finding,) = report.diagnosis.findings
    assert (finding.cause, finding.certainty) == ("epsilon", "exact")
    assert "without the 1e-8 in `log`" in finding.evidence
    assert "test_guards.py:" in finding.evidence
    # Whatever else is wrong is not named so.
    other = fastcheck.check(loss, W, 1.01 * textbook)
    assert other.failed
    assert other.diagnosis is not None
    assert other.diagnosis.causes == ()


@pytest.mark.parametrize("kind", ["log", "clip"])
def test_a_mistake_beside_the_constant_is_named_as_without_it(kind: str) -> None:
    net = network(kind, 1e-7, 3)
    textbook = net.backward.gradients()
    assert np.linalg.norm(textbook["W1"] - net.right()["W1"]) > 0
    wrong = {**textbook, "W2": textbook["W2"].T, "b3": 2 * textbook["b3"]}
    diagnosis = fastcheck.check(net.loss, net.params, wrong).diagnosis
    assert diagnosis is not None
    assert set(diagnosis.causes) == {"transpose", "scale"}
    # And what no known mistake explains stays so.
    noise = np.random.default_rng(0).normal(size=textbook["W2"].shape)
    strange = {**textbook, "W2": textbook["W2"] + 0.1 * noise}
    diagnosis = fastcheck.check(net.loss, net.params, strange).diagnosis
    assert diagnosis is not None
    assert diagnosis.causes == ()


def test_it_is_said_which_gradient_a_mistake_is_held_against() -> None:
    net = network("log", 1e-7, 3)
    wrong = {n: 2 * g for n, g in net.backward.gradients().items()}
    report = fastcheck.check(net.loss, net.params, wrong)
    assert "(Held against the gradient of the loss without the 1e-7 in `log`" in str(
        report.diagnosis
    )
    right = {n: 2 * g for n, g in net.right().items()}
    assert "Held against" not in str(fastcheck.check(net.loss, net.params, right).diagnosis)


def test_a_stricter_tolerance_does_not_overlook_it() -> None:
    net = network("log", 1e-7, 3)
    textbook = net.backward.gradients()
    assert fastcheck.check(net.loss, net.params, textbook).passed
    strict = fastcheck.check(net.loss, net.params, textbook, tolerance=1e-10)
    assert strict.failed
    assert strict.diagnosis is not None
    assert strict.diagnosis.causes == ("epsilon",)


def test_the_logarithm_of_zero_explains_nothing() -> None:
    X = np.array([[1.0, 0.3]])

    def loss(w: Any) -> Any:
        return -np.log(np.maximum(X @ w, 0)[0] + 1e-6)

    w = np.array([-1.0, 0.2])
    assert not fastcheck.check(loss, w, -X[0] / (X @ w)).passed


def batch_norm(how: str, eps: float = 1e-5) -> tuple[Any, Arrays, Arrays]:
    """A normalisation whose backward pass leaves ε out in one of the ways that people do."""
    rng = np.random.default_rng(0)
    n, X, T = 24, rng.normal(size=(24, 5)), rng.normal(size=(24, 6))
    params = {
        "W": rng.normal(size=(5, 6)),
        "g": 1 + 0.1 * rng.normal(size=6),
        "b": 0.1 * rng.normal(size=6),
    }

    def loss(p: Any) -> Any:
        z = X @ p["W"]
        h = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + eps)
        return np.sum((np.tanh(p["g"] * h + p["b"]) - T) ** 2) / n

    z = X @ params["W"]
    off, var = z - z.mean(axis=0), z.var(axis=0)
    h = off / np.sqrt(var + (0 if how == "everywhere" else eps))
    a = np.tanh(params["g"] * h + params["b"])
    da = 2 * (a - T) / n * (1 - a**2)
    dh = da * params["g"]
    if how == "step by step":
        dvar = np.sum(dh * off * -0.5 * var**-1.5, axis=0)
        dz = dh / np.sqrt(var) - np.mean(dh / np.sqrt(var), axis=0) + dvar * 2 * off / n
    elif how == "in the root":
        std = np.sqrt(var + eps)
        dvar = -np.sum(dh * off, axis=0) / std**2 * 0.5 / np.sqrt(var)
        dz = dh / std - np.mean(dh / std, axis=0) + dvar * 2 * off / n
    else:
        dz = (dh - dh.mean(axis=0) - h * np.mean(dh * h, axis=0)) / np.sqrt(var)
    return loss, params, {"W": X.T @ dz, "g": np.sum(da * h, axis=0), "b": da.sum(axis=0)}


@pytest.mark.parametrize("how", ["everywhere", "in dz", "step by step", "in the root"])
def test_a_normalisation_that_leaves_it_out_in_any_way(how: str) -> None:
    loss, params, grads = batch_norm(how)
    report = fastcheck.check(loss, params, grads)
    assert report.passed, str(report)
    assert "the 1e-5 in `sqrt`" in str(report)
    for name in grads:
        for factor in (1.0001, 0.9999, -1.0):
            wrong = {**grads, name: factor * grads[name]}
            assert fastcheck.check(loss, params, wrong).verdict is Verdict.FAIL, (name, factor)


@pytest.mark.parametrize("cached", [True, False])
def test_a_norm_that_the_backward_pass_takes_with_or_without_it(cached: bool) -> None:
    rng = np.random.default_rng(1)
    X, T, W = rng.normal(size=(24, 5)), rng.normal(size=(24, 6)), rng.normal(size=(5, 6))

    def loss(W: Any) -> Any:
        z = X @ W
        return np.sum((z / (np.linalg.norm(z, axis=1, keepdims=True) + 1e-6) - T) ** 2)

    z = X @ W
    norm = np.linalg.norm(z, axis=1, keepdims=True)
    u = z / (norm + 1e-6 * cached)
    du = 2 * (u - T)
    grads = X.T @ ((du - u * np.sum(du * u, axis=1, keepdims=True)) / (norm + 1e-6 * cached))
    assert fastcheck.check(loss, W, grads).passed
    for place in range(3):
        wrong = grads.copy()
        wrong.flat[place] *= 1.01
        assert fastcheck.check(loss, W, wrong).verdict is Verdict.FAIL


def traced(loss: Callable[[Any], Any], *shape: int) -> Any:
    return trace(
        loss, ParamTree.from_user(np.linspace(0.2, 0.9, int(np.prod(shape))).reshape(shape))
    )


FOUND = [
    (lambda w: np.sum(np.log(w + 1e-8)), "log", 1e-8),
    (lambda w: np.sum(np.log(1 + 1e-8 - w)), "log", 1.00000001),
    (lambda w: np.sum(np.log(np.maximum(w, 1e-12)[0])), "log", 1e-12),
    (lambda w: np.sum(w / (w.sum() + 1e-6)[None]), "divide", 1e-6),
    (lambda w: np.sum((w**2 + 1e-5) ** -0.5), "power", 1e-5),
    (lambda w: np.sum(1 / (np.sqrt(w) + np.full(w.shape, 1e-7))), "divide", 1e-7),
    (lambda w: np.sum(np.sqrt(w.reshape(-1) + 1e-9)), "sqrt", 1e-9),
]


@pytest.mark.parametrize(("loss", "operation", "value"), FOUND)
def test_guards_are_found(loss: Any, operation: str, value: float) -> None:
    (guard,) = guards_of(traced(loss, 2, 3))
    assert (guard.operation, guard.value) == (operation, value)


@pytest.mark.parametrize(
    "loss",
    [
        lambda w: np.sum(np.log(w + 1e-3)),
        lambda w: np.sum(w + 1e-8),
        lambda w: np.sum(np.maximum(w, 1e-8) ** 2),
        lambda w: np.sum(np.log(w)) + 1e-6 * np.sum(w**2),
        lambda w: np.sum(np.log(w + np.linspace(1e-8, 1e-7, 6).reshape(2, 3))),
        lambda w: np.sum(np.exp(w) / 1e-7),
    ],
)
def test_what_is_none_is_not_taken_for_one(loss: Any) -> None:
    assert guards_of(traced(loss, 2, 3)) == []
    assert unguarded(traced(loss, 2, 3)) == []


def test_the_gradients_without_are_those_of_the_loss_without() -> None:
    w = np.linspace(0.2, 0.9, 6).reshape(2, 3)

    def loss(w: Any, first: float = 1e-5, second: float = 1e-6) -> Any:
        n = np.linalg.norm(w, axis=1, keepdims=True) + first
        return np.sum(np.log(np.abs(w / n) + second))

    found = {one.lines: one for one in unguarded(traced(loss, 2, 3)) if one.way == 0}
    assert len(found) == 3
    right = fastcheck.numerical_gradient(loss, w)
    for one, (first, second) in zip(found.values(), ((0, 1e-6), (1e-5, 0), (0, 0)), strict=True):
        other = fastcheck.numerical_gradient(lambda w, a=first, b=second: loss(w, a, b), w)
        assert np.allclose(one.right["params"], right.ravel(), rtol=1e-9)
        np.testing.assert_allclose(
            one.shift["params"], (other - right).ravel(), rtol=1e-4, atol=1e-11
        )


def test_without_a_trace_it_is_mentioned_as_a_possibility() -> None:
    net = network("log", 1e-7, 3)

    def opaque(p: Any) -> float:
        return float(np.asarray(net.loss({n: np.array(v.tolist()) for n, v in p.items()})))

    report = fastcheck.check(opaque, net.params, net.backward.gradients())
    assert "a small constant (ε)" in str(report) or not report.failed
