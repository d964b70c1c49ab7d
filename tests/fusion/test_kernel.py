"""A kernel in blocks, for some elements, in any order: always the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcheck.engines.fused import FusedEngine
from fastcheck.fusion import kernel as kernels
from fastcheck.problems.mlp import mlp_problem

RNG = np.random.default_rng(10)
X, T = RNG.normal(size=(21, 13)), RNG.normal(size=(21, 4))
PARAMS = {
    "W1": RNG.normal(size=(13, 9)) / 3,
    "b1": RNG.normal(size=9),
    "W2": RNG.normal(size=(9, 4)),
}
STEP = 2.0**-31


def loss(p: dict[str, Any]) -> Any:
    return np.mean((np.tanh(X @ p["W1"] + p["b1"]) @ p["W2"] - T) ** 2)


def flat_loss(p: dict[str, Any]) -> Any:
    theta = p["theta"]
    W1, b1, W2 = theta[:117].reshape(13, 9), theta[117:126], theta[126:].reshape(9, 4)
    return loss({"W1": W1, "b1": b1, "W2": W2}) + 0.01 * np.sum(theta**2)


def changes(fused: FusedEngine, indices: Any) -> np.ndarray:
    indices = np.asarray(indices, dtype=np.int64)
    found = fused.differences("", indices, np.full(len(indices), STEP))
    return np.stack([found.plus, found.minus])


def run_all(fused: FusedEngine) -> np.ndarray:
    """Run the one kernel of an engine for all elements, and nothing else."""
    (kernel,), (group,) = fused.kernels(), fused._groups
    (size,) = {len(positions) for positions in group.positions.values()}
    plus, minus, _ = kernel.run(dict(group.positions), np.full(size, STEP))
    return np.stack([plus, minus])


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("memory", [1, 5_000, 20_000])
def test_constants_in_blocks_give_the_same_bits(tools, name: str, memory: int) -> None:
    every = np.arange(PARAMS[name].size)
    whole = changes(tools.fused_of(loss, PARAMS, name), every)
    blocked = changes(tools.fused_of(loss, PARAMS, name, memory), every)
    np.testing.assert_array_equal(blocked, whole)


def test_little_memory_means_blocks(tools, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = []
    run = kernels.Kernel._run_block
    monkeypatch.setattr(
        kernels.Kernel, "_run_block", lambda self, *args: blocks.append(args[0]) or run(self, *args)
    )
    run_all(tools.fused_of(loss, PARAMS, "W1", 2**26))
    assert blocks == [{}]
    blocks.clear()
    run_all(tools.fused_of(loss, PARAMS, "W1", 1))
    positions = [int(at) for block in blocks for (at,) in block.values()]
    assert positions in ([*range(9)], [*range(13)])


def test_blocks_of_a_flat_vector_give_the_same_bits(tools) -> None:
    theta = {"theta": np.concatenate([PARAMS[name].ravel() for name in ("W1", "b1", "W2")])}
    every = np.arange(theta["theta"].size)
    whole = changes(tools.fused_of(flat_loss, theta, "theta"), every)
    blocked = changes(tools.fused_of(flat_loss, theta, "theta", 1), every)
    np.testing.assert_array_equal(blocked, whole)


@pytest.mark.parametrize("memory", [1, 2**26])
@pytest.mark.parametrize(
    "indices",
    [
        np.arange(117)[::-1],
        [5],
        [116, 0, 116, 0, 0],
        RNG.integers(117, size=300),
        np.arange(3, 117, 11),
    ],
    ids=["reversed", "one", "repeated", "many drawn", "some"],
)
def test_a_part_equals_that_part_of_all(tools, indices: Any, memory: int) -> None:
    fused = tools.fused_of(loss, PARAMS, "W1", memory)
    whole = changes(fused, np.arange(117))
    np.testing.assert_array_equal(changes(fused, indices), whole[:, np.asarray(indices)])


def test_no_copies_are_no_work(tools, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = tools.fused_of(loss, PARAMS, "W1")
    assert changes(fused, []).shape == (2, 0)


def test_steps_of_any_memory_layout_will_do(tools) -> None:
    fused = tools.fused_of(loss, PARAMS, "W2")
    steps = STEP * np.arange(1.0, 73.0)
    strided = fused.differences("", np.arange(36), steps[::2])
    plain = fused.differences("", np.arange(36), steps[::2].copy())
    np.testing.assert_array_equal(strided.plus, plain.plus)


def test_work_is_cut_into_chunks_that_can_be_interrupted(
    tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    fused = tools.fused_of(loss, PARAMS, "W1")
    whole = run_all(fused)
    (kernel,) = fused.kernels()
    ranges = []
    function = kernel._function

    def watched(*arguments: Any) -> None:
        ranges.append(arguments[-2:])
        function(*arguments)

    monkeypatch.setattr(kernel, "_function", watched)
    monkeypatch.setattr(kernels, "_LONGEST", kernel.source.operations * 10)
    np.testing.assert_array_equal(run_all(fused), whole)
    assert len(ranges) == 12
    assert [first for first, _ in ranges[1:]] == [last for _, last in ranges[:-1]]


def test_the_constants_of_the_user_are_not_written(tools) -> None:
    before = X.copy()
    changes(tools.fused_of(loss, PARAMS, "W1"), np.arange(117))
    np.testing.assert_array_equal(X, before)


def test_refused_copies_are_told(tools) -> None:
    fused = tools.fused_of(lambda p: np.sum(np.abs(p["z"])), {"z": np.array([0.5, -2.0])}, "z")
    (kernel,) = fused.kernels()
    group = fused._groups[0]
    _, _, refused = kernel.run(dict(group.positions), np.array([0.6, 0.6]))
    assert refused.tolist() == [True, False]


def test_relu_networks_of_any_size_share_their_kernels(tools) -> None:
    def texts(widths: tuple[int, ...], samples: int) -> set[str]:
        problem = mlp_problem(widths, samples)
        return {
            kernel.source.text
            for name in problem.params
            for kernel in tools.fused_of(problem.loss, problem.params, name).kernels()
        }

    shared = texts((30, 12, 5), 64)
    assert len(shared) == 2
    assert texts((50, 40, 5), 100) == shared
    assert texts((20, 18, 30, 5), 21) == shared


def test_what_an_inner_loop_has_computed_is_not_used_outside(tools) -> None:
    """Distances of normalised rows: a loop over pairs inside one over samples."""
    label = np.arange(12) % 3
    same = (label[:, None] == label) & ~np.eye(12, dtype=bool)
    X = RNG.normal(size=(12, 8))
    params = {"W": 0.4 * RNG.normal(size=(8, 4)), "b": 0.1 * RNG.normal(size=4)}

    def hardest(p: dict[str, Any]) -> Any:
        e = X @ p["W"] + p["b"]
        e = e / np.sqrt(np.sum(e**2, axis=1, keepdims=True))
        D = ((e[:, None] - e[None]) ** 2).sum(axis=-1)
        far = np.max(np.where(same, D, -1e9), axis=1)
        near = np.min(np.where(label[:, None] != label, D, 1e9), axis=1)
        return np.mean(np.maximum(far - near + 0.3, 0))

    for name, tensor in params.items():
        fused = tools.fused_of(hardest, params, name)
        indices, steps = np.arange(tensor.size), np.full(tensor.size, STEP)
        found = fused.differences(name, indices, steps)
        replayed = fused.replay.differences(name, indices, steps)
        np.testing.assert_allclose(found.plus, replayed.plus, rtol=1e-9, atol=1e-24)
