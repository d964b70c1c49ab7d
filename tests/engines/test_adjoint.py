"""A backward pass tells wrong answers of machine code from right ones, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.engines import lanes, onhost, plan
from fastcheck.engines.adjoint import Adjoint, Expected
from fastcheck.engines.fused import FusedEngine
from fastcheck.fusion.kernel import Kernel
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace
from tests.networks.catalogue import NETWORKS, Network

RNG = np.random.default_rng(3)
X, T = RNG.standard_normal((16, 12)), RNG.standard_normal((16, 3))
PARAMS = {"W1": RNG.standard_normal((12, 8)), "b1": np.zeros(8), "W2": RNG.standard_normal((8, 3))}


def loss(p: Any) -> Any:
    return np.mean((np.tanh(X @ p["W1"] + p["b1"]) @ p["W2"] - T) ** 2)


def adjoint_of(loss: Any, params: Any) -> Adjoint:
    return Adjoint(simplify(trace(loss, ParamTree.from_user(params))))


@pytest.mark.parametrize("network", [n for n in NETWORKS if not n.loop][::7], ids=str)
def test_it_is_the_numerical_gradient(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Adjoint] = []

    class Recorded(Adjoint):
        def __init__(self, graph: Any) -> None:
            super().__init__(graph)
            made.append(self)

    monkeypatch.setattr(plan, "Adjoint", Recorded)
    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: True)
    case = network.make(5, 4)
    numerical = fastcheck.numerical_gradient(case.loss, case.params)
    flat = {t.name: t.value.ravel() for t in ParamTree.from_user(numerical)}
    top = max(np.abs(value).max(initial=0.0) for value in flat.values())
    for name, value in flat.items():
        expected = made[-1].of(name)
        if expected is not None:  # an operation may have no rule
            np.testing.assert_allclose(expected.values, value, atol=1e-8 * top)


def test_of_what_the_loss_ignores_it_is_zero() -> None:
    expected = adjoint_of(lambda p: np.sum(p["w"] ** 2), {"w": np.ones(2), "v": np.ones(3)}).of("v")
    assert expected is not None
    assert not expected.values.any()


@pytest.mark.parametrize(
    "loss", [lambda w: np.prod(w), lambda w: np.sum(w**2) + 0.0 * np.sum(np.log(w - w))]
)
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_expected_without_a_rule_or_a_number(loss: Any) -> None:
    assert adjoint_of(loss, np.array([0.5, 0.25])).of("params") is None


def test_an_answer_that_differs_is_named() -> None:
    right = np.linspace(1.0, 2.0, 50)
    expected = Expected(right, 0.0)
    indices, steps = np.arange(10, 40), np.full(30, 2.0**-30)
    none = np.zeros(30, dtype=bool)
    changes = 2 * steps * right[indices]
    assert expected.unlike(indices, steps, changes, none) is None
    for wrong in (1.000001, np.nan, np.inf):
        spoilt = changes.copy()
        spoilt[7] *= wrong
        assert "element 17 is" in str(expected.unlike(indices, steps, spoilt, none))
        assert expected.unlike(indices, steps, spoilt, indices == 17) is None
        # A difference at a large step is no derivative.
        assert expected.unlike(indices, 2.0**20 * steps, spoilt, none) is None


def test_one_wrong_element_of_a_kernel_is_found_when_it_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is none of those that are looked at before the kernel is taken."""
    made: list[FusedEngine] = []

    class Recorded(FusedEngine):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            made.append(self)

    original = Kernel.run

    def run(self: Kernel, positions: Any, steps: Any) -> Any:
        plus, minus, refused = original(self, positions, steps)
        if len(plus) > 64:  # not the samples
            plus[50] *= 1.001
        return plus, minus, refused

    monkeypatch.setattr(Kernel, "run", run)
    monkeypatch.setattr(onhost, "FusedEngine", Recorded)
    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: True)
    grads = fastcheck.numerical_gradient(loss, PARAMS)
    report = fastcheck.check(loss, PARAMS, grads, engine="fused")
    assert report.passed, report
    (large,) = [one for one in made[-3:] if one.slice.tensor == "W1"]
    assert large.refused >= 96
    grads["W1"][4, 2] *= 1.001  # element 34
    report = fastcheck.check(loss, PARAMS, grads, engine="fused")
    assert report.failed == ("W1",)
    assert report.tensors["W1"].worst.index == (4, 2)


@pytest.mark.parametrize("width", [1, 4])
def test_a_row_written_into_a_place_without_its_first_axis(width: int) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 1, 2)), rng.standard_normal((2, width))

    def loss(w: Any) -> Any:
        states = np.zeros((3, width))
        for t in range(3):
            states[t] = np.tanh(x[t] @ w)  # (1, width)
        return np.sum(states * np.arange(1.0, width + 1))

    expected = adjoint_of(loss, w).of("params")
    assert expected is not None
    right = fastcheck.numerical_gradient(loss, w)
    np.testing.assert_allclose(expected.values, right.ravel(), rtol=1e-9)
    report = fastcheck.check(loss, w, 1.5 * right)
    assert report.failed == ("params",)


@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("options", [{}, {"method": "forward"}, {"step": 2.0**-10}])
@pytest.mark.parametrize("engine", ["fused", "auto"])
def test_wrong_answers_are_found_whatever_the_step(
    scale: float, options: dict[str, Any], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that errs in an element that is not among the samples passes no such error on."""
    inputs, params = X / scale, {**PARAMS, "W1": scale * PARAMS["W1"]}

    def scaled(p: Any) -> Any:
        return np.mean((np.tanh(inputs @ p["W1"] + p["b1"]) @ p["W2"] - T) ** 2)

    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: True)
    right = fastcheck.numerical_gradient(scaled, params, engine="replay", **options)
    kernel, program = Kernel.run, lanes.run

    def kernel_run(self: Kernel, positions: Any, steps: Any) -> Any:
        plus, minus, refused = kernel(self, positions, steps)
        if len(plus) > 64:  # not the samples
            plus[50] *= 1.01
        return plus, minus, refused

    def program_run(written: Any, indices: Any, moves: Any) -> Any:
        changes, refused = program(written, indices, moves)
        return np.where((indices == 50) & (len(indices) >= 96), 1.01, 1.0) * changes, refused

    monkeypatch.setattr(Kernel, "run", kernel_run)
    monkeypatch.setattr(lanes, "run", program_run)
    found = fastcheck.numerical_gradient(scaled, params, engine=engine, **options)
    np.testing.assert_allclose(found["W1"], right["W1"], rtol=1e-6)
