"""Bad input gets a clear error, and nothing of the user's is changed, however a check ends."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck import FastcheckError, InputError, InputTypeError, Verdict
from fastcheck.engines import plan
from fastcheck.errors import NotFiniteError

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
PARAMS = {"W1": rng.normal(size=(4, 3)), "b1": rng.normal(size=3)}


def loss(p: Any) -> Any:
    return np.mean((np.tanh(X @ p["W1"] + p["b1"]) - Y) ** 2)


def grads(p: Any) -> dict[str, Any]:
    a = np.tanh(X @ p["W1"] + p["b1"])
    dz = 2 * (a - Y) / a.size * (1 - a**2)
    return {"dW1": X.T @ dz, "db1": dz.sum(axis=0)}


GRADS = grads(PARAMS)


def message(kind: type[FastcheckError], **changed: Any) -> str:
    """Return the error that a check with these arguments raises."""
    arguments: dict[str, Any] = {"loss": loss, "params": PARAMS, "grads": GRADS, **changed}
    with untouched(), pytest.raises(kind) as caught:
        fastcheck.check(**arguments)
    assert type(caught.value) is kind
    return str(caught.value)


@contextmanager
def untouched(params: Any = PARAMS) -> Iterator[None]:
    """Assert that the arrays are the same objects, and bit for bit as they were."""
    before = {name: (array, array.tobytes()) for name, array in params.items()}
    yield
    assert params.keys() == before.keys()
    for name, (array, bits) in before.items():
        assert params[name] is array
        assert array.tobytes() == bits


# -- names and shapes ------------------------------------------------------------------------------


def test_all_mismatched_names_and_shapes_are_named_with_both_shapes() -> None:
    said = message(InputError, grads={"dW1": np.ones((3, 4)), "db2": np.ones(3)})
    assert said.splitlines() == [
        "`grads` does not match the parameters:",
        "  W1: shape (3, 4), but the parameter has shape (4, 3) (transposed?)",
        "  b1: no gradient found",
        "It holds dW1 (3, 4), db2 (3,).",
        "Give a gradient of the same shape for each of W1 (4, 3), b1 (3,): in the same nesting, "
        "under the same names or with the usual prefix (dW1 for W1), or as one vector of 15 values "
        "in this order.",
    ]


def test_a_mismatch_of_a_backward_pass_names_the_call() -> None:
    said = message(InputError, grads=lambda p: {"dW1": GRADS["dW1"].T, "db1": GRADS["db1"]})
    assert said.startswith("`grads(params)` does not match the parameters:\n  W1: shape (3, 4)")


def test_a_flat_vector_of_another_length() -> None:
    said = message(InputError, grads=np.ones(14))
    assert "it is one array of shape (14,) for 2 parameter arrays of 15 values in all" in said


def test_a_backward_pass_that_returns_nothing() -> None:
    assert message(InputError, grads=lambda p: None) == (
        "`grads` is a function that returned None: return the gradients from it, or pass the "
        "arrays that it fills."
    )


def test_no_gradients_at_all() -> None:
    assert message(InputTypeError, grads=None).startswith("`grads` is None; give a float array.")


def test_a_generator_of_gradients() -> None:
    said = message(InputTypeError, grads=(g for g in GRADS.values()))
    assert said.startswith("`grads` is an object of type generator; use list(...).")


def test_object_gradients() -> None:
    said = message(
        InputTypeError, grads={"dW1": GRADS["dW1"].astype(object), "db1": 1j * np.ones(3)}
    )
    assert "  W1: object array of shape (4, 3); use .astype(float)" in said
    assert "  b1: complex128 array of shape (3,)" in said


# -- parameters ------------------------------------------------------------------------------------


def test_integer_and_object_parameters_are_all_named() -> None:
    params = {
        "W1": np.ones((4, 3), dtype=int),
        "b1": PARAMS["b1"],
        "more": [np.array([None]), 3, True],
    }
    said = message(InputTypeError, params=params)
    assert said.splitlines() == [
        "`params` holds entries that are not float arrays:",
        "  W1: int64 array of shape (4, 3); use .astype(float)",
        "  more[0]: object array of shape (1,); use .astype(float)",
        "  more[1]: 3, a Python int; use float(...)",
        "  more[2]: True, a Python bool; use float(...)",
        "Parameters must be float16, float32 or float64 arrays, complex64 or complex128 arrays, or "
        "dicts, lists and tuples of them.",
    ]


@pytest.mark.parametrize("empty", [{}, [], (), {"layers": []}])
def test_an_empty_tree(empty: Any) -> None:
    assert message(InputError, params=empty) == (
        "`params` holds no arrays; pass the arrays that the loss is differentiated by."
    )


def test_a_tree_of_empty_arrays() -> None:
    assert message(InputError, params=[np.ones((0, 3))], grads=[np.ones((0, 3))]).startswith(
        "`params` "
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_params_name_tensor_and_index(bad: float) -> None:
    weights = PARAMS["W1"].copy()
    weights[2, 1] = bad
    said = message(NotFiniteError, params={**PARAMS, "W1": weights})
    assert said.startswith(
        "`params` holds NaN or infinite values:\n"
        f"  W1: 1 of 12 values, the first {bad} at index (2, 1)\n"
    )
    assert "check before training diverges, or lower the learning rate" in said


def test_arguments_in_the_wrong_order() -> None:
    said = message(InputTypeError, loss=PARAMS, params=loss)
    assert said.startswith("`params` is a callable (function); pass float arrays.")


def test_a_view_of_a_dict_is_asked_to_be_a_list() -> None:
    said = message(InputTypeError, params=PARAMS.values())
    assert said.startswith("`params` is an object of type dict_values; use list(...).")


def test_a_network_object_is_asked_for_its_arrays() -> None:
    class Network:
        def __init__(self) -> None:
            self.W = np.ones(3)

    said = message(InputTypeError, params=Network())
    assert "Network; give its arrays in a dict or a list" in said


# -- the loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "kind", "what", "remedy"),
    [
        (None, InputTypeError, "None", "end the function with `return` and the loss"),
        ((1.0, {}), InputTypeError, "a tuple of 2", "pass loss=lambda p: f(p)[0]"),
        ([1.0], InputTypeError, "a list of 1", "pass loss=lambda p: f(p)[0]"),
        ({"loss": 1.0}, InputTypeError, "an object of type dict", "return a float"),
        ("1.0", InputTypeError, "an object of type str", "return a float"),
        (1 + 0j, InputTypeError, "a complex value", "return its real part or its modulus"),
        (True, InputTypeError, "a bool", "return the loss itself, not a comparison of it"),
        (np.ones(2), InputError, "an array of shape (2,)", "reduce it with .sum() or .mean()"),
        (np.ones(0), InputError, "an empty array of shape (0,)", "reduce it over at least one"),
        (np.array(1.0, object), InputTypeError, "an array of dtype object", ".astype(float)"),
    ],
)
def test_a_loss_that_is_not_one_number(
    returned: Any, kind: type[FastcheckError], what: str, remedy: str
) -> None:
    said = message(kind, loss=lambda p: returned)
    assert said.startswith(f"`loss` must return one real number, but it returned {what}: ")
    assert remedy in said


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite(bad: float) -> None:
    assert message(NotFiniteError, loss=lambda p: loss(p) * bad) == (
        f"`loss` is {bad} at the given parameters, so it has no gradient there: look for log(0), "
        "0/0 or an overflow in the forward pass, or check at other parameters."
    )


def test_a_loss_that_is_no_function() -> None:
    assert message(InputTypeError, loss=loss(PARAMS)) == (
        "`loss` must be callable, but it is a float64: pass the function itself, e.g. "
        "loss=compute_cost, not its result compute_cost(params)."
    )


def test_a_loss_that_is_random_says_how_much_and_how_to_hold_it_still() -> None:
    noise = itertools.count()
    said = message(InputError, loss=lambda p: loss(p) + 0.25 * next(noise))
    assert said == (
        "`loss` gave two different values for the same parameters; they differ by 0.25. Hold its "
        "randomness still: draw a dropout mask (or the batch) once outside `loss`, or seed the "
        "generator anew inside it. If nothing is random, it carries something from call to call (a "
        "hidden state): reset that inside `loss`."
    )


def test_global_random_numbers_are_random() -> None:
    said = message(InputError, loss=lambda p: loss(p) * np.random.random_sample())
    assert said.startswith("`loss` gave two different values for the same parameters; they differ")


def test_nan_and_infinity_in_gradients_fail_and_name_tensor_and_index() -> None:
    wrong = {name: g.copy() for name, g in GRADS.items()}
    wrong["dW1"][1, 2], wrong["db1"][0] = np.nan, np.inf
    report = fastcheck.check(loss, PARAMS, wrong)
    assert report.failed == ("W1", "b1")
    assert report.tensors["W1"].worst.index == (1, 2)  # type: ignore[union-attr]
    said = report.tensors["W1"].reason
    assert said == (
        "The analytic gradient is not finite in one element, first at W1[1, 2] (nan): look for "
        "0/0, log(0) or an overflow in the backward pass."
    )
    assert "first at b1[0] (inf)" in report.tensors["b1"].reason


# -- keywords --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 0.0, -1e-6, np.nan, np.inf])
def test_a_step_that_is_not_positive_and_finite(step: float) -> None:
    assert message(InputError, step=step) == (
        f'`step` must be positive and finite, but it is {step:g}: leave it at "auto", or give h in '
        "units of the parameters, such as 1e-6."
    )


def test_a_step_below_the_spacing_of_floats_names_the_tensor_and_the_smallest() -> None:
    params = {"W1": 1e6 * np.ones((4, 3)), "b1": np.zeros(3)}
    said = message(InputError, params=params, step=1e-12)
    assert said == (
        "`step` is 1e-12, below the spacing of floats at `W1`, whose largest value is 1e+06: θ + h "
        'would be θ again. The smallest usable step there is 1.2e-10; leave it at "auto" to have '
        "it chosen."
    )


@pytest.mark.parametrize("step", ["big", None, True, np.ones(1), 1j])
def test_a_step_that_is_no_number(step: Any) -> None:
    said = message(InputTypeError, step=step)
    assert said.startswith('`step` must be "auto" or a positive number, but it is ')


def test_memory_too_small_for_one_copy() -> None:
    said = message(InputError, memory=100)
    assert re.fullmatch(
        r"`memory` is 100 bytes, but one perturbed copy of the network needs [\d,]+ bytes "
        r"\(tensor W1\): give at least that, or use engine='loop'\.",
        said,
    )


def test_the_loop_needs_no_memory_for_stacks() -> None:
    assert fastcheck.check(loss, PARAMS, GRADS, memory=100, engine="loop").passed


@pytest.mark.parametrize(
    ("keyword", "value", "kind", "said"),
    [
        ("memory", 0, InputError, "`memory` is 0, but must be at least one byte"),
        ("memory", "lots", InputError, "`memory` is 'lots', which is not an amount of memory"),
        ("memory", [1], InputTypeError, "`memory` must be an amount of memory, but is a list"),
        ("engine", "torch", InputError, "`engine` is 'torch': give one of 'auto', "),
        ("engine", None, InputError, "`engine` is None: give one of 'auto', "),
        (
            "method",
            "complex",
            InputError,
            "`method` is 'complex': give one of 'central', 'for",
        ),
        ("method", 2, InputError, "`method` is 2: give one of 'central', 'forward'."),
        (
            "device",
            "tpu",
            InputError,
            '`device` is \'tpu\': use "auto", "cpu", "gpu", or "gpu:0,1" for several.',
        ),
        ("tolerance", 0, InputError, "`tolerance` must lie between 0 and 1, but it is 0"),
        ("tolerance", np.nan, InputError, "`tolerance` must lie between 0 and 1, but it is nan"),
        ("tolerance", 1e-16, InputError, "`tolerance` is 1e-16, finer than a gradient in float64"),
        ("tolerance", "tight", InputTypeError, "`tolerance` must be a number or None"),
        ("progress", "yes", InputTypeError, "`progress` is a str: give True, False, or None"),
        ("seed", -1, InputTypeError, "`seed` is -1: give an integer of at least 0, such as 0."),
        ("seed", 1.5, InputTypeError, "`seed` is 1.5: give an integer of at least 0, such as 0."),
        (
            "select",
            "most",
            InputError,
            "`select` is 'most'; use \"all\", a number per tensor",
        ),
        ("select", 0, InputError, "`select` is 0; select at least 1 parameter per tensor."),
        ("select", None, InputTypeError, '`select` is None; use "all", a number per tensor'),
        ("select", {}, InputError, "`select` selects no parameter; select at least one."),
    ],
)
def test_an_unusable_keyword(
    keyword: str, value: Any, kind: type[FastcheckError], said: str
) -> None:
    assert message(kind, **{keyword: value}).startswith(said)


def test_everything_wrong_with_a_selection_is_said() -> None:
    said = message(InputError, select={"W1": np.ones((3, 4), bool), "b1": [3], "W9": [0]})
    assert said.splitlines() == [
        "`select` does not fit the parameters:",
        "  'W9': no such tensor",
        "  W1: a mask of shape (3, 4) for a tensor of shape (4, 3)",
        "  b1: index 3 is out of range for 3 elements",
        "Use masks or indices for W1 (4, 3), b1 (3,).",
    ]


def test_insisting_on_replay_says_what_cannot_be_replayed() -> None:
    said = message(
        InputError,
        engine="replay",
        loss=lambda p: np.sum(np.unique(p["W1"])) + np.sum(p["b1"]),
    )
    assert said.startswith("`engine` is 'replay', but the loss cannot be replayed: ")
    assert "unique" in said
    assert said.endswith("Use engine='auto', which falls back to the loop engine and says so.")


@pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed")
def test_what_the_gpu_lacks_is_said() -> None:
    said = message(InputError, device="gpu")
    assert said.startswith("`device` is 'gpu', but: CuPy is not installed")
    assert said.endswith('Or use device="cpu".')


def test_errors_are_what_they_say() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(InputTypeError, TypeError)
    assert issubclass(InputError, FastcheckError)
    assert issubclass(InputTypeError, FastcheckError)


# -- losses that write -----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_loss_that_writes_into_its_parameters_is_said(engine: str) -> None:
    def decaying(p: Any) -> Any:
        p["W1"] *= 0.5
        return loss(p)

    def backward(p: Any) -> Any:
        half = grads({**p, "W1": p["W1"] * 0.5})
        return {"W1": half["dW1"] * 0.5, "b1": half["db1"]}

    with untouched():
        report = fastcheck.check(decaying, PARAMS, backward, engine=engine)
    assert report.passed
    assert report.notes == ("`loss` writes into its argument (W1); it was given copies.",)


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_loss_that_writes_into_the_users_own_arrays_is_said_and_they_are_restored(
    engine: str,
) -> None:
    own = {name: array.copy() for name, array in PARAMS.items()}

    def storing(p: Any) -> Any:
        for name in own:
            own[name][...] = np.asarray(p[name])
        return loss(own)

    with untouched(own):
        report = fastcheck.check(storing, own, GRADS, engine=engine)
    assert report.passed
    assert report.notes == ("`loss` wrote into your own arrays (W1, b1); they were restored.",)


# -- however it ends -------------------------------------------------------------------------------


class Stopping:
    """A loss that writes into the user's arrays, and raises in its n-th call."""

    def __init__(self, own: dict[str, Any], n: int, error: type[BaseException]) -> None:
        self.own, self.n, self.error = own, n, error
        self.seen = itertools.count(1)  # What an iterator has given cannot be put back.
        self.calls = 0

    def loss(self, p: Any) -> Any:
        self.calls += 1
        for name in self.own:
            self.own[name][...] = np.asarray(p[name])
        if next(self.seen) == self.n:
            self.own["W1"][...] = np.nan
            raise self.error("stopped")
        return loss(self.own)


