"""Matching gradients to parameters: every accepted form, and every refusal."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree, match_gradients

PARAMS = {"W1": np.ones((3, 2)), "b1": np.ones(3), "W2": np.ones((1, 3))}
GRADS = {name: np.random.default_rng(1).normal(size=p.shape) for name, p in PARAMS.items()}
NAMES = ["W1", "b1", "W2"]


@pytest.fixture
def tree() -> ParamTree:
    return ParamTree.from_user(PARAMS)


def assert_matched(tree: ParamTree, grads: Any, expected: dict[str, Any] = GRADS) -> None:
    matched = match_gradients(tree, grads)
    assert list(matched) == list(tree.names)
    for name, gradient in matched.items():
        np.testing.assert_array_equal(gradient, expected[name], strict=True)


def test_the_same_tree_matches(tree: ParamTree) -> None:
    assert_matched(tree, GRADS)


STYLES = [
    *("d{}", "D{}", "g{}", "G{}", "d_{}", "nabla_{}", "∂{}", "∇{}", "∂J/∂{}"),
    *("grad_{}", "grad{}", "grads_{}", "gradient_{}", "{}_grad", "{}_grads", "{}_gradient", "{}_g"),
    *("{}grad", "dJd{}", "dJ_d{}", "dJ/d{}", "dLd{}", "dL_d{}", "dE_d{}", "dC_d{}", "dloss_d{}"),
]


@pytest.mark.parametrize("case", [str, str.lower, str.upper])
@pytest.mark.parametrize("style", STYLES)
def test_the_usual_prefixes_suffixes_and_cases_match(
    tree: ParamTree, style: str, case: Any
) -> None:
    extras = {style.format(name): np.ones((9, 9)) for name in ("Z1", "A1", "Z2")}
    named = {style.format(case(name)): gradient for name, gradient in GRADS.items()}
    assert_matched(tree, {**extras, **named})


def test_names_in_another_order_match(tree: ParamTree) -> None:
    assert_matched(tree, {f"d{name}": GRADS[name] for name in reversed(NAMES)})


def test_entries_that_belong_to_no_parameter_may_be_anything(tree: ParamTree) -> None:
    assert_matched(tree, {**GRADS, "dZ1": None, "cache": {"A": "x"}, 3: object()})


def test_an_exact_name_wins_over_a_prefix(tree: ParamTree) -> None:
    assert_matched(tree, {**GRADS, "dW1": np.zeros((3, 2)), "w1": np.zeros((3, 2))})


def test_a_prefix_wins_over_another_case(tree: ParamTree) -> None:
    wrong = np.zeros((3, 2))
    grads = {"w1": wrong, "dw1": wrong, "dW1": GRADS["W1"], "b1": GRADS["b1"], "W2": GRADS["W2"]}
    assert_matched(tree, grads)


def test_names_that_differ_in_case_only_are_kept_apart() -> None:
    tree = ParamTree.from_user({"W": np.ones(2), "w": np.ones(2)})
    expected = {"W": np.full(2, 1.0), "w": np.full(2, 2.0)}
    assert_matched(tree, {"dw": expected["w"], "dW": expected["W"]}, expected)


def test_one_entry_is_the_gradient_of_one_parameter_only() -> None:
    tree = ParamTree.from_user({"W": np.ones(2), "w": np.ones(2)})
    with pytest.raises(InputError, match=r"\n  w: no gradient found\n"):
        match_gradients(tree, {"dW": np.ones(2)})


def test_an_entry_that_two_parameters_could_claim_is_refused() -> None:
    tree = ParamTree.from_user({"Wa": np.ones(2), "wA": np.ones(2)})
    with pytest.raises(InputError, match=r"Wa: `dWA` could be .*\n  wA: `dWA` could be"):
        match_gradients(tree, {"dWA": np.ones(2)})


def test_a_parameter_whose_name_looks_like_a_gradient_is_matched_exactly() -> None:
    tree = ParamTree.from_user({"b": np.ones(2), "db": np.ones(2)})
    expected = {"b": np.full(2, 1.0), "db": np.full(2, 2.0)}
    assert_matched(tree, expected, expected)


def test_two_entries_that_fit_equally_well_are_both_named(tree: ParamTree) -> None:
    grads = {"dW1": GRADS["W1"], "gW1": GRADS["W1"], "b1": GRADS["b1"], "W2": GRADS["W2"]}
    with pytest.raises(InputError, match=r"W1: `dW1` and `gW1` could be its gradient just as well"):
        match_gradients(tree, grads)


def test_prefixes_match_at_every_level_of_a_nested_tree() -> None:
    tree = ParamTree.from_user({"layers": [{"W": np.ones(2)}, {"W": np.ones(3)}], "b": 1.0})
    grads = {"dlayers": ({"dW": np.full(2, 5.0)}, {"W_grad": np.full(3, 6.0), "dZ": 0}), "db": 7}
    expected = {"layers[0].W": np.full(2, 5.0), "layers[1].W": np.full(3, 6.0), "b": np.array(7.0)}
    assert_matched(tree, grads, expected)


def test_integer_keys_match() -> None:
    tree = ParamTree.from_user({0: np.ones(2), 1: np.ones(2)})
    expected = {"0": np.full(2, 1.0), "1": np.full(2, 2.0)}
    assert_matched(tree, {1: expected["1"], 0: expected["0"]}, expected)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_in_the_trees_order_matches_a_dict(tree: ParamTree, kind: Any) -> None:
    assert_matched(tree, kind(GRADS.values()))


def test_nested_lists_in_the_trees_order_match_a_dict() -> None:
    tree = ParamTree.from_user({"weights": [np.ones(2), np.ones(3)], "biases": [np.ones(1)]})
    grads = ([np.full(2, 1), np.full(3, 2)], [np.full(1, 3)])
    expected = {
        "weights[0]": np.full(2, 1.0),
        "weights[1]": np.full(3, 2.0),
        "biases[0]": np.full(1, 3.0),
    }
    assert_matched(tree, grads, expected)


def test_a_flat_list_matches_a_list_of_pairs() -> None:
    tree = ParamTree.from_user([(np.ones((2, 2)), np.ones(2)), (np.ones((1, 2)), np.ones(1))])
    grads = [np.full(tensor.shape, i) for i, tensor in enumerate(tree)]
    expected = {name: np.asarray(g, float) for name, g in zip(tree.names, grads, strict=True)}
    assert_matched(tree, grads, expected)


def test_namedtuples_match_by_field_or_by_order() -> None:
    params = namedtuple("Params", "W b")(np.ones((2, 3)), np.ones(2))
    grads = namedtuple("Grads", "db dW")(np.full(2, 1.0), np.full((2, 3), 2.0))
    tree = ParamTree.from_user(params)
    expected = {"W": grads.dW, "b": grads.db}
    assert_matched(tree, grads, expected)
    assert_matched(tree, (grads.dW, grads.db), expected)
    assert_matched(tree, namedtuple("Other", "first second")(grads.dW, grads.db), expected)
    nested = ParamTree.from_user({"layer": params})
    nested_expected = {f"layer.{name}": gradient for name, gradient in expected.items()}
    assert_matched(nested, {"dlayer": (grads.dW, grads.db)}, nested_expected)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)])
def test_one_vector_in_the_trees_order_matches(tree: ParamTree, shape: Any) -> None:
    vector = np.concatenate([gradient.ravel() for gradient in GRADS.values()])
    assert_matched(tree, vector.reshape(shape))


def test_a_list_of_numbers_is_a_vector(tree: ParamTree) -> None:
    vector = np.concatenate([gradient.ravel() for gradient in GRADS.values()])
    assert_matched(tree, vector.tolist())


def test_lists_of_numbers_stand_for_arrays(tree: ParamTree) -> None:
    assert_matched(tree, {f"d{name}": gradient.tolist() for name, gradient in GRADS.items()})
    assert_matched(tree, [gradient.tolist() for gradient in GRADS.values()])


@pytest.mark.parametrize("wrap", [lambda g: g, lambda g: [g], lambda g: (g,)])
@pytest.mark.parametrize("params", [np.ones((2, 3)), {"W": np.ones((2, 3))}, [np.ones((2, 3))]])
def test_the_gradient_of_a_single_array_may_be_bare_or_in_a_list(params: Any, wrap: Any) -> None:
    tree = ParamTree.from_user(params)
    gradient = np.arange(6.0).reshape(2, 3)
    assert_matched(tree, wrap(gradient), {tree.names[0]: gradient})


def test_a_lone_array_takes_the_only_entry_whatever_its_name() -> None:
    tree = ParamTree.from_user(np.ones(2))
    assert_matched(tree, {"dW": [3, 4]}, {"params": np.array([3.0, 4.0])})


def test_a_lone_array_refuses_to_guess_among_several_entries() -> None:
    with pytest.raises(InputError, match=r"any of 2 entries .* pass that array alone\n.*dW \(2,\)"):
        match_gradients(ParamTree.from_user(np.ones(2)), {"dW": np.ones(2), "dZ": np.ones(2)})


@pytest.mark.parametrize("gradient", [6, 6.0, np.float32(6), np.array(6), np.array([[6.0]]), [6.0]])
@pytest.mark.parametrize("params", [3.0, np.ones((1, 1)), {"theta": 3.0}])
def test_a_single_parameter_takes_any_single_number(params: Any, gradient: Any) -> None:
    tree = ParamTree.from_user(params)
    expected = {tree.names[0]: np.full(tree.tensors[0].shape, 6.0)}
    assert_matched(tree, gradient, expected)


def test_a_one_by_one_bias_takes_a_sum_without_axes() -> None:
    tree = ParamTree.from_user({"W": np.ones(2), "b": np.ones((1, 1))})
    expected = {"W": np.ones(2), "b": np.array([[5.0]])}
    assert_matched(tree, {"dW": np.ones(2), "db": np.sum([2.0, 3.0])}, expected)


def test_a_list_of_scalar_parameters_takes_one_array() -> None:
    tree = ParamTree.from_user([0.1, 0.2])
    expected = {"[0]": np.array(1.0), "[1]": np.array(2.0)}
    assert_matched(tree, np.array([1.0, 2.0]), expected)
    assert_matched(tree, [1, 2], expected)


def test_stacked_gradients_match_a_list_of_equal_arrays() -> None:
    tree = ParamTree.from_user([np.ones((2, 2)), np.ones((2, 2))])
    stack = np.arange(8.0).reshape(2, 2, 2)
    assert_matched(tree, stack, {"[0]": stack[0], "[1]": stack[1]})


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float16, np.longdouble, ">f8"])
def test_integers_and_all_floats_become_float64(dtype: Any) -> None:
    tree = ParamTree.from_user(np.ones(2))
    assert_matched(tree, np.array([1, 2], dtype), {"params": np.array([1.0, 2.0])})


def test_the_result_is_a_copy(tree: ParamTree) -> None:
    for name, gradient in match_gradients(tree, GRADS).items():
        assert not np.shares_memory(gradient, GRADS[name])


def test_a_fortran_ordered_gradient_keeps_its_indices() -> None:
    gradient = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    matched = match_gradients(ParamTree.from_user(np.ones((2, 3))), gradient)
    np.testing.assert_array_equal(matched["params"].reshape(-1), range(6))


def test_nan_and_infinity_are_left_for_the_verdict() -> None:
    matched = match_gradients(ParamTree.from_user(np.ones(2)), np.array([np.nan, np.inf]))
    np.testing.assert_array_equal(matched["params"], [np.nan, np.inf])


def test_empty_tensors_match() -> None:
    tree = ParamTree.from_user({"W": np.empty((0, 3)), "b": 1.0})
    assert_matched(
        tree, {"dW": np.empty((0, 3)), "db": 1}, {"W": np.empty((0, 3)), "b": np.ones(())}
    )


def test_everything_wrong_is_said_in_one_message(tree: ParamTree) -> None:
    with pytest.raises(InputError) as caught:
        match_gradients(tree, {"dW1": np.ones((2, 3)), "dW2": np.ones(3), "dZ1": np.ones((3, 9))})
    assert str(caught.value).split("\n") == [
        "`grads` does not match the parameters:",
        "  W1: shape (2, 3), but the parameter has shape (3, 2) (transposed?)",
        "  b1: no gradient found",
        "  W2: shape (3,), but the parameter has shape (1, 3)",
        "It holds dW1 (2, 3), dW2 (3,), dZ1 (3, 9).",
        "Give a gradient of the same shape for each of W1 (3, 2), b1 (3,), W2 (1, 3): in the same "
        "nesting, under the same names or with the usual prefix (dW1 for W1), or as one vector of "
        "12 values in this order.",
    ]


def test_an_empty_dict_is_said_to_hold_nothing(tree: ParamTree) -> None:
    with pytest.raises(InputError, match="It holds nothing"):
        match_gradients(tree, {})


def test_a_list_of_another_length_is_refused(tree: ParamTree) -> None:
    with pytest.raises(InputError, match="arrays in the list: 2, but parameter arrays: 3"):
        match_gradients(tree, [GRADS["W1"], GRADS["b1"]])


def test_a_list_with_more_entries_than_the_parameters_is_not_cut() -> None:
    tree = ParamTree.from_user([np.ones((2, 2)), np.ones((2, 2))])
    with pytest.raises(InputError, match=r"\[0\]: 3 entries stand where the parameters have 2"):
        match_gradients(tree, (np.ones((2, 2)),) * 3)


def test_a_list_in_another_order_is_refused_with_both_shapes(tree: ParamTree) -> None:
    with pytest.raises(InputError, match=r"W1: shape \(3,\), but the parameter has shape \(3, 2\)"):
        match_gradients(tree, [GRADS["b1"], GRADS["W1"], GRADS["W2"]])


def test_a_vector_of_another_length_is_refused(tree: ParamTree) -> None:
    said = r"one array of shape \(11,\) for 3 parameter arrays of 12 values"
    with pytest.raises(InputError, match=said):
        match_gradients(tree, np.ones(11))


def test_a_lone_gradient_of_the_transposed_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(3, 2\), but .* \(2, 3\) \(transposed\?\)"):
        match_gradients(ParamTree.from_user(np.ones((2, 3))), np.ones((3, 2)))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (np.ones((3, 2), complex), r"complex128 array of shape \(3, 2\); use its .real"),
        (np.full((3, 2), None), r"object array of shape \(3, 2\); use .astype\(float\)"),
        (np.ones((3, 2), bool), r"bool array of shape \(3, 2\); use .astype\(float\)"),
        (np.ma.masked_array(np.ones((3, 2))), r"a masked array; use .filled"),
        ("x", r"a str; give a float array"),
        ([[1.0], [2.0, 3.0]], r"an object of type list; use np.asarray"),
        (type("coo", (), {"__module__": "cupyx"})(), r"a cupyx.coo; give a dense cupy.ndarray"),
    ],
)
def test_a_gradient_of_no_real_numbers_is_refused(tree: ParamTree, entry: Any, said: str) -> None:
    with pytest.raises(InputTypeError, match=rf"`grads` .*\n  W1: {said}"):
        match_gradients(tree, {**GRADS, "W1": entry})


def test_none_as_a_gradient_is_refused_with_zeros_as_the_remedy(tree: ParamTree) -> None:
    with pytest.raises(InputError, match="b1: None; where the loss ignores it, give zeros"):
        match_gradients(tree, {**GRADS, "b1": None})


@pytest.mark.parametrize("grads", [None, "dW", object(), np.ones(12, complex), {1, 2}, len])
def test_grads_that_are_no_arrays_at_all_are_refused(tree: ParamTree, grads: Any) -> None:
    with pytest.raises(InputTypeError, match=r"^`numeric` is .*\. Give a gradient of the same"):
        match_gradients(tree, grads, argument="numeric")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["W1", "W2", "b1", "b2", "gamma", "beta", "U", "V"]),
        min_size=1,
        unique=True,
    ),
    st.sampled_from([style for style in STYLES if style != "{}grad"]),
    st.sampled_from([str, str.lower, str.upper]),
    st.randoms(use_true_random=False),
)
def test_any_shuffled_naming_finds_each_gradient(
    names: list[str], style: str, case: Any, random: Any
) -> None:
    tree = ParamTree.from_user({name: np.ones(2) for name in names})
    expected = {name: np.full(2, float(i)) for i, name in enumerate(names)}
    items = [(style.format(case(name)), expected[name]) for name in names]
    random.shuffle(items)
    assert_matched(tree, dict(items), expected)
