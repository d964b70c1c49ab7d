"""The cost model: a kernel where it has the answer first, counting compiling."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fastcheck.engines import choice
from fastcheck.engines.choice import Costs, costs_of, kernel_pays


@pytest.fixture(autouse=True)
def nothing_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_replayed", {})


def engine(*texts: str, seconds: float = 0.0) -> Any:
    """A fused engine, as far as the cost model looks at it."""
    kernels = [SimpleNamespace(source=SimpleNamespace(text=text)) for text in texts]
    return SimpleNamespace(kernels=lambda: kernels, seconds=lambda count: count * seconds)


def costs(fused: float, replay: float, compiling: float) -> Costs:
    return Costs(loop=1.0, replay=replay, fused=fused, compiling=compiling)


def test_a_compiled_kernel_is_used_where_it_is_quicker() -> None:
    assert kernel_pays(engine("a"), costs(fused=0.01, replay=0.02, compiling=0.0))
    assert not kernel_pays(engine("a"), costs(fused=0.03, replay=0.02, compiling=0.0))


def test_a_kernel_is_compiled_where_it_is_quicker_all_the_same() -> None:
    assert kernel_pays(engine("a"), costs(fused=0.01, replay=0.2, compiling=0.1))


def test_a_kernel_is_not_compiled_where_a_replay_is_done_sooner() -> None:
    assert not kernel_pays(engine("a"), costs(fused=0.01, replay=0.05, compiling=0.1))


def test_a_kernel_is_compiled_once_replays_have_taken_as_long() -> None:
    often = costs(fused=0.01, replay=0.05, compiling=0.1)
    assert [kernel_pays(engine("a"), often) for _ in range(3)] == [False, False, True]


def test_replays_of_other_kernels_do_not_count() -> None:
    often = costs(fused=0.01, replay=0.05, compiling=0.1)
    assert [kernel_pays(engine(text), often) for text in "abcd"] == [False] * 4


def test_a_kernel_that_is_slower_than_the_replay_waits_for_longer() -> None:
    slow = costs(fused=0.06, replay=0.05, compiling=0.1)
    answers = [kernel_pays(engine("a"), slow) for _ in range(3)]
    assert answers[:3] == [False, False, False]


class Prices:
    """What kernels cost to compile, as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.started = True
        monkeypatch.setattr("fastcheck.fusion.compiler.started", lambda: self.started)
        monkeypatch.setattr("fastcheck.fusion.compiler.seconds_to_compile", self._look)
        monkeypatch.setattr("fastcheck.fusion.compiler.seconds_to_start", lambda source: 0.5)

    def _look(self, source: Any) -> float:
        self.asked.append(source.text)
        return 0.25


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> Prices:
    return Prices(monkeypatch)


def test_costs_without_a_kernel() -> None:
    found = costs_of(engine(seconds=0.03), None, 10, seconds_a_call=0.01)
    assert found == Costs(loop=pytest.approx(0.2), replay=pytest.approx(0.3))


def test_costs_count_all_kernels_of_a_tensor(prices: Prices) -> None:
    found = costs_of(engine(seconds=0.03), engine("a", "b", seconds=0.01), 10, 0.01)
    assert found == Costs(*map(pytest.approx, (0.2, 0.3, 0.1, 0.5)))
    assert prices.asked == ["a", "b"]


def test_a_short_replay_is_not_worth_loading_the_compiler_for(prices: Prices) -> None:
    prices.started = False
    assert costs_of(engine(seconds=1e-3), engine("a", seconds=1e-4), 10, 0.01).compiling == 0.5
    assert prices.asked == []


def test_a_long_replay_is_worth_looking_for_a_kernel(prices: Prices) -> None:
    prices.started = False
    assert costs_of(engine(seconds=9.0), engine("a", seconds=1e-4), 10, 0.01).compiling == 0.25
    assert prices.asked == ["a"]


def test_costs_are_known_by_the_engine_s_name() -> None:
    every = costs(fused=0.01, replay=0.02, compiling=0.5)
    assert every.known() == {"fused": 0.01, "replay": 0.02, "loop": 1.0}
    assert every.of("fused") == 0.51
    assert every.of("replay") == 0.02
    assert Costs(loop=3.0).known() == {"loop": 3.0}
