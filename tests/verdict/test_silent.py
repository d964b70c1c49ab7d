"""Derivatives that are exactly zero are explained, and fail nothing."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck

RNG = np.random.default_rng(3)
SAMPLES, INPUTS, HIDDEN, CLASSES = 16, 6, 5, 3


class Net:
    def __init__(self, black=(), off=(), columns=False):
        self.X = RNG.normal(size=(SAMPLES, INPUTS))
        self.X[:, list(black)] = 0.0
        self.Y = RNG.normal(size=(SAMPLES, CLASSES))
        self.columns = columns
        b1 = np.zeros(HIDDEN)
        b1[list(off)] = -50.0
        self.params = {
            "W1": RNG.normal(size=(INPUTS, HIDDEN)),
            "b1": b1,
            "W2": RNG.normal(size=(HIDDEN, CLASSES)),
        }
        if columns:
            self.params["W1"] = self.params["W1"].T.copy()

    def _first(self, p):
        return p["W1"].T if self.columns else p["W1"]

    def loss(self, p):
        product = (p["W1"] @ self.X.T).T if self.columns else self.X @ p["W1"]
        return np.mean((np.maximum(product + p["b1"], 0) @ p["W2"] - self.Y) ** 2)

    def grads(self, p):
        z = self.X @ self._first(p) + p["b1"]
        h = np.maximum(z, 0)
        d = 2 * (h @ p["W2"] - self.Y) / self.Y.size
        dz = (d @ p["W2"].T) * (z > 0)
        dW1 = self.X.T @ dz
        return {"W1": dW1.T if self.columns else dW1, "b1": dz.sum(0), "W2": h.T @ d}

    def notes(self):
        report = fastcheck.check(self.loss, self.params, self.grads)
        assert report.passed, str(report)
        return {name: " ".join(tensor.notes) for name, tensor in report.tensors.items()}


@pytest.mark.parametrize("columns", [False, True])
def test_inputs_that_are_always_zero_are_counted(columns):
    notes = Net(black=(2, 4), columns=columns).notes()
    assert notes["W1"] == (
        "10 of 30 derivatives are exactly 0, because their input is 0 in every sample."
    )
    assert notes["b1"] == notes["W2"] == ""


def test_units_that_are_always_off_are_told_from_them():
    notes = Net(black=(2,), off=(1,)).notes()
    assert notes["W1"].startswith(
        "10 of 30 derivatives are exactly 0: 5 because their input is 0 in every sample, 5 because "
        "what they feed does nothing in any"
    )
    assert notes["b1"].startswith("1 of 5 derivatives are exactly 0: the loss does not depend on")
    assert notes["W2"].startswith("3 of 15 derivatives are exactly 0, because their input is 0")


def test_a_network_without_zeros_is_not_commented():
    assert set(Net().notes().values()) == {""}


def test_a_missing_gradient_is_not_excused():
    net = Net()
    grads = net.grads(net.params)
    grads["W1"][:, 1] = 0.0
    report = fastcheck.check(net.loss, net.params, grads)
    assert report.failed == ("W1",)
    assert report.tensors["W1"].notes == ()


def test_the_line_of_a_kink_is_named():
    def loss(w):
        return np.sum(np.abs(w)) + np.sum(np.maximum(w - 1.0, 0.0))

    report = fastcheck.check(loss, np.array([0.0, 1.0, 2.0, 0.0]), np.array([0.0, 1.0, 2.0, 0.0]))
    (note,) = report.tensors["params"].notes
    assert note.startswith(
        "3 elements lie on a kink of the loss, where the derivative jumps; set apart from the "
        "others: 2 at `absolute` ("
    )
    assert "test_silent.py:" in note
    assert "1 at `maximum` (" in note


def test_a_kink_is_told_of_once():
    grads = np.array([0.0, 1.0])
    report = fastcheck.check(lambda w: np.sum(np.abs(w)), np.array([0.0, 1.0]), grads)
    (note,) = report.tensors["params"].notes
    assert note.startswith("1 element lies on a kink of the loss, where the derivative jumps; set")
    assert str(report).count("where the derivative jumps") == 1


def test_a_black_box_cannot_say_where_its_kinks_are():
    w = np.array([0.0, 1.0, 2.0])
    report = fastcheck.check(lambda w: np.sum(np.abs(w)), w, np.sign(w), engine="loop")
    (note,) = report.tensors["params"].notes
    assert note == (
        "1 element lies on a kink of the loss, where the derivative jumps; set apart from the "
        "others."
    )
