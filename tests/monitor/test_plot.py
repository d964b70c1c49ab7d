"""The page of a training, and the sentence on top of it."""

import builtins
import math
import random
import re
import sys

import pytest

from fastcheck.errors import InputError
from fastcheck.monitor import plot
from fastcheck.monitor.plot import plot_history
from fastcheck.monitor.record import Record
from fastcheck.monitor.summary import details, runs, sentence
from fastcheck.report.data import Verdict

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def record(step=0, verdict=PASS, difference=3e-9, bar=8e-9, **values):
    plain = {
        "mode": "full",
        "loss": 2.5,
        "smallest_gradient": 1e-7,
        "largest_gradient": 0.1,
        "tensors": {"W1": verdict, "b1": PASS},
        "compared": 7960,
        "seconds": 0.05,
        "training_seconds": 1.5,
        "share": 0.031,
    }
    numbers = {"relative_difference": difference, "error_bar": bar}
    return Record(step=step, verdict=verdict, **{**plain, **numbers, **values})


def training(count=50):
    return [record(10 * n, loss=2 * 0.9**n) for n in range(count)]


def rising(count=250):
    """A right gradient that shrinks, as in the training of the first source system."""
    shrunk = [math.exp(-n / 60) for n in range(count)]
    return [
        record(n, difference=3e-9 / g**2, bar=9e-9 / g**2, loss=g, largest_gradient=g)
        for n, g in enumerate(shrunk)
    ]


def broken(at=500, note="W1 is 2 times too large."):
    return [
        record(n, FAIL, 0.5, notes=(note,)) if n >= at else record(n) for n in range(0, 1000, 10)
    ]


def budgeted():
    return [
        record(0),
        record(1, mode="sample", compared=20),
        record(2, mode="sample", compared=99),
        record(3, mode="directions", compared=1, share=math.nan),
    ]


