"""Softmax, log-softmax, log-sum-exp and sigmoid are recognised however they are written."""

import numpy as np
import pytest

import fastcheck
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(5)
X = RNG.standard_normal((6, 5))
LABELS = np.array([0, 2, 1, 3, 3, 0])
Y = np.eye(4)[LABELS]
PARAMS = {"W": RNG.standard_normal((5, 4)), "b": RNG.standard_normal(4)}


def logits(p):
    return X @ p["W"] + p["b"]


def shifted_softmax_then_log(p):
    z = logits(p)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return -np.sum(Y * np.log(e / e.sum(axis=1, keepdims=True)))


def samples_in_columns(p):
    z = np.dot(p["W"].T, X.T) + p["b"].reshape(-1, 1)
    z -= np.max(z, axis=0)
    a = np.exp(z) / np.sum(np.exp(z), axis=0)
    return -np.sum(np.multiply(np.log(a), Y.T)) / 6


def integer_labels(p):
    z = logits(p)
    z = z - np.max(z, axis=1).reshape(-1, 1)
    prob = np.exp(z) / np.sum(np.exp(z), axis=1)[:, None]
    return -np.log(prob[np.arange(6), LABELS]).mean()


def shifted_minus_log_of_sum(p):
    shifted = logits(p) - np.max(logits(p), axis=1, keepdims=True)
    return -np.sum((shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))) * Y)


def log_sum_exp_with_the_maximum_added_back(p):
    z = logits(p)
    m = z.max(axis=1, keepdims=True)
    lse = m + np.log(np.sum(np.exp(z - m), axis=1, keepdims=True))
    return np.sum(lse) - np.sum(z * Y)


def one_sample_after_the_other(p):
    total = 0.0
    for row, label in zip(logits(p), LABELS, strict=True):
        prob = np.exp(row) / np.sum(np.exp(row))
        total += -np.log(prob[label])
    return total


FORMS = [
    shifted_softmax_then_log,
    samples_in_columns,
    integer_labels,
    shifted_minus_log_of_sum,
    log_sum_exp_with_the_maximum_added_back,
    one_sample_after_the_other,
]


def operations(loss, params=PARAMS):
    return [line.operation for line in fastcheck.explain(loss, params).graph]


@pytest.mark.parametrize("loss", FORMS, ids=lambda f: f.__name__)
def test_every_form_of_softmax_is_recognised(loss):
    found = set(operations(loss))
    assert found & {"log_softmax", "logsumexp"}
    assert not found & {"max", "exp", "log"}


@pytest.mark.parametrize("loss", FORMS, ids=lambda f: f.__name__)
def test_the_rewritten_graph_is_the_same_function(loss):
    tree = ParamTree.from_user(PARAMS)
    graph = simplify(trace(loss, tree))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        moved = {t.name: t.value + rng.standard_normal(t.shape) for t in tree}
        assert graph.evaluate(moved) == pytest.approx(float(loss(moved)), rel=1e-12)


@pytest.mark.parametrize("step", [0.3, 30.0])
@pytest.mark.parametrize("loss", FORMS, ids=lambda f: f.__name__)
def test_replay_equals_the_loop_at_large_steps(loss, step):
    replay, loop = (
        fastcheck.numerical_gradient(loss, PARAMS, step=step, engine=engine)
        for engine in ("replay", "loop")
    )
    for name in PARAMS:
        scale = np.abs(loop[name]).max()
        np.testing.assert_allclose(replay[name], loop[name], rtol=0, atol=1e-12 * scale)


def test_ties_between_logits_are_no_kinks_because_the_loss_does_not_depend_on_the_shift():
    zero = {"W": np.zeros((5, 4)), "b": np.zeros(4)}
    residual = (np.full((6, 4), 0.25) - Y) / 6
    report = fastcheck.check(
        integer_labels, zero, {"dW": X.T @ residual, "db": residual.sum(axis=0)}
    )
    assert report.passed
    assert all(tensor.kinked == 0 for tensor in report.tensors.values())


def test_a_network_that_is_sure_of_its_answers_loses_no_digits():
    sure = {"W": np.zeros((5, 4)), "b": np.array([40.0, 0.0, 0.0, 0.0])}

    def loss(p):
        z = logits(p)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return -np.sum(np.log((e / e.sum(axis=1, keepdims=True))[:, 0]))

    # d/db of −log softmax₀ is softmax − e₀; for b₀ that is −Σ of the other shares.
    others = np.exp(-40.0) / (1 + 3 * np.exp(-40.0))
    numeric = fastcheck.numerical_gradient(loss, sure)["b"]
    np.testing.assert_allclose(numeric, 6 * others * np.array([-3.0, 1, 1, 1]), rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "sigmoid"),
    [
        ("sigmoid", lambda z: 1 / (1 + np.exp(-z))),
        ("sigmoid", lambda z: 1.0 / (np.exp(-z) + 1.0)),
        ("sigmoid", lambda z: (1 + np.exp(-z)) ** -1),
        ("sigmoid", lambda z: np.exp(z) / (1 + np.exp(z))),
        ("tanh", lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z))),
    ],
)
def test_activations_written_with_exp_are_recognised(name, sigmoid):
    def loss(p):
        return np.sum(sigmoid(logits(p)) ** 2)

    found = operations(loss)
    assert name in found
    assert "exp" not in found
    replay, loop = (
        fastcheck.numerical_gradient(loss, PARAMS, step=0.3, engine=engine)["W"]
        for engine in ("replay", "loop")
    )
    np.testing.assert_allclose(replay, loop, rtol=0, atol=1e-12 * np.abs(loop).max())


def test_a_saturated_sigmoid_whose_exp_overflows_is_replayed():
    def loss(p):
        with np.errstate(over="ignore"):
            return np.sum((1 / (1 + np.exp(-1000.0 * logits(p)))) ** 2)

    explanation = fastcheck.explain(loss, PARAMS)
    assert {tensor.engine for tensor in explanation.tensors} == {"replay"}


def test_a_logarithm_is_not_split_where_a_part_could_become_negative():
    def loss(p):
        return np.sum(np.log((logits(p) ** 2 + 1.0) / (p["b"] + 10.0)))

    assert "divide" in operations(loss)


def test_sums_over_the_wrong_axis_are_left_as_they_are():
    square = {"W": PARAMS["W"], "b": PARAMS["b"]}

    def loss(p):
        z = (X[:4] @ p["W"]) + p["b"]  # 4 × 4, so that a missing keepdims goes unnoticed
        e = np.exp(z)
        return -np.sum(np.log(e / e.sum(axis=1)) * Y[:4])

    replay, loop = (
        fastcheck.numerical_gradient(loss, square, step=0.3, engine=engine)["W"]
        for engine in ("replay", "loop")
    )
    assert "log_softmax" not in operations(loss, square)
    np.testing.assert_allclose(replay, loop, rtol=0, atol=1e-12 * np.abs(loop).max())
