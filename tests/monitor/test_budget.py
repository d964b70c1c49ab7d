"""A budget is kept: by a fake clock, on which training and checks take what they are told to."""

import math
from array import array
from itertools import pairwise

import pytest

from fastcheck import GradientError, Monitor
from fastcheck.monitor import budget as budgets
from fastcheck.monitor.budget import Budget
from fastcheck.monitor.prices import Choice, Prices

from .loops import loss, problem, scaled

STEP = 0.010


class Clock:
    """Seconds that pass when told so, in the loss too: checks do not put an `array.array` back."""

    def __init__(self):
        self._now = array("d", [100.0])

    def __call__(self):
        return self._now[0]

    def tick(self, seconds):
        self._now[0] += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(budgets, "perf_counter", clock)
    return clock


def train(clock, monitor, steps, step=STEP, bug=None):
    """Train on the fake clock: a step takes `step` seconds, or ``step(number)``."""
    params, grads, batch = problem()
    for number in range(steps):
        clock.tick(step(number) if callable(step) else step)
        monitor(params, grads if bug is None else bug(number, grads), batch=batch)


def watched(clock, a_pass=STEP / 3, **keywords):
    """Return a monitor of a loss that takes so many seconds on the fake clock."""

    def slow(params, batch):
        clock.tick(a_pass)
        return loss(params, batch)

    return Monitor(slow, **keywords)


# -- the stopwatch ---------------------------------------------------------------------------------


def test_training_and_checks_are_told_apart(clock):
    budget = Budget(0.1)
    budget.pause()
    clock.tick(2)
    budget.resume()
    clock.tick(30)
    budget.pause()
    assert (budget.spent, budget.training) == (2, 30)
    assert budget.allowance == pytest.approx(1.0)
    clock.tick(0.5)
    assert budget.lapse() == 0.5
    budget.resume()
    clock.tick(10)
    budget.pause()
    assert (budget.spent, budget.training) == (2.5, 40)


def test_the_wait_is_what_is_missing_over_what_a_step_earns(clock):
    budget = Budget(0.1)
    budget.pause()
    budget.resume()
    clock.tick(10)  # ten steps of one second
    budget.pause()
    assert budget.steps_until(0.9, 10) == 0
    assert budget.steps_until(1.5, 10) == pytest.approx(5)
    assert budget.allowance_soon(10) == pytest.approx(1.1)


def test_before_anything_is_known_the_wait_has_no_end(clock):
    budget = Budget(0.1)
    budget.pause()
    assert budget.steps_until(1.0, 0) == math.inf
    assert Budget(None).steps_until(1.0, 0) == 0


# -- prices ----------------------------------------------------------------------------------------


def test_the_most_that_fits_is_chosen():
    prices = Prices(sample=100)
    prices.learn(Choice("joint"), 1.0)
    prices.learn(Choice("directions"), 3.0)
    prices.learn(Choice("sample", 100), 10.0)
    chosen = [prices.choose(seconds, 0.1, 4, 7960).mode for seconds in (1.0, 2.9, 3.0, 9.9, 10.0)]
    assert chosen == ["joint", "joint", "directions", "directions", "sample"]


def test_one_tensor_has_no_direction_but_the_joint_one():
    assert Prices(sample=100).choose(5.0, 1.0, 1, 7960) == Choice("joint")


def test_samples_grow_with_the_budget_and_not_at_once():
    prices = Prices(sample=100)
    prices.learn(Choice("sample", 100), 1.0)
    assert prices.choose(1000.0, 0.1, 4, 7960).count == 400
    prices.learn(Choice("sample", 400), 1.6)  # 0.8 + 0.002 each
    assert prices.choose(2.8, 0.1, 4, 7960).count == pytest.approx(1000, abs=1)
    assert prices.choose(1000.0, 0.1, 4, 1200).count == 1200


def test_a_price_falls_at_once_and_rises_slowly():
    prices = Prices(sample=100)
    for seconds in (5.0, 1.0, 2.0):
        prices.learn(Choice("joint"), seconds)
    assert prices.least(0.1) == pytest.approx(1.3)


