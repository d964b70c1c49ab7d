"""The demo: passes as it is, and finds every bug that it plants."""

import re
import struct
import time
from types import SimpleNamespace

import numpy as np
import pytest

import fastcheck
from fastcheck.cli import main
from fastcheck.commands import demo
from fastcheck.problems.bugs import BUGS
from fastcheck.report import Verdict

SMALL = ("demo", "--sizes", "64-10-10", "--batch", "32")


def test_the_default_demo_passes_all_parameters_in_well_under_30_seconds(capsys):
    start = time.perf_counter()
    assert main(["demo"]) == 0
    assert time.perf_counter() - start < 20
    out = capsys.readouterr().out
    assert "784-10-10" in out
    assert "15,920 forward passes" in out
    assert "The backward pass is right in all 7,960 parameters." in out


@pytest.mark.parametrize(("load", "said"), [(64.0, True), (0.0, False)])
def test_a_busy_machine_is_mentioned(capsys, monkeypatch, load, said):
    monkeypatch.setattr(demo, "usable_cores", lambda: 8)
    monkeypatch.setattr(demo.os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert main([*SMALL]) == 0
    assert ("This machine is busy" in capsys.readouterr().out) is said


@pytest.mark.parametrize("bug", BUGS)
def test_every_bug_is_found_where_it_was_planted(capsys, bug):
    assert main([*SMALL, "--bug", bug]) == 1
    out = capsys.readouterr().out
    assert BUGS[bug].description in out
    assert re.search(r"The planted bug is found: .*, exactly where it was planted\.", out)


def test_an_unknown_bug_ends_with_2_and_lists_the_known_ones(capsys):
    assert main(["demo", "--bug", "gremlin"]) == 2
    captured = capsys.readouterr()
    assert "`--bug`: there is no bug called 'gremlin'." in captured.err
    assert all(name in captured.err for name in BUGS)
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [("--bug", "list"), ("--bug",)])
def test_the_bugs_can_be_listed(capsys, arguments):
    assert main(["demo", *arguments]) == 0
    out = capsys.readouterr().out
    assert all(bug.description in out for bug in BUGS.values())


def test_a_bug_that_cannot_occur_in_the_network_ends_with_2(capsys):
    assert main(["demo", "--sizes", "64-10", "--batch", "16", "--bug", "missing-mask"]) == 2
    assert "changes nothing in this network" in capsys.readouterr().err


def test_json_holds_the_report(capsys, tmp_path):
    file = tmp_path / "demo.json"
    assert main([*SMALL, "--json", str(file)]) == 0
    assert fastcheck.Report.from_json(file.read_text()).passed


def test_inputs_that_are_no_image_are_random_numbers(capsys):
    assert main(["demo", "--sizes", "7-5-3", "--batch", "8"]) == 0
    assert "random noise" in capsys.readouterr().out


def test_data_that_is_not_there_ends_with_2(capsys, tmp_path):
    assert main(["demo", "--data", str(tmp_path / "mnist")]) == 2
    assert "`data`: there is no file or directory" in capsys.readouterr().err


def write_mnist(folder, count):
    """Write MNIST's two files with random contents."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, count, dtype=np.uint8)
    header = struct.pack(">IIII", 0x803, count, 28, 28)
    (folder / "train-images-idx3-ubyte").write_bytes(header + images.tobytes())
    (folder / "train-labels-idx1-ubyte").write_bytes(
        struct.pack(">II", 0x801, count) + labels.tobytes()
    )


def test_mnist_files_are_read(capsys, tmp_path):
    write_mnist(tmp_path, 40)
    assert main(["demo", "--data", str(tmp_path), "--batch", "8"]) == 0
    assert f"40 samples from {tmp_path}" in capsys.readouterr().out


def test_more_samples_than_the_files_hold_ends_with_2(capsys, tmp_path):
    write_mnist(tmp_path, 40)
    assert main(["demo", "--data", str(tmp_path), "--batch", "41"]) == 2
    captured = capsys.readouterr()
    assert "`batch` is 41 but `data` holds 40 samples" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0321, "32 ms"), (1.731, "1.73 s"), (31, "31 s"), (300, "5 min"), (13680, "3.8 h")],
)
def test_times_are_written_for_a_reader(seconds, text):
    assert demo.duration(seconds) == text


def test_the_ratio_admits_being_slower():
    assert demo.ratio(1.0, 4.0) == "4.0 times slower"
    assert demo.ratio(4.0, 1.0) == "4.0 times faster"
    assert demo.ratio(1.0, 1.01) == "about the same"


class TestClosingSentence:
    """What the demo says when the report is not the one that it expects."""

    def report(self, **verdicts):
        tensors = {
            name: SimpleNamespace(verdict=Verdict(verdict)) for name, verdict in verdicts.items()
        }
        worst = next((v for v in ("fail", "inconclusive") if v in verdicts.values()), "pass")
        failed = tuple(name for name, verdict in verdicts.items() if verdict == "fail")
        return SimpleNamespace(verdict=Verdict(worst), failed=failed, tensors=tensors)

    def test_a_bug_that_was_not_found_is_admitted(self):
        assert demo.closing(self.report(W1="pass"), ("W1",)) == (
            "The bug planted in W1 was not found."
        )

    def test_a_bug_found_elsewhere_is_told_from_where_it_was_planted(self):
        assert demo.closing(self.report(W1="fail", b1="pass"), ("W1", "b1")) == (
            "A bug is found in W1; it was planted in W1 and b1."
        )

    def test_an_unexpected_failure_is_named(self):
        assert demo.closing(self.report(W1="fail", b1="fail", W2="fail"), ()) == (
            "The backward pass is wrong in W1, b1 and W2."
        )

    def test_an_undecided_check_is_not_called_right(self):
        assert "could not decide" in demo.closing(self.report(W1="inconclusive"), ())
