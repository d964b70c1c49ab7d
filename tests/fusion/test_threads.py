"""However many threads share the copies, every copy is computed alike."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from fastcheck.devices.cpu import usable_cores
from fastcheck.engines.fused import FusedEngine
from fastcheck.fusion import kernel as kernels
from fastcheck.fusion.kernel import threads

RNG = np.random.default_rng(9)
X, T = RNG.normal(size=(2000, 30)), RNG.normal(size=(2000, 4))
PARAMS = {"W1": RNG.normal(size=(30, 25)) / 5, "W2": RNG.normal(size=(25, 4))}


def loss(p: dict[str, Any]) -> Any:
    return np.mean((np.tanh(X @ p["W1"]) @ p["W2"] - T) ** 2)


@pytest.fixture
def fused(tools) -> FusedEngine:
    return tools.fused_of(loss, PARAMS, "W1")


def changes(fused: FusedEngine) -> np.ndarray:
    size = PARAMS["W1"].size
    found = fused.differences("W1", np.arange(size), np.full(size, 2.0**-31))
    return np.stack([found.plus, found.minus])


@pytest.mark.parametrize("number", [2, 3, 7])
def test_any_number_of_threads_gives_the_same_bits(
    fused: FusedEngine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    alone = changes(fused)
    helped: list[int] = []
    pool = kernels._pool
    monkeypatch.setattr(kernels, "_pool", lambda helpers: helped.append(helpers) or pool(helpers))
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(number))
    np.testing.assert_array_equal(changes(fused), alone)
    assert helped == [number - 1] * (number - 1)  # and the thread that asks


def test_a_small_problem_is_not_shared(tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "7")
    monkeypatch.setattr(kernels, "_pool", None)
    fused = tools.fused_of(lambda p: np.sum(np.tanh(p["w"])), {"w": np.ones(3)}, "w")
    found = fused.differences("w", np.arange(3), np.full(3, 2.0**-31))
    assert found.plus.all()


@pytest.mark.parametrize("value", ["", "0", "-2", "many", "1.5", "²"])
def test_what_is_not_a_number_of_threads_is_ignored(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", value)
    assert threads() == usable_cores()


def test_without_a_choice_all_cores_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert threads() == usable_cores()


@pytest.mark.parametrize("kind", [OSError, IndexError])
def test_an_exception_in_a_thread_is_not_lost(
    fused: FusedEngine, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def broken(*_: Any) -> None:
        raise kind("no machine")

    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    monkeypatch.setattr(kernels, "compiled", lambda source: broken)
    with pytest.raises(kind, match="no machine"):
        changes(fused)


def test_no_chunk_is_run_twice_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    done = np.zeros(1000, dtype=int)

    def run(first: int, last: int) -> None:
        done[first:last] += 1

    kernels.spread(run, len(done), 1e9)
    assert (done == 1).all()


def test_after_an_interrupt_no_chunk_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does it: in the thread that asks, while others work."""
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    asking, begun = threading.get_ident(), []

    def run(first: int, last: int) -> None:
        begun.append(first)
        if threading.get_ident() == asking:
            raise KeyboardInterrupt
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        kernels.spread(run, 1000, 1e9)
    seen = len(begun)
    time.sleep(0.05)
    assert len(begun) == seen < 1000
