"""Complex parameters: both parts of every element are checked, under names that a user can type."""

from __future__ import annotations

import importlib
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcheck
from fastcheck.engines.working import WorkingTree
from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree, match_gradients, select_indices
from fastcheck.params.complex_parts import element_place, joined, parts_of
from fastcheck.report import Report, Verdict
from fastcheck.verdict.diagnosis import cover, sentences
from fastcheck.verdict.diagnosis.families.conjugate import conjugates
from fastcheck.verdict.diagnosis.words.conventions import conjugate
from fastcheck.verdict.tolerances import tolerance_for

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 4)) + 1j * RNG.normal(size=(16, 4))
Y = RNG.normal(size=(16, 3))


def params(dtype: Any = np.complex128) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    W = 0.5 * (rng.normal(size=(4, 3)) + 1j * rng.normal(size=(4, 3)))
    return {"W": W.astype(dtype), "b": rng.normal(size=3)}


def loss(p: dict[str, Any]) -> Any:
    return np.mean((np.abs(X @ p["W"]) ** 2 + p["b"] - Y) ** 2)


def grads(p: dict[str, Any]) -> dict[str, Any]:
    Z = X @ p["W"]
    residual = (np.abs(Z) ** 2 + p["b"] - Y) / Y.size
    return {"dW": X.conj().T @ (4 * residual * Z), "db": 2 * residual.sum(axis=0)}


P = params()
G = grads(P)


def with_W(gradient: Any) -> dict[str, Any]:
    return {**G, "dW": gradient}


# -- verdicts --------------------------------------------------------------------------------------


def test_a_right_gradient_passes_by_the_loop_engine_which_says_why() -> None:
    report = fastcheck.check(loss, P, G)
    assert report.passed, report
    W = report.tensors["W"]
    assert (W.engine, W.shape, W.dtype) == ("loop", (4, 3), "complex128")
    assert "complex parameters are computed by calling `loss`" in str(report)


def test_both_parts_of_every_element_are_counted() -> None:
    report = fastcheck.check(loss, P, G)
    W, b = report.tensors["W"], report.tensors["b"]
    assert (W.size, W.checked, W.forward_passes) == (24, 24, 48)
    assert (b.size, b.checked, b.forward_passes) == (3, 3, 6)
    assert fastcheck.check(loss, P, G, method="forward").tensors["W"].forward_passes == 24


@pytest.mark.parametrize("part", ["real", "imag"])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("place", [(0, 0), (2, 1), (3, 2)])
def test_one_part_off_by_one_percent_fails_by_name(part: str, dtype: Any, place: Any) -> None:
    p = params(dtype)
    given_grads = grads(p)
    wrong = given_grads["dW"].astype(np.complex128)
    getattr(wrong, part)[place] += 0.01 * np.abs(wrong).max()
    report = fastcheck.check(loss, p, {**given_grads, "dW": wrong})
    worst = report.tensors["W"].worst
    assert report.failed == ("W",)
    assert worst is not None
    assert (worst.index, worst.part) == (place, part)
    name = f"[{place[0]}, {place[1]}].{part}"
    assert f"W{name}" in report.tensors["W"].reason
    assert f"W {name}: analytic" in str(report)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g: g.conj(),
        lambda g: g / 2,
        lambda g: 1j * g,
        lambda g: g.real,
        lambda g: 1j * g.imag,
        lambda g: g * np.exp(0.02j),
        lambda g: g.imag + 1j * g.real,
    ],
)
def test_other_gradients_fail(wrong: Any) -> None:
    assert fastcheck.check(loss, P, with_W(wrong(G["dW"]))).failed == ("W",)


def test_a_wrong_real_gradient_beside_a_complex_one_fails() -> None:
    assert fastcheck.check(loss, P, {**G, "db": 1.01 * G["db"]}).failed == ("b",)


