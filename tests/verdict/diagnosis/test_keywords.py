"""What the user knows besides: `batch_size`, `previous_grads`, `sample_grads`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck import InputError, InputTypeError

X = np.random.default_rng(0).standard_normal((6, 4))
T = np.random.default_rng(1).standard_normal((6, 2))
PARAMS = {"W": np.random.default_rng(2).standard_normal((4, 2)), "b": np.array([0.1, -0.2])}


def loss(p: Any) -> Any:
    return np.mean(np.sum((X @ p["W"] + p["b"] - T) ** 2, axis=1))


def each_sample() -> dict[str, np.ndarray]:
    d = 2 * (X @ PARAMS["W"] + PARAMS["b"] - T)
    return {"W": X[:, :, None] * d[:, None, :], "b": d}


GRADS = {name: g.mean(axis=0) for name, g in each_sample().items()}


def causes(grads: Any, **keywords: Any) -> tuple[str, ...]:
    report = fastcheck.check(loss, PARAMS, grads, engine="loop", **keywords)
    assert report.diagnosis is not None
    return report.diagnosis.causes


def copied(grads: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: g.copy() for name, g in grads.items()}


def test_they_decide_nothing() -> None:
    report = fastcheck.check(
        loss,
        PARAMS,
        GRADS,
        batch_size=6,
        previous_grads={"dW": GRADS["W"] + 1, "db": GRADS["b"] + 1},
        sample_grads=each_sample(),
    )
    assert report.passed
    assert report.diagnosis is None


@pytest.mark.parametrize("scale", [1.0, 1 / 6])
def test_sample_gradients_show_a_sample_that_is_missing(scale: float) -> None:
    # Whether they are divided by M already or not.
    given = {name: scale * g for name, g in each_sample().items()}
    missing = {name: g[:5].sum(axis=0) / 6 for name, g in each_sample().items()}
    assert causes(missing, sample_grads=given) == ("sample-dropped",)


def test_a_mean_over_one_sample_fewer_is_a_sample_that_is_missing() -> None:
    missing = {name: np.delete(g, 2, axis=0).mean(axis=0) for name, g in each_sample().items()}
    report = fastcheck.check(loss, PARAMS, missing, sample_grads=each_sample())
    assert "leave out sample 2 of 6, and divided by one sample fewer" in str(report.diagnosis)


def test_one_sample_in_place_of_the_sum() -> None:
    one = {**GRADS, "b": each_sample()["b"][3]}
    assert causes(one, sample_grads=each_sample()) == ("missing-bias-sum",)


def test_the_previous_gradient_tells_a_stale_one_from_one_that_is_wrong() -> None:
    before = {name: g + 0.1 * np.cos(g) for name, g in GRADS.items()}
    assert causes(before) == ()
    assert causes(before, previous_grads=copied(before)) == ("stale",)
    added = {name: g + before[name] for name, g in GRADS.items()}
    assert causes(added, previous_grads=before) == ("accumulated",)


@pytest.mark.parametrize("share", [0.9, 0.5, 1e-3, -0.3, -1.0])
def test_a_part_of_the_step_before_is_told_with_its_factor(share: float) -> None:
    before = {name: g + 0.1 * np.cos(g) for name, g in GRADS.items()}
    added = {name: g + share * before[name] for name, g in GRADS.items()}
    assert causes(added, previous_grads=before) == ("accumulated",)
    report = fastcheck.check(loss, PARAMS, added, previous_grads=before)
    (finding,) = report.diagnosis.findings
    assert set(finding.tensors) == {"W", "b"}
    assert f"{share:.3f} × the gradient of the step before was added" in finding.explanation
    assert "momentum buffer" in finding.explanation


def test_a_part_of_the_step_before_is_one_part_for_all_that_it_is_said_of() -> None:
    before = {name: g + 0.1 * np.cos(g) for name, g in GRADS.items()}
    weights = {**GRADS, "W": GRADS["W"] + 0.9 * before["W"]}
    assert causes(weights, previous_grads=before) == ("accumulated",)
    both = {**weights, "b": GRADS["b"] + 0.25 * before["b"]}
    report = fastcheck.check(loss, PARAMS, both, previous_grads=before)
    # Two numbers and two unknowns show nothing about the bias.
    said = [f.tensors for f in report.diagnosis.findings if f.cause == "accumulated"]
    assert said == [("W",)]


@pytest.mark.parametrize("share", [1.5, -1.2])
def test_more_than_the_step_before_is_not_said_to_be_a_part_of_it(share: float) -> None:
    before = {name: g + 0.1 * np.cos(g) for name, g in GRADS.items()}
    added = {name: g + share * before[name] for name, g in GRADS.items()}
    assert causes(added, previous_grads=before) == ()


def test_twice_the_gradient_may_be_the_step_before_if_that_was_the_same() -> None:
    twice = {name: 2 * g for name, g in GRADS.items()}
    report = fastcheck.check(
        loss, PARAMS, twice, previous_grads={k: g.copy() for k, g in GRADS.items()}
    )
    (finding,) = report.diagnosis.findings
    assert {finding.cause, *finding.alternatives} == {"scale", "accumulated"}
    assert "`previous_grads` would tell" in str(fastcheck.check(loss, PARAMS, twice).diagnosis)


@pytest.mark.parametrize("value", [0, -3, 2.5, True, "6"])
def test_a_batch_size_that_counts_nothing(value: Any) -> None:
    with pytest.raises(InputTypeError, match=r"`batch_size` is .*give the number of samples"):
        fastcheck.check(loss, PARAMS, GRADS, batch_size=value)


def test_previous_gradients_of_another_shape_are_named() -> None:
    with pytest.raises(InputError, match=r"`previous_grads` does not match the parameters:\n *W"):
        fastcheck.check(loss, PARAMS, GRADS, previous_grads={"W": np.ones(3), "b": np.ones(2)})


def test_previous_gradients_that_are_the_present_ones() -> None:
    with pytest.raises(InputError, match=r"`previous_grads` shares memory .* keep a copy"):
        fastcheck.check(loss, PARAMS, GRADS, previous_grads=GRADS)


def test_sample_gradients_without_the_axis_of_samples() -> None:
    with pytest.raises(InputError, match=r"(?s)`sample_grads` .*leading axis of M = 6 samples"):
        fastcheck.check(loss, PARAMS, GRADS, sample_grads=GRADS, batch_size=6)


def test_sample_gradients_of_fewer_samples_than_the_batch() -> None:
    few = {name: g[:4] for name, g in each_sample().items()}
    with pytest.raises(InputError, match="M = 6 samples"):
        fastcheck.check(loss, PARAMS, GRADS, sample_grads=few, batch_size=6)
