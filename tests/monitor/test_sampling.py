"""Samples rotate: every tensor each time, every element exactly once a round."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcheck.monitor.sampling import Rotation
from fastcheck.params import ParamTree

shapes = st.lists(st.integers(0, 60), min_size=1, max_size=5).filter(any)


def tree_of(sizes):
    return ParamTree.from_user([np.zeros(size) for size in sizes])


@settings(deadline=None, max_examples=60)
@given(sizes=shapes, count=st.integers(1, 80), seed=st.integers(0, 5))
def test_every_element_comes_exactly_once_a_round(sizes, count, seed):
    tree = tree_of(sizes)
    rotation = Rotation(count, np.random.default_rng(seed))
    taken = {tensor.name: [] for tensor in tree}
    for _ in range(61):
        for name, places in rotation.take(tree).items():
            taken[name].append(places)
    for tensor in tree:
        drawn = np.concatenate(taken[tensor.name])
        if not tensor.size:
            assert not len(drawn)
            continue
        rounds, rest = divmod(len(drawn), tensor.size)
        counts = np.bincount(drawn, minlength=tensor.size)
        assert len(counts) == tensor.size
        assert set(counts) <= {rounds, rounds + 1}
        assert np.count_nonzero(counts == rounds + 1) == rest


@settings(deadline=None, max_examples=60)
@given(sizes=shapes, count=st.integers(1, 80))
def test_every_tensor_has_its_share_each_time(sizes, count):
    tree = tree_of(sizes)
    rotation = Rotation(count, np.random.default_rng(0))
    for _ in range(3):
        for name, places in rotation.take(tree).items():
            size = tree[name].size
            assert min(1, size) <= len(places) <= size
            assert len(places) >= int(count * size / max(tree.size, 1)) or len(places) == size
            assert np.array_equal(places, np.unique(places))


@pytest.mark.parametrize("count", [8, 50, 300])
def test_a_sample_is_spread_over_the_tensor(count):
    tree = tree_of([7840])
    places = Rotation(count, np.random.default_rng(0)).take(tree)["[0]"]
    gaps = np.diff(np.append(places, places[0] + 7840))
    assert gaps.max() < 3 * 7840 / count


def test_a_sample_leaves_no_row_and_no_column_out_for_long():
    tree = ParamTree.from_user(np.zeros((16, 16)))
    rotation = Rotation(64, np.random.default_rng(0))
    for _ in range(4):
        rows, columns = np.unravel_index(rotation.take(tree)["params"], (16, 16))
        assert set(rows) == set(range(16))
        assert len(set(columns)) >= 12


def test_a_tensor_of_another_size_has_a_round_of_its_own():
    rotation = Rotation(5, np.random.default_rng(0))
    first = rotation.take(tree_of([10]))["[0]"]
    rotation.take(tree_of([12]))
    second = rotation.take(tree_of([10]))["[0]"]
    assert sorted([*first, *second]) == list(range(10))