def test_nan_in_one_part_of_a_gradient_fails_there() -> None:
    wrong = G["dW"].copy()
    wrong[1, 2] = complex(wrong[1, 2].real, np.nan)
    report = fastcheck.check(loss, P, with_W(wrong))
    assert report.failed == ("W",)
    assert "first at W[1, 2].imag (nan)" in report.tensors["W"].reason


def test_complex64_is_checked_in_complex128_and_says_so() -> None:
    p = params(np.complex64)

    def watched(q: Any) -> Any:
        assert q["W"].dtype == np.complex128
        return loss(q)

    single = {name: g.astype(np.complex64) for name, g in grads(p).items() if name == "dW"}
    report = fastcheck.check(watched, p, {**grads(p), **single})
    assert report.passed, report
    assert report.notes[0].startswith(
        "The parameters are complex64; the numerical gradient was computed in float64 (complex128)"
    )


def test_the_tolerance_of_a_complex_type_is_that_of_its_parts() -> None:
    assert tolerance_for([np.dtype(np.complex64)]) == tolerance_for([np.dtype(np.float32)])
    assert tolerance_for([np.dtype(np.complex128)]) == tolerance_for([np.dtype(np.float64)])
    assert tolerance_for([np.complex128, np.float32]) == tolerance_for([np.float32])


def test_a_kink_at_zero_in_either_part() -> None:
    z = np.array([0 + 1j, 1 + 1j])

    def one_norm(z: Any) -> Any:
        return np.sum(np.abs(z.real) + np.abs(z.imag))

    right = fastcheck.check(one_norm, z, np.array([0 + 1j, 1 + 1j]))
    assert right.verdict is not Verdict.FAIL
    assert not fastcheck.check(one_norm, z, np.array([0 + 1j, 1 + 2j])).passed


# -- the numerical gradient ------------------------------------------------------------------------


def test_the_numerical_gradient_has_the_users_nesting() -> None:
    found = fastcheck.numerical_gradient(loss, P)
    assert found["W"].dtype == np.complex128
    assert found["b"].dtype == np.float64
    np.testing.assert_allclose(found["W"], G["dW"], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found["b"], G["db"], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("z", [3 + 4j, np.complex64(3 + 4j), np.complex128(3 + 4j)])
def test_a_complex_scalar(z: Any) -> None:
    def modulus(z: Any) -> Any:
        assert type(z) is np.complex128
        return abs(z) ** 2

    found = fastcheck.numerical_gradient(modulus, z)
    assert type(found) is np.complex128
    assert abs(found - (6 + 8j)) < 1e-8
    assert fastcheck.check(modulus, z, 6 + 8j).passed
    report = fastcheck.check(modulus, z, 6 + 8.1j)
    assert report.failed == ("params",)
    assert "params.imag" in report.tensors["params"].reason


def test_a_zero_dimensional_array_stays_one() -> None:
    z = np.array(3 + 4j)
    assert fastcheck.check(lambda z: abs(z[()]) ** 2, z, np.array(6 + 8j)).passed


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["C", "F"]), st.booleans())
def test_it_is_that_of_the_same_loss_of_two_real_arrays(seed: int, order: Any, cubic: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 4, rng.integers(0, 4)))
    z = np.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), order=order)
    w = rng.normal(size=shape) + 1j * rng.normal(size=shape)

    def of_one(z: Any) -> Any:
        inner = w * z + z.conj() * 0.3
        return np.sum(np.abs(inner) ** 2 + np.tanh((inner**3 if cubic else inner).real))

    def of_two(p: Any) -> Any:
        return of_one(p["re"] + 1j * p["im"])

    one = fastcheck.numerical_gradient(of_one, z, engine="loop")
    two = fastcheck.numerical_gradient(of_two, {"re": z.real, "im": z.imag}, engine="loop")
    scale = float(np.max(np.abs(one), initial=1.0))
    np.testing.assert_allclose(one.real, two["re"], rtol=1e-6, atol=1e-6 * scale)
    np.testing.assert_allclose(one.imag, two["im"], rtol=1e-6, atol=1e-6 * scale)
    assert fastcheck.check(of_one, z, two["re"] + 1j * two["im"]).verdict is not Verdict.FAIL