class TestSentence:
    def test_a_right_training(self):
        assert sentence(training()) == (
            "The gradient is right at all 50 checks; "
            "the relative difference never exceeds its error bar."
        )

    def test_a_difference_that_rises_within_its_error_bar_is_the_checks(self):
        assert re.fullmatch(
            r"The gradient is right at all 250 checks; the relative difference rises from \S+ to "
            r"\S+ but stays within its error bar: the check's own error explains it\.",
            sentence(rising()),
        )

    def test_a_difference_beyond_its_error_bar_is_not_explained_away(self):
        records = [*rising(), record(250, difference=1e-4, bar=1e-9)]
        said = sentence(records)
        assert "error bar" not in said
        assert said.endswith("the relative difference is at most 1.0e-4, within tolerance.")

    def test_a_planted_bug_is_said_with_its_first_step_its_tensors_and_its_cause(self):
        assert sentence(broken()) == (
            "FAIL from step 500 on (right at step 490), in W1: W1 is 2 times too large."
        )

    def test_a_bug_that_was_there_from_the_beginning(self):
        assert sentence(broken(at=0)) == "FAIL at all 100 checks, in W1: W1 is 2 times too large."

    def test_a_bug_that_comes_and_goes(self):
        records = [record(n, FAIL if n % 10 == 3 else PASS) for n in range(40)]
        assert sentence(records) == (
            "FAIL at 4 of 40 checks, first at step 3 (right at step 2), in W1."
        )

    def test_a_last_check_that_fails_is_not_called_a_stretch(self):
        records = [*training(3), record(30, FAIL, tensors={})]
        assert sentence(records) == "FAIL at step 30, one of 4 checks (right at step 20)."

    def test_many_failing_tensors_are_counted(self):
        names = {f"W{n}": FAIL for n in range(30)}
        assert "in W0, W1 and 28 more tensors." in sentence([record(0, FAIL, tensors=names)])

    def test_one_undecided_check_takes_the_word_right_away(self):
        said = sentence([*training(9), record(90, INCONCLUSIVE, notes=("Too much noise.",))])
        assert said == (
            "No error found: 9 of 10 checks pass and 1 could not decide, first at step 90: "
            "Too much noise."
        )

    def test_undecided_checks_alone(self):
        assert sentence([record(0, INCONCLUSIVE)] * 2) == "None of the 2 checks could decide."
        assert sentence([record(7, INCONCLUSIVE)]) == "The one check, step 7, could not decide."

    def test_a_failure_outweighs_what_is_undecided(self):
        assert sentence([record(0, INCONCLUSIVE), record(1, FAIL)]).startswith("FAIL at step 1")

    @pytest.mark.parametrize("mode", ["sample", "directions"])
    def test_a_sample_that_passes_is_not_called_right(self, mode):
        records = [*training(3), record(30, mode=mode)]
        assert sentence(records).startswith("The gradient passes all 4 checks; ")

    def test_one_check(self):
        assert sentence([record(0)]) == (
            "The gradient is right at the one check, step 0; "
            "the relative difference is within its error bar."
        )

    def test_no_difference_at_all(self):
        assert sentence([record(0, difference=math.nan)] * 2) == (
            "The gradient is right at all 2 checks."
        )

    def test_the_details_say_what_was_compared_and_the_price(self):
        assert details(training()) == (
            "50 checks, steps 0 to 490 · all 7,960 elements each · 2.50 s of checking · "
            "3.1% of the training's time"
        )

    def test_the_details_of_a_budget_say_every_mode(self):
        assert details(budgeted()) == (
            "4 checks, steps 0 to 3 · 1 of all 7,960 elements, 2 of 20 to 99 sampled elements, "
            "1 of 1 random direction each · 0.20 s of checking"
        )

    def test_trainings_in_one_file_are_told_apart(self):
        steps = [0, 10, 20, 10, 20, 0]
        assert [len(run) for run in runs([record(step) for step in steps])] == [3, 2, 1]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Plot records and return the figure, whose contents can be looked at."""
    figures = []
    draw = plot._draw

    def keep(figure, records):
        figures.append(figure)
        draw(figure, records)

    monkeypatch.setattr(plot, "_draw", keep)

    def plotted(records):
        plot_history(records, tmp_path / "page.png")
        return figures[-1]

    pytest.importorskip("matplotlib")
    return plotted


def markers(figure):
    """Return the relative differences that are drawn, by label."""
    axes = figure.axes[1]
    return [len(dots.get_offsets()) for dots in axes.collections if dots.get_zorder() >= 4]


HOSTILE = {
    "one check": [record(0)],
    "one failing check": [record(3, FAIL, 0.5)],
    "zeros": [
        record(
            n,
            difference=0.0,
            bar=0.0,
            loss=0.0,
            smallest_gradient=0.0,
            largest_gradient=0.0,
        )
        for n in range(3)
    ],
    "NaN": [
        record(
            n,
            FAIL,
            difference=math.nan,
            bar=math.nan,
            loss=math.nan,
            smallest_gradient=math.nan,
            largest_gradient=math.nan,
            share=math.nan,
            seconds=math.nan,
        )
        for n in range(3)
    ],
    "infinities": [
        record(
            n, FAIL, difference=math.inf, bar=math.inf, loss=-math.inf, largest_gradient=math.inf
        )
        for n in range(2)
    ],
    "the ends of the numbers": [
        record(0, difference=5e-324, bar=1e308, loss=1.7e308, smallest_gradient=5e-324),
        record(1, difference=1e308, bar=5e-324, loss=-1.7e308, largest_gradient=1.7e308),
    ],
    "a mixture": [
        record(0, difference=0.0),
        record(1, FAIL, math.nan, loss=math.nan),
        record(2, INCONCLUSIVE, math.inf),
        record(3),
    ],
    "several trainings": [*training(5), *training(3)],
    "steps far apart": [record(0), record(10**15)],
    "text that is no formula": [record(0, FAIL, notes=("$W_{1$ \\frac is wrong % # & ~",))],
    "a long story": [record(0, FAIL, notes=("why " * 500,))],
}


class TestPage:
    @pytest.mark.parametrize("records", HOSTILE.values(), ids=HOSTILE)
    @pytest.mark.filterwarnings("error")
    def test_anything_can_be_drawn(self, records, tmp_path, drawn):
        drawn(records)
        page = (tmp_path / "page.png").read_bytes()
        assert page.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(page) > 10_000

    @pytest.mark.parametrize("records", HOSTILE.values(), ids=HOSTILE)
    def test_every_check_has_its_marker(self, records, drawn):
        assert sum(markers(drawn(records))) == len(records)

    def test_three_panels_share_their_steps(self, drawn):
        loss, difference, gradient = drawn(training()).axes
        assert loss.get_xlim() == difference.get_xlim() == gradient.get_xlim()
        assert gradient.get_xlabel() == "training step"
        assert [axes.get_yscale() for axes in (difference, gradient)] == ["log", "log"]

    def test_a_loss_that_falls_far_is_on_a_logarithmic_scale(self, drawn):
        assert drawn(rising()).axes[0].get_yscale() == "linear"
        assert drawn([record(0, loss=1.0), record(1, loss=1e-3)]).axes[0].get_yscale() == "log"
        assert drawn([record(0, loss=1.0), record(1, loss=0.0)]).axes[0].get_yscale() == "linear"

    def test_the_title_answers_the_question(self, drawn):
        figure = drawn(broken())
        assert figure.get_suptitle().replace("\n", " ") == sentence(broken())
        assert figure.axes[0].get_title(loc="left") == details(broken())

    def test_verdicts_differ_in_their_markers_not_in_colour_alone(self, drawn):
        records = [record(0), record(1, FAIL), record(2, INCONCLUSIVE)]
        entries = drawn(records).axes[1].get_legend().legend_handles
        shapes = {one.get_marker() for one in entries if hasattr(one, "get_marker")}
        assert len(shapes) == 3

    def test_failing_steps_are_shaded_and_named_in_every_panel(self, drawn):
        figure = drawn(broken())
        for axes in figure.axes:
            (shade,) = axes.patches
            assert (shade.get_x(), shade.get_width()) == (500, 490)
        assert "fails: step 500" in [text.get_text() for text in figure.axes[0].texts]
        assert not any(axes.patches for axes in drawn(training()).axes)

    def test_the_error_bar_is_an_area_up_to_its_value(self, drawn):
        axes = drawn([record(0, bar=1e-8), record(1, bar=1e-5)]).axes[1]
        corners = axes.collections[0].get_paths()[0].vertices
        assert {tuple(corner) for corner in corners} >= {(0.0, 1e-8), (1.0, 1e-5)}
        assert corners[:, 1].min() == axes.get_ylim()[0]

    def test_what_has_no_place_on_the_axis_is_explained(self, drawn):
        def notes(records):
            return [text.get_text() for text in drawn(records).axes[1].texts]

        assert notes(training()) == []
        assert notes([record(0, difference=0.0)]) == ["on the lower edge: 0"]
        assert notes([record(0, difference=math.nan)]) == ["on the upper edge: NaN or infinite"]

    def test_no_text_overlaps_another_or_leaves_the_page(self, drawn):
        story = HOSTILE["a long story"]
        for records in (training(), broken(), rising(), story, broken(at=990), budgeted() * 20):
            figure = drawn(records)
            boxes = [box for box in texts(figure) if box.width]
            page = figure.bbox
            for n, box in enumerate(boxes):
                assert page.x0 <= box.x0
                assert box.x1 <= page.x1
                assert not any(overlap(box, other) for other in boxes[:n])

    def test_thousands_of_checks_take_seconds_at_most(self, drawn):
        draw = random.Random(0).lognormvariate
        records = [record(n, difference=draw(-20, 1), bar=draw(-17, 0.3)) for n in range(5000)]
        assert sum(markers(drawn(records))) == 5000

    def test_the_style_of_the_user_is_neither_used_nor_changed(self, tmp_path):
        matplotlib = pytest.importorskip("matplotlib")
        plot_history(training(), tmp_path / "a.png")
        with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 40}):
            before = dict(matplotlib.rcParams)
            plot_history(training(), tmp_path / "b.png")
            assert dict(matplotlib.rcParams) == before
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_pyplot_and_its_windows_are_left_alone(self, tmp_path):
        pytest.importorskip("matplotlib")
        loaded = "matplotlib.pyplot" in sys.modules
        plot_history(training(), tmp_path / "a.png")
        assert loaded or "matplotlib.pyplot" not in sys.modules


def texts(figure):
    """Return the boxes of all texts of a page, in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()
    drawn = [figure._suptitle]
    for axes in figure.axes:
        drawn += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        drawn += labels(axes.yaxis)
        drawn += axes.get_legend().get_texts() if axes.get_legend() else []
    drawn += labels(figure.axes[-1].xaxis)
    return [text.get_window_extent() for text in drawn if text.get_text() and text.get_visible()]


