"""The replay in machine code as an engine: when it is taken and trusted, and what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings

import fastcheck
from fastcheck.engines import choice, lanes, onhost, plan
from fastcheck.engines.lanes import LanesEngine, least_seconds
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.tracing import escaped_number
from fastcheck.fusion import compiler
from fastcheck.lanes import run
from fastcheck.lanes.writer import Hoisted, NoProgram
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace
from tests.engines.test_programs import Program, assert_as_replayed, programs
from tests.networks.catalogue import NETWORKS, Case, Network

MEMORY = 2**28
STEP = 2.0**-30
RECURRENT = [network for network in NETWORKS if network.family == "recurrent" and not network.loop]
recurrent = pytest.mark.parametrize("network", RECURRENT, ids=str)


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


class Lstm:
    """A small LSTM with its backward pass, which can be given a bug."""

    def __init__(self, bug: str = "") -> None:
        rng = np.random.default_rng(0)
        self.bug = bug
        self.X, self.target = rng.normal(size=(4, 6, 3)), rng.normal(size=(6, 5))
        self.params = {
            "Wx": rng.normal(size=(3, 20)) / np.sqrt(3),
            "Wh": rng.normal(size=(5, 20)) / np.sqrt(5),
            "b": 0.1 * rng.normal(size=20),
        }

    def forward(self, p: Any) -> Any:
        h, c, cache = np.zeros((6, 5)), np.zeros((6, 5)), []
        for x in self.X:
            i, f, o, g = np.split(x @ p["Wx"] + h @ p["Wh"] + p["b"], 4, axis=1)
            i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
            cache.append((x, h, c, i, f, o, g))
            c = f * c + i * g
            h = o * np.tanh(c)
        return h, c, cache

    def loss(self, p: Any) -> Any:
        return np.mean((self.forward(p)[0] - self.target) ** 2)

    def grads(self) -> dict[str, Any]:
        p = self.params
        h, c, cache = self.forward(p)
        dh, dc = 2 * (h - self.target) / h.size, np.zeros_like(c)
        g = {name: np.zeros_like(value) for name, value in p.items()}
        for x, before, c_before, i, f, o, u in reversed(cache):
            t = np.tanh(f * c_before + i * u)
            dc = dc + dh * o * (1 - t**2)
            forget = dc * c_before * f * (1 - f)
            if self.bug == "forget gate without its sigmoid":
                forget = dc * c_before
            da = np.hstack(
                [dc * u * i * (1 - i), forget, dh * t * o * (1 - o), dc * i * (1 - u**2)]
            )
            g["Wx"] += x.T @ da
            g["Wh"] += before.T @ da
            g["b"] += da.sum(axis=0)
            dh, dc = da @ p["Wh"].T, dc * f
        if self.bug == "one element of Wh":
            g["Wh"][3, 7] *= 1.001
        return g


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[LanesEngine]:
    """Whatever has a program is computed by one; these are the engines that were made."""
    made: list[LanesEngine] = []

    class Recorded(LanesEngine):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

        def seconds(self, count: int) -> float:
            return 0.0

    monkeypatch.setattr(onhost, "LanesEngine", Recorded)
    monkeypatch.setattr(onhost, "interpreter_pays", lambda replay, count, trial: True)
    monkeypatch.setattr(lanes, "_agreed", set())
    return made


@pytest.fixture(params=["a backward pass", "the replay"])
def comparison(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the answers are compared with; machine code is at hand only once it has been used."""
    known = request.param == "a backward pass"
    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: known)
    return str(request.param)


# -- verdicts --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("comparison")
def test_a_right_gradient_passes(taken: list[LanesEngine]) -> None:
    lstm = Lstm()
    report = fastcheck.check(lstm.loss, lstm.params, lstm.grads())
    assert report.passed, report
    assert {tensor.engine for tensor in report.tensors.values()} == {"replay"}
    assert [(one.obstacle, one.refused) for one in taken] == [(None, 0)] * 3


@pytest.mark.parametrize(
    ("bug", "spoilt"),
    [
        ("forget gate without its sigmoid", ["Wh", "Wx", "b"]),
        ("one element of Wh", ["Wh"]),
    ],
)
@pytest.mark.usefixtures("comparison")
def test_a_planted_bug_fails(bug: str, spoilt: list[str], taken: list[LanesEngine]) -> None:
    lstm = Lstm(bug)
    report = fastcheck.check(lstm.loss, lstm.params, lstm.grads())
    assert sorted(report.failed) == spoilt
    assert [one.obstacle for one in taken] == [None] * 3