# -- what the loss is given ------------------------------------------------------------------------


def test_the_loss_gets_arrays_like_the_users_and_these_stay_as_they_are() -> None:
    Pair = namedtuple("Pair", "left right")
    z = np.asfortranarray(RNG.normal(size=(3, 4)) + 1j)
    given_params = OrderedDict(a=[z], pair=Pair(np.ones(2), 1j * np.ones(2)))
    before = z.copy()

    def picky(p: Any) -> Any:
        array = p["a"][0]
        assert isinstance(p, OrderedDict)
        assert isinstance(p["pair"], Pair)
        assert array.dtype == np.complex128
        assert array.shape == (3, 4)
        assert not np.shares_memory(array, z)
        return np.sum(np.abs(array) ** 2) + np.sum(np.abs(p["pair"].right) ** 2)

    right = {"a": [2 * z], "pair": (np.zeros(2), 2j * np.ones(2))}
    report = fastcheck.check(picky, given_params, right)
    assert report.passed, report
    np.testing.assert_array_equal(z, before)
    assert ParamTree.from_user(given_params).copies()["a"][0].flags.f_contiguous


def test_a_loss_that_writes_into_its_argument_is_found_out() -> None:
    def writes(p: Any) -> Any:
        value = loss(p)
        p["W"][0, 0] = 0
        return value

    report = fastcheck.check(writes, P, G)
    assert report.passed, report
    assert any("writes into its argument (W)" in note for note in report.notes)


def test_a_loss_that_replaces_its_argument_is_found_out() -> None:
    def replaces(p: Any) -> Any:
        value = loss(p)
        p["W"] = p["W"] * 2
        return value

    report = fastcheck.check(replaces, P, G)
    assert report.passed, report
    assert any("writes into its argument (W)" in note for note in report.notes)


def test_a_loss_that_writes_into_the_users_own_array_leaves_it_as_it_was() -> None:
    p = params()
    before = p["W"].copy()

    def stores(q: Any) -> Any:
        p["W"][...] = q["W"]
        return loss({"W": p["W"], "b": q["b"]})

    report = fastcheck.check(stores, p, G)
    assert report.passed, report
    np.testing.assert_array_equal(p["W"], before)


def test_the_working_tree_moves_one_part_at_a_time() -> None:
    z = np.asfortranarray(np.arange(6).reshape(2, 3) * (1 + 1j))
    working = WorkingTree(ParamTree.from_user({"z": z}))
    flat = working.flat("z")
    flat[2 * 4 + 1] = 7.0  # the imaginary part of z[1, 1]
    expected = z.copy()
    expected[1, 1] = complex(4, 7)
    np.testing.assert_array_equal(working.tree["z"], expected)
    assert working.altered() == ("z",)
    flat[2 * 4 + 1] = 4.0
    assert working.altered() is None


def test_a_gradient_function_is_called_with_complex_copies() -> None:
    assert fastcheck.check(loss, P, grads).passed


# -- matching gradients ----------------------------------------------------------------------------


def test_one_vector_of_all_derivatives() -> None:
    vector = np.concatenate([G["dW"].ravel(), G["db"]])
    assert vector.dtype == np.complex128
    assert fastcheck.check(loss, P, vector).passed
    assert fastcheck.check(loss, P, 1.01 * vector).failed == ("W", "b")


def test_an_imaginary_part_in_the_place_of_a_real_parameter_is_refused() -> None:
    vector = np.concatenate([G["dW"].ravel(), G["db"] + 1e-9j])
    with pytest.raises(InputTypeError, match=r"b: complex128 array of shape \(3,\); use its .real"):
        fastcheck.check(loss, P, vector)
    with pytest.raises(InputTypeError, match=r"b: complex128 array of shape \(3,\); use its .real"):
        fastcheck.check(loss, P, {**G, "db": G["db"] + 0j})


