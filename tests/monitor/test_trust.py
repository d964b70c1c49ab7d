"""What was cross-checked once is not again, and whatever has changed since is."""

import numpy as np
import pytest

from fastcheck import Monitor, Verdict
from fastcheck.engines import plan

from .loops import Counted, backward, data, initial, loss, problem, train


@pytest.fixture(params=[False, True], ids=["cold", "machine code at hand"])
def looks(request, monkeypatch):
    """The names of the tensors that were cross-checked, in order: each by itself or all at once."""
    seen = []
    disagreement, covers = plan.disagreement, plan.Jointly.covers
    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: request.param)

    def covered(joint, tensor, slope):
        seen.append(tensor.name)
        return covers(joint, tensor, slope)

    def looked(replay, loop, function, tree, tensor, *rest, **named):
        seen.append(tensor.name)
        return disagreement(replay, loop, function, tree, tensor, *rest, **named)

    monkeypatch.setattr(plan, "disagreement", looked)
    monkeypatch.setattr(plan.Jointly, "covers", covered)
    return seen


def new(looks):
    """Return what was cross-checked since the last call."""
    seen = list(dict.fromkeys(looks))
    looks.clear()
    return seen


@pytest.mark.parametrize("mode", ["full", "sample"])
def test_the_second_check_makes_no_cross_check_and_few_calls(looks, mode):
    params, grads, batch = problem()
    counted = Counted()
    monitor = Monitor(counted, every=1, mode=mode)
    monitor(params, grads, batch=batch)
    assert set(new(looks)) == set(params)
    first = counted.calls
    monitor(params, grads, batch=batch)
    second = counted.calls - first
    monitor(params, grads, batch=batch)
    assert new(looks) == []
    assert second == counted.calls - first - second <= 10
    if not plan.machine_code_at_hand():
        assert first > 2 * second


def test_along_a_training_only_the_first_check_looks(looks):
    # One branch only: the trace has the same form whatever the numbers.
    monitor = Monitor(loss, every=5)
    train(5, monitor)
    new(looks)
    train(40, monitor)
    assert new(looks) == []


def test_another_batch_size_is_looked_at_again(looks):
    params, _, (X, Y) = problem()
    monitor = Monitor(loss, every=1)
    for size, looked_at in ((32, set(params)), (32, set()), (20, set(params)), (32, set())):
        batch = X[:size], Y[:size]
        assert monitor(params, backward(params, batch), batch=batch)
        assert set(new(looks)) == looked_at


def test_another_network_is_looked_at_again(looks):
    monitor = Monitor(loss, every=1)
    for sizes, looked_at in (
        ((6, 5, 3), {"W1", "b1", "W2", "b2"}),
        ((6, 7, 3), {"W1", "b1", "W2"}),  # b2 is added to products of the same shape
        ((6, 5, 4), {"W1", "b1", "W2", "b2"}),
    ):
        params, batch = initial(0, sizes), data(0, sizes)
        assert monitor(params, backward(params, batch), batch=batch)
        assert set(new(looks)) == looked_at


def branching(params, batch):
    X, kind = batch
    z = X @ params["w"]
    if kind == "tanh":
        a = np.tanh(z)
    elif kind == "sine":
        a = np.sin(z)
    else:
        a = z * z
    return np.sum(a)


SLOPES = {
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "sine": np.cos,
    "square": lambda z: 2 * z,
}


def test_another_branch_or_activation_is_looked_at_again(looks):
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((20, 4)), rng.standard_normal(4)
    monitor = Monitor(branching, every=1, on_fail="record")
    seen = []
    for kind in ("tanh", "tanh", "sine", "square", "tanh"):
        grads = {"w": X.T @ SLOPES[kind](X @ w)}
        assert monitor({"w": w}, grads, batch=(X, kind)).verdict is Verdict.PASS
        seen.append(bool(new(looks)))
    assert seen == [True, False, True, True, False]
    wrong = {"w": X.T @ SLOPES["sine"](X @ w)}
    assert monitor({"w": w}, wrong, batch=(X, "tanh")).verdict is Verdict.FAIL