def checked(function: Callable[[Any], Any], params: Any, engine: str) -> Any:
    return fastcheck.check(function, params, GRADS, engine=engine)


def differentiated(function: Callable[[Any], Any], params: Any, engine: str) -> Any:
    return fastcheck.numerical_gradient(function, params, engine=engine)


def explained(function: Callable[[Any], Any], params: Any, engine: str) -> Any:
    return fastcheck.explain(function, params, engine=engine)


@pytest.mark.parametrize("entrance", [checked, differentiated, explained])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11])
@pytest.mark.parametrize(("engine", "at_hand"), [("auto", False), ("auto", True), ("loop", False)])
def test_arrays_and_attributes_are_restored_after_an_exception_in_any_call(
    entrance: Any,
    error: type[BaseException],
    n: int,
    engine: str,
    at_hand: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "machine_code_at_hand", lambda: at_hand)
    own = {name: array.copy() for name, array in PARAMS.items()}
    stopping = Stopping(own, n, error)
    zeros, before = np.zeros, dict(vars(stopping))
    # An explanation calls the loss a few times only. Some calls are on traced arrays: code may fail
    # on them that does not fail on others, and another attempt follows.
    # With machine code at hand there are no more than a few, either.
    few = entrance is explained or at_hand
    may = n > 2 and (error is RuntimeError or (few and n > 3))
    raises: Any = suppress(error) if may else pytest.raises(error)
    with untouched(own), raises:
        entrance(stopping.loss, own, engine)
    assert vars(stopping) == before
    assert np.zeros is zeros


