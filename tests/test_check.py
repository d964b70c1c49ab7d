"""`check`: what it accepts, what its Report says, and what it leaves as it was."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import subprocess
import sys
import threading
import time
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck import Report, Verdict

Layer = namedtuple("Layer", "W b")
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
PARAMS = {"W": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}


def loss(p: Any) -> Any:
    return np.mean((np.tanh(X @ p["W"] + p["b"]) - Y) ** 2)


def grads(p: Any) -> dict[str, Any]:
    a = np.tanh(X @ p["W"] + p["b"])
    dz = 2 * (a - Y) / a.size * (1 - a**2)
    return {"W": X.T @ dz, "b": dz.sum(axis=0)}


GRADS = grads(PARAMS)
FLAT = np.concatenate([GRADS["W"].ravel(), GRADS["b"]])


def check(**keywords: Any) -> Report:
    return fastcheck.check(loss, PARAMS, GRADS, **keywords)


# -- the Report ------------------------------------------------------------------------------------


def test_the_right_gradient_passes() -> None:
    report = check()
    assert report.verdict is Verdict.PASS
    assert report.passed
    assert bool(report)
    assert report.failed == ()
    assert report.notes == ()


def test_a_tensor_report_says_what_was_done() -> None:
    report = check()
    weights = report.tensors["W"]
    assert list(report.tensors) == ["W", "b"]
    assert (weights.name, weights.shape, weights.dtype) == ("W", (4, 3), "float64")
    assert (weights.checked, weights.size) == (12, 12)
    assert (weights.engine, weights.engine_reason) == (
        "replay",
        "traced, and cross-checked against `loss`",
    )
    assert 0 <= weights.relative_error < 1e-12
    assert weights.resolution < 1e-10
    assert 0 < weights.step < 1
    assert 0 < weights.seconds <= report.seconds


def test_the_report_says_loss_method_and_totals() -> None:
    report = check()
    assert report.loss == loss(PARAMS)
    assert report.method == "central"
    assert (report.checked, report.size) == (15, 15)
    assert report.forward_passes == 30
    assert report.fastcheck_version == fastcheck.__version__


def test_a_wrong_element_is_the_worst() -> None:
    wrong = {name: gradient.copy() for name, gradient in GRADS.items()}
    wrong["W"][2, 1] += 1.0
    report = fastcheck.check(loss, PARAMS, wrong)
    worst = report.tensors["W"].worst
    assert report.failed == ("W",)
    assert worst is not None
    assert worst.index == (2, 1)
    assert worst.analytic == wrong["W"][2, 1]
    assert worst.numeric == pytest.approx(GRADS["W"][2, 1], rel=1e-9)
    assert report.tensors["b"].verdict is Verdict.PASS


def test_the_relative_error_is_the_one_people_know() -> None:
    report = fastcheck.check(loss, PARAMS, {"W": 3 * GRADS["W"], "b": GRADS["b"]})
    assert report.tensors["W"].relative_error == pytest.approx(0.5)
    n, a = FLAT, np.concatenate([3 * GRADS["W"].ravel(), GRADS["b"]])
    whole = np.linalg.norm(a - n) / (np.linalg.norm(a) + np.linalg.norm(n))
    assert report.relative_error == pytest.approx(whole)


def test_the_loss_calls_are_those_that_were_made() -> None:
    calls = itertools.count()

    def counted(p: Any) -> Any:
        next(calls)
        return loss(p)

    report = fastcheck.check(counted, PARAMS, GRADS, engine="loop")
    assert report.loss_calls == next(calls)
    assert report.loss_calls >= report.forward_passes


def test_replay_calls_the_loss_less_often_than_it_has_parameters() -> None:
    params = {"W": rng.normal(size=(40, 30))}
    report = fastcheck.check(lambda p: np.sum(p["W"] ** 3), params, {"W": 3 * params["W"] ** 2})
    assert report.forward_passes == 2400
    assert report.loss_calls < 50


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_two_checks_give_equal_reports_but_for_the_time(engine: str) -> None:
    first, second = (check(engine=engine, select=2, seed=5).to_dict() for _ in range(2))
    assert without_seconds(first) == without_seconds(second)


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(v) for key, v in value.items() if key != "seconds"}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def test_a_report_survives_json() -> None:
    report = check()
    assert Report.from_json(report.to_json()) == report


def test_the_page_fits_100_columns() -> None:
    wrong = {"W": GRADS["W"] * 2, "b": GRADS["b"] * np.nan}
    for report in (check(), check(engine="loop"), fastcheck.check(loss, PARAMS, wrong)):
        assert max(map(len, str(report).splitlines())) <= 100


def test_no_progress_is_shown_where_there_is_no_terminal(capfd: Any) -> None:
    check(engine="loop")
    assert capfd.readouterr() == ("", "")


# -- select ----------------------------------------------------------------------------------------


def test_select_a_number_per_tensor() -> None:
    report = check(select=2)
    assert [tensor.checked for tensor in report.tensors.values()] == [2, 2]
    assert (report.checked, report.size, report.forward_passes) == (4, 15, 8)


def test_select_more_than_there_are_is_all() -> None:
    assert check(select=10**6).checked == 15


@pytest.mark.parametrize(
    "chosen",
    [
        np.arange(12).reshape(4, 3) == 7,
        [7],
        np.array([7]),
        (np.array([2]), np.array([1])),
        [(2, 1)],
        [-5],
    ],
    ids=["mask", "flat", "array", "axes", "tuples", "from the end"],
)
def test_select_elements_in_all_forms(chosen: Any) -> None:
    wrong = {name: gradient.copy() for name, gradient in GRADS.items()}
    wrong["W"][2, 1] += 1.0
    report = fastcheck.check(loss, PARAMS, wrong, select={"W": chosen})
    assert report.failed == ("W",)
    assert (report.tensors["W"].checked, report.tensors["b"].checked) == (1, 0)
    assert report.tensors["W"].worst.index == (2, 1)  # type: ignore[union-attr]


def test_an_error_outside_the_selection_is_not_seen() -> None:
    wrong = {name: gradient.copy() for name, gradient in GRADS.items()}
    wrong["W"][2, 1] += 1.0
    assert fastcheck.check(loss, PARAMS, wrong, select={"W": [0, 1], "b": "all"})


def test_a_tensor_without_a_selected_element_is_said() -> None:
    biases = check(select={"W": "all"}).tensors["b"]
    assert biases.verdict is Verdict.PASS
    assert biases.worst is None
    assert biases.reason == "None of its elements was selected, so nothing was checked."


def test_another_seed_selects_other_elements() -> None:
    params = np.arange(1.0, 10_001.0)
    wrong = 2 * params
    wrong[::2] *= 2

    def worst(seed: int) -> Any:
        report = fastcheck.check(lambda x: np.sum(x**2), params, wrong, select=5, seed=seed)
        return report.tensors["params"].worst

    assert worst(0) == worst(0)
    assert worst(0) != worst(1)


def test_ten_of_each_of_a_million_parameters_take_no_time() -> None:
    params = {"W": rng.normal(size=(1000, 1000)), "v": rng.normal(size=1000)}

    def backward(p: Any) -> Any:
        d = 1 - np.tanh(p["W"] @ p["v"]) ** 2
        return {"W": np.outer(d, p["v"]), "v": p["W"].T @ d}

    start = time.perf_counter()
    report = fastcheck.check(
        lambda p: np.sum(np.tanh(p["W"] @ p["v"])), params, backward, select=10
    )
    assert report.passed
    assert report.checked == 20
    assert time.perf_counter() - start < 5


# -- method, step, tolerance, memory ---------------------------------------------------------------


@pytest.mark.parametrize("engine", ["replay", "loop"])
def test_forward_differences_take_one_pass_a_parameter(engine: str) -> None:
    report = check(method="forward", engine=engine)
    assert report.verdict is not Verdict.FAIL
    assert report.method == "forward"
    assert report.forward_passes == 15


def test_forward_differences_find_an_error() -> None:
    report = fastcheck.check(loss, PARAMS, {**GRADS, "b": GRADS["b"] * 1.01}, method="forward")
    assert report.failed == ("b",)


@pytest.mark.parametrize("engine", ["replay", "loop"])
def test_a_given_step_is_reported(engine: str) -> None:
    report = check(step=2.0**-17, engine=engine)
    assert report.passed
    assert report.tensors["W"].step == 2.0**-17


def test_a_looser_tolerance_forgives() -> None:
    off = {"W": GRADS["W"] * (1 + 1e-4), "b": GRADS["b"]}
    assert fastcheck.check(loss, PARAMS, off).failed == ("W",)
    assert fastcheck.check(loss, PARAMS, off, tolerance=1e-3).passed


def test_a_tighter_tolerance_does_not() -> None:
    off = {"W": GRADS["W"] * (1 + 1e-8), "b": GRADS["b"]}
    assert fastcheck.check(loss, PARAMS, off).passed
    assert fastcheck.check(loss, PARAMS, off, tolerance=1e-10).failed == ("W",)


def test_little_memory_changes_no_number() -> None:
    roomy, tight = check(), check(memory="4KB")
    assert tight.relative_error == pytest.approx(roomy.relative_error, abs=1e-15)


# -- parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_coarser_parameters_pass_and_it_is_said(dtype: Any) -> None:
    params = {name: value.astype(dtype) for name, value in PARAMS.items()}
    analytic = {name: g.astype(dtype) for name, g in grads(params).items()}
    report = fastcheck.check(loss, params, analytic)
    name = np.dtype(dtype).name
    assert report.passed
    assert report.tensors["W"].dtype == name
    assert report.notes == (
        f"The parameters are {name}; the numerical gradient was computed in float64 from the same "
        "values.",
    )


def test_a_python_float_is_a_parameter() -> None:
    report = fastcheck.check(lambda theta: theta * 5.0, 2.0, 5.0)  # J = θx
    assert report.passed
    assert report.tensors["params"].shape == ()
    assert fastcheck.check(lambda theta: theta * 5.0, 2.0, 4.0).failed == ("params",)


def test_a_nested_tree_has_a_report_for_every_array() -> None:
    params = {"layers": [Layer(PARAMS["W"], PARAMS["b"])], "scale": 2.0}

    def nested(p: Any) -> Any:
        layer = p["layers"][0]
        return p["scale"] * loss({"W": layer.W, "b": layer.b})

    def backward(p: Any) -> Any:
        layer = p["layers"][0]
        inner = grads({"W": layer.W, "b": layer.b})
        value = loss({"W": layer.W, "b": layer.b})
        return {
            "layers": [Layer(p["scale"] * inner["W"], p["scale"] * inner["b"])],
            "scale": value,
        }

    report = fastcheck.check(nested, params, backward)
    assert report.passed
    assert list(report.tensors) == ["layers[0].W", "layers[0].b", "scale"]


def test_empty_tensors_among_others_are_said() -> None:
    params = {"a": np.ones(3), "e": np.ones((0, 2))}
    report = fastcheck.check(
        lambda p: np.sum(p["a"] ** 2) + np.sum(p["e"]),
        params,
        {"a": 2 * np.ones(3), "e": np.ones((0, 2))},
    )
    assert report.passed
    assert report.tensors["e"].reason == "The tensor has no elements, so there is nothing to check."


def test_tied_parameters_are_said() -> None:
    shared = np.ones(3)
    report = fastcheck.check(
        lambda p: np.sum(p["a"] * p["b"]), {"a": shared, "b": shared}, [np.ones(3), np.ones(3)]
    )
    assert report.passed
    assert report.notes == ("a and b share memory; each was perturbed alone.",)


# -- gradients -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        GRADS,
        {"dW": GRADS["W"], "db": GRADS["b"], "dZ": np.ones(5), "dA0": None},
        {"grad_w": GRADS["W"], "B_grad": GRADS["b"]},
        [GRADS["W"], GRADS["b"]],
        (GRADS["W"], GRADS["b"]),
        FLAT,
        FLAT[:, None],
        grads,
        lambda p: grads(p)["W"].tolist() and (grads(p)["W"], grads(p)["b"]),
        lambda p: FLAT,
    ],
    ids=["tree", "dW", "grad_w", "list", "tuple", "flat", "column", "call", "call list", "call f"],
)
def test_gradients_in_all_forms(given: Any) -> None:
    assert fastcheck.check(loss, PARAMS, given).passed


def test_a_backward_pass_runs_right_after_a_forward_pass_at_the_parameters() -> None:
    class Network:
        def forward(self, p: Any) -> Any:
            self.a = np.tanh(X @ p["W"] + p["b"])
            return np.mean((self.a - Y) ** 2)

        def backward(self, p: Any) -> Any:
            dz = 2 * (self.a - Y) / self.a.size * (1 - self.a**2)
            return {"dW": X.T @ dz, "db": dz.sum(axis=0)}

    network = Network()
    assert fastcheck.check(network.forward, PARAMS, network.backward).passed
    assert vars(network) == {}


def test_the_backward_pass_may_write_into_what_it_gets() -> None:
    def backward(p: Any) -> Any:
        found = grads(p)
        for name in p:
            p[name][...] = np.nan
        return found

    assert fastcheck.check(loss, PARAMS, backward).passed


# -- losses ----------------------------------------------------------------------------------------


class Callable:
    def __call__(self, p: Any) -> Any:
        return loss(p)

    def method(self, p: Any) -> Any:
        return loss(p)

    @staticmethod
    def static(p: Any) -> Any:
        return loss(p)


@pytest.mark.parametrize(
    "function",
    [
        Callable(),
        Callable().method,
        Callable.static,
        functools.partial(lambda scale, p: scale * loss(p), 1.0),
        functools.lru_cache(lambda: loss)(),
        functools.wraps(loss)(lambda p: loss(p)),
        lambda p: float(loss(p)),
        lambda p: np.reshape(loss(p), (1, 1)),
        lambda p: np.asarray(loss(p)),
        lambda p: loss(p).item(),
        lambda p: np.longdouble(loss(p)),
    ],
)
def test_any_callable_that_returns_one_number_is_a_loss(function: Any) -> None:
    assert fastcheck.check(function, PARAMS, grads).passed


def test_lambdas_made_in_a_loop_are_each_their_own() -> None:
    for k, function in enumerate([lambda p, k=k: k * loss(p) for k in (1, 2, 3)], 1):
        assert fastcheck.check(function, PARAMS, {n: k * g for n, g in GRADS.items()}).passed


def test_a_float32_loss_never_fails_the_right_gradient() -> None:
    report = fastcheck.check(lambda p: np.float32(loss(p)), PARAMS, grads)
    assert report.verdict is not Verdict.FAIL
    assert report.tensors["W"].engine == "loop"


def test_an_integer_loss_reacts_to_nothing() -> None:
    report = fastcheck.check(lambda p: 3, PARAMS, {"W": np.zeros((4, 3)), "b": np.zeros(3)})
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "does not react to any of the checked parameters" in str(report)


def test_a_parameter_that_the_loss_ignores_is_said() -> None:
    params = {**PARAMS, "unused": np.ones(4)}
    report = fastcheck.check(loss, params, {**GRADS, "unused": np.zeros(4)})
    assert report.passed
    assert "the loss ignores these parameters" in report.tensors["unused"].reason
    assert "the loss ignores these parameters" in " ".join(str(report).split())


def test_a_gradient_for_a_parameter_that_the_loss_ignores_fails() -> None:
    params = {**PARAMS, "unused": np.ones(4)}
    report = fastcheck.check(loss, params, {**GRADS, "unused": np.ones(4)})
    assert report.failed == ("unused",)


def test_a_branch_is_followed() -> None:
    def branching(p: Any) -> Any:
        return loss(p) if p["b"][0] > 0 else 2 * loss(p)

    factor = 1 if PARAMS["b"][0] > 0 else 2
    right = {name: factor * g for name, g in GRADS.items()}
    report = fastcheck.check(branching, PARAMS, right)
    assert report.passed
    assert {tensor.engine for tensor in report.tensors.values()} == {"replay"}


def test_a_number_read_out_of_the_middle_sends_its_tensor_to_the_loop_and_names_the_line() -> None:
    def escaping(p: Any) -> Any:
        (size,) = map(float, [np.sum(p["b"] ** 2)])
        return np.sum(p["W"] ** 2) + np.exp(size)

    size = np.exp(np.sum(PARAMS["b"] ** 2))
    report = fastcheck.check(escaping, PARAMS, [2 * PARAMS["W"], 2 * PARAMS["b"] * size])
    line = escaping.__code__.co_firstlineno + 1
    assert report.passed
    assert report.tensors["W"].engine == "replay"
    assert report.tensors["b"].engine == "loop"
    assert f"{__file__}:{line}" in report.tensors["b"].engine_reason
    assert "by the loop engine" in str(report)


def test_a_loss_that_cannot_be_traced_goes_to_the_loop_and_names_function_and_line() -> None:
    def untraceable(p: Any) -> Any:
        return np.sum(np.unique(p["W"]) ** 2) + np.sum(p["b"])

    assert len(np.unique(PARAMS["W"])) == PARAMS["W"].size
    report = fastcheck.check(untraceable, PARAMS, {"W": 2 * PARAMS["W"], "b": np.ones(3)})
    line = untraceable.__code__.co_firstlineno + 1
    assert report.passed
    for tensor in report.tensors.values():
        assert tensor.engine == "loop"
        assert "unique" in tensor.engine_reason
        assert f"{__file__}:{line}" in tensor.engine_reason


def test_the_loop_may_be_asked_for() -> None:
    weights = check(engine="loop").tensors["W"]
    assert (weights.engine, weights.engine_reason) == ("loop", "asked for with engine='loop'")


def test_a_loss_may_check_another_gradient() -> None:
    def nested(p: Any) -> Any:
        assert fastcheck.check(loss, PARAMS, GRADS, select=2).passed
        return loss(p)

    assert fastcheck.check(nested, PARAMS, grads, select=2).passed


def test_checks_may_run_in_threads() -> None:
    reports: list[Report] = []
    threads = [threading.Thread(target=lambda: reports.append(check())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert [report.passed for report in reports] == [True] * 6
    assert len({report.relative_error for report in reports}) == 1


def test_a_loss_may_run_in_a_thread_of_its_own() -> None:
    def threaded(p: Any) -> Any:
        results: list[Any] = []
        thread = threading.Thread(target=lambda: results.append(loss(p)))
        thread.start()
        thread.join()
        return results[0]

    assert fastcheck.check(threaded, PARAMS, grads).passed


def test_reports_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        check().loss = 0.0  # type: ignore[misc]


# -- what is the user's ----------------------------------------------------------------------------


class Network:
    """Stores what it is given, as people's `set_weights` do."""

    def __init__(self) -> None:
        self.params = {"W": PARAMS["W"].copy(), "b": PARAMS["b"].copy()}
        self.W, self.b = self.params["W"], self.params["b"]
        self.history: list[float] = [1.0]
        self.calls = 0

    def loss(self, p: Any) -> Any:
        self.W, self.b = p["W"], p["b"]
        self.calls += 1
        self.a = np.tanh(X @ self.W + self.b)
        value = np.mean((self.a - Y) ** 2)
        self.history.append(float(value))
        return value

    def grads(self, p: Any) -> Any:
        dz = 2 * (self.a - Y) / self.a.size * (1 - self.a**2)
        self.dW, self.db = X.T @ dz, dz.sum(axis=0)
        return {"dW": self.dW, "db": self.db}


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_the_users_object_is_as_before(engine: str) -> None:
    network = Network()
    before = dict(vars(network))
    bits = {name: array.tobytes() for name, array in network.params.items()}
    history = network.history
    assert fastcheck.check(network.loss, network.params, network.grads, engine=engine).passed
    assert vars(network).keys() == before.keys()
    assert all(vars(network)[name] is value for name, value in before.items())
    assert {name: array.tobytes() for name, array in network.params.items()} == bits
    assert history == [1.0]