def test_a_branch_on_the_parameters_is_looked_at_again(looks):
    def value(params):
        w = params["w"]
        return np.sum(w**2) if w[0] > 0 else np.sum(w**3)

    monitor = Monitor(value, every=1)
    above, below = np.array([0.5, 1.0, 2.0]), np.array([-0.5, 1.0, 2.0])
    for w, grads in ((above, 2 * above), (below, 3 * below**2)):
        assert monitor({"w": w}, {"w": grads})
        assert new(looks) == ["w"]


def test_a_failure_is_looked_at_again_with_nothing_taken_on_trust(looks):
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1, on_fail="record")
    monitor(params, grads, batch=batch)
    new(looks)
    wrong = {**grads, "W2": 1.01 * grads["W2"]}
    assert monitor(params, wrong, batch=batch).failed == ("W2",)
    assert set(new(looks)) == set(params)


# -- leaks -----------------------------------------------------------------------------------------
#
# A penalty that the tracer cannot follow, because for anything but a plain array it returns what it
# returned last. In the trace it is a constant, like the one that stands there in the first step.


def penalised(params, batch):
    out = np.sum(np.tanh(batch["X"] @ params["w"]))
    return out + (_penalty(params["w"]) if batch["on"] else batch["offset"])


def _penalty(w):
    if type(w) is np.ndarray:
        _penalty.last = 0.5 * float(np.sum(w**2))
    return _penalty.last


_penalty.last = 0.0


def leaking(mode, slope):
    """Return the verdicts of three checks; the leak is there from the second on."""
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((32, 5)), rng.standard_normal(5)
    monitor = Monitor(penalised, every=1, mode=mode, sample=3, on_fail="record")
    for step in range(3):
        batch = {"X": X, "on": step > 0, "offset": 1.5}
        penalised({"w": w}, batch)  # the forward pass of the training
        grads = X.T @ (1 - np.tanh(X @ w) ** 2) + (slope * w if step else 0)
        monitor({"w": w}, {"w": grads}, batch=batch)
    return [one.verdict for one in monitor.history]


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_a_leak_that_appears_in_the_second_step_fails_no_right_gradient(mode):
    assert leaking(mode, 1.0) == [Verdict.PASS] * 3


@pytest.mark.parametrize("slope", [0.0, 0.99])
@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_a_leak_that_appears_in_the_second_step_hides_no_wrong_gradient(mode, slope):
    assert leaking(mode, slope) == [Verdict.PASS, Verdict.FAIL, Verdict.FAIL]


def test_what_directions_suspect_is_looked_at_with_nothing_taken_on_trust(looks):
    """A budget mixes samples and directions: what a sample trusted may be wrong by now."""
    rng = np.random.default_rng(0)
    X, w = rng.standard_normal((32, 5)), rng.standard_normal(5)
    monitor = Monitor(penalised, every=1, mode="directions", on_fail="record")
    first = {"X": X, "on": False, "offset": 1.5}
    slope = X.T @ (1 - np.tanh(X @ w) ** 2)
    assert monitor({"w": w}, {"w": 2 * slope}, batch=first).verdict is Verdict.FAIL
    assert monitor({"w": w}, {"w": slope}, batch=first).verdict is Verdict.PASS
    new(looks)
    second = {"X": X, "on": True, "offset": 1.5}
    penalised({"w": w}, second)
    assert monitor({"w": w}, {"w": slope}, batch=second).verdict is Verdict.FAIL
    assert new(looks)


def test_a_closure_that_the_trace_does_not_see_change_is_followed():
    settings = {"power": 2}

    def value(params):
        return np.sum(params["w"] ** settings["power"])

    w = np.arange(1.0, 5.0)
    monitor = Monitor(value, every=1, on_fail="record")
    for power in (2, 3, 2, 4):
        settings["power"] = power
        assert monitor({"w": w}, {"w": power * w ** (power - 1)}).verdict is Verdict.PASS
        assert monitor({"w": w}, {"w": w ** (power - 1)}).verdict is Verdict.FAIL