@recurrent
def test_planted_bugs_in_recurrent_networks_fail(
    network: Network, taken: list[LanesEngine]
) -> None:
    case: Case = network.make(5, 4)
    assert fastcheck.check(case.loss, case.params, case.grads(case.params))
    for bug, spoilt in case.bugs.items():
        report = fastcheck.check(case.loss, case.params, case.grads(case.params, bug))
        assert sorted(report.failed) == sorted(spoilt.split()), report
    assert taken
    assert not any(one.obstacle for one in taken)


# -- differences -----------------------------------------------------------------------------------


def pairs(loss: Any, params: Any) -> Iterator[tuple[Any, ReplayEngine, LanesEngine | None]]:
    """Yield the tensors with their replay, and with their lanes where there is a program."""
    tree = ParamTree.from_user(params)
    function = LossFunction(loss, tree)
    loop = LoopEngine(function, tree)
    try:
        graph = simplify(trace(function.function, tree))
    except Untraceable:
        return
    hoisted = Hoisted()
    for tensor in tree:
        if escaped_number(graph, tensor.name) is not None:
            continue

        def fallback(indices: Any, moves: Any, name: str = tensor.name) -> Any:
            return loop.differences(name, indices, moves, central=False).plus

        replay = ReplayEngine(graph, tensor, loop.loss, 2**26, fallback)
        try:
            yield tensor, replay, LanesEngine(replay, tensor, hoisted, MEMORY)
        except NoProgram:
            yield tensor, replay, None


@recurrent
def test_every_tensor_of_a_recurrent_network_has_a_program(network: Network) -> None:
    case = network.make(5, 4)
    for tensor, replay, ours in pairs(case.loss, case.params):
        assert ours is not None, tensor.name
        indices, steps = np.arange(tensor.size), np.full(tensor.size, STEP)
        fast = ours.differences(tensor.name, indices, steps)
        slow = replay.differences(tensor.name, indices, steps)
        assert ours.obstacle is None
        assert_as_replayed(fast, slow, 1e-13 * STEP * max(1.0, replay.magnitude))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs())
def test_whatever_has_a_program_equals_the_replay(program: Program) -> None:
    note(program.source())
    note(str(program.params))
    for tensor, replay, ours in pairs(program.loss(), program.params):
        if ours is None:
            continue
        for exponent in (-31, -17):
            indices, steps = np.arange(tensor.size), np.full(tensor.size, 2.0**exponent)
            slow = replay.differences(tensor.name, indices, steps)
            fast = ours.differences(tensor.name, indices, steps)
            assert ours.obstacle is None
            assert_as_replayed(fast, slow, 1e-13 * 2.0**exponent * max(1.0, replay.magnitude))


def test_one_sided_differences_and_large_steps() -> None:
    lstm = Lstm()
    for tensor, replay, ours in pairs(lstm.loss, lstm.params):
        assert ours is not None
        indices = np.arange(tensor.size)
        for step, refused in ((2.0**-31, 0), (2.0**-8, tensor.size)):
            steps = np.full(tensor.size, step)
            fast = ours.differences(tensor.name, indices, steps, central=False)
            slow = replay.differences(tensor.name, indices, steps, central=False)
            np.testing.assert_allclose(fast.plus, slow.plus, rtol=1e-10)
            np.testing.assert_array_equal(fast.minus, slow.minus)
            assert ours.refused == refused


def test_a_program_that_would_take_too_much_memory_is_refused() -> None:
    lstm = Lstm()
    tensor, replay, _ = next(pairs(lstm.loss, lstm.params))
    with pytest.raises(NoProgram, match="too much memory"):
        LanesEngine(replay, tensor, Hoisted(), 1000)


