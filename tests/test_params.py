"""Parameter trees: names, copies, rebuilding, and what is refused."""

from __future__ import annotations

import enum
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree

Layer = namedtuple("Layer", "W b")


def float_leaves() -> st.SearchStrategy[Any]:
    shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    dtypes = st.sampled_from(["<f2", "<f4", "<f8", ">f8", ">f4"])
    orders = st.sampled_from("CF")
    arrays = st.builds(
        lambda shape, dtype, order, start: np.array(
            np.arange(start, start + np.prod(shape, dtype=int)).reshape(shape), dtype, order=order
        ),
        shapes,
        dtypes,
        orders,
        st.integers(-50, 50),
    )
    return arrays | st.floats(-1e3, 1e3) | st.floats(-1e3, 1e3).map(np.float64)


def nestings() -> st.SearchStrategy[Any]:
    keys = st.text("Wbx", min_size=1, max_size=3)
    return st.recursive(
        float_leaves(),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(keys, inner, max_size=3),
            st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
            st.tuples(inner, inner).map(lambda pair: Layer(*pair)),
        ),
        max_leaves=8,
    )


def trees() -> st.SearchStrategy[tuple[Any, ParamTree]]:
    def size(params: Any) -> int:
        if isinstance(params, dict):
            return sum(map(size, params.values()))
        return sum(map(size, params)) if isinstance(params, list | tuple) else np.size(params)

    return nestings().filter(size).map(lambda params: (params, ParamTree.from_user(params)))


def same_structure(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_structure(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_structure, a, b))
    return bool(np.array_equal(a, b)) and np.shape(a) == np.shape(b)