# -- the monitor -----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_the_share_is_kept(clock, share):
    monitor = watched(clock, every=10, budget=share)
    train(clock, monitor, 3000)
    assert monitor.history
    assert monitor._budget.spent <= 0.8 * share * 3000 * STEP
    assert all(one.share <= 1.5 * share for one in monitor.history)


def test_the_budget_is_used(clock):
    monitor = watched(clock, every=10, budget=0.05)
    train(clock, monitor, 3000)
    assert monitor._budget.spent >= 0.5 * 0.05 * 3000 * STEP


def test_more_is_compared_with_more_to_spend(clock):
    poor, rich = (watched(clock, every=100, budget=share) for share in (0.01, 0.5))
    train(clock, poor, 2000)
    train(clock, rich, 2000)
    assert {one.mode for one in poor.history} == {"directions"}
    assert poor.history[0].compared == 1
    assert rich.history[-1].mode == "full"
    assert len(rich.history) > len(poor.history)


def test_nothing_is_checked_before_it_is_affordable(clock):
    monitor = watched(clock, every=1, budget=0.01)
    train(clock, monitor, 500)
    assert monitor.history == []
    train(clock, monitor, 500)
    assert monitor.history


def test_silence_is_not_taken_for_a_pass(clock):
    monitor = watched(clock, every=10, budget=0.0001)
    with pytest.warns(UserWarning, match="no gradient has been checked yet") as caught:
        train(clock, monitor, 1000)
    assert monitor.history == []
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_no_check_comes_before_it_is_due(clock):
    monitor = watched(clock, every=50, start=20, budget=1.0)
    train(clock, monitor, 400)
    steps = [one.step for one in monitor.history]
    assert steps
    assert steps[0] >= 20
    assert len({(step - 20) // 50 for step in steps}) == len(steps)


def test_a_check_that_was_put_off_is_caught_up_with(clock):
    monitor = watched(clock, a_pass=1.4 * STEP, every=100, budget=0.01)
    train(clock, monitor, 5000)
    steps = [one.step for one in monitor.history]
    gaps = [after - before for before, after in pairwise(steps)]
    assert len(gaps) >= 5
    # 4.2 steps a check are affordable after 560: three quarters of the budget are planned for.
    assert max(gaps) < 600
    assert any(step % 100 for step in steps)


def test_when_steps_become_slower_a_check_is_made_sooner(clock):
    monitor = watched(clock, a_pass=STEP, every=10, budget=0.01)
    train(clock, monitor, 3000, lambda number: STEP if number < 2000 else 50 * STEP)
    steps = [one.step for one in monitor.history]
    assert sum(1000 <= step < 2000 for step in steps) <= 4
    assert sum(2000 <= step < 3000 for step in steps) >= 50


def test_an_expensive_failure_is_paid_off_before_the_next_check(clock):
    monitor = watched(clock, every=10, budget=0.05, on_fail="record")
    train(clock, monitor, 6000, bug=lambda n, g: scaled("W1", 2)(n, g) if n < 300 else g)
    failed = [one for one in monitor.history if one.verdict.value == "fail"]
    assert len(failed) == 1
    assert monitor._budget.spent <= 1.05 * 0.05 * 6000 * STEP


def test_a_bug_is_found_at_the_first_check_after_it(clock):
    monitor = watched(clock, every=100, budget=0.01)
    with pytest.raises(GradientError):
        train(clock, monitor, 5000, bug=scaled("b2", 1.01, start=1000))
    before, last = monitor.history[:-1], monitor.history[-1]
    assert before
    assert all(one.step < 1000 for one in before)
    assert last.step >= 1000
    assert last.tensors["b2"].value == "fail"


def test_without_a_budget_time_does_not_matter(clock):
    monitor = watched(clock, a_pass=1000.0, every=10, mode="directions")
    train(clock, monitor, 100)
    assert [one.step for one in monitor.history] == [*range(0, 100, 10)]
