"""The front door: when a step is checked, what comes back, what a failure does, what is refused."""

import warnings

import numpy as np
import pytest

import fastcheck
from fastcheck import GradientError, InputError, InputTypeError, Monitor, Verdict

from .loops import Counted, backward, loss, problem, scaled, train


def checked(monitor):
    return [record.step for record in monitor.history]


# -- when ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "steps"),
    [
        ({"every": 10}, [0, 10, 20]),
        ({"every": 10, "start": 3}, [3, 13, 23]),
        ({"every": 1, "start": 27}, [27, 28, 29]),
        ({"every": 2, "start": 25}, [25, 27, 29]),
        ({"every": 100}, [0]),
        ({"every": 100, "start": 30}, []),
    ],
)
def test_every_and_start_say_which_steps_are_checked(keywords, steps):
    monitor = Monitor(loss, mode="directions", **keywords)
    train(30, monitor)
    assert checked(monitor) == steps
    assert monitor.step_number == 30


def test_a_due_step_returns_the_report_and_others_none():
    params, grads, batch = problem()
    monitor = Monitor(loss, every=2)
    reports = [monitor(params, grads, batch=batch) for _ in range(4)]
    assert [report is None for report in reports] == [False, True, False, True]
    assert isinstance(reports[0], fastcheck.Report)
    assert bool(reports[0])
    assert reports[0].checked == sum(value.size for value in params.values())


def test_between_due_steps_the_loss_is_not_called():
    params, grads, batch = problem()
    counted = Counted()
    monitor = Monitor(counted, every=50)
    monitor(params, grads, batch=batch)
    before = counted.calls
    for _ in range(49):
        monitor(params, grads, batch=batch)
    assert counted.calls == before
    monitor(params, grads, batch=batch)
    assert counted.calls > before


def test_a_loss_of_the_parameters_alone_needs_no_batch():
    params = {"w": np.arange(1.0, 4.0)}
    monitor = Monitor(lambda p: np.sum(p["w"] ** 3), every=1)
    assert monitor(params, {"w": 3 * params["w"] ** 2})
    with pytest.raises(GradientError):
        monitor(params, {"w": 2 * params["w"] ** 2})


def test_none_is_a_batch_like_any_other():
    params = {"w": np.arange(1.0, 4.0)}
    monitor = Monitor(lambda p, batch: np.sum(p["w"] ** (3 if batch is None else 2)), every=1)
    assert monitor(params, {"w": 3 * params["w"] ** 2}, batch=None)


# -- as a block ------------------------------------------------------------------------------------


def test_a_block_counts_its_step_and_keeps_its_report():
    params, grads, batch = problem()
    monitor = Monitor(loss, every=2)
    reports = []
    for _ in range(4):
        with monitor.step() as step:
            step.check(params, grads, batch=batch)
        reports.append(step.report)
    assert [report is None for report in reports] == [False, True, False, True]
    assert checked(monitor) == [0, 2]


def test_a_block_with_arguments_checks_on_entry():
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1, on_fail="record")
    with monitor.step(params, grads, batch=batch) as step:
        assert step.report.verdict is Verdict.PASS
        params["W1"] += 1.0  # the update, inside the block
    with monitor.step(params, grads, batch=batch) as step:
        assert step.report.verdict is Verdict.FAIL
    assert checked(monitor) == [0, 1]


def test_an_error_in_a_block_is_the_users():
    monitor = Monitor(loss, every=1)
    with pytest.raises(ZeroDivisionError), monitor.step():
        _ = 1 / 0
    assert monitor.history == []


# -- a wrong gradient ------------------------------------------------------------------------------


def wrong():
    params, grads, batch = problem()
    return params, {**grads, "W2": -grads["W2"]}, batch


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_raise_is_what_a_failure_does_unless_told_otherwise(mode):
    params, grads, batch = wrong()
    monitor = Monitor(loss, every=1, mode=mode)
    with pytest.raises(GradientError, match="the gradient is wrong at step 0") as caught:
        monitor(params, grads, batch=batch)
    assert caught.value.report.failed == ("W2",)
    assert "wrong sign" in str(caught.value) or "sign" in str(caught.value)
    assert monitor.history[-1].verdict is Verdict.FAIL
    assert monitor.history[-1].tensors["W2"] is Verdict.FAIL
    assert monitor.history[-1].tensors["W1"] is Verdict.PASS


def test_the_training_can_go_on_after_an_error():
    params, grads, batch = wrong()
    monitor = Monitor(loss, every=2)
    with pytest.raises(GradientError):
        monitor(params, grads, batch=batch)
    assert monitor(params, grads, batch=batch) is None
    with pytest.raises(GradientError, match="step 2"):
        monitor(params, grads, batch=batch)
    assert checked(monitor) == [0, 2]


