"""`fastcheck.planted`: each bug spoils what it says, nothing else, and a check finds it."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.errors import InputError, InputTypeError
from fastcheck.planted import BUGS, BackwardPass, Bug, passes
from fastcheck.problems import dictionary_net, hidden_layer_mse, mlp, relu_softmax, sigmoid_231

NAMES = """
    scale sign transpose missing-bias-sum missing-mean missing-l2 missing-mask
    activation-derivative sample-dropped stale accumulated aliased-buffer overwritten-buffer
    one-element one-row swapped shallow-copy permuted-rows
""".split()


@dataclass(frozen=True, eq=False)
class Scene:
    """A network in which bugs are planted."""

    loss: Any
    params: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]
    known: dict[str, Any]


def relu_scene() -> Scene:
    sizes, batch = (6, 5, 5, 3), 12
    X, Y = mlp.make_batch(sizes, batch, seed=2)
    before = mlp.init(sizes, 2)
    params = mlp.train(before, X, Y, 1)
    known = {
        "params": params,
        "previous": mlp.gradients(before, X, Y),
        "batch_size": batch,
        "backward": passes.of_mlp(params, X, Y),
    }
    return Scene(lambda p: mlp.loss(p, X, Y), params, mlp.gradients(params, X, Y), known)


def curved_scene(kind: str) -> Scene:
    """One hidden layer in rows, squared error, L2 and a dropout mask held still."""
    rng = np.random.default_rng(3)
    X, wanted = rng.normal(size=(7, 4)), rng.normal(size=(7, 4))
    mask = (rng.random((7, 4)) < 0.7) / 0.7
    decay = 0.05
    names = ("W1", "b1", "W2", "b2")
    params = {n: rng.normal(size=(4, 4) if n[0] == "W" else 4) for n in names}
    activate = np.tanh if kind == "tanh" else lambda z: 1 / (1 + np.exp(-z))

    def loss(p: Any) -> Any:
        out = (activate(X @ p["W1"] + p["b1"]) * mask) @ p["W2"] + p["b2"]
        penalty = decay / 2 * (np.sum(p["W1"] ** 2) + np.sum(p["W2"] ** 2))
        return np.sum((out - wanted) ** 2) / 14 + penalty

    def passing(p: dict[str, np.ndarray]) -> BackwardPass:
        out = (activate(X @ p["W1"] + p["b1"]) * mask) @ p["W2"] + p["b2"]
        dZ = (out - wanted) / 7
        return BackwardPass.dense(p, X, dZ, [kind], rows=True, masks=[mask], decay=decay)

    backward = passing(params)
    earlier = passing({n: 1.1 * v for n, v in params.items()})
    known = {
        "params": params,
        "previous": earlier.gradients(),
        "batch_size": 7,
        "backward": backward,
    }
    return Scene(loss, params, backward.gradients(), known)


SCENES = {
    "relu": relu_scene(),
    "tanh": curved_scene("tanh"),
    "sigmoid": curved_scene("sigmoid"),
}
VARIANTS = [variant for bug in BUGS for variant in bug.variants]
CASES = [
    pytest.param(scene, bug, id=f"{name}: {bug.label}")
    for name, scene in SCENES.items()
    for bug in VARIANTS
    if bug.applies(scene.grads, **scene.known)
]


def test_the_list_holds_every_bug_by_name_and_in_a_loop() -> None:
    assert list(BUGS.names) == NAMES
    assert [bug.name for bug in BUGS] == NAMES
    assert all(BUGS[name].name == name and name in BUGS for name in NAMES)
    assert (len(BUGS), BUGS[0].name) == (18, "scale")


def test_every_bug_says_in_one_line_what_is_wrong() -> None:
    for bug in BUGS:
        assert bug.description.endswith(".")
        assert len(bug.description) < 100
        assert f"{bug.name}  " in repr(BUGS)


def test_an_unknown_name_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match=r"no bug called 'gremlin'; choose one of scale, sign, "):
        BUGS["gremlin"]


@pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)
def test_the_right_gradients_pass(scene: Scene) -> None:
    assert fastcheck.check(scene.loss, scene.params, scene.grads)


@pytest.mark.parametrize(("scene", "bug"), CASES)
def test_a_bug_changes_exactly_the_tensors_that_it_names(scene: Scene, bug: Bug) -> None:
    wrong = bug(scene.grads, **scene.known)
    assert list(wrong) == list(scene.grads)
    changed = [n for n, g in scene.grads.items() if not np.array_equal(g, wrong[n])]
    assert tuple(changed) == bug.spoils(scene.grads, **scene.known)


@pytest.mark.parametrize(("scene", "bug"), CASES)
def test_a_check_fails_exactly_the_tensors_that_a_bug_spoils(scene: Scene, bug: Bug) -> None:
    report = fastcheck.check(scene.loss, scene.params, bug(scene.grads, **scene.known))
    assert report.failed == bug.spoils(scene.grads, **scene.known)


@pytest.mark.parametrize(("scene", "bug"), CASES)
def test_a_bug_leaves_what_it_is_given_and_is_the_same_each_time(scene: Scene, bug: Bug) -> None:
    given = {**scene.grads}, {**scene.params}, {**scene.known["previous"]}
    before = [{n: v.copy() for n, v in tree.items()} for tree in given]
    one, two = bug(scene.grads, **scene.known), bug(scene.grads, **scene.known)
    for tree, kept in zip(given, before, strict=True):
        for name in tree:
            np.testing.assert_array_equal(tree[name], kept[name])
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
        assert not any(np.shares_memory(one[name], g) for g in scene.grads.values())


def test_every_bug_but_the_checkers_applies_somewhere() -> None:
    applying = {case.values[1].name for case in CASES}
    assert applying == set(NAMES) - {"shallow-copy"}


# -- what single bugs do ---------------------------------------------------------------------------

SQUARE = {"dW": np.array([[1.0, 2.0], [3.0, 4.0]]), "db": np.array([5.0, -6.0])}


def test_scale_takes_any_factor_and_any_tensors() -> None:
    wrong = BUGS["scale"].but(factor=1.0001, tensors="all")(SQUARE)
    for name, gradient in SQUARE.items():
        np.testing.assert_array_equal(wrong[name], 1.0001 * gradient)
    assert BUGS["scale"].but(tensors=["db"]).spoils(SQUARE) == ("db",)


def test_one_element_is_the_largest() -> None:
    wrong = BUGS["one-element"](SQUARE)
    np.testing.assert_array_equal(wrong["dW"], [[1, 2], [3, 4 * 1.01]])


def test_one_row_and_permuted_rows() -> None:
    np.testing.assert_array_equal(BUGS["one-row"](SQUARE)["dW"], [[1, 2], [0, 0]])
    np.testing.assert_array_equal(BUGS["one-row"].but(row=0)(SQUARE)["dW"], [[0, 0], [3, 4]])
    np.testing.assert_array_equal(BUGS["permuted-rows"](SQUARE)["dW"], [[3, 4], [1, 2]])


def test_swapped_and_aliased_take_tensors_of_equal_shape() -> None:
    grads = {"b1": np.array([1.0, 2.0]), "W": np.ones((2, 3)), "b2": np.array([3.0, 4.0])}
    swapped, aliased = BUGS["swapped"](grads), BUGS["aliased-buffer"](grads)
    assert (swapped["b1"].tolist(), swapped["b2"].tolist()) == ([3, 4], [1, 2])
    assert (aliased["b1"].tolist(), aliased["b2"].tolist()) == ([1, 2], [1, 2])


def test_missing_l2_takes_off_the_penalty_of_the_weights_only() -> None:
    params = {"W": np.full((2, 2), 3.0), "b": np.ones(2)}
    wrong = BUGS["missing-l2"](SQUARE, params=params, decay=0.5)
    np.testing.assert_array_equal(wrong["W"], SQUARE["dW"] - 1.5)
    np.testing.assert_array_equal(wrong["b"], SQUARE["db"])


def test_bare_arrays_lists_and_numbers_keep_their_nesting() -> None:
    assert BUGS["scale"](np.array([1.0, 2.0])).tolist() == [2, 4]
    first, (second,) = BUGS["sign"]([np.ones(2), (np.ones(1),)])
    assert (first.tolist(), second.tolist()) == ([1, 1], [-1])
    assert BUGS["scale"]({"a": 1.5})["a"] == 3.0
    assert BUGS["one-element"].but(factor=0)(2.0) == 0.0


@pytest.mark.parametrize(("kind", "wrong_slope"), [("tanh", lambda a: 1 - a), ("sigmoid", None)])
def test_the_wrong_derivative_is_the_one_that_people_write(kind: str, wrong_slope: Any) -> None:
    scene = SCENES[kind]
    backward = scene.known["backward"]
    first, second = backward.layers
    slope = first.a if wrong_slope is None else wrong_slope(first.a)
    dZ = (second.W.T @ backward.dZ) * first.mask * slope
    wrong = BUGS["activation-derivative"](scene.grads, **scene.known)
    np.testing.assert_allclose(wrong["b1"], dZ.sum(axis=1), rtol=1e-13)
    expected = (dZ @ first.A.T).T + 0.05 * scene.params["W1"]
    np.testing.assert_allclose(wrong["W1"], expected, rtol=1e-13)


def test_a_wrong_derivative_spoils_its_own_layer_and_those_before_it() -> None:
    scene = SCENES["relu"]
    bug = BUGS["activation-derivative"]
    assert bug.but(layer=1).spoils(scene.grads, **scene.known) == ("W1", "b1")
    assert bug.but(layer=2).spoils(scene.grads, **scene.known) == ("W1", "b1", "W2", "b2")


def test_missing_mask_drops_dropout_where_there_is_some() -> None:
    scene = SCENES["tanh"]
    backward = scene.known["backward"]
    expected = backward.with_layer(0, mask=None).gradients()
    wrong = BUGS["missing-mask"](scene.grads, **scene.known)
    np.testing.assert_array_equal(wrong["W1"], expected["W1"])


def test_a_dropped_sample_is_missing_from_every_sum() -> None:
    X, Y = mlp.make_batch((4, 3, 2), 8)
    params = mlp.init((4, 3, 2))
    wrong = BUGS["sample-dropped"].but(sample=0)(backward=passes.of_mlp(params, X, Y))
    others = mlp.gradients(params, X[:, 1:], Y[:, 1:])
    for name, gradient in others.items():
        np.testing.assert_allclose(wrong[name], gradient * 7 / 8, rtol=1e-12)


# -- what may be given -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "missing"),
    [("stale", "previous"), ("missing-mean", "batch_size"), ("missing-mask", "backward")],
)
def test_what_a_bug_needs_is_asked_for_by_name(name: str, missing: str) -> None:
    assert not BUGS[name].applies(SQUARE)
    with pytest.raises(InputError, match=rf"`{missing}` is missing: '{name}' needs .*{missing}="):
        BUGS[name](SQUARE)


def test_a_bug_that_would_change_nothing_is_refused() -> None:
    symmetric = {"W": np.ones((2, 2))}
    assert not BUGS["transpose"].applies(symmetric)
    with pytest.raises(InputError, match=r"'transpose' changes nothing in these gradients"):
        BUGS["transpose"](symmetric)


def test_an_unknown_option_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"`factr` is no option of 'scale'.*: factor, tensors\."):
        BUGS["scale"].but(factr=3)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("scale", {"tensors": "W9"}, r"`tensors` names 'W9'.*choose among W1, b1, .*'all'"),
        ("activation-derivative", {"layer": 3}, r"`layer` is 3, but the hidden layers are 1 to 2"),
        ("sample-dropped", {"sample": 12}, r"`sample` is 12, but there are 12"),
        ("one-row", {"row": 5}, r"`row` is 5, but there are 5"),
    ],
)
def test_an_option_out_of_range_names_the_range(name: str, option: Any, message: str) -> None:
    scene = SCENES["relu"]
    with pytest.raises(InputError, match=message):
        BUGS[name].but(**option)(scene.grads, **scene.known)


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(InputTypeError, match=r"`grads` is None: give the right gradients"):
        BUGS["scale"]()


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"`batch_size` is 0: give the number of samples"):
        BUGS["missing-mean"](SQUARE, batch_size=0)


@pytest.mark.parametrize(
    ("activations", "message"),
    [
        (["swish"], r"`activations` holds 'swish'; choose among relu, tanh, sigmoid, identity"),
        ([], r"`activations` holds 0 names .* `params` has 2 layers: give 1 activations"),
    ],
)
def test_activations_that_do_not_fit_are_refused(activations: list[str], message: str) -> None:
    params = mlp.init((4, 3, 2))
    with pytest.raises(InputError, match=message):
        BackwardPass.dense(params, np.ones((4, 5)), np.ones((2, 5)), activations)


def test_parameters_that_are_no_dense_layers_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"`params` holds K of shape \(2, 3, 3\), which is neither"
    ):
        BackwardPass.dense({"K": np.ones((2, 3, 3))}, np.ones((4, 5)), np.ones((2, 5)), [])


# -- the reference networks ------------------------------------------------------------------------


def of_mlp() -> tuple[BackwardPass, Any]:
    X, Y = mlp.make_batch((12, 9, 9, 4), 16)
    params = mlp.init((12, 9, 9, 4))
    return passes.of_mlp(params, X, Y), mlp.gradients(params, X, Y)


def of_hidden_layer() -> tuple[BackwardPass, Any]:
    params, data = hidden_layer_mse.initial(), hidden_layer_mse.minibatch()
    inside = passes.of_hidden_layer_mse(params, *data)
    return inside, dict(
        zip(inside.tree.names, hidden_layer_mse.backprop(params, *data), strict=True)
    )


def of_sigmoid() -> tuple[BackwardPass, Any]:
    net = sigmoid_231.Net(*sigmoid_231.samples(), seed=4)
    flat = net.backward()
    return passes.of_sigmoid_231(net), {
        "W1": flat[:6].reshape(2, 3),
        "W2": flat[6:].reshape(3, 1),
    }


def of_dictionary() -> tuple[BackwardPass, Any]:
    params, data, masks = (
        dictionary_net.initial(),
        dictionary_net.samples(),
        dictionary_net.draw_masks(),
    )
    own = dictionary_net.gradients(*data, params, masks)
    return passes.of_dictionary_net(params, *data, masks), {n: own["d" + n] for n in params}


def of_relu_softmax() -> tuple[BackwardPass, Any]:
    net = relu_softmax.Network((6, 5, 4, 3), keep=0.7)
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(6, 9)), np.eye(3)[rng.integers(3, size=9)].T
    params = net.init_params()
    own = net.gradients(params, X, Y)
    return passes.of_relu_softmax(net, params, X, Y), {n: own["d" + n.lower()] for n in params}


@pytest.mark.parametrize(
    "network", [of_mlp, of_hidden_layer, of_sigmoid, of_dictionary, of_relu_softmax]
)
def test_a_pass_gives_the_gradients_of_the_networks_own(network: Any) -> None:
    backward, own = network()
    found = backward.gradients()
    assert list(found) == list(own)
    for name, gradient in own.items():
        assert found[name].shape == gradient.shape
        np.testing.assert_allclose(found[name], gradient, rtol=1e-12, atol=1e-18)


# -- the checker's own bug -------------------------------------------------------------------------


def test_the_shallow_checker_returns_half_the_gradient_and_leaves_the_arrays() -> None:
    params = {"w": np.array([1.0, 2.0]), "layers": [np.array([[3.0]])]}
    before = params["w"].copy()
    wrong = BUGS["shallow-copy"].numerical_gradient(
        lambda p: np.sum(p["w"] ** 2) + np.sum(p["layers"][0] ** 3), params
    )
    np.testing.assert_allclose(wrong["w"], [1, 2], rtol=1e-5)
    np.testing.assert_allclose(wrong["layers"][0], [[13.5]], rtol=1e-5)
    np.testing.assert_array_equal(params["w"], before)


def test_the_shallow_checker_prints_one_third_on_a_right_gradient() -> None:
    scene = SCENES["relu"]
    wrong = BUGS["shallow-copy"].numerical_gradient(scene.loss, scene.params)
    a, n = (np.concatenate([g.ravel() for g in t.values()]) for t in (scene.grads, wrong))
    difference = np.linalg.norm(a - n) / (np.linalg.norm(a) + np.linalg.norm(n))
    assert difference == pytest.approx(1 / 3, abs=1e-4)


def test_the_shallow_checker_spoils_no_gradient() -> None:
    bug = BUGS["shallow-copy"]
    assert not bug.applies(SQUARE)
    with pytest.raises(InputError, match=r"use its numerical_gradient\(loss, params\)"):
        bug(SQUARE)


# -- the package -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["", ".bug", ".backward", ".checker"])
def test_the_examples_in_the_docstrings_run(module: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"fastcheck.planted{module}"))
    assert tried.attempted > 0
    assert tried.failed == 0


def test_importing_fastcheck_does_not_import_it() -> None:
    script = (
        "import sys, fastcheck; before = 'fastcheck.planted' in sys.modules; "
        "print(before, len(fastcheck.planted.BUGS))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False 18", done.stderr


def test_another_attribute_is_still_an_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'plantd'"):
        fastcheck.plantd  # type: ignore[attr-defined]  # noqa: B018
