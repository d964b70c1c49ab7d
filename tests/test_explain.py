"""`explain`: the plan of a check, as data and as a page."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import fastcheck

rng = np.random.default_rng(0)
X = rng.normal(size=(12, 4))
PARAMS = {"W": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}


def loss(p: Any) -> Any:
    return np.mean(np.tanh(X @ p["W"] + p["b"]) ** 2)


def escaping(p: Any) -> Any:
    (size,) = map(float, [np.sum(p["b"] ** 2)])
    return np.sum(p["W"]) * np.exp(size)


def untraceable(p: Any) -> Any:
    return np.linalg.eigvals(np.outer(p["b"], p["b"])).real.sum() + loss(p)


def deep(p: Any) -> Any:
    x = p["W"]
    for _ in range(100):
        x = np.tanh(x)
    return np.sum(x) + np.sum(p["b"])


def branching(p: Any) -> Any:
    return loss(p) if p["b"][0] > 0 else 2 * loss(p)


def test_it_says_the_loss() -> None:
    assert fastcheck.explain(loss, PARAMS).loss == loss(PARAMS)


def test_every_operation_has_its_line_in_the_users_file() -> None:
    explanation = fastcheck.explain(loss, PARAMS)
    line = loss.__code__.co_firstlineno + 1
    sources = {node.source for node in explanation.graph if node.operands}
    assert sources == {f"{__file__}:{line}"}
    assert explanation.refusal == ""


def test_the_graph_names_operations_operands_and_shapes() -> None:
    graph = {node.operation: node for node in fastcheck.explain(loss, PARAMS).graph}
    assert graph["W"].shape == (4, 3)
    assert graph["W"].source == ""
    assert graph["tanh"].shape == (12, 3)
    assert graph["contract"].operands == ("constant", "W")


def test_a_slice_holds_what_the_tensor_reaches() -> None:
    explanation = fastcheck.explain(loss, PARAMS)
    weights, biases = explanation.tensors
    product = next(node.number for node in explanation.graph if node.operation == "contract")
    assert product in weights.operations
    assert product not in biases.operations
    assert set(biases.operations) < set(weights.operations)


def test_a_replayed_tensor_says_chunk_memory_and_time() -> None:
    weights, _ = fastcheck.explain(loss, PARAMS).tensors
    assert (weights.name, weights.shape, weights.engine) == ("W", (4, 3), "replay")
    assert weights.reason == "traced, and cross-checked against `loss`"
    assert weights.chunk >= 1
    assert weights.bytes_per_chunk > 0
    assert 0 < weights.seconds < 10


def test_the_chunk_follows_the_memory() -> None:
    params = {"W": rng.normal(size=(200, 30))}

    def wide(p: Any) -> Any:
        return np.sum(np.tanh(p["W"].T @ p["W"]))

    roomy = fastcheck.explain(wide, params).tensors[0]
    tight = fastcheck.explain(wide, params, memory="150KB").tensors[0]
    assert tight.chunk < roomy.chunk
    assert tight.bytes_per_chunk <= 150_000


def test_an_escaped_number_is_named_with_its_line() -> None:
    weights, biases = fastcheck.explain(escaping, PARAMS).tensors
    line = escaping.__code__.co_firstlineno + 1
    assert weights.engine == "replay"
    assert biases.engine == "loop"
    assert f"{__file__}:{line}" in biases.reason
    assert (biases.chunk, biases.operations) == (1, ())


def test_a_loss_that_is_not_traced_says_why() -> None:
    explanation = fastcheck.explain(untraceable, PARAMS)
    assert "numpy.linalg.eigvals" in explanation.refusal
    assert explanation.graph == ()
    assert {tensor.engine for tensor in explanation.tensors} == {"loop"}
    assert "not traced: numpy.linalg.eigvals" in str(explanation)


def test_the_loop_may_be_asked_for() -> None:
    explanation = fastcheck.explain(loss, PARAMS, engine="loop")
    assert explanation.refusal == "asked for with engine='loop'"


def test_a_branch_is_a_guard() -> None:
    explanation = fastcheck.explain(branching, PARAMS)
    line = branching.__code__.co_firstlineno + 1
    assert explanation.guards == (f"a branch ({__file__}:{line})",)
    assert "guard: a branch" in str(explanation)


def test_the_estimates_add_up() -> None:
    explanation = fastcheck.explain(loss, PARAMS)
    assert explanation.seconds == sum(tensor.seconds for tensor in explanation.tensors)


@pytest.mark.parametrize("function", [loss, escaping, untraceable, deep, branching])
def test_the_page_fits_100_columns(function: Any) -> None:
    page = str(fastcheck.explain(function, PARAMS))
    assert max(map(len, page.splitlines())) <= 100


def test_a_long_name_does_not_widen_the_page() -> None:
    name = "encoder." * 30 + "W"
    page = str(fastcheck.explain(lambda p: np.sum(p[name] ** 2), {name: np.ones(3)}))
    assert max(map(len, page.splitlines())) <= 100


def test_a_long_graph_is_cut_on_the_page_and_whole_in_the_data() -> None:
    explanation = fastcheck.explain(deep, PARAMS)
    assert len(explanation.graph) > 100
    assert "more operations" in str(explanation)
    assert len(str(explanation).splitlines()) < 100


@pytest.mark.parametrize("function", [loss, escaping, untraceable, branching])
def test_the_data_are_json(function: Any) -> None:
    data = fastcheck.explain(function, PARAMS).to_dict()
    back = json.loads(json.dumps(data, allow_nan=False))
    assert [tensor["name"] for tensor in back["tensors"]] == ["W", "b"]
    assert back["loss"] == function(PARAMS)


def test_python_floats_and_empty_tensors_are_explained() -> None:
    params = {"t": 2.0, "e": np.ones((0, 2))}
    explanation = fastcheck.explain(lambda p: p["t"] ** 2 + np.sum(p["e"]), params)
    assert [tensor.shape for tensor in explanation.tensors] == [(), (0, 2)]
    assert "scalar" in str(explanation)


def test_nothing_of_the_users_is_changed() -> None:
    class Network:
        def __init__(self) -> None:
            self.params = PARAMS
            self.calls = 0

        def loss(self, p: Any) -> Any:
            self.params, self.calls = p, self.calls + 1
            return loss(p)

    network = Network()
    fastcheck.explain(network.loss, PARAMS)
    assert network.params is PARAMS
    assert network.calls == 0


def test_unusable_arguments_are_refused_as_in_check() -> None:
    with pytest.raises(fastcheck.InputError, match="`memory` is 10 bytes"):
        fastcheck.explain(loss, PARAMS, memory=10)
    with pytest.raises(fastcheck.InputError, match="`engine` is 'batched'"):
        fastcheck.explain(loss, PARAMS, engine="batched")