# -- trust -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (slice(None), ["its derivative of element 0 is", "it changes the loss by"]),
        (37, ["its derivative of element 37 is", "its derivatives add up to"]),
    ],
    ids=["all elements", "one element of many"],
)
def test_programs_that_disagree_are_not_used(
    where: Any,
    why: list[str],
    comparison: str,
    taken: list[LanesEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoilt(program: Any, indices: Any, moves: Any) -> Any:
        changes, refused = run.run(program, indices, moves)
        wrong = np.isin(indices, np.arange(100)[where])
        return np.where(wrong, 1.001 * changes, changes), refused

    monkeypatch.setattr(lanes, "run", spoilt)
    lstm = Lstm()
    report = fastcheck.check(lstm.loss, lstm.params, lstm.grads())
    assert report.passed, report
    large = [one for one in taken if one.replay.slice.tensor == "Wh"][-1]
    assert large.obstacle is not None
    assert why[comparison == "the replay"] in large.obstacle


def test_a_structure_that_agreed_is_not_added_up_again(
    taken: list[LanesEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[str] = []
    add_up = lanes.all_together

    def counted(replay: Any, tensor: Any, *rest: Any) -> Any:
        sums.append(tensor.name)
        return add_up(replay, tensor, *rest)

    monkeypatch.setattr(lanes, "all_together", counted)
    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: False)
    lstm = Lstm()
    for _ in range(2):
        assert fastcheck.check(lstm.loss, lstm.params, lstm.grads())
    assert sums == ["Wh"]  # the others have few elements: most of these are compared one by one


@pytest.mark.parametrize("place", ["write", "run"])
@pytest.mark.usefixtures("comparison")
def test_a_fault_of_the_interpreter_leaves_the_replay(
    place: str, taken: list[LanesEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("no machine")

    monkeypatch.setattr(lanes, place, broken)
    lstm = Lstm()
    assert fastcheck.check(lstm.loss, lstm.params, lstm.grads())
    faults = [one.obstacle for one in taken]
    told = {"they could not be run (OSError: no machine)"}
    assert set(faults) == (told if place == "run" else set())


def test_without_llvm_a_check_is_replayed_with_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> bool:
        raise ImportError("No module named 'llvmlite'")

    monkeypatch.setattr(onhost, "interpreter_pays", missing)
    lstm = Lstm()
    assert fastcheck.check(lstm.loss, lstm.params, lstm.grads())


# -- the cost model --------------------------------------------------------------------------------


class Slow:
    """A replay that takes so many seconds."""

    def __init__(self, seconds: float, replay: ReplayEngine) -> None:
        self.slice = replay.slice
        self._seconds = seconds

    def seconds(self, count: int) -> float:
        return self._seconds


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> ReplayEngine:
    monkeypatch.setattr(choice, "_waited", 0.0)
    lstm = Lstm()
    _, found, _ = next(pairs(lstm.loss, lstm.params))
    return found


def test_a_short_replay_does_not_wait_for_machine_code(replay: ReplayEngine) -> None:
    assert not choice.interpreter_pays(Slow(least_seconds(replay, 60) / 2, replay), 60)


def test_a_long_replay_is_worth_compiling_the_interpreter(
    replay: ReplayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_compiled", lambda: False)
    monkeypatch.setattr(compiler, "started", lambda: False)
    assert choice.interpreter_pays(Slow(1.0, replay), 60)


def test_the_interpreter_is_compiled_once_replays_have_taken_as_long(
    replay: ReplayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_compiled", lambda: False)
    monkeypatch.setattr(compiler, "started", lambda: True)
    assert not choice.interpreter_pays(Slow(0.05, replay), 60, trial=True)  # leaves no trace
    answers = [choice.interpreter_pays(Slow(0.05, replay), 60) for _ in range(3)]
    assert answers == [False, False, True]


def test_llvm_is_loaded_for_what_is_on_disk_once_replays_have_taken_as_long(
    replay: ReplayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []

    def on_disk() -> bool:
        looked.append(True)
        return True

    monkeypatch.setattr(choice, "is_compiled", on_disk)
    monkeypatch.setattr(compiler, "started", lambda: False)
    answers = [choice.interpreter_pays(Slow(0.025, replay), 60) for _ in range(3)]
    assert answers == [False, False, True]
    assert looked == [True]


def test_compiled_machine_code_is_used_at_once(
    replay: ReplayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_compiled", lambda: True)
    monkeypatch.setattr(compiler, "started", lambda: True)
    assert choice.interpreter_pays(Slow(0.01, replay), 60)


def test_a_slice_without_a_kernel_is_known_the_next_time(replay: ReplayEngine) -> None:
    known = choice.Refusals()
    assert known.why(replay.slice, 1.0) is None
    known.add(replay.slice, 1.0, "too long")
    assert known.why(replay.slice, 1.1) == "too long"
    assert known.why(replay.slice, 5.0) is None  # with more time there may be one


def test_a_long_kernel_is_looked_for_once_replays_have_taken_as_long(
    replay: ReplayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_unwritten", {})
    part = replay.slice
    assert len(part.nodes) > choice._LONG
    third = choice._SECONDS_TO_LOWER * len(part.nodes) / 2.5
    assert not choice.lowering_pays(part, third, trial=True)  # leaves no trace
    assert [choice.lowering_pays(part, third) for _ in range(3)] == [False, False, True]


def test_a_short_kernel_is_looked_for_at_once() -> None:
    params = {"w": np.array([0.3, 0.4])}
    _, replay, _ = next(pairs(lambda p: np.sum(np.tanh(p["w"])), params))
    assert choice.lowering_pays(replay.slice, 1e-9)
