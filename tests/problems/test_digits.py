"""The embedded digits."""

from importlib import resources

import numpy as np
import pytest

from fastcheck.errors import InputError
from fastcheck.problems import load_digits


def test_all_digits_are_28_by_28_rows_between_0_and_1() -> None:
    images, labels = load_digits()
    assert images.shape == (500, 784)
    assert images.dtype == np.float64
    assert labels.dtype == np.int64
    assert images.min() == 0
    assert images.max() == 1


def test_classes_are_balanced_in_every_block_of_ten() -> None:
    _, labels = load_digits()
    assert (labels.reshape(50, 10) == np.arange(10)).all()


def test_most_pixels_are_exactly_zero() -> None:
    images, _ = load_digits()
    assert np.mean(images == 0) > 0.5


def test_enlarging_keeps_every_pixel_and_pads_with_black() -> None:
    small, _ = load_digits(8, 20)
    large, _ = load_digits(28, 20)
    pictures = large.reshape(20, 28, 28)
    np.testing.assert_array_equal(pictures[:, 2:26:3, 2:26:3].reshape(20, 64), small)
    border = pictures.copy()
    border[:, 2:26, 2:26] = 0
    assert not border.any()


def test_odd_padding_still_fills_the_size() -> None:
    images, _ = load_digits(11, 3)
    assert images.shape == (3, 121)


def test_two_reads_are_the_same_and_independent() -> None:
    first, _ = load_digits(8, 5)
    first[:] = -1
    second, _ = load_digits(8, 5)
    assert second.min() == 0


def test_a_digit_looks_like_itself() -> None:
    # A nearest-mean classifier fitted on one half reads 80% of the other, where chance is 10%: the
    # labels belong to the images.
    images, labels = load_digits(8)
    means = np.array([images[:250][labels[:250] == k].mean(axis=0) for k in range(10)])
    distances = ((images[250:, None] - means) ** 2).sum(axis=2)
    assert np.mean(distances.argmin(axis=1) == labels[250:]) > 0.7


def test_size_below_8_is_refused() -> None:
    with pytest.raises(InputError, match=r"`size` is 7; the digits are 8×8: ask for 8 or more"):
        load_digits(7)


@pytest.mark.parametrize("count", [0, 501])
def test_count_outside_the_set_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=rf"`count` is {count}; ask for 1 to 500 digits"):
        load_digits(count=count)


def test_the_licence_and_the_source_lie_beside_the_data() -> None:
    text = (resources.files("fastcheck.problems") / "data" / "LICENSE.md").read_text("utf-8")
    for fact in ("Alpaydin, E. & Kaynak, C.", "https://doi.org/10.24432/C50P49", "CC BY 4.0"):
        assert fact in text
