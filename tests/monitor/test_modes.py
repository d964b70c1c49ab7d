"""What each mode compares, what it finds, and that right gradients never fail."""

import numpy as np
import pytest

import fastcheck
from fastcheck import GradientError, Monitor, Verdict
from fastcheck.problems import sigmoid_231 as source

from .loops import Counted, backward, initial, loss, problem, train

MODES = ("full", "sample", "directions")


def one_element(step, grads):
    W1 = grads["W1"].copy()
    W1.flat[np.argmax(np.abs(W1))] *= 2
    return {**grads, "W1": W1}


def one_row(step, grads):
    W1 = grads["W1"].copy()
    W1[np.argmax(np.abs(W1).sum(axis=1))] = 0
    return {**grads, "W1": W1}


BUGS = {
    **{
        f"1% in {name}": lambda step, grads, name=name: {**grads, name: 1.01 * grads[name]}
        for name in initial()
    },
    "sign": lambda step, grads: {**grads, "W2": -grads["W2"]},
    "zero": lambda step, grads: {**grads, "b1": 0 * grads["b1"]},
    "classes moved on": lambda step, grads: {**grads, "b2": np.roll(grads["b2"], 1)},
    "one row": one_row,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bug", BUGS)
def test_every_bug_fails_at_the_first_check(bug, mode):
    monitor = Monitor(loss, every=5, mode=mode, start=3, sample=20)
    with pytest.raises(GradientError):
        train(30, monitor, BUGS[bug])
    assert [one.step for one in monitor.history] == [3]


@pytest.mark.parametrize("mode", MODES)
def test_right_gradients_pass_along_a_whole_training(mode):
    monitor = Monitor(loss, every=10, mode=mode, sample=20)
    train(200, monitor)
    assert [one.verdict for one in monitor.history] == [Verdict.PASS] * 20


def test_full_compares_all_elements_and_a_sample_some_of_every_tensor():
    params, grads, batch = problem()
    whole = Monitor(loss, every=1)(params, grads, batch=batch)
    some = Monitor(loss, every=1, mode="sample", sample=20)(params, grads, batch=batch)
    assert whole.checked == whole.size
    assert 15 <= some.checked <= 25
    assert all(1 <= one.checked <= one.size for one in some.tensors.values())


def test_a_sample_as_large_as_the_network_is_all_of_it():
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1, mode="sample", sample=10_000)
    assert monitor(params, grads, batch=batch).checked == sum(p.size for p in params.values())
    assert monitor.history[0].mode == "full"


def test_one_wrong_element_is_found_by_a_sample_within_one_round():
    monitor = Monitor(loss, every=1, mode="sample", sample=10, on_fail="record")
    bug = one_element(0, problem()[1])
    params, _, batch = problem()
    checks = [monitor(params, bug, batch=batch).verdict for _ in range(7)]
    assert Verdict.FAIL in checks
    assert monitor.history[checks.index(Verdict.FAIL)].compared == 53  # and then all of them


def test_directions_take_two_passes_a_tensor_and_one_for_all():
    params, grads, batch = problem()
    counted = Counted()
    monitor = Monitor(counted, every=1, mode="directions")
    monitor(params, grads, batch=batch)
    before = counted.calls
    report = monitor(params, grads, batch=batch)
    assert counted.calls - before == report.loss_calls == 2 * len(params) + 1
    assert monitor.history[-1].compared == len(params)


def test_directions_say_what_can_hide_from_them():
    params, grads, batch = problem()
    report = Monitor(loss, every=1, mode="directions")(params, grads, batch=batch)
    assert "can hide" in report.notes[0]


def test_directions_pass_where_the_loss_has_a_kink_beside_the_parameters():
    for seed in range(20):
        params, grads, batch = problem(seed)
        h = batch[0] @ params["W1"]
        params["b1"] = -h[0] + 1e-9  # the first sample is beside five kinks at once
        grads = backward(params, batch)
        monitor = Monitor(loss, every=1, mode="directions", on_fail="record", seed=seed)
        for _ in range(3):
            assert monitor(params, grads, batch=batch).verdict is not Verdict.FAIL


