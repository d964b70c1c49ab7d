"""The replay on a GPU's arrays (the stand-in for CuPy), and in float32: the same differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings

import fastcheck
from fastcheck.devices import Device, resolve_devices
from fastcheck.differences import Bases, context
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.tracing import escaped_number
from fastcheck.errors import InputError
from fastcheck.params import Tensor
from fastcheck.problems.mlp import mlp_problem
from fastcheck.trace.simplify import simplify

from .test_programs import Program, programs
from .test_replay import LOSSES, MEMORY, Both


@pytest.fixture
def machine(standin_cupy: Any) -> Any:
    return standin_cupy()


@pytest.fixture
def gpu(machine: Any) -> Device:
    (device,) = resolve_devices("gpu")
    return device


def engine(both: Both, tensor: Tensor, bases: Bases, memory: int = MEMORY) -> ReplayEngine:
    def fallback(indices: Any, moves: Any) -> Any:
        return both.loop.differences(tensor.name, indices, moves, central=False).plus

    return ReplayEngine(both.graph, tensor, both.loop.loss, memory, fallback, bases)


def all_of(replay: ReplayEngine, tensor: Tensor, step: float = 2.0**-10) -> Any:
    return replay.differences(tensor.name, np.arange(tensor.size), np.full(tensor.size, step))


def alike(found: Any, wanted: Any, relative: float) -> None:
    for one, other in ((found.plus, wanted.plus), (found.minus, wanted.minus)):
        sound = np.isfinite(other)
        largest = float(np.max(abs(other[sound]), initial=0.0))
        np.testing.assert_allclose(one[sound], other[sound], rtol=0, atol=relative * largest)


@pytest.fixture(params=LOSSES)
def both(request: pytest.FixtureRequest) -> Both:
    found = Both(*LOSSES[request.param])
    found.graph = simplify(found.graph)
    return found


@pytest.mark.parametrize("asking", [True, False])
def test_a_gpu_gives_the_differences_of_the_cpu(both, gpu, monkeypatch, asking) -> None:
    monkeypatch.setattr(context, "_WORTH_A_WAIT", 0 if asking else 2**62)
    for tensor in both.tree:
        for step in (0.3, 2.0**-30):
            wanted = all_of(engine(both, tensor, Bases()), tensor, step)
            found = all_of(engine(both, tensor, Bases(gpu)), tensor, step)
            alike(found, wanted, 1e-12)
            assert found.kinked.tolist() == wanted.kinked.tolist()
            assert found.loss_calls == wanted.loss_calls


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_float32_keeps_six_digits_of_the_differences(both, gpu, where) -> None:
    for tensor in both.tree:
        bases = Bases(gpu, "float32") if where == "gpu" else Bases(dtype="float32")
        wanted = all_of(engine(both, tensor, Bases()), tensor, 2.0**-20)
        found = all_of(engine(both, tensor, bases), tensor, 2.0**-20)
        alike(found, wanted, 1e-5)


def test_in_float32_no_stack_is_float64(both, gpu, machine) -> None:
    for tensor in both.tree:
        replay = engine(both, tensor, Bases(gpu, "float32"))
        made: list[Any] = []
        machine.on_array = made.append
        all_of(replay, tensor)
        machine.on_array = None
        assert any(array.dtype == np.float32 for array in made)
        assert not [array for array in made if array.dtype == np.float64]


def test_steps_of_float32_are_those_that_were_taken(gpu) -> None:
    both = Both(*LOSSES["batch norm"])
    tensor = next(iter(both.tree))
    found = all_of(engine(both, tensor, Bases(gpu, "float32")), tensor, 0.1)
    assert set(found.step_plus) == set(found.step_minus) == {float(np.float32(0.1))}
    assert found.step_plus.dtype == np.float64


def test_other_questions_are_answered_on_the_gpu_too(both, gpu) -> None:
    rng = np.random.default_rng(5)
    for tensor in both.tree:
        move = 1e-2 * rng.normal(size=tensor.shape)
        here, there = engine(both, tensor, Bases()), engine(both, tensor, Bases(gpu))
        assert there.directional(move) == pytest.approx(here.directional(move), rel=1e-12)
        where, moves = np.array([0, tensor.size - 1]), np.array([0.1, -0.2])
        np.testing.assert_allclose(
            there.changes(where, moves), here.changes(where, moves), rtol=1e-11, atol=1e-15
        )
        assert there.survey.peak == here.survey.peak


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(program=programs())
def test_random_programs_give_the_same_on_a_gpu(program: Program, gpu: Device) -> None:
    note(program.source())
    note(str(program.params))
    try:
        both = Both(program.loss(), program.params)
    except Exception:  # what cannot be traced is for the tests of the trace
        return
    both.graph = simplify(both.graph)
    for tensor in both.tree:
        if escaped_number(both.graph, tensor.name) is not None:
            continue
        with np.errstate(all="ignore"):
            try:
                wanted = all_of(engine(both, tensor, Bases()), tensor, 0.0103)
            except (ValueError, IndexError):  # shapes that depend on the data
                continue
            alike(all_of(engine(both, tensor, Bases(gpu)), tensor, 0.0103), wanted, 1e-11)


@pytest.fixture
def demo() -> Both:
    problem = mlp_problem((30, 10, 10), 16)
    found = Both(problem.loss, problem.params)
    found.graph = simplify(found.graph)
    return found


def test_a_chunk_of_the_demo_waits_for_the_gpu_a_few_times_only(demo, gpu, machine) -> None:
    for tensor in demo.tree:
        replay = engine(demo, tensor, Bases(gpu))
        all_of(replay, tensor)  # base values are moved there
        machine.counts.clear()
        all_of(replay, tensor)
        # The results, and whether a unit of the hidden layer can come to its kink.
        assert machine.counts["synchronisations"] <= 2
        # The perturbation: its step, and its position on each axis.
        assert machine.counts["uploads"] <= 1 + len(tensor.shape)


def test_what_suits_a_gpu_are_large_chunks(demo, gpu) -> None:
    tensor = demo.tree[demo.tree.names[0]]
    here, there = engine(demo, tensor, Bases(), 2**40), engine(demo, tensor, Bases(gpu), 2**40)
    assert there.chunk > 16 * here.chunk
    assert there.chunk * there.survey.largest <= 256 * 2**20
    assert there.seconds(10**6) < here.seconds(10**6)


def test_out_of_memory_halves_the_chunk(demo, gpu, machine) -> None:
    tensor = demo.tree[demo.tree.names[0]]
    wanted = all_of(engine(demo, tensor, Bases()), tensor)
    replay = engine(demo, tensor, Bases(gpu))
    whole = replay.chunk
    assert whole > tensor.size
    machine.limit = machine.used[0] + 40 * replay.bytes_per_parameter
    found = all_of(replay, tensor)
    alike(found, wanted, 1e-12)
    assert 1 <= replay.chunk <= 40
    assert machine.used[0] < machine.limit


def test_out_of_memory_for_one_copy_names_the_argument(demo, gpu, machine) -> None:
    tensor = demo.tree[demo.tree.names[0]]
    replay = engine(demo, tensor, Bases(gpu))
    all_of(replay, tensor)
    machine.limit = machine.used[0] + 512
    with pytest.raises(InputError, match=r"`memory` is .*gpu:0 could not allocate .*free memory"):
        all_of(replay, tensor)
    fresh = engine(demo, tensor, Bases(gpu))
    with pytest.raises(InputError, match=r"`memory` is .* could not allocate what one perturbed"):
        _ = fresh.chunk


def test_memory_is_kept_for_the_next_differences_and_given_back_after_a_check(
    demo, gpu, machine
) -> None:
    tensor = demo.tree[demo.tree.names[0]]
    replay = engine(demo, tensor, Bases(gpu))
    all_of(replay, tensor)
    assert machine.counts["releases"] == 0
    del replay
    problem = mlp_problem((12, 5, 3), 17)
    options = {"device": "gpu", "engine": "replay"}
    assert fastcheck.check(problem.loss, problem.params, problem.grads, **options)
    assert machine.counts["releases"] == 1
    assert machine.held[0] == machine.used[0]


@pytest.mark.parametrize("exception", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("launch", [1, 7, 20, 33])
def test_an_interruption_leaves_nothing_behind(demo, gpu, machine, launch, exception) -> None:
    tensor = demo.tree[demo.tree.names[0]]
    bases = Bases(gpu)
    replay = engine(demo, tensor, bases)
    wanted = all_of(replay, tensor)
    before, left = machine.used[0], [launch]

    def interrupt(name: str) -> None:
        left[0] -= 1
        if not left[0]:
            raise exception

    machine.on_launch = interrupt
    with pytest.raises(exception) as raised:
        all_of(replay, tensor)
    machine.on_launch = None
    assert raised.tb is not None  # it is held here, and holds no stacks
    assert machine.used[0] <= before
    assert machine.held[0] == machine.used[0]
    again = all_of(replay, tensor)
    np.testing.assert_array_equal(again.plus, wanted.plus)
    np.testing.assert_array_equal(again.minus, wanted.minus)


def test_the_second_of_two_devices_holds_its_own_arrays(demo, standin_cupy) -> None:
    machine = standin_cupy(devices=2)
    tensor = demo.tree[demo.tree.names[0]]
    (second,) = resolve_devices("gpu:1")
    bases = Bases(second)
    found = all_of(engine(demo, tensor, bases), tensor)
    alike(found, all_of(engine(demo, tensor, Bases()), tensor), 1e-12)
    assert machine.used[1] > 0 == machine.used[0]
    assert machine.current == 0


def test_copies_that_branch_otherwise_are_computed_by_the_loss(gpu) -> None:
    def loss(w: Any) -> Any:
        return np.sum(w) if w[0] > 0 else np.sum(w**2)

    both = Both(loss, np.array([0.1, 5.0]))
    replay = engine(both, both.tree["params"], Bases(gpu))
    found = replay.differences("params", np.array([0, 1]), np.array([0.3, 0.3]))
    np.testing.assert_allclose(found.minus, [5.1 - 0.04 - 25.0, 0.3])
    assert found.loss_calls == 1
    assert found.kinked.tolist() == [True, False]


def test_float32_leaves_what_overflows_to_the_loss() -> None:
    both = Both(lambda w: np.log(np.sum(np.exp(w))), np.array([1.0, 95.0]))  # exp(95) > 3.4e38
    replay = engine(both, both.tree["params"], Bases(dtype="float32"))
    found = replay.differences("params", np.array([0, 1]), np.array([0.5, 0.5]))
    slow = both.loop.differences("params", np.array([0, 1]), np.array([0.5, 0.5]))
    np.testing.assert_allclose(found.plus, slow.plus, rtol=1e-6, atol=1e-30)
    assert replay.unit_roundoff == 2.0**-24
