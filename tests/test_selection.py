"""Choosing the parameters to check."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree, select_indices


@pytest.fixture
def tree() -> ParamTree:
    return ParamTree.from_user({"W": np.ones((3, 4)), "b": np.ones(5), "c": 1.0})


def assert_selected(tree: ParamTree, select: Any, **expected: list[int]) -> None:
    chosen = select_indices(tree, select, 0)
    assert list(chosen) == list(tree.names)
    for name, indices in chosen.items():
        assert indices.dtype == np.int64
        assert indices.tolist() == expected.get(name, [])


def test_all_selects_every_parameter(tree: ParamTree) -> None:
    assert_selected(tree, "all", W=list(range(12)), b=list(range(5)), c=[0])


def test_a_number_draws_that_many_from_each_tensor(tree: ParamTree) -> None:
    chosen = select_indices(tree, np.int32(4), 0)
    assert {name: indices.size for name, indices in chosen.items()} == {"W": 4, "b": 4, "c": 1}
    for name, indices in chosen.items():
        assert np.array_equal(np.unique(indices), indices)
        assert np.all((indices >= 0) & (indices < tree[name].size))


def test_the_same_seed_draws_the_same(tree: ParamTree) -> None:
    first, again, other = (select_indices(tree, 3, seed)["W"] for seed in (7, 7, 8))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_tensors_that_are_not_named_are_empty(tree: ParamTree) -> None:
    assert_selected(tree, {"b": [1]}, b=[1])


@pytest.mark.parametrize(
    "spec",
    [
        [1, 6, 11],
        [11, 6, 1, 6],
        np.array([1, 6, -1], np.int8),
        np.array([1, 6, 11], np.uint64),
        range(1, 12, 5),
        ([0, 1, 2], [1, 2, 3]),
        (np.array([0, 1, -1]), np.array([1, 2, 3])),
        [(0, 1), (1, 2), (2, 3)],
        np.array([[0, 1], [1, 2], [-1, -1]]),
        np.eye(3, 4, 1, dtype=bool),
        np.eye(3, 4, 1, dtype=bool).tolist(),
        np.asfortranarray(np.eye(3, 4, 1, dtype=bool)),
    ],
)
def test_all_forms_of_indices_name_the_same_elements(tree: ParamTree, spec: Any) -> None:
    assert_selected(tree, {"W": spec}, W=[1, 6, 11])


def test_a_tuple_of_index_arrays_broadcasts(tree: ParamTree) -> None:
    assert_selected(tree, {"W": (1, [0, 3])}, W=[4, 7])
    assert_selected(tree, {"W": (2, 3)}, W=[11])


@pytest.mark.parametrize("spec", [[0], (), [()], True, "all"])
def test_a_0d_tensor_is_selected_by_its_only_index(tree: ParamTree, spec: Any) -> None:
    spec = np.array(spec) if spec is True else spec
    assert_selected(tree, {"c": spec}, c=[0])


def test_all_may_be_said_of_one_tensor(tree: ParamTree) -> None:
    assert_selected(tree, {"b": "all"}, b=[0, 1, 2, 3, 4])


def test_an_empty_choice_of_one_tensor_is_allowed(tree: ParamTree) -> None:
    assert_selected(tree, {"W": [], "b": np.zeros(5, bool), "c": [0]}, c=[0])


@settings(max_examples=100, deadline=None)
@given(npst.arrays(bool, npst.array_shapes(max_dims=4, max_side=4)).filter(np.any))
def test_mask_nonzero_and_argwhere_agree(mask: Any) -> None:
    tree = ParamTree.from_user(np.ones(mask.shape))
    flat = np.flatnonzero(mask).tolist()
    for spec in (
        mask,
        np.nonzero(mask),
        np.argwhere(mask),
        flat,
        list(zip(*np.nonzero(mask), strict=True)),
    ):
        assert_selected(tree, {"params": spec}, params=flat)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_a_draw_is_sorted_unique_and_no_larger_than_the_tensor(
    number: int, size: int, seed: int
) -> None:
    drawn = select_indices(ParamTree.from_user(np.ones(size)), number, seed)["params"]
    assert drawn.size == min(number, size)
    assert np.all(np.diff(drawn) > 0)


def test_everything_wrong_is_said_in_one_message(tree: ParamTree) -> None:
    with pytest.raises(InputError) as caught:
        select_indices(tree, {"w": [0], "W": np.ones((4, 3), bool), "b": [5], "c": [0]}, 0)
    assert str(caught.value).split("\n") == [
        "`select` does not fit the parameters:",
        "  'w': no such tensor",
        "  W: a mask of shape (4, 3) for a tensor of shape (3, 4)",
        "  b: index 5 is out of range for 5 elements",
        "Use masks or indices for W (3, 4), b (5,), c ().",
    ]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ([-13], "index -13 is out of range for 12 elements"),
        ([2**40], "index 1099511627776 is out of range"),
        (([0], [4]), "index 4 is out of range for axis 1 of length 4"),
        ([(3, 0)], "index 3 is out of range for axis 0 of length 3"),
        ([0.5], "indices of dtype float64; use integers"),
        (["a"], "indices of dtype <U1; use integers"),
        (([0.0], [1.0]), "index arrays of dtype float64, float64; use integers"),
        ((0, 1, 2), "a tuple of 3 for a tensor with 2 axes"),
        (([0, 1], [0, 1, 2]), r"index arrays of shapes \(2,\), \(3,\) do not broadcast"),
        ([(0, 1), (2,)], "index tuples of different lengths"),
        ([(0, 1, 2)], r"indices of shape \(1, 3\); use flat indices, or 2 per element"),
        (np.ones(12, bool), r"a mask of shape \(12,\) for a tensor of shape \(3, 4\)"),
        (5, r"5 is neither a mask nor a list of indices; use \[0\] for one index"),
        ("some", "'some' is neither"),
        (None, "None is neither"),
    ],
)
def test_an_unusable_entry_is_named(tree: ParamTree, spec: Any, said: str) -> None:
    with pytest.raises(InputError, match=rf"\n  W: {said}"):
        select_indices(tree, {"W": spec}, 0)


@pytest.mark.parametrize("number", [0, -3])
def test_a_number_below_one_is_refused(tree: ParamTree, number: int) -> None:
    with pytest.raises(InputError, match=f"`select` is {number}; select at least 1"):
        select_indices(tree, number, 0)


@pytest.mark.parametrize("select", [{}, {"W": []}])
def test_selecting_nothing_is_refused(tree: ParamTree, select: Any) -> None:
    with pytest.raises(InputError, match="`select` selects no parameter"):
        select_indices(tree, select, 0)


def test_an_unknown_word_is_refused(tree: ParamTree) -> None:
    with pytest.raises(InputError, match="`select` is 'some'; use \"all\", a number per tensor"):
        select_indices(tree, "some", 0)


@pytest.mark.parametrize("select", [None, True, 1.5, [0, 1], np.ones(3, bool)])
def test_another_type_is_refused(tree: ParamTree, select: Any) -> None:
    with pytest.raises(InputTypeError, match=r'`select` is .*; use "all", a number per tensor'):
        select_indices(tree, select, 0)


@pytest.mark.parametrize("seed", [-1, "x"])
def test_an_unusable_seed_is_refused(tree: ParamTree, seed: Any) -> None:
    with pytest.raises(InputError, match=r"`seed` is .*; use a non-negative integer"):
        select_indices(tree, 2, seed)