def container_types(value: Any) -> Any:
    if isinstance(value, dict):
        return type(value), {key: container_types(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [container_types(entry) for entry in value]
    return None


@settings(max_examples=150, deadline=None)
@given(trees())
def test_build_of_the_values_gives_back_the_nesting(drawn: tuple[Any, ParamTree]) -> None:
    params, tree = drawn
    rebuilt = tree.build({tensor.name: tensor.value for tensor in tree})
    assert same_structure(rebuilt, params)
    assert container_types(rebuilt) == container_types(params)


@settings(max_examples=150, deadline=None)
@given(trees())
def test_unravel_undoes_ravel(drawn: tuple[Any, ParamTree]) -> None:
    _, tree = drawn
    vector = tree.ravel({tensor.name: tensor.value for tensor in tree})
    assert vector.shape == (tree.size,)
    for name, part in tree.unravel(vector).items():
        np.testing.assert_array_equal(part, tree[name].value, strict=True)


@settings(max_examples=100, deadline=None)
@given(trees())
def test_copies_share_no_memory_with_anything(drawn: tuple[Any, ParamTree]) -> None:
    params, tree = drawn
    before = [tensor.value.copy() for tensor in tree]
    again = ParamTree.from_user(tree.copies())
    for tensor in again:
        assert not np.shares_memory(tensor.value, tree[tensor.name].value)
        tensor.value[...] = np.nan
    assert all(map(np.array_equal, before, (tensor.value for tensor in tree)))
    assert same_structure(params, tree.copies())


def test_names_join_keys_by_dots_and_places_by_brackets() -> None:
    one = np.ones(2)
    params = {"layers": [{"W": one, "b": one}, (one, 1.0)], "out": one}
    names = ("layers[0].W", "layers[0].b", "layers[1][0]", "layers[1][1]", "out")
    assert ParamTree.from_user(params).names == names


def test_a_list_at_the_top_is_named_by_brackets_alone() -> None:
    assert ParamTree.from_user([1.0, [2.0, 3.0]]).names == ("[0]", "[1][0]", "[1][1]")


def test_a_bare_array_is_named_params() -> None:
    assert ParamTree.from_user(np.ones(3)).names == ("params",)


def test_fields_of_a_namedtuple_are_names() -> None:
    assert ParamTree.from_user([Layer(1.0, 2.0)]).names == ("[0].W", "[0].b")


def test_other_keys_are_named_by_their_repr() -> None:
    assert ParamTree.from_user({0: 1.0, ("a", 1): 2.0}).names == ("0", "('a', 1)")


def test_a_string_enumeration_is_named_by_its_value() -> None:
    key = enum.Enum("Key", {"W": "weight"}, type=str).W
    tree = ParamTree.from_user({key: 1.0})
    assert tree.names == ("weight",)
    assert list(tree.copies()) == [key]


def test_the_path_has_strings_for_keys_and_integers_for_places() -> None:
    assert ParamTree.from_user({"a": [{0: 1.0}]}).tensors[0].path == ("a", 0, "0")


def test_insertion_order_is_the_order_of_the_tree() -> None:
    assert ParamTree.from_user({"b": 1.0, "a": 2.0}).names == ("b", "a")


def test_size_len_and_lookup_by_name() -> None:
    tree = ParamTree.from_user({"W": np.ones((2, 3)), "b": 1.0})
    assert (tree.size, len(tree), tree["W"].shape, tree["W"].size) == (7, 2, (2, 3), 6)
    assert "W" in tree
    assert "V" not in tree


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_values_are_float64_and_the_dtype_is_remembered(dtype: Any) -> None:
    tensor = ParamTree.from_user(np.array([0.1, 0.2], dtype)).tensors[0]
    assert tensor.value.dtype == np.float64
    assert tensor.value.dtype.isnative
    assert tensor.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(tensor.value, np.array([0.1, 0.2], dtype).astype(float))


def test_fortran_order_is_kept() -> None:
    tree = ParamTree.from_user(np.ones((3, 2), order="F"))
    assert tree.tensors[0].value.flags.f_contiguous
    assert tree.copies().flags.f_contiguous


def test_ravel_is_in_c_order_whatever_the_layout() -> None:
    value = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(ParamTree.from_user(value).ravel({"params": value}), range(6))


def test_views_and_read_only_arrays_are_copied() -> None:
    base = np.arange(12.0).reshape(3, 4)
    view = base[::-2, 1:3]
    view.flags.writeable = False
    tensor = ParamTree.from_user(view).tensors[0]
    assert tensor.value.base is None
    assert tensor.value.flags.writeable
    np.testing.assert_array_equal(tensor.value, view)


def test_a_python_float_is_a_0d_tensor_and_comes_back_as_a_numpy_float() -> None:
    tree = ParamTree.from_user(3.0)
    assert tree.tensors[0].shape == ()
    assert tree.tensors[0].scalar
    assert type(tree.copies()) is np.float64


def test_a_0d_array_comes_back_as_an_array() -> None:
    tree = ParamTree.from_user({"x": np.array(3.0)})
    assert isinstance(tree.copies()["x"], np.ndarray)
    assert not tree["x"].scalar


def test_an_empty_array_among_others_is_a_tensor_of_size_0() -> None:
    tree = ParamTree.from_user({"W": np.empty((0, 3)), "b": 1.0})
    assert tree["W"].shape == (0, 3)
    assert tree.unravel([5.0])["W"].shape == (0, 3)


def test_a_memory_map_is_read(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "W", dtype=float, mode="w+", shape=(2,))
    assert type(ParamTree.from_user(mapped).tensors[0].value) is np.ndarray


def test_build_takes_any_objects() -> None:
    tree = ParamTree.from_user({"a": 1.0, "b": [2.0]})
    assert tree.build({"a": "x", "b[0]": None}) == {"a": "x", "b": [None]}


def test_a_defaultdict_keeps_its_factory() -> None:
    params = defaultdict(list, W=np.ones(2))
    rebuilt = ParamTree.from_user(params).copies()
    assert type(rebuilt) is defaultdict
    assert rebuilt["cache"] == []
    assert "cache" not in params


def test_a_dict_whose_attributes_are_its_items_gets_the_new_arrays() -> None:
    class Net(dict[str, Any]):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.__dict__ = self

    params = Net({"W": np.ones(2)})
    rebuilt = ParamTree.from_user(params).copies()
    assert rebuilt.W is rebuilt["W"]
    assert rebuilt.W is not params.W


def test_attributes_of_a_dict_subclass_are_kept() -> None:
    class Net(dict[str, Any]):
        depth = 0

    params = Net(W=np.ones(2))
    params.depth = 3
    assert ParamTree.from_user(params).copies().depth == 3


def test_a_dict_subclass_with_its_own_constructor_is_copied() -> None:
    class Net(dict[str, Any]):
        def __init__(self, depth: int, *, width: int) -> None:
            self.depth = depth

    params = Net(2, width=3)
    params["W"] = np.ones(2)
    rebuilt = ParamTree.from_user(params).build({"W": "new"})
    assert (type(rebuilt), rebuilt, rebuilt.depth) == (Net, {"W": "new"}, 2)
    np.testing.assert_array_equal(params["W"], 1.0)


def test_a_container_that_cannot_be_rebuilt_is_refused_by_name() -> None:
    class Pair(tuple[Any, ...]):
        def __new__(cls, a: Any, b: Any) -> Any:
            return super().__new__(cls, (a, b))

    with pytest.raises(InputTypeError, match=r"`params` .*cannot be rebuilt .*\(Pair\).*convert"):
        ParamTree.from_user(Pair(1.0, 2.0))


def test_containers_are_new_each_time() -> None:
    tree = ParamTree.from_user({"a": [1.0]})
    assert tree.copies()["a"] is not tree.copies()["a"]


def test_an_array_twice_in_the_tree_is_two_tensors_and_said() -> None:
    W = np.ones((2, 2))
    tree = ParamTree.from_user({"W": W, "x": 1.0, "V": W.T, "U": W.copy()})
    assert tree.size == 13
    assert tree.shared == (("W", "V"),)


def test_slices_of_one_flat_vector_are_not_shared() -> None:
    flat = np.arange(12.0)
    tree = ParamTree.from_user([flat[:4].reshape(2, 2), flat[4:], flat.reshape(6, 2)[:2, 1]][:2])
    assert tree.shared == ()
    columns = flat.reshape(4, 3)
    assert ParamTree.from_user([columns[:, 0], columns[::-1, 1]]).shared == ()


def test_unravel_gives_new_memory() -> None:
    vector = np.ones(3)
    ParamTree.from_user(np.ones(3)).unravel(vector)["params"][:] = 7
    np.testing.assert_array_equal(vector, 1)


def test_unravel_refuses_another_length() -> None:
    with pytest.raises(InputError, match=r"`vector` holds 4 values, but there are 3 parameters"):
        ParamTree.from_user(np.ones(3)).unravel(np.ones(4))


def test_ravel_refuses_another_shape() -> None:
    with pytest.raises(InputError, match=r"shape \(2, 3\) for params, which has shape \(3, 2\)"):
        ParamTree.from_user(np.ones((3, 2))).ravel({"params": np.ones((2, 3))})


@pytest.mark.parametrize("empty", [{}, [], (), {"a": []}, [{}, ()]])
def test_a_tree_without_arrays_is_refused(empty: Any) -> None:
    with pytest.raises(InputError, match="`params` holds no arrays; pass the arrays"):
        ParamTree.from_user(empty)


def test_a_tree_of_empty_arrays_is_refused() -> None:
    with pytest.raises(InputError, match=r"`params` holds no parameters.* W \(0, 3\)"):
        ParamTree.from_user({"W": np.empty((0, 3))})


@pytest.mark.parametrize(
    ("leaf", "said"),
    [
        (np.ones((3, 2), np.int64), r"int64 array of shape \(3, 2\); use .astype\(float\)"),
        (np.ones(2, bool), r"bool array of shape \(2,\); use .astype\(float\)"),
        (np.array([1, None]), r"object array of shape \(2,\); use .astype\(float\)"),
        (np.ones(2, np.clongdouble), r"complex\d+ array of shape \(2,\); use .astype\(complex\)"),
        (np.ones(2, np.longdouble), r"[a-z]+\d+ array of shape \(2,\); use .astype\(float\)"),
        (np.array(["a"]), r"<U1 array of shape \(1,\); leave it out"),
        (np.int32(3), r"int32 array of shape \(\); use .astype\(float\)"),
        (3, r"3, a Python int; use float"),
        (True, r"True, a Python bool; use float"),
        (None, r"None; leave it out of the tree"),
        ("relu", r"a str; leave it out of the tree"),
        (len, r"a callable \(builtin_function_or_method\); leave it out"),
        ({1.0}, r"an object of type set; use np.asarray"),
        (np.ma.masked_array([1.0], [True]), r"a masked array; use .filled\(0.0\)"),
        (np.ones((1, 1)).view(np.matrix), r"a np.matrix; use np.asarray"),
        (np.ones(1).view(np.recarray), r"a numpy.*recarray, a subclass of ndarray; use np.asarray"),
    ],
)
def test_a_leaf_that_is_no_float_array_is_refused_with_the_remedy(leaf: Any, said: str) -> None:
    with pytest.raises(InputTypeError, match=rf"`params` holds entries .*\n  W: {said}"):
        ParamTree.from_user({"W": leaf, "b": 1.0})


def test_all_unusable_leaves_are_named_at_once() -> None:
    params = {"W1": np.ones(2, int), "b1": np.ones(2), "act": ["relu", None]}
    with pytest.raises(InputTypeError) as caught:
        ParamTree.from_user(params)
    lines = str(caught.value).split("\n")
    assert lines == [
        "`params` holds entries that are not float arrays:",
        "  W1: int64 array of shape (2,); use .astype(float)",
        "  act[0]: a str; leave it out of the tree",
        "  act[1]: None; leave it out of the tree",
        "Parameters must be float16, float32 or float64 arrays, complex64 or complex128 arrays, or "
        "dicts, lists and tuples of them.",
    ]


def test_a_very_long_list_of_problems_is_cut() -> None:
    with pytest.raises(InputTypeError, match=r"\n  \.\.\. and 950 more\n"):
        ParamTree.from_user(list(range(1000)))


@pytest.mark.parametrize("params", [None, "W", 3, np.arange(3), object()])
def test_params_that_are_no_tree_at_all_are_refused(params: Any) -> None:
    with pytest.raises(
        InputTypeError,
        match=r"^`params` is .*(pass float arrays|use .*)\. Parameters must be float16",
    ):
        ParamTree.from_user(params)


def test_the_argument_is_called_as_the_caller_says() -> None:
    with pytest.raises(InputTypeError, match=r"^`theta` is None"):
        ParamTree.from_user(None, argument="theta")


def test_sparse_matrices_of_the_gpu_are_refused_with_toarray() -> None:
    kind = type("csr_matrix", (), {"__module__": "cupyx.scipy.sparse"})
    with pytest.raises(InputTypeError, match=r"give a dense cupy.ndarray, such as \.toarray\(\)"):
        ParamTree.from_user({"W": kind()})


def test_nan_and_infinity_are_named_with_their_tensor_index_and_number() -> None:
    W = np.ones((2, 3))
    W[0, 2] = np.nan
    W[1, 0] = np.inf
    with pytest.raises(InputError) as caught:
        ParamTree.from_user({"W": W, "b": 1.0, "c": -np.inf})
    message = str(caught.value)
    assert "`params` holds NaN or infinite values" in message
    assert "  W: 2 of 6 values, the first nan at index (0, 2)\n" in message
    assert "  c: 1 of 1 values, the first -inf at index ()\n" in message
    assert "lower the learning rate" in message


def test_a_container_that_holds_itself_is_refused() -> None:
    layers: list[Any] = [np.ones(2)]
    layers.append({"again": layers})
    with pytest.raises(InputError, match=r"`params` holds itself at \[1\]\.again"):
        ParamTree.from_user(layers)


def test_a_container_twice_in_the_tree_is_no_cycle() -> None:
    layer = {"W": np.ones(2)}
    assert ParamTree.from_user([layer, layer]).names == ("[0].W", "[1].W")


@pytest.mark.parametrize("params", [{"a.b": 1.0, "a": {"b": 2.0}}, {1: 1.0, "1": 2.0}])
def test_names_that_cannot_be_told_apart_are_refused(params: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be told apart:\n  (a\.b|1): at .* and at "):
        ParamTree.from_user(params)