def test_nested_lists_of_complex_numbers() -> None:
    assert fastcheck.check(loss, P, {"W": G["dW"].tolist(), "b": G["db"].tolist()}).passed


def test_a_gradient_of_the_parts_is_refused_with_the_users_shape() -> None:
    said = r"W: shape \(4, 3, 2\), but the parameter has shape \(4, 3\)"
    with pytest.raises(InputError, match=said):
        fastcheck.check(loss, P, with_W(parts_of(G["dW"])))


def test_matched_gradients_are_the_parts_in_new_memory() -> None:
    tree = ParamTree.from_user(P)
    found = match_gradients(tree, G)["W"]
    assert not np.shares_memory(found, G["dW"])
    np.testing.assert_array_equal(found[..., 0], G["dW"].real)
    np.testing.assert_array_equal(found[..., 1], G["dW"].imag)


# -- selecting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        np.array([[False, True, False]] + [[False] * 3] * 2 + [[False, False, True]]),
        [1, 11],
        [-11, -1],
        ([0, 3], [1, 2]),
        [(0, 1), (3, 2)],
    ],
)
def test_what_is_selected_are_elements_with_both_parts(spec: Any) -> None:
    found = select_indices(ParamTree.from_user(P), {"W": spec})
    assert found["W"].tolist() == [2, 3, 22, 23]
    assert found["b"].tolist() == []


def test_a_number_selects_so_many_elements() -> None:
    found = select_indices(ParamTree.from_user(P), 5)
    assert len(found["W"]) == 10
    assert len(found["b"]) == 3
    assert (found["W"][1::2] - found["W"][::2] == 1).all()
    assert fastcheck.check(loss, P, G, select=5).tensors["W"].checked == 10


def test_an_index_beyond_the_users_elements_is_refused() -> None:
    with pytest.raises(InputError, match="index 12 is out of range for 12 elements"):
        select_indices(ParamTree.from_user(P), {"W": [12]})
    with pytest.raises(InputError, match=r"mask of shape \(4, 3, 2\) for a tensor of .* \(4, 3\)"):
        select_indices(ParamTree.from_user(P), {"W": np.ones((4, 3, 2), bool)})


# -- what is refused -------------------------------------------------------------------------------


def test_stacks_are_refused() -> None:
    with pytest.raises(InputError, match=r"stacks of complex parameters \(W\) are not supported"):
        fastcheck.check(loss, P, G, batched=True)


@pytest.mark.parametrize("engine", ["replay", "fused"])
def test_the_engines_of_a_trace_are_refused_by_name(engine: str) -> None:
    with pytest.raises(InputError, match="complex parameters are computed by calling `loss`"):
        fastcheck.check(loss, P, G, engine=engine)


def test_nan_in_a_part_of_a_parameter_is_refused() -> None:
    bad = params()
    bad["W"][1, 2] = complex(1, np.inf)
    with pytest.raises(InputError, match=r"W: 1 of 24 values, the first inf at index \(1, 2\), im"):
        fastcheck.check(loss, bad, G)


def test_longer_complex_numbers_are_refused() -> None:
    with pytest.raises(InputTypeError, match=r"use .astype\(complex\)"):
        fastcheck.check(loss, {**P, "W": P["W"].astype(np.clongdouble)}, G)


def test_a_complex_loss_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputTypeError, match="a complex value: return its real part or its mod"):
        fastcheck.check(lambda p: np.vdot(p["W"], p["W"]), P, G)


def test_bugs_are_not_planted_in_complex_gradients() -> None:
    with pytest.raises(InputTypeError, match="dW: complex arrays, in which bugs are not planted"):
        fastcheck.planted.BUGS["sign"](G)


# -- reports and plans -----------------------------------------------------------------------------


