"""Text measured, shortened and wrapped in terminal columns; numbers in few characters."""

from __future__ import annotations

import pytest

from fastcheck.report.figures import count, duration, scientific, telling_digits
from fastcheck.report.layout import columns, head, pad, printable, shorten, shorten_apart, wrap


@pytest.mark.parametrize(
    ("text", "width"), [("W1", 2), ("θ", 1), ("重み", 4), ("e\u0301", 1), ("", 0)]
)
def test_width_is_counted_in_terminal_columns(text, width):
    assert columns(text) == width


def test_control_characters_are_written_as_escapes():
    assert printable("a\tb\x1b[0m\ud800") == "a\\tb\\x1b[0m\\ud800"


def test_padding_goes_to_either_side():
    assert pad("重", 4) + "|" + pad("1", 3, right=True) == "重  |  1"


def test_head_never_splits_a_wide_character():
    assert head("重み", 3) == "重"


@pytest.mark.parametrize(("width", "short"), [(8, "layers.W"), (7, "lay…s.W"), (2, "…W"), (1, "…")])
def test_shortening_keeps_both_ends(width, short):
    assert shorten("layers.W", width) == short


def test_names_that_differ_in_the_middle_stay_apart():
    assert shorten_apart(["layers[0].attention.W", "layers[1].attention.W"], 14) == (
        "layers[0…ion.W",
        "layers[1…ion.W",
    )


def test_names_that_differ_between_long_ends_keep_their_middle():
    names = [f"encoder.layers[{i}].self_attention.{part}.weight" for i in (0, 1) for part in "qk"]
    short = shorten_apart(names, 40)
    assert len(set(short)) == 4
    assert max(map(columns, short)) <= 40


def test_names_that_fit_are_left_alone():
    assert shorten_apart(["W", "x" * 30], 8)[0] == "W"


def test_wrapping_keeps_words_and_prefixes():
    assert wrap("one two three four", 10, "- ", "  ") == ["- one two", "  three", "  four"]


def test_wrapping_breaks_only_what_no_line_can_hold():
    assert wrap("a " + "x" * 12, 8, "", "  ") == ["a", "  xxxxxx", "  xxxxxx"]


def test_wrapping_nothing_is_one_empty_line():
    assert wrap("  \n ", 10, "  ") == [""]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.234e-3, "1.23e-3"),
        (-5.0, "-5.00e0"),
        (0.0, "0"),
        (-0.0, "0"),
        (1e-300, "1.00e-300"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_are_short(value, shown):
    assert scientific(value) == shown


@pytest.mark.parametrize(
    ("a", "b", "digits"),
    [(1.0, 2.0, 3), (1.0, 1.0001, 6), (1.0, 1.0, 3), (1e308, -1e308, 3), (5e-324, 0.0, 17)],
)
def test_digits_show_the_difference(a, b, digits):
    assert telling_digits(a, b) == digits


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "<1 ms"),
        (0.041, "41 ms"),
        (0.41, "0.41 s"),
        (9.999, "10.0 s"),
        (99.94, "99.9 s"),
        (125, "2.1 min"),
        (3599, "1 h"),
        (13680, "3.8 h"),
        (float("nan"), "–"),
    ],
)
def test_times_have_fitting_units(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 parameters"), (1, "1 parameter"), (7960, "7,960 parameters")]
)
def test_counts_agree_with_their_noun(number, said):
    assert count(number, "parameter") == said
