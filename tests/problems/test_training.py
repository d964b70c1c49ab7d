"""The worked example: a training on the digits, right, and with a bug that switches itself on."""

import numpy as np
import pytest

from fastcheck import GradientError, InputError, Monitor, Verdict
from fastcheck.problems import mlp, training

SMALL = {"sizes": (64, 10, 10), "batch": 32, "iterations": 300, "momentum_from": 100}


def watched(aliased=False, **keywords):
    """Train under a monitor; return it, whether it raised an error or not."""
    monitor = Monitor(training.loss, **keywords)

    def watch(params, grads, batch):
        monitor(params, grads, batch=batch)

    training.train(watch, aliased=aliased, **SMALL)
    return monitor


def test_training_learns_the_digits():
    params = training.train(iterations=400, sizes=(64, 10, 10), batch=64, momentum_from=100)
    X, Y = mlp.make_batch((64, 10, 10), 500)
    assert mlp.accuracy(params, X, Y) > 0.9


def test_without_momentum_the_alias_changes_nothing():
    short = {**SMALL, "iterations": 100}
    right, wrong = training.train(**short), training.train(aliased=True, **short)
    assert all(np.array_equal(right[name], wrong[name]) for name in right)
    longer = {**SMALL, "iterations": 102}
    right, wrong = training.train(**longer), training.train(aliased=True, **longer)
    assert not np.array_equal(right["W1"], wrong["W1"])


def test_what_is_watched_is_the_gradient_at_these_parameters():
    def watch(params, grads, batch):
        right = mlp.gradients(params, *batch)
        seen.append(all(np.array_equal(right[name], grads[name]) for name in right))

    seen = []
    training.train(watch, **SMALL)
    assert seen == [True] * 300
    seen = []
    training.train(watch, aliased=True, **SMALL)
    assert seen == [True] * 100 + [False] * 200


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_the_right_training_passes_every_check(mode):
    history = watched(mode=mode, every=50).history
    assert [one.step for one in history] == [0, 50, 100, 150, 200, 250]
    assert {one.verdict for one in history} == {Verdict.PASS}


def test_the_right_training_passes_with_a_budget():
    history = watched(budget=0.05, every=20).history
    assert {one.verdict for one in history} <= {Verdict.PASS}


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_the_bug_is_caught_at_the_first_check_after_it_began(mode):
    monitor = Monitor(training.loss, mode=mode, every=30)
    with pytest.raises(GradientError) as caught:
        training.train(lambda p, g, b: monitor(p, g, batch=b), aliased=True, **SMALL)
    assert [one.step for one in monitor.history] == [0, 30, 60, 90, 120]
    assert caught.value.report.failed == ("W1", "b1", "W2", "b2")


def test_the_bug_is_caught_at_the_first_check_that_a_budget_affords():
    """When that is, the machine says; the training goes on until it is."""
    monitor = Monitor(training.loss, budget=0.2, every=20)
    long = {**SMALL, "iterations": 200_000}
    with pytest.raises(GradientError):
        training.train(lambda p, g, b: monitor(p, g, batch=b), aliased=True, **long)
    *before, last = monitor.history
    assert all(one.step < 100 and one.verdict is Verdict.PASS for one in before)
    assert last.step >= 100


@pytest.mark.parametrize("every", [100, 30])
def test_the_bug_is_named(every):
    """At its first step the velocity is the gradient of the step before; later it is what was
    handed over in the step before. Either way 0.9 times that was added."""
    monitor = Monitor(training.loss, every=every, on_fail="raise")
    with pytest.raises(GradientError) as caught:
        training.train(lambda p, g, b: monitor(p, g, batch=b), aliased=True, **SMALL)
    (finding,) = caught.value.report.diagnosis.findings
    assert (finding.cause, finding.certainty) == ("accumulated", "exact")
    assert "0.9" in str(finding)


def test_the_batch_may_be_as_large_as_the_data_and_larger():
    params = training.train(sizes=(64, 10, 10), batch=600, iterations=2)
    assert np.isfinite(params["W1"]).all()


def test_sizes_that_are_none_are_refused():
    with pytest.raises(InputError, match="`sizes`"):
        training.train(sizes=(5,), iterations=1)