def test_a_warning_names_the_step_and_the_training_goes_on():
    params, grads, batch = wrong()
    monitor = Monitor(loss, every=1, on_fail="warn")
    with pytest.warns(UserWarning, match="wrong at step 0") as caught:
        report = monitor(params, grads, batch=batch)
    assert report.verdict is Verdict.FAIL
    assert caught[0].filename == __file__


def test_the_report_is_shown_with_the_first_warning_only():
    params, grads, batch = wrong()
    monitor = Monitor(loss, every=1, on_fail="warn")
    with pytest.warns(UserWarning, match="wrong at step") as caught:
        _ = [monitor(params, grads, batch=batch) for _ in range(3)]
    lines = [str(one.message).count("\n") for one in caught]
    assert lines[0] > 5
    assert lines[1:] == [0, 0]
    assert "wrong at step 2" in str(caught[2].message)


def test_record_says_nothing():
    params, grads, batch = wrong()
    monitor = Monitor(loss, every=1, on_fail="record")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert monitor(params, grads, batch=batch).verdict is Verdict.FAIL
    assert monitor.history[0].verdict is Verdict.FAIL


def test_a_function_is_called_with_the_report_of_a_failure_only():
    params, grads, batch = wrong()
    seen = []
    monitor = Monitor(loss, every=1, on_fail=seen.append)
    monitor(params, backward(params, batch), batch=batch)
    assert seen == []
    report = monitor(params, grads, batch=batch)
    assert seen == [report]


def test_what_the_function_raises_is_the_users():
    params, grads, batch = wrong()

    def stop(report):
        raise KeyError(report.failed)

    monitor = Monitor(loss, every=1, on_fail=stop)
    with pytest.raises(KeyError, match="W2"):
        monitor(params, grads, batch=batch)
    assert checked(monitor) == [0]


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_a_bug_that_begins_later_fails_at_the_first_due_step(mode):
    monitor = Monitor(loss, every=10, mode=mode)
    with pytest.raises(GradientError):
        train(60, monitor, scaled("b1", 1.01, start=31))
    assert checked(monitor) == [0, 10, 20, 30, 40]
    assert [one.verdict.value for one in monitor.history] == ["pass"] * 4 + ["fail"]
    assert monitor.history[-1].tensors == {
        "W1": Verdict.PASS,
        "b1": Verdict.FAIL,
        "W2": Verdict.PASS,
        "b2": Verdict.PASS,
    }


def test_a_stale_gradient_is_named_since_the_last_one_is_remembered():
    kept = {}

    def stale(step, grads):
        kept[step] = grads
        return kept[step - 1] if step >= 7 else grads

    monitor = Monitor(loss, every=7, on_fail="record")
    train(8, monitor, stale)
    assert monitor.history[-1].verdict is Verdict.FAIL
    assert "step before" in monitor.history[-1].notes[0]


# -- numbers that are not --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_nan_in_the_gradient_fails(mode):
    params, grads, batch = problem()
    grads["W1"][2, 3] = np.nan
    monitor = Monitor(loss, every=1, mode=mode, on_fail="record")
    report = monitor(params, grads, batch=batch)
    assert report.verdict is Verdict.FAIL
    assert report.failed == ("W1",)


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_a_diverged_training_is_inconclusive_and_goes_on(mode):
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1, mode=mode)
    params["W1"][0, 0] = np.nan
    report = monitor(params, grads, batch=batch)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert monitor.history[0].verdict is Verdict.INCONCLUSIVE
    assert "nan" in monitor.history[0].notes[0].lower()


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_a_loss_that_is_not_finite_is_inconclusive(mode):
    params, grads, batch = problem()
    monitor = Monitor(lambda p, b: loss(p, b) * np.inf, every=1, mode=mode)
    assert monitor(params, grads, batch=batch).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("mode", ["full", "sample", "directions", None])
@pytest.mark.filterwarnings("ignore")
def test_a_training_that_diverges_is_not_stopped(mode):
    """Squares leave the range of floats long before the loss does."""
    _, _, batch = problem()
    w, (X, _) = np.zeros(6), batch
    y = X @ np.ones(6)
    budget = None if mode else 0.5
    chosen = {"budget": budget} if budget else {"mode": mode}
    monitor = Monitor(lambda p, b: np.mean((b @ p - y) ** 2), every=7, on_fail="record", **chosen)
    for _ in range(500):
        gradient = 2 * X.T @ (X @ w - y) / len(y)
        monitor(w, gradient, batch=X)
        w = w - 5 * gradient
    assert not np.isfinite(w).all()
    assert Verdict.FAIL not in {record.verdict for record in monitor.history}


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
@pytest.mark.parametrize("scale", [1e-309, 1e-300, 1e300])
def test_losses_at_the_ends_of_the_range(mode, scale):
    w = np.ones(3)
    monitor = Monitor(lambda p: scale * np.sum(p), every=1, mode=mode, on_fail="record")
    assert monitor(w, scale * np.ones(3)).verdict is not Verdict.FAIL
    assert monitor(w, 3 * (scale * np.ones(3))).verdict is not Verdict.PASS


