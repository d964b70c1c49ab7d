"""The benchmarks run from the project's root, so that folder goes on the path here."""

import json
import sys
from pathlib import Path

import pytest

# At the end: an installed fastcheck comes before the one in this folder.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import harness
from benchmarks.__main__ import main


class Clock:
    """Time that passes only when told so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def worker(self, name, seconds, log):
        def run():
            log.append(name)
            self.now += seconds
            return f"outcome of {name}"

        return harness.Contender(name, run)


@pytest.fixture
def race():
    clock, log = Clock(), []
    contenders = [clock.worker("a", 4.0, log), clock.worker("b", 1.0, log)]
    return harness.interleave(contenders, repeats=3, clock=clock), log


def test_contenders_take_turns_and_the_first_changes(race):
    _, log = race
    assert log == ["a", "b", "a", "b", "b", "a", "a", "b"]


def test_the_warming_round_is_kept_apart(race):
    (a, b), _ = race
    assert (a.first, a.seconds) == (4.0, (4.0, 4.0, 4.0))
    assert b.outcome == "outcome of b"


def test_the_ratio_is_taken_round_by_round():
    slow = harness.Timing("slow", 0.0, (4.0, 10.0, 6.0))
    fast = harness.Timing("fast", 0.0, (1.0, 2.0, 3.0))
    assert harness.ratio(slow, fast) == harness.Ratio(median=4.0, low=2.0, high=5.0)


def test_a_timing_gives_median_and_range():
    timing = harness.Timing("x", 9.0, (3.0, 1.0, 2.0))
    assert (timing.median, timing.low, timing.high) == (2.0, 1.0, 3.0)
    assert timing.to_dict()["seconds"] == [3.0, 1.0, 2.0]


def test_the_environment_names_machine_versions_and_date():
    machine = harness.environment()
    assert {"date", "cpu", "cores", "python", "numpy", "numba"} <= machine.keys()
    assert machine["cpu"] in harness.describe(machine)


def test_a_table_lines_its_columns_up():
    assert harness.table(("way", "time"), [("loop", "1.2 s"), ("replay", "30 ms")]) == (
        "way      time\n─────────────\nloop    1.2 s\nreplay  30 ms"
    )


def test_results_are_saved_with_their_environment(tmp_path):
    file = harness.save("some", {"cpu": "x"}, {"batch": 3}, [{"name": "loop"}], tmp_path)
    assert file == tmp_path / "some.json"
    assert json.loads(file.read_text()) == {
        "schema": 1,
        "benchmark": "some",
        "environment": {"cpu": "x"},
        "settings": {"batch": 3},
        "results": [{"name": "loop"}],
    }


def test_the_naive_benchmark_shows_every_way_with_error_and_ratio(capsys):
    assert main(["naive", "--sizes", "20-5-3", "--batch", "8", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "20-5-3, M = 8, float64, step 1e-06: 123 parameters, 246 forward passes" in out
    for way in ("naive loop", "fastcheck, loop", "fastcheck, replay", "fastcheck.check"):
        assert way in out


def test_the_naive_benchmark_saves_its_rows(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(harness.save, "__defaults__", (tmp_path,))
    main(["naive", "--sizes", "20-5-3", "--batch", "8", "--repeats", "1", "--save"])
    saved = json.loads((tmp_path / "naive.json").read_text())
    errors = {row["name"]: row["relative_error"] for row in saved["results"]}
    assert errors["fastcheck, replay"] < 1e-9
    assert errors["naive loop"] < 1e-6
    assert saved["results"][0]["times_faster"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert saved["settings"]["sizes"] == [20, 5, 3]


def test_bad_arguments_end_with_2(capsys):
    assert main(["naive", "--sizes", "20-5-3", "--batch", "0", "--repeats", "1"]) == 2
    assert "benchmarks: `batch` is 0" in capsys.readouterr().err
