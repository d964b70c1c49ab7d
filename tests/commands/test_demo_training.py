"""``fastcheck demo training``: right, with the bug, and what is refused."""

import pytest

import fastcheck
from fastcheck.cli import main
from fastcheck.commands import demo_training
from fastcheck.problems import training
from fastcheck.report import Verdict

SMALL = ("demo", "training", "--sizes", "64-10-10", "--batch", "32")


@pytest.fixture(autouse=True)
def affordable(monkeypatch):
    """Steps this small earn too little for a budget of one percent."""
    monkeypatch.setattr(demo_training, "BUDGET", 0.2)
    monkeypatch.setattr(training, "SIZES", (64, 10, 10))


def test_the_right_training_passes(capsys):
    assert main([*SMALL]) == 0
    out = capsys.readouterr().out
    assert "Training a 64-10-10 network under a monitor" in out
    assert "| PASS |" in out
    assert "FAIL" not in out
    assert "A planted error of 1% would have been noticed" in out


def test_the_bug_is_found_after_it_began(capsys):
    assert main([*SMALL, "--bug", demo_training.BUG]) == 1
    out = capsys.readouterr().out
    assert training.ALIASED in out
    assert "The bug, which began at step 500, is caught at step" in out
    assert "the first check after it." in out


def test_the_bug_can_be_listed(capsys):
    assert main(["demo", "training", "--bug"]) == 0
    assert demo_training.BUG in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bug", "scale"), "there is no bug called 'scale'"),
        (("--data", "mnist"), "`--data`"),
        (("--precision", "float32"), "`--precision`"),
    ],
)
def test_what_does_not_apply_ends_with_2(capsys, options, message):
    assert main([*SMALL, *options]) == 2
    assert message in capsys.readouterr().err


def test_the_record_is_written_as_lines_of_json(capsys, tmp_path):
    file = tmp_path / "run.jsonl"
    assert main([*SMALL, "--json", str(file)]) == 0
    records = fastcheck.read_jsonl(file)
    assert records
    assert {one.verdict for one in records} == {Verdict.PASS}


def test_a_bug_that_was_not_found_is_admitted():
    assert demo_training.closing([], planted=True).startswith("No check could be afforded")
    found = fastcheck.Record(
        step=700,
        verdict=Verdict.PASS,
        mode="directions",
        loss=1.0,
        relative_difference=0.0,
        error_bar=1e-6,
        smallest_gradient=1e-3,
        largest_gradient=1.0,
        tensors={},
        compared=1,
        seconds=1e-3,
        training_seconds=1.0,
        share=1e-3,
    )
    assert demo_training.closing([found], planted=True).endswith("was not found.")
