"""The first check proves that the monitor can fail: a planted error has to be noticed."""

import numpy as np
import pytest

from fastcheck import Monitor, Verdict
from fastcheck.monitor.elements import Elements

from .loops import loss, problem, train

MODES = ("full", "sample", "directions")


@pytest.mark.parametrize("mode", MODES)
def test_the_first_record_says_that_the_canary_was_noticed(mode):
    monitor = Monitor(loss, every=5, mode=mode)
    train(12, monitor)
    assert "planted error of 1%" in monitor.history[0].notes[0]
    assert "not " not in monitor.history[0].notes[0]
    assert monitor.history[0].verdict is Verdict.PASS
    assert not any("planted" in note for one in monitor.history[1:] for note in one.notes)


@pytest.mark.parametrize("mode", MODES)
def test_the_canary_leaves_the_gradient_alone(mode):
    params, grads, batch = problem()
    before = {name: value.copy() for name, value in grads.items()}
    Monitor(loss, every=1, mode=mode)(params, grads, batch=batch)
    assert all(np.array_equal(grads[name], before[name]) for name in grads)


@pytest.mark.parametrize("mode", ["full", "sample"])
def test_a_monitor_that_cannot_fail_does_not_pass(monkeypatch, mode):
    """A check whose numerical gradient is made from the analytic one would never fail."""
    once = Elements._once

    def blind(self, moment, selected):
        return once(self, moment.with_gradients(problem()[1]), selected)

    monkeypatch.setattr(Elements, "_once", blind)
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1, mode=mode)
    report = monitor(params, grads, batch=batch)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert all(one.verdict is Verdict.INCONCLUSIVE for one in report.tensors.values())
    assert "not noticed in W1, b1, W2, b2" in monitor.history[0].notes[0]


def test_directions_that_cannot_see_one_percent_do_not_pass():
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1, mode="directions", tolerance=0.09)
    assert monitor(params, grads, batch=batch).verdict is Verdict.INCONCLUSIVE
    assert "would not have been noticed in" in monitor.history[0].notes[0]


def test_a_tolerance_wider_than_the_canary_is_not_proven():
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1, tolerance=0.09)
    assert monitor(params, grads, batch=batch).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("mode", MODES)
def test_a_tensor_without_any_gradient_needs_no_canary(mode):
    params = {"w": np.arange(1.0, 4.0), "unused": np.ones(3)}
    monitor = Monitor(lambda p: np.sum(p["w"] ** 2), every=1, mode=mode)
    report = monitor(params, {"w": 2 * params["w"], "unused": np.zeros(3)})
    assert report.tensors["w"].verdict is Verdict.PASS
    assert "noticed in" in monitor.history[0].notes[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_first_check_that_fails_is_proof_enough(mode):
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1, mode=mode, on_fail="record")
    assert monitor(params, {**grads, "b1": -grads["b1"]}, batch=batch).verdict is Verdict.FAIL
    assert not any("planted" in note for note in monitor.history[0].notes)
