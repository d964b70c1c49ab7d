"""The page that users read, line by line."""

from __future__ import annotations

import math
import re

import pytest

from fastcheck.report import Verdict, Worst
from fastcheck.report.layout import columns
from fastcheck.report.text import render

FAIL, INCONCLUSIVE = Verdict.FAIL, Verdict.INCONCLUSIVE
FOOTNOTE = (
    "relative error: ‖a−n‖ / (‖a‖+‖n‖) · resolution: the least relative error this check could see"
)
MEANS = (
    "central differences · engine replay · relative error 4.0e-11 overall · loss called 24 times"
)


def lines_of(report):
    return render(report).split("\n")


def body_of(report):
    """What follows the table."""
    text = render(report)
    _, _, rest = text.partition("\n" + FOOTNOTE)
    return rest.strip("\n").split("\n")


@pytest.fixture
def network(tensor):
    """The four tensors of 784-10-10."""
    return [
        tensor("W1", (10, 784), seconds=0.33),
        tensor("b1", (10, 1), relative_error=8e-12),
        tensor("W2", (10, 10), worst=Worst((3, 7), -0.05, -0.05, 1e-13)),
        tensor("b2", (10, 1), seconds=0.0002),
    ]


def test_a_passing_report_is_a_headline_and_a_table(report, network):
    assert lines_of(report(*network)) == [
        "PASS  7,960 of 7,960 parameters · 15,920 forward passes stood for · 0.41 s · loss 2.3026",
        MEANS,
        "",
        "                        relative              worst element",
        "tensor  shape   verdict    error  resolution  index     analytic   numeric    time",
        "──────────────────────────────────────────────────────────────────────────────────",
        "W1      10×784  pass     3.1e-11     2.1e-10  [9, 783]   1.23e-3   1.23e-3  0.33 s",
        "b1      10×1    pass     8.0e-12     2.1e-10  [9, 0]     1.23e-3   1.23e-3  0.10 s",
        "W2      10×10   pass     3.1e-11     2.1e-10  [3, 7]    -5.00e-2  -5.00e-2  0.10 s",
        "b2      10×1    pass     3.1e-11     2.1e-10  [9, 0]     1.23e-3   1.23e-3   <1 ms",
    ]


def test_a_failing_report_says_where_and_how_much(report, tensor):
    wrong = tensor(
        "W2",
        (10, 10),
        verdict=FAIL,
        relative_error=0.34,
        worst=Worst((3, 7), 1.2e-3, 6.1e-4, 2.1e-12),
        reason="In this tensor 37 of 100 elements differ by more than their error bars allow. "
        "The analytic gradient is about twice the numerical one.",
    )
    assert lines_of(report(tensor("W1", (10, 784)), wrong, loss_calls=1, relative_error=0.2)) == [
        "FAIL  7,940 of 7,940 parameters · 15,880 forward passes stood for · 0.41 s · loss 2.3026",
        "central differences · engine replay · relative error 2.0e-1 overall · loss called 1 time",
        "",
        "                        relative              worst element",
        "tensor  shape   verdict    error  resolution  index     analytic  numeric    time",
        "─────────────────────────────────────────────────────────────────────────────────",
        "W1      10×784  pass     3.1e-11     2.1e-10  [9, 783]   1.23e-3  1.23e-3  0.10 s",
        "W2      10×10   FAIL      3.4e-1     2.1e-10  [3, 7]     1.20e-3  6.10e-4  0.10 s",
        FOOTNOTE,
        "",
        "W2 [3, 7]: analytic 1.20e-3, numeric 6.10e-4 ± 2e-12 (ratio 1.97)",
        "  In this tensor 37 of 100 elements differ by more than their error bars allow. "
        "The analytic",
        "  gradient is about twice the numerical one.",
    ]


def test_an_inconclusive_report_says_why(report, tensor):
    vague = tensor(
        "b2",
        (10,),
        verdict=INCONCLUSIVE,
        resolution=0.3,
        worst=Worst((4,), 1e-17, math.nan, math.inf),
        reason="The error bars are a third of the gradient. "
        "Check where the gradient is larger, such as at the initial parameters.",
    )
    assert lines_of(report(vague)) == [
        "INCONCLUSIVE  10 of 10 parameters · 20 forward passes stood for · 0.41 s · loss 2.3026",
        MEANS,
        "",
        "                            relative              worst element",
        "tensor  shape  verdict         error  resolution  index  analytic  numeric    time",
        "──────────────────────────────────────────────────────────────────────────────────",
        "b2      10     inconclusive  3.1e-11      3.0e-1  [4]    1.00e-17      nan  0.10 s",
        FOOTNOTE,
        "",
        "b2: inconclusive. The error bars are a third of the gradient. "
        "Check where the gradient is larger,",
        "  such as at the initial parameters.",
    ]