def labels(axis):
    """Return the labels of the ticks in view; there are some beyond it."""
    low, high = axis.get_view_interval()
    ticks = zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
    return [text for place, text in ticks if low <= place <= high]


def overlap(one, other):
    return min(one.x1, other.x1) - max(one.x0, other.x0) > 1 and (
        min(one.y1, other.y1) - max(one.y0, other.y0) > 1
    )


class TestFile:
    @pytest.mark.parametrize(
        ("name", "start"),
        [("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.svg", b"<?xml"), ("a", b"\x89PNG")],
    )
    def test_the_ending_of_the_name_is_the_format(self, tmp_path, name, start):
        pytest.importorskip("matplotlib")
        assert plot_history(training(3), tmp_path / name) == tmp_path / name
        assert (tmp_path / name).read_bytes().startswith(start)

    def test_an_unknown_ending_is_refused(self, tmp_path):
        pytest.importorskip("matplotlib")
        with pytest.raises(InputError, match=r"ends in '\.xyz', which is no format of a plot"):
            plot_history(training(3), tmp_path / "a.xyz")

    def test_no_records_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="`records` is empty"):
            plot_history([], tmp_path / "a.png")

    def test_a_folder_that_is_not_there_is_refused(self, tmp_path):
        pytest.importorskip("matplotlib")
        with pytest.raises(InputError, match=r"a\.png cannot be written \(No such file"):
            plot_history(training(3), tmp_path / "none" / "a.png")

    def test_without_matplotlib_the_remedy_is_named(self, tmp_path, monkeypatch):
        real = builtins.__import__

        def absent(name, *rest):
            if name.split(".")[0] == "matplotlib":
                raise ModuleNotFoundError(f"No module named {name!r}")
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", absent)
        with pytest.raises(InputError, match=r"pip install 'fastcheck\[plot\]'"):
            plot_history(training(3), tmp_path / "a.png")