def test_directions_of_a_noisy_loss_do_not_fail():
    rng = np.random.default_rng(0)
    A, w = rng.standard_normal((40, 8)), rng.standard_normal(8)

    def coarse(params):
        return float(np.float32(np.sum((A @ params["w"]) ** 2)))

    monitor = Monitor(coarse, every=1, mode="directions", on_fail="record")
    for _ in range(20):
        report = monitor({"w": w}, {"w": 2 * A.T @ (A @ w)})
        assert report.verdict is not Verdict.FAIL, str(report)
    for _ in range(3):
        assert monitor({"w": w}, {"w": 2.4 * A.T @ (A @ w)}).verdict is not Verdict.PASS


def test_directions_of_float32_parameters():
    params, _, batch = problem()
    params = {name: value.astype(np.float32) for name, value in params.items()}
    exact = {name: value.astype(np.float64) for name, value in params.items()}
    grads = {n: g.astype(np.float32) for n, g in backward(exact, batch).items()}
    monitor = Monitor(loss, every=1, mode="directions", on_fail="record")
    assert monitor(params, grads, batch=batch).verdict is Verdict.PASS
    wrong = {**grads, "W2": grads["W2"] * np.float32(1.01)}
    assert monitor(params, wrong, batch=batch).verdict is Verdict.FAIL


@pytest.mark.parametrize("mode", MODES)
def test_empty_and_scalar_parameters(mode):
    params = {"w": np.arange(1.0, 4.0), "empty": np.zeros((0, 3)), "scale": np.array(2.0)}

    def value(p):
        return np.sum(p["w"] ** 2) * p["scale"] + np.sum(p["empty"])

    grads = {"w": 4 * params["w"], "empty": np.zeros((0, 3)), "scale": np.array(14.0)}
    monitor = Monitor(value, every=1, mode=mode, on_fail="record")
    assert monitor(params, grads).verdict is Verdict.PASS
    assert monitor(params, {**grads, "scale": np.array(14.2)}).failed == ("scale",)


@pytest.mark.parametrize("mode", MODES)
def test_lists_and_one_flat_vector(mode):
    params, grads, batch = problem()
    names = list(params)

    def of_list(p, b):
        return loss(dict(zip(names, p, strict=True)), b)

    monitor = Monitor(of_list, every=1, mode=mode)
    assert monitor([*params.values()], [*grads.values()], batch=batch)
    flat = np.concatenate([g.ravel() for g in grads.values()])
    assert monitor([*params.values()], flat, batch=batch)
    with pytest.raises(GradientError):
        monitor([*params.values()], 1.01 * flat, batch=batch)


# -- the first source system -----------------------------------------------------------------------

FIRST_SOURCE = {
    "1%": lambda g: 1.01 * g,
    "1% of W2": lambda g: np.concatenate((g[:6], 1.01 * g[6:])),
    "sign": lambda g: -g,
    "twice": lambda g: 2 * g,
    "one element": lambda g: np.where(np.arange(9) == np.argmax(np.abs(g)), 1.01 * g, g),
    "zero": lambda g: 0 * g,
}


def watched(mode, bug=None, every=1):
    """Train the first source system, checked at every step; return the history and the rule's."""
    net = source.Net(*source.samples(), seed=1)
    monitor = Monitor(net.cost_at, every=every, mode=mode, on_fail="record")

    def watch(iteration, net):
        weights = net.get_weights()
        gradient = net.gradient_at(weights.copy())
        monitor(weights, gradient if bug is None else FIRST_SOURCE[bug](gradient))

    return monitor.history, source.train(net, watch=watch)


@pytest.mark.parametrize(("mode", "every"), [("full", 10), ("directions", 1)])
def test_the_first_source_never_fails_where_its_own_rule_does(mode, every):
    history, rule = watched(mode, every=every)
    assert len(history) == 250 // every
    assert Verdict.FAIL not in {one.verdict for one in history}
    assert len(rule.failures()) > 20


@pytest.mark.parametrize("bug", FIRST_SOURCE)
def test_every_bug_in_the_first_source_fails_at_every_checked_step(bug):
    history, _ = watched("full", bug, every=50)
    assert [one.verdict for one in history] == [Verdict.FAIL] * 5


def test_the_report_of_a_monitor_is_that_of_a_check():
    params, grads, batch = problem()
    grads["W1"] = grads["W1"] * 1.01
    watched = Monitor(loss, every=1, on_fail="record")(params, grads, batch=batch)
    plain = fastcheck.check(lambda p: loss(p, batch), params, grads)
    assert watched.failed == plain.failed
    assert watched.relative_error == plain.relative_error
    assert [str(one) for one in watched.diagnosis.findings] == [
        str(one) for one in plain.diagnosis.findings
    ]