def test_a_report_survives_json() -> None:
    report = fastcheck.check(loss, P, with_W(G["dW"].conj()))
    again = Report.from_json(report.to_json())
    assert again == report
    assert again.tensors["W"].worst is not None
    assert again.tensors["W"].worst.part == "imag"
    real = fastcheck.check(lambda p: np.sum(p**2), np.ones(2), 2 * np.ones(2))
    assert "part" not in real.to_dict()["tensors"]["params"]["worst"]


def test_explain_shows_the_users_shape() -> None:
    plan = fastcheck.explain(loss, P)
    assert plan.tensors[0].shape == (4, 3)
    assert plan.tensors[0].engine == "loop"
    assert "complex parameters" in plan.refusal


@pytest.mark.filterwarnings("error::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize(
    "end",
    [
        lambda z: np.sum(np.abs(z) ** 2),
        lambda z: np.sum((z * z.conj()).real),
        lambda z: np.sum((z * z).real) + np.sum(z.imag**3),
        lambda z: np.real(np.vdot(z, z)),
        lambda z: np.abs(np.sum(np.exp(z))),
        lambda z: np.sum(np.conj(z) * z).real,
    ],
)
def test_complex_numbers_made_of_real_parameters_are_not_traced(end: Any, engine: str) -> None:
    p = {"re": RNG.normal(size=4), "im": RNG.normal(size=4)}

    def of_two(p: Any) -> Any:
        return end((1 - 2j) * (p["re"] + 1j * p["im"]))

    right = fastcheck.numerical_gradient(of_two, p, engine="loop")
    report = fastcheck.check(of_two, p, right, engine=engine)
    assert report.passed, report
    if engine == "auto":
        assert "complex numbers that depend on the parameters cannot be traced" in str(report)
    assert not fastcheck.check(of_two, p, {**right, "im": 1.01 * right["im"]}, engine=engine)


def test_real_parameters_of_a_complex_loss() -> None:
    w = RNG.normal(size=8)
    target = np.fft.rfft(RNG.normal(size=8))

    def spectrum(w: Any) -> Any:
        return np.sum(np.abs(np.fft.rfft(w) - target) ** 2)

    right = fastcheck.numerical_gradient(spectrum, w)
    assert fastcheck.check(spectrum, w, right).verdict is not Verdict.FAIL
    assert fastcheck.check(spectrum, w, 1.01 * right).failed == ("params",)


# -- diagnosis -------------------------------------------------------------------------------------