def test_the_loss_never_sees_the_users_own_arrays() -> None:
    def looking(p: Any) -> Any:
        assert not any(np.shares_memory(p[name], PARAMS[name]) for name in p)
        return loss(p)

    assert fastcheck.check(looking, PARAMS, GRADS, engine="loop").passed


def test_random_states_are_as_before() -> None:
    np.random.seed(3)
    expected = np.random.RandomState(3).random_sample()

    def reseeding(p: Any) -> Any:
        np.random.seed(0)
        return loss(p)

    assert fastcheck.check(reseeding, PARAMS, GRADS).passed
    assert np.random.random_sample() == expected


_DROPOUT = """
import numpy as np, fastcheck
X = np.random.default_rng(1).normal(size=(20, 4))
W = np.random.default_rng(2).normal(size=(4, 3))

def mask(kind):
    if kind == "legacy":
        np.random.seed(0)
        return np.random.rand(20, 3) < 0.5
    return np.random.default_rng(0).random((20, 3)) < 0.5

def loss(p, kind):
    return np.mean(mask(kind) * np.tanh(X @ p))

for kind in ("legacy", "generator"):
    right = X.T @ (mask(kind) * (1 - np.tanh(X @ W) ** 2)) / 60
    report = fastcheck.check(lambda p: loss(p, kind), W, right)
    print(report.verdict.value, report.tensors["params"].engine)
"""


def test_dropout_that_is_seeded_anew_inside_the_loss_is_replayed() -> None:
    # In a process of its own: drawing numbers is compiled code, which calls np.empty itself.
    done = subprocess.run(
        [sys.executable, "-c", _DROPOUT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["pass", "replay"] * 2), done.stderr