def test_an_error_at_moved_parameters_says_so() -> None:
    def picky(p: Any) -> Any:
        if not np.array_equal(np.asarray(p["b1"]), PARAMS["b1"]):
            raise ArithmeticError("not these")
        return loss(p)

    with pytest.raises(ArithmeticError, match="not these") as caught:
        fastcheck.check(picky, PARAMS, GRADS)
    assert caught.value.__notes__ == [
        "`loss` was called with b1 moved a little away from your values, as a numerical gradient "
        "needs: it must be defined there too."
    ]


def test_an_error_of_the_first_call_says_how_the_loss_is_called() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument") as caught:
        fastcheck.check(lambda p, batch: 0.0, PARAMS, GRADS)  # type: ignore[misc]
    assert caught.value.__notes__ == [
        "`loss` is called as loss(params), with float64 copies of `params`."
    ]


def test_an_error_of_the_backward_pass_says_how_it_is_called() -> None:
    with pytest.raises(TypeError, match="takes 0 positional arguments") as caught:
        fastcheck.check(loss, PARAMS, lambda: GRADS)
    assert caught.value.__notes__ == [
        "`grads` is called as grads(params) with float64 copies, after loss(params)."
    ]


_INTERRUPTED = """
import sys, time
import numpy as np, fastcheck

own = {"W": np.random.default_rng(0).normal(size=(30, 30)), "b": np.array([0.0, -0.0, 1.0])}
before = {name: (array, array.tobytes()) for name, array in own.items()}

class Network:
    calls = 0
    def loss(self, p):
        self.calls += 1
        for name in own:
            own[name][...] = np.asarray(p[name]) + 1.0
        time.sleep(0.005)
        if self.calls == 20:
            print("running", flush=True)
        return np.sum(own["W"] ** 2) + np.sum(own["b"])

network = Network()
try:
    fastcheck.check(network.loss, own, own, engine="loop")
except KeyboardInterrupt:
    same = all(own[k] is a and a.tobytes() == bits for k, (a, bits) in before.items())
    print("restored" if same and vars(network) == {} else "changed")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process")
def test_ctrl_c_restores_the_arrays() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert said == "restored\n"
    assert process.returncode == 0


# -- losses that ignore ----------------------------------------------------------------------------


def test_a_loss_that_ignores_a_parameter_is_said_and_no_error() -> None:
    report = fastcheck.check(
        loss, {**PARAMS, "unused": np.ones(2)}, {**GRADS, "dunused": np.zeros(2)}
    )
    assert report.verdict is Verdict.PASS
    assert report.tensors["unused"].reason == (
        "Both gradients are exactly zero: the loss ignores these parameters, or does not change "
        "with them here."
    )


def test_a_loss_that_ignores_all_parameters_is_inconclusive_with_the_likely_cause() -> None:
    net = {name: array.copy() for name, array in PARAMS.items()}
    report = fastcheck.check(lambda p: loss(net), PARAMS, {n: 0 * g for n, g in GRADS.items()})
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "It probably computes from arrays of its own (such as `self.W1`)" in (
        report.tensors["W1"].reason
    )