def test_str_of_a_report_is_the_page_without_colour(report, network):
    assert str(report(*network)) == render(report(*network), colour=False)


def test_colour_changes_nothing_but_colour(report, tensor):
    mixed = report(
        tensor("W", notes=("A note.",)),
        tensor("V", verdict=FAIL, reason="Wrong."),
        tensor("U", verdict=INCONCLUSIVE, reason="Unclear."),
    )
    coloured = render(mixed, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render(mixed)


@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.PASS, "1;32"), (FAIL, "1;31"), (INCONCLUSIVE, "1;33")]
)
def test_the_verdict_has_its_colour(report, tensor, verdict, code):
    coloured = render(report(tensor(verdict=verdict)), colour=True)
    assert coloured.startswith(f"\x1b[{code}m{verdict.value.upper()}\x1b[0m  7,840 of")


def test_a_sample_shows_how_many_were_checked(report, tensor):
    lines = lines_of(report(tensor("W1", checked=100), tensor("b1", (10,))))
    assert lines[0].startswith("PASS  110 of 7,850 parameters · 220 forward passes stood for")
    assert lines[4].split()[:4] == ["tensor", "shape", "verdict", "checked"]
    assert [line.split()[3] for line in lines[6:]] == ["100", "10"]


def test_mixed_engines_have_a_column_and_a_reason(report, tensor):
    looped = tensor(
        "b", (3,), engine="loop", engine_reason="np.linalg.svd is not traced (net.py, line 12)."
    )
    text = render(report(tensor("W", (2, 3)), looped))
    assert "engine replay" not in text
    assert [line.split()[-3] for line in text.split("\n")[6:8]] == ["replay", "loop"]
    assert text.endswith(
        "\n\nNotes\n  b by the loop engine: np.linalg.svd is not traced (net.py, line 12)."
    )


def test_the_reason_for_a_usual_engine_is_not_shown(report, tensor):
    assert "cheap" not in render(report(tensor(engine_reason="The slice is cheap.")))


def test_a_pass_between_rounding_errors_says_why_its_relative_error_is_large(report, tensor):
    bias = tensor("b", (3,), relative_error=1.0, reason="Both gradients are zero to rounding.")
    assert "b: Both gradients are zero to rounding." in render(report(tensor("W"), bias))


def test_one_sentence_about_many_tensors_is_said_once(report, tensor):
    zeros = [
        tensor(f"b{i}", (3,), relative_error=0.0, reason="Both gradients are zero.")
        for i in range(60)
    ]
    text = render(report(tensor("W"), *zeros))
    assert text.endswith("\n  b0, b1, b2, b3, b4, b5 and 54 more: Both gradients are zero.")
    assert text.count("Both gradients") == 1


def test_what_holds_for_every_tensor_says_so(report, tensor):
    reason = {"engine": "loop", "engine_reason": "You asked for it."}
    text = render(report(tensor("W", **reason), tensor("b", **reason)))
    assert text.endswith("\n  every tensor by the loop engine: You asked for it.")


def test_the_reason_of_an_ordinary_pass_is_not_shown(report, tensor):
    assert "agree" not in render(report(tensor(reason="All elements agree.")))


def test_a_tensor_of_which_nothing_was_checked_has_no_figures(report, tensor):
    empty = tensor(
        "E", (0, 3), worst=None, relative_error=0.0, resolution=0.0, reason="It has no elements."
    )
    text = render(report(empty))
    row = text.split("\n")[6]
    assert row.split() == ["E", "0×3", "pass", "–", "–", "–", "–", "–", "0.10", "s"]
    assert text.endswith("\n  E: It has no elements.")


def test_notes_of_the_report_come_first_and_once(report, tensor):
    notes = ("Parameters are float32.", "Parameters are float32.")
    text = render(report(tensor(notes=("It moved.",)), notes=notes))
    assert text.endswith("\n\nNotes\n  Parameters are float32.\n  W1: It moved.")


def test_empty_notes_are_not_shown(report, tensor):
    assert "Notes" not in render(report(tensor(notes=(" ",)), notes=("",)))


def test_a_scalar_parameter_reads_naturally(report, tensor):
    wrong = tensor("theta", (), verdict=FAIL, worst=Worst((), 2.0, 4.0, 1e-9))
    lines = lines_of(report(wrong))
    assert lines[0].startswith("FAIL  1 of 1 parameter · 2 forward passes")
    assert lines[6].startswith("theta   scalar  FAIL     3.1e-11     2.1e-10  [()]")
    assert lines[-1] == "theta: analytic 2.00e0, numeric 4.00e0 ± 1e-9 (ratio 0.500)"


