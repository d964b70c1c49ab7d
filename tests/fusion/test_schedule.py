"""Which label becomes the vector, which are unrolled, which loops; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcheck.fusion.dims import NotFusable
from fastcheck.fusion.lower import lower
from fastcheck.fusion.roots import groups_of
from fastcheck.fusion.schedule import Schedule, schedule
from fastcheck.fusion.series import REACHES

RNG = np.random.default_rng(6)


def network(samples: int, inputs: int, hidden: int, classes: int) -> tuple[Any, dict[str, Any]]:
    X, T = RNG.normal(size=(samples, inputs)), RNG.normal(size=(samples, classes))

    def loss(p: dict[str, Any]) -> Any:
        error = np.tanh(np.tanh(X @ p["W1"]) @ p["W2"]) - T
        return np.mean(np.sum(error**2, axis=1))

    return loss, {
        "W1": RNG.normal(size=(inputs, hidden)),
        "W2": RNG.normal(size=(hidden, classes)),
    }


def schedule_of(tools: Any, loss: Any, params: dict[str, Any], tensor: str) -> Schedule:
    part = tools.slice_of(loss, params, tensor)
    (group,) = groups_of(part)
    return schedule(lower(part, group, REACHES[0]))


def sizes(labels: Any) -> list[int]:
    return sorted(label.size for label in labels)


def test_samples_run_along_the_vector(tools) -> None:
    made = schedule_of(tools, *network(40, 3, 5, 10), "W1")
    assert made.vector is not None
    assert made.vector.size == 40
    assert made.width == 8


def test_of_two_wide_axes_one_is_the_vector_and_both_are_loops(tools) -> None:
    made = schedule_of(tools, *network(40, 3, 5, 30), "W1")
    assert made.vector in made.loops
    assert sizes(made.loops) == [30, 40]


def test_a_short_axis_is_unrolled(tools) -> None:
    made = schedule_of(tools, *network(40, 3, 5, 10), "W1")
    assert sizes(made.loops) == [40]


def test_few_samples_leave_numbers(tools) -> None:
    made = schedule_of(tools, *network(1, 3, 5, 4), "W1")
    assert made.vector is None
    assert made.width == 1


def test_one_sample_lets_the_classes_be_the_vector(tools) -> None:
    made = schedule_of(tools, *network(1, 3, 5, 24), "W1")
    assert made.vector is not None
    assert made.vector.size == 24


def test_trips_count_blocks_of_samples(tools) -> None:
    made = schedule_of(tools, *network(41, 3, 5, 30), "W1")
    for label in made.loops:
        blocks = {41: 6, 30: 4}[label.size]
        assert made.trips(label) == (blocks if label is made.vector else label.size)


def test_sums_that_build_upon_each_other_have_levels(tools) -> None:
    X = RNG.normal(size=(40, 3))

    def loss(p: dict[str, Any]) -> Any:
        h = np.tanh(X @ p["w"])
        return np.mean((h - np.mean(np.exp(h))) ** 2)

    made = schedule_of(tools, loss, {"w": RNG.normal(size=3)}, "w")
    levels = [level for node, level in made.level.items() if node.payload is made.vector]
    assert {0, 1} <= set(levels)


def test_a_wide_layer_is_left_to_matrix_products(tools) -> None:
    X = RNG.normal(size=(40, 3))
    V = RNG.normal(size=(20, 70)) / 4

    def loss(p: dict[str, Any]) -> Any:
        return np.mean(np.tanh(np.tanh(np.tanh(X @ p["W1"]) @ V) @ V.T) ** 2)

    with pytest.raises(NotFusable, match=r"^a wide layer would be multiplied out for every copy$"):
        schedule_of(tools, loss, {"W1": RNG.normal(size=(3, 20))}, "W1")


def recurrent(samples: int, hidden: int, steps: int) -> tuple[Any, dict[str, Any]]:
    X, V = RNG.normal(size=(samples, 3)), RNG.normal(size=(hidden, hidden)) / hidden

    def loss(p: dict[str, Any]) -> Any:
        h = np.tanh(X @ p["W"])
        for _ in range(steps):
            h = np.tanh(h @ V)
        return np.mean(h**2)

    return loss, {"W": RNG.normal(size=(3, hidden))}


def test_the_units_of_a_narrow_layer_are_kept_for_the_next(tools) -> None:
    made = schedule_of(tools, *recurrent(40, 20, 3), "W")
    assert made.kept
    assert sizes(made.kept.values()) == [20] * len(made.kept)
    assert made.vector not in made.kept.values()


def test_small_layers_are_unrolled(tools) -> None:
    made = schedule_of(tools, *recurrent(40, 6, 3), "W")
    assert not made.kept
    assert sizes(made.loops) == [40]


def test_many_small_layers_are_loops(tools) -> None:
    made = schedule_of(tools, *recurrent(40, 10, 9), "W")
    assert made.kept
    assert made.operations < 1500


def test_a_chain_of_many_sums_is_refused(tools) -> None:
    def loss(p: dict[str, Any]) -> Any:
        h = p["w"]
        for _ in range(60):
            h = np.tanh(h - np.mean(np.tanh(h)))
        return np.sum(h)

    with pytest.raises(NotFusable, match=r"^too many operations follow upon each other$"):
        schedule_of(tools, loss, {"w": np.ones(3)}, "w")


def test_a_long_kernel_is_refused(tools) -> None:
    def loss(p: dict[str, Any]) -> Any:
        parts = [np.square(p["w"] * (k + 1.0)) for k in range(2048)]
        while len(parts) > 1:
            parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    with pytest.raises(NotFusable, match=r"^the kernel would be too long$"):
        schedule_of(tools, loss, {"w": np.array(0.01)}, "w")