@pytest.fixture
def _with_conjugates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the family also where the diagnosis does not list it."""
    module = importlib.import_module("fastcheck.verdict.diagnosis.diagnose")
    if conjugates not in module._FAMILIES:
        monkeypatch.setattr(module, "_FAMILIES", (conjugates, *module._FAMILIES))
    monkeypatch.setitem(sentences._WORDS, "conjugate", conjugate)
    monkeypatch.setitem(cover._SAID, "conjugate", ("sign", "scale"))


@pytest.mark.usefixtures("_with_conjugates")
@pytest.mark.parametrize(("factor", "said"), [(1, "this one is 2·∂J/∂z,"), (0.5, "is ∂J/∂z. ")])
def test_the_other_convention_is_named(factor: float, said: str) -> None:
    report = fastcheck.check(loss, P, with_W(factor * G["dW"].conj()))
    assert report.diagnosis is not None
    (finding,) = report.diagnosis.findings
    assert (finding.cause, finding.certainty, finding.tensors) == ("conjugate", "exact", ("W",))
    assert finding.alternatives == ()
    assert "the complex conjugate of the numerical one in every element: conv" in finding.evidence
    assert said in finding.explanation


@pytest.mark.usefixtures("_with_conjugates")
@pytest.mark.parametrize(
    "wrong",
    [
        -G["dW"],  # a change of sign
        G["dW"].conj() * np.where(np.arange(12) == 4, 1.01, 1.0).reshape(4, 3),  # nearly conjugate
        G["dW"].real - 2j * G["dW"].imag,
        0.99 * G["dW"].real - 1j * G["dW"].imag,
    ],
)
def test_what_is_no_conjugate_is_not_called_one(wrong: Any) -> None:
    report = fastcheck.check(loss, P, with_W(wrong))
    assert report.diagnosis is not None
    assert "conjugate" not in report.diagnosis.causes


def test_a_finding_names_parts_as_a_user_writes_them() -> None:
    wrong = G["dW"].copy()
    wrong.imag[2, 1] *= 3
    report = fastcheck.check(loss, P, with_W(wrong))
    assert report.diagnosis is not None
    (finding,) = report.diagnosis.findings
    assert finding.cause == "one-element"
    assert finding.tensors == ("W",)
    assert "W.imag[2, 1]" in finding.evidence


def test_a_gradient_half_as_large_is_one_mistake() -> None:
    report = fastcheck.check(loss, P, with_W(G["dW"] / 2))
    assert report.diagnosis is not None
    assert report.diagnosis.causes == ("scale",)


def test_what_the_user_knows_besides_is_matched_by_parts() -> None:
    previous = grads({**P, "W": P["W"] * 1.1})
    report = fastcheck.check(
        loss, P, previous, previous_grads={k: v.copy() for k, v in previous.items()}
    )
    assert report.diagnosis is not None
    assert report.diagnosis.causes == ("stale",)


# -- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
def test_a_monitor_passes_a_right_training_and_fails_a_wrong_one(mode: str) -> None:
    # One direction a tensor does not show an error in one element, nor is it said to.
    wrong = 1.1 if mode == "directions" else 1.01
    places = ... if mode == "directions" else (1, 2)
    for factor, verdict in ((1.0, "pass"), (wrong, "fail")):
        p = params()
        monitor = fastcheck.Monitor(loss, every=1, mode=mode, on_fail="record", sample=27)
        for _ in range(3):
            found = grads(p)
            found["dW"].imag[places] *= factor
            with monitor.step(p, found):
                p = {"W": p["W"] - 1e-3 * grads(p)["dW"], "b": p["b"] - 1e-3 * grads(p)["db"]}
        assert [record.verdict for record in monitor.history] == [verdict] * 3


def test_a_monitor_follows_parameters_that_change_their_shape() -> None:
    monitor = fastcheck.Monitor(lambda z: np.sum(np.abs(z["z"]) ** 2), every=1, on_fail="record")
    for shape in ((3,), (3, 2), (3, 2, 2)):
        z = RNG.normal(size=shape) + 1j * RNG.normal(size=shape)
        with monitor.step({"z": z}, {"z": 2 * z}):
            pass
        with monitor.step({"z": z}, {"z": 2 * z.real}):
            pass
    assert [record.verdict for record in monitor.history] == ["pass", "fail"] * 3


# -- parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 3), (3, 0), (1, 3), (3, 1), (2, 1, 3)])
def test_parts_share_the_memory_and_the_layout(shape: tuple[int, ...], order: Any) -> None:
    z = np.asarray(RNG.normal(size=shape) + 1j * RNG.normal(size=shape), order=order)
    parts = parts_of(z)
    assert parts.shape == (*shape, 2)
    again = joined(parts)
    assert again.shape == shape
    np.testing.assert_array_equal(again, z)
    if z.size:
        parts[..., 1] = 5
        assert (again.imag == 5).all()
        assert again.strides == z.strides


def test_parts_that_do_not_lie_side_by_side_are_joined_in_new_memory() -> None:
    apart = np.arange(8.0).reshape(2, 4).T
    np.testing.assert_array_equal(joined(apart), apart[:, 0] + 1j * apart[:, 1])


def test_the_place_of_a_parameter() -> None:
    assert element_place((4, 3), 7) == ((2, 1), "")
    assert element_place((4, 3), 15, is_complex=True) == ((2, 1), "imag")
    assert element_place((), 0, is_complex=True) == ((), "real")
