"""Faults of the engines themselves: what they would fail wrongly, or are doubted for at work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict
from fastcheck.engines import onhost, plan
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.params import ParamTree
from fastcheck.verdict.witness import contradiction

RNG = np.random.default_rng(5)
X = RNG.standard_normal((8, 20))
PARAMS = {"W": RNG.standard_normal((20, 10)) / 4, "V": RNG.standard_normal((10, 3))}


def loss(p: Any) -> Any:
    return np.mean((np.tanh(X @ p["W"]) @ p["V"]) ** 2)


def gradient() -> dict[str, np.ndarray]:
    h = np.tanh(X @ PARAMS["W"])
    d = 2 * (h @ PARAMS["V"]) / (len(X) * 3)
    return {"V": h.T @ d, "W": X.T @ ((d @ PARAMS["V"].T) * (1 - h * h))}


@pytest.fixture
def faulty_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay that is right when it is cross-checked, and wrong in one element from then on."""
    real = ReplayEngine.differences

    def differences(self: Any, tensor: str, indices: Any, steps: Any, **options: Any) -> Any:
        found = real(self, tensor, indices, steps, **options)
        if tensor == "W":
            found.plus[indices == 37] *= 1.02
            found.minus[indices == 37] *= 1.02
        return found

    monkeypatch.setattr(ReplayEngine, "differences", differences)


@pytest.mark.usefixtures("faulty_replay")
def test_what_an_engine_would_fail_against_the_word_of_the_loss_goes_to_the_loop() -> None:
    report = fastcheck.check(loss, PARAMS, gradient(), engine="replay")
    assert report.passed, report
    tensor = report.tensors["W"]
    assert (tensor.engine, report.tensors["V"].engine) == ("loop", "replay")
    assert tensor.engine_reason.startswith("the replay engine erred: its derivative of element 37")


@pytest.mark.usefixtures("faulty_replay")
def test_a_bug_fails_even_where_the_engine_errs() -> None:
    wrong = gradient()
    wrong["W"][1, 1] *= 1.1
    report = fastcheck.check(loss, PARAMS, wrong, engine="replay")
    assert report.failed == ("W",)


def test_the_word_of_the_loss_is_asked_for_only_where_something_fails() -> None:
    report = fastcheck.check(loss, PARAMS, gradient(), engine="replay")
    wrong = gradient()
    wrong["V"] *= 1.001
    other = fastcheck.check(loss, PARAMS, wrong, engine="replay")
    assert other.failed == ("V",)
    assert other.tensors["V"].engine == "replay"
    assert other.loss_calls == report.loss_calls + 4


def test_machine_code_that_errs_at_work_is_given_up_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, samples = FusedEngine.computed, 64

    def computed(self: Any, indices: Any, steps: Any) -> Any:
        plus, minus, refused = real(self, indices, steps)
        return (plus if len(indices) <= samples else 1.01 * plus), minus, refused

    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: True)
    monkeypatch.setattr(FusedEngine, "computed", computed)
    report = fastcheck.check(loss, PARAMS, gradient(), engine="fused")
    assert report.passed, report
    said = "W: machine code was given up for the replay engine, because its derivative"
    assert any(note.startswith(said) for note in report.notes)


def test_an_error_in_a_later_call_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements are computed some thousands at a time; the first time shows nothing of the next."""
    theta, wanted = np.linspace(0.1, 1.0, 20_000), 15_000
    real = FusedEngine.computed

    def computed(self: Any, indices: Any, steps: Any) -> Any:
        plus, minus, refused = real(self, indices, steps)
        return np.where(indices == wanted, 1.01 * plus, plus), minus, refused

    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: True)
    monkeypatch.setattr(FusedEngine, "computed", computed)
    right = 2 * np.sin(theta) * np.cos(theta)
    report = fastcheck.check(lambda w: np.sum(np.sin(w) ** 2), theta, right, engine="fused")
    assert report.passed, report
    assert "element 15000" in " ".join(report.notes)


def test_a_failed_cross_check_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another draw might not find what one has found."""
    asked: list[str] = []

    def disagreement(*given: Any) -> str | None:
        asked.append(given[4].name)
        return "an element differs" if len(asked) == 1 else None

    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: True)
    monkeypatch.setattr(onhost.HostPlanner, "_quickest", lambda self, t, count, replay, *_: replay)
    monkeypatch.setattr(plan, "disagreement", disagreement)
    report = fastcheck.check(loss, PARAMS, gradient())
    assert report.verdict is Verdict.PASS
    assert sorted(asked) == ["V", "W"]
    by_loop = [one for one in report.tensors.values() if one.engine == "loop"]
    assert [one.engine_reason for one in by_loop] == ["the cross-check failed: an element differs"]


def test_a_loss_that_is_rounded_is_no_witness() -> None:
    """Where it computes in float32 its differences are zero, as the wrong derivative is here."""
    weights = np.array([1.0, -2.0, 0.5])

    def loss(w: Any) -> Any:
        return np.sum(np.tanh(w.astype(np.float32)) * weights.astype(np.float32)) + np.float32(1e3)

    w = np.array([0.3, -0.7, 1.1], dtype=np.float32)
    right = ((1 - np.tanh(w) ** 2) * weights).astype(np.float32)
    assert fastcheck.check(loss, w, right).passed
    wrong = right.copy()
    wrong[1] = 0.0
    report = fastcheck.check(loss, w, wrong)
    assert report.tensors["params"].engine == "replay"
    assert report.verdict is Verdict.FAIL


def test_a_loss_that_stands_still_at_its_steps_says_nothing() -> None:
    """Rounded to three digits it has differences of zero, as the wrong derivative is."""
    w = np.array([0.3, -0.7, 1.1])
    tree = ParamTree.from_user(w)
    slopes = 1 - np.tanh(w) ** 2
    wrong = slopes.copy()
    wrong[1] = 0.0
    failed: Any = SimpleNamespace(
        analytic=wrong,
        values=slopes,
        indices=np.arange(3),
        on_kinks=np.zeros(0, dtype=np.int64),
    )
    rounded = LossFunction(lambda w: float(np.round(np.sum(np.tanh(w)), 3)), tree)
    assert contradiction(LoopEngine(rounded, tree), tree.tensors[0], failed) is None
    # It speaks where it moves, and moves as the gradient says.
    failed.analytic, failed.values = slopes, wrong
    loop = LoopEngine(LossFunction(lambda w: float(np.sum(np.tanh(w))), tree), tree)
    assert "`loss` itself shows 0.63" in str(contradiction(loop, tree.tensors[0], failed))