# -- the record ------------------------------------------------------------------------------------


def test_the_record_holds_what_the_report_says():
    params, grads, batch = problem()
    monitor = Monitor(loss, every=1)
    report = monitor(params, grads, batch=batch)
    (record,) = monitor.history
    every = np.abs(np.concatenate([g.ravel() for g in grads.values()]))
    assert (record.step, record.mode, record.compared) == (0, "full", report.checked)
    assert record.loss == pytest.approx(loss(params, batch))
    assert record.relative_difference == report.relative_error < 1e-9
    assert 0 < record.error_bar < 1e-4
    assert record.largest_gradient == every.max()
    assert record.smallest_gradient == every[every > 0].min()
    assert record.seconds > 0


def test_the_difference_of_directions_is_of_the_size_of_the_error():
    params, grads, batch = problem()
    grads = {name: 1.001 * value for name, value in grads.items()}
    monitor = Monitor(loss, every=1, mode="directions", tolerance=1e-2)
    monitor(params, grads, batch=batch)
    assert 1e-5 < monitor.history[0].relative_difference < 1e-2


def test_the_record_is_written_as_checks_are_made(tmp_path):
    file = tmp_path / "run.jsonl"
    monitor = Monitor(loss, every=10)
    params, grads, batch = problem()
    monitor(params, grads, batch=batch)
    monitor.to_jsonl(file)
    assert [one.step for one in fastcheck.read_jsonl(file)] == [0]
    for _ in range(20):
        monitor(params, grads, batch=batch)
    assert fastcheck.read_jsonl(file) == monitor.history
    assert checked(monitor) == [0, 10, 20]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"every": 0}, InputTypeError, "`every` is 0"),
        ({"every": 2.5}, InputTypeError, r"`every` is 2\.5"),
        ({"every": True}, InputTypeError, "`every` is True"),
        ({"start": -1}, InputTypeError, "`start` is -1"),
        ({"sample": 0}, InputTypeError, "`sample` is 0"),
        ({"mode": "some"}, InputError, "`mode` is 'some': give one of 'full', 'sample', 'dir"),
        ({"mode": 3}, InputError, "`mode` is 3"),
        ({"mode": "full", "budget": 0.1}, InputError, "give one of the two"),
        ({"budget": 0}, InputError, "`budget` is 0"),
        ({"budget": 1.5}, InputError, r"`budget` is 1\.5"),
        ({"budget": float("nan")}, InputError, "`budget` is nan"),
        ({"budget": "1%"}, InputTypeError, "`budget` is a str"),
        ({"on_fail": "explode"}, InputError, "`on_fail` is 'explode'"),
        ({"rng": 3}, InputTypeError, "`rng` is a int"),
        ({"hold": 3}, InputTypeError, "`hold` is a int"),
    ],
)
def test_keywords_are_refused_at_once(keywords, error, message):
    with pytest.raises(error, match=message):
        Monitor(loss, **keywords)


def test_a_loss_that_is_a_number_is_refused():
    with pytest.raises(InputTypeError, match="`loss` must be callable, but it is a float"):
        Monitor(1.5)


@pytest.mark.parametrize(
    "keywords",
    [
        {"engine": "warp"},
        {"device": "abacus"},
        {"memory": "lots"},
        {"tolerance": -1},
        {"batch_size": -3},
        {"seed": "x"},
    ],
)
def test_what_a_check_refuses_is_refused_at_once_too(keywords):
    with pytest.raises(fastcheck.FastcheckError, match=f"`{next(iter(keywords))}`"):
        Monitor(loss, mode="directions", **keywords)


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_gradients_that_do_not_fit_are_refused_and_the_step_stays_due(mode):
    params, grads, batch = problem()
    monitor = Monitor(loss, every=10, mode=mode)
    with pytest.raises(InputError, match="W1"):
        monitor(params, {**grads, "W1": grads["W1"].T}, batch=batch)
    assert monitor.history == []
    assert monitor(params, grads, batch=batch)


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_an_error_of_the_loss_is_the_users(mode):
    params, grads, batch = problem()
    monitor = Monitor(lambda p, b: loss(p, b[0]), every=1, mode=mode)
    with pytest.raises(Exception, match=r".") as caught:
        monitor(params, grads, batch=batch)
    assert not isinstance(caught.value, GradientError)
    assert monitor.history == []