@pytest.mark.parametrize(
    ("worst", "said"),
    [
        (
            Worst((0,), 1.0001, 1.0, 1e-9),
            "analytic 1.00010e0, numeric 1.00000e0 ± 1e-9 (ratio 1.00010)",
        ),
        (Worst((0,), -0.5, 0.5, 0.0), "analytic -5.00e-1, numeric 5.00e-1 ± 0 (ratio -1.00)"),
        (Worst((0,), 0.0, 0.25, 1e-9), "analytic 0, numeric 2.50e-1 ± 1e-9 (ratio 0)"),
        (Worst((0,), 128.0, 1e-3, 1e-9), "analytic 1.28e2, numeric 1.00e-3 ± 1e-9 (ratio 1.28e5)"),
        (Worst((0,), 1e-3, 1e-11, 1e-9), "analytic 1.00e-3, numeric 1.00e-11 ± 1e-9"),
        (Worst((0,), math.nan, 0.5, 1e-9), "analytic nan, numeric 5.00e-1 ± 1e-9"),
        (Worst((0,), math.inf, -math.inf, math.nan), "analytic inf, numeric -inf ± nan"),
        (
            Worst((0,), 1e-300, 2e-300, 0.0),
            "analytic 1.00e-300, numeric 2.00e-300 ± 0 (ratio 0.500)",
        ),
    ],
)
def test_the_failing_element_has_the_digits_that_tell(report, tensor, worst, said):
    wrong = tensor("v", (4,), verdict=FAIL, worst=worst)
    assert body_of(report(wrong)) == [f"v [0]: {said}"]


def test_a_failure_without_a_worst_element_gives_its_reason(report, tensor):
    wrong = tensor("v", (4,), verdict=FAIL, worst=None, reason="The overall scale is off.")
    assert body_of(report(wrong)) == ["v: The overall scale is off."]


def test_failures_come_before_open_questions(report, tensor):
    body = body_of(
        report(
            tensor("a", (2,), verdict=INCONCLUSIVE, reason="Unclear."),
            tensor("b", (2,), verdict=FAIL, worst=None, reason="Wrong."),
        )
    )
    assert body == ["b: Wrong.", "", "a: inconclusive. Unclear."]


def test_long_names_that_share_both_ends_stay_apart(report, tensor):
    names = [f"encoder.transformer.layers[{i}].attention.projection.W" for i in range(10)]
    lines = lines_of(report(*(tensor(name) for name in names)))
    assert len({line.split()[0] for line in lines[6:]}) == 10


def test_a_failing_tensor_is_named_in_full(report, tensor):
    name = "encoder.transformer.layers[0].attention.projection.W"
    assert f"\n{name} [1, 2]: " in render(
        report(tensor(name, verdict=FAIL, worst=Worst((1, 2), 1.0, 2.0, 0.0)))
    )


def test_line_breaks_in_a_reason_are_wrapped_away(report, tensor):
    vague = tensor("v", verdict=INCONCLUSIVE, reason="One.\n\n   Two.")
    assert body_of(report(vague)) == ["v: inconclusive. One. Two."]


def test_a_name_cannot_drive_the_terminal(report, tensor):
    text = render(report(tensor("W\x1b[31m\n\ud800", verdict=FAIL)))
    assert "\x1b" not in text
    assert "W\\x1b[31m\\n\\ud800" in text
    text.encode("utf-8")


def test_wide_characters_keep_the_table_aligned(report, tensor):
    lines = lines_of(report(tensor("重み", (2,)), tensor("θ", (2,))))
    assert columns(lines[6]) == columns(lines[7]) == columns(lines[5])


def test_a_narrow_page_is_narrow(report, network):
    assert max(map(columns, render(report(*network), width=80).split("\n"))) <= 80


def test_forward_differences_are_said(report, tensor):
    assert lines_of(report(tensor(), method="forward"))[1].startswith("forward differences · ")


def test_a_report_without_tensors_is_its_headline(report):
    assert lines_of(report(loss_calls=0)) == [
        "PASS  0 of 0 parameters · 0 forward passes stood for · 0.41 s · loss 2.3026",
        "central differences · relative error 4.0e-11 overall · loss called 0 times",
    ]


def test_reasons_that_differ_only_in_name_and_figures_are_said_once(report, tensor):
    def moved(name, change):
        reason = f"the cross-check failed: moving all of {name} changes the loss by {change}"
        return tensor(name, (3,), engine="loop", engine_reason=reason)

    text = render(report(moved("W1", "-1.5e-07"), moved("b1", "2.25"), tensor("c", (3,))))
    assert text.count("the cross-check failed") == 1
    assert "W1, b1 by the loop engine: the cross-check failed: moving all of W1" in text


def test_reasons_that_point_to_different_lines_are_said_apart(report, tensor):
    def read(name, line):
        reason = f"a number is made of {name} (/net.py:{line})"
        return tensor(name, (3,), engine="loop", engine_reason=reason)

    text = render(report(read("W1", 12), read("b1", 12), read("W2", 30)))
    assert text.count("a number is made of") == 2
    assert "W1, b1 by the loop engine" in text
