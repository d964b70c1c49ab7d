"""A suspicious direction is halved down to the culprit, in few passes."""

import numpy as np
import pytest

from fastcheck import Monitor, Verdict
from fastcheck.monitor import along, inspector
from fastcheck.monitor.directions import FIRST_STEP, Lines, directions, joint
from fastcheck.monitor.localise import Suspect, localise
from fastcheck.params import ParamTree
from fastcheck.verdict.tolerances import tolerance_for

from .loops import Counted, backward, data, initial, loss, problem

WIDE = (784, 10, 10)


@pytest.fixture(scope="module")
def wide():
    """784-10-10 as a tree, its right gradient and the batch."""
    params, batch = initial(0, WIDE), data(0, WIDE)
    return ParamTree.from_user(params), backward(params, batch), batch


def located(wide, grads, together, seed=0):
    """Return what is suspected, by tensor, and the passes that it took."""
    tree, _, batch = wide
    counted = Counted(lambda p: float(loss(p, batch)))
    base = counted(tree.copies())
    lines = Lines(counted, tree, grads, base, 64 * 2.0**-53 * abs(base), tolerance_for([], None))
    moves = directions(tree, np.random.default_rng(seed))
    if together:
        moves = joint(lines, moves)
    found = localise(lines, moves, FIRST_STEP)
    assert lines.passes == counted.calls - 1
    return {one.name: one.elements for one in found}, lines.passes


def largest(array):
    return int(np.argmax(np.abs(array)))


@pytest.mark.parametrize("together", [False, True])
def test_one_wrong_element_of_7840_takes_about_thirty_passes(wide, together):
    grads = {name: value.copy() for name, value in wide[1].items()}
    place = largest(grads["W1"])
    grads["W1"].flat[place] *= 2
    for seed in range(5):
        found, passes = located(wide, grads, together, seed)
        assert {name: places.tolist() for name, places in found.items()} == {"W1": [place]}
        assert passes <= 2 + 4 + 2 * 13  # the whole, four tensors, and 2¹³ > 7840


def test_two_elements_far_apart_are_both_found(wide):
    grads = {name: value.copy() for name, value in wide[1].items()}
    order = np.argsort(np.abs(grads["W1"]).ravel())
    places = sorted(int(place) for place in (order[-1], order[-2]))
    for place in places:
        grads["W1"].flat[place] *= -1
    found, passes = located(wide, grads, together=True)
    assert found["W1"].tolist() == places
    assert passes <= 60


def test_one_row_is_a_block_that_holds_it(wide):
    grads = {name: value.copy() for name, value in wide[1].items()}
    grads["W2"][4] *= 3
    found, passes = located(wide, grads, together=True)
    assert list(found) == ["W2"]
    # Ten wrong elements are more than are followed, or some of these ten.
    assert found["W2"] is None or set(found["W2"]) <= set(range(40, 50))
    assert passes <= 60


def test_a_whole_tensor_is_not_followed_into_its_elements(wide):
    grads = {**wide[1], "W1": 1.5 * wide[1]["W1"]}
    found, passes = located(wide, grads, together=True)
    assert found == {"W1": None}
    assert passes <= 40


def test_several_tensors_are_told_from_the_others(wide):
    grads = {**wide[1], "W1": 1.1 * wide[1]["W1"], "b2": -wide[1]["b2"]}
    found, _ = located(wide, grads, together=True)
    assert set(found) == {"W1", "b2"}
    assert found["W1"] is None


def test_a_right_gradient_has_no_suspects(wide):
    for seed in range(10):
        assert located(wide, wide[1], together=True, seed=seed) == ({}, 2)


def test_a_gradient_that_is_no_number_is_not_searched_for(wide):
    grads = {**wide[1], "b1": np.full(10, np.nan)}
    found, passes = located(wide, grads, together=True)
    assert found["b1"] is None or len(found["b1"])
    assert passes < 100


def test_two_errors_that_cancel_are_found_all_the_same():
    params, grads, batch = problem()
    grads["b2"] = grads["b2"] + np.array([0.1, -0.1, 0.0])
    tree = ParamTree.from_user(params)
    for seed in range(10):
        found, _ = located((tree, grads, batch), grads, together=False, seed=seed)
        assert set(found["b2"]) == {0, 1}
        assert set(found) == {"b2"}


# -- what follows ----------------------------------------------------------------------------------


def with_one_wrong(wide):
    """Return params, a gradient with one wrong element, the batch, and its place."""
    tree, right, batch = wide
    grads = {name: value.copy() for name, value in right.items()}
    place = largest(grads["W1"])
    grads["W1"].flat[place] *= 2
    return {tensor.name: tensor.value.copy() for tensor in tree}, grads, batch, place


def test_the_culprit_is_handed_to_the_full_verdict(wide, monkeypatch):
    monkeypatch.setattr(inspector, "_MOST_SECONDS", np.inf)  # on any machine
    params, grads, batch, place = with_one_wrong(wide)
    monitor = Monitor(loss, every=1, mode="directions", on_fail="record")
    report = monitor(params, grads, batch=batch)
    row, column = (int(i) for i in np.unravel_index(place, (784, 10)))
    assert report.failed == ("W1",)
    assert report.tensors["W1"].worst.index == (row, column)
    assert report.checked == report.size
    assert f"A direction showed an error in W1[{row}, {column}]" in monitor.history[0].notes[-1]
    assert report.diagnosis.findings[0].cause == "one-element"


def test_where_all_would_take_too_long_the_culprit_is_looked_at_still(wide, monkeypatch):
    params, grads, batch, place = with_one_wrong(wide)
    monkeypatch.setattr(inspector, "_MOST_SECONDS", 0.0)
    monitor = Monitor(loss, every=1, mode="directions", on_fail="record")
    report = monitor(params, grads, batch=batch)
    assert report.failed == ("W1",)
    assert report.tensors["W1"].checked < 100
    assert report.tensors["W1"].worst.index == np.unravel_index(place, (784, 10))


def test_a_suspicion_that_is_not_explained_is_no_pass(wide, monkeypatch):
    params, grads, batch, place = with_one_wrong(wide)
    monkeypatch.setattr(inspector, "_MOST_SECONDS", 0.0)
    elsewhere = [Suspect("W1", np.array([place + 1]))]
    monkeypatch.setattr(along, "localise", lambda *_: elsewhere)
    monitor = Monitor(loss, every=1, mode="directions", on_fail="record")
    report = monitor(params, grads, batch=batch)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.tensors["W1"].verdict is Verdict.INCONCLUSIVE
    assert "differs along the direction" in report.tensors["W1"].reason
    assert report.tensors["b2"].verdict is Verdict.PASS
