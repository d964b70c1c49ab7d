"""The benchmarks run from the project's root, so that folder goes on the path here."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

# At the end: an installed fastcheck comes before the one in this folder.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import cold, machine, naive, passes, plots, results, scaling, tables, timing, ways
from benchmarks.__main__ import main
from benchmarks.cases import Case, sample
from benchmarks.peers import benchmark as peers
from benchmarks.peers.base import Task, best_chunk
from benchmarks.plain import Exercise
from fastcheck import FastcheckError
from fastcheck.commands.naive import to_vector

SMALL = Case(sizes=(12, 5, 3), batch=8)


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

        return timing.Contender(name, run)


@pytest.fixture
def race():
    clock, log = Clock(), []
    contenders = [clock.worker("a", 4.0, log), clock.worker("b", 1.0, log)]
    return timing.interleave(contenders, repeats=3, clock=clock), log


def test_contenders_take_turns_and_the_first_changes(race):
    _, log = race
    assert log == ["a", "b", "a", "b", "b", "a", "a", "b"]


def test_the_warming_round_is_kept_apart(race):
    (a, b), _ = race
    assert (a.first, a.seconds) == (4.0, (4.0, 4.0, 4.0))
    assert b.outcome == "outcome of b"


def test_the_ratio_is_taken_round_by_round():
    slow = timing.Timing("slow", 0.0, (4.0, 10.0, 6.0))
    fast = timing.Timing("fast", 0.0, (1.0, 2.0, 3.0))
    assert timing.ratio(slow, fast) == timing.Ratio(median=4.0, low=2.0, high=5.0)


def test_a_timing_gives_median_and_range():
    taken = timing.Timing("x", 9.0, (3.0, 1.0, 2.0))
    assert (taken.median, taken.low, taken.high) == (2.0, 1.0, 3.0)
    assert taken.to_dict()["seconds"] == [3.0, 1.0, 2.0]
    assert not taken.extrapolated


def test_a_sample_is_extrapolated_from_its_median_piece():
    clock = Clock()

    def piece(k):
        clock.now += (1.0, 100.0, 2.0)[k]  # the stall in the middle counts for one piece only
        return float(k)

    (taken,) = timing.interleave([timing.Sampled("s", piece, 3, 50)], repeats=1, clock=clock)
    assert (taken.seconds, taken.extrapolated) == ((100.0,), True)
    assert taken.outcome.tolist() == [0.0, 1.0, 2.0]
    assert taken.to_dict()["timed"] == 3


def test_a_table_lines_its_columns_up():
    assert tables.table(("way", "time"), [("loop", "1.2 s"), ("replay", "30 ms")]) == (
        "way      time\n─────────────\nloop    1.2 s\nreplay  30 ms"
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "12.3 ms"), (1.5, "1.5 s"), (98.76, "98.8 s"), (1234.5, "1,234 s")]
)
def test_times_are_written_with_three_digits(value, text):
    assert tables.seconds(value) == text


def test_factors_are_written_without_exponents():
    ratio = {"median": 16543.2, "low": 12.34, "high": 999.9}
    assert tables.factor(ratio) == "16,543 (12.3 – 1,000)"


def test_the_environment_names_machine_versions_and_date():
    here = machine.environment()
    named = {"date", "cpu", "cores", "load_average", "python", "numpy", "numba", "llvmlite"}
    assert named | {"scipy", "torch", "jax"} <= here.keys()
    assert here["cpu"] in machine.describe(here)


def test_a_busy_machine_is_waited_for():
    loads, slept = [3.0, 1.5, 0.4], []
    machine.settle(60, load=lambda: loads.pop(0), sleep=slept.append)
    assert (loads, len(slept)) == ([], 2)


def test_a_machine_that_stays_busy_is_refused():
    with pytest.raises(FastcheckError, match=r"load average is 3\.00.*--force"):
        machine.settle(10, load=lambda: 3.0, sleep=lambda _: None)


def test_nothing_is_measured_for_a_plot_that_cannot_be_drawn(monkeypatch, capsys):
    monkeypatch.setattr(results, "find_spec", lambda name: None)
    assert main(["naive", "--quick", "--save"]) == 2
    assert "pip install 'fastcheck[bench]'" in capsys.readouterr().err


def test_results_are_saved_with_their_environment(tmp_path):
    file = results.save("some", {"cpu": "x"}, {"batch": 3}, [{"name": "loop"}], tmp_path)
    assert file == tmp_path / "some.json"
    assert json.loads(file.read_text()) == {
        "schema": 2,
        "benchmark": "some",
        "environment": {"cpu": "x"},
        "settings": {"batch": 3},
        "results": [{"name": "loop"}],
    }


def test_dense_data_have_no_zero_and_digits_many():
    dense, digits = (
        Case(batch=16, data=data).problem().loss.keywords["X"] for data in ("dense", "digits")
    )
    assert np.count_nonzero(dense) == dense.size
    assert np.count_nonzero(digits) < digits.size / 2


def test_a_sample_takes_its_share_from_every_tensor():
    problem = SMALL.problem()
    picked = sample(problem, 20)
    assert len(set(picked.tolist())) == len(picked)
    tensors = np.repeat(list(problem.params), [value.size for value in problem.params.values()])
    counts = {name: int((tensors[picked] == name).sum()) for name in problem.params}
    assert counts == {"W1": 14, "b1": 1, "W2": 4, "b2": 1}
    assert sample(problem, None).tolist() == list(range(SMALL.parameters))


def test_every_way_computes_the_same_gradient():
    problem = SMALL.problem()
    picked, exact = sample(problem, 20), to_vector(problem.gradients())
    every = sample(problem, None)
    for way in (ways.naive_loop, ways.in_place_loop):
        _, some = way(problem, 1e-6, picked).measure(Clock())
        assert ways.relative_error(some, exact, picked) < 1e-6
        assert ways.relative_error(way(problem, 1e-6, every).run(), exact, every) < 1e-6
    assert ways.relative_error(ways.public(problem, 1e-6, "auto").run(), exact) < 1e-9
    assert ways.relative_error(passes.Passes(problem, "auto", 1e-6).gradient(), exact) < 1e-9


def test_the_loop_in_place_leaves_the_parameters_as_they_were():
    problem = SMALL.problem()
    loop = ways.in_place_loop(problem, 1e-6, sample(problem, None))
    assert np.array_equal(loop.run(), loop.run())


def test_the_plain_exercise_agrees_with_its_backpropagation():
    exercise = Exercise((6, 4, 3), 5)
    assert exercise.agrees(exercise.numerical_gradient())
    assert not exercise.agrees(2 * exercise.numerical_gradient())


def test_the_best_chunk_is_the_fastest():
    made = []

    def make(chunk):
        made.append(chunk)
        return lambda: np.sort(np.random.default_rng(0).random(200_000 if chunk == 4 else 1))

    ready = best_chunk(make, (4, 8))
    assert (made, ready.setting) == ([4, 8], "chunk 8 of 4, 8")


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_a_peer_that_is_installed_does_its_work(peer):
    pytest.importorskip(peer.package)
    problem = SMALL.problem()
    batch = problem.loss.keywords
    ready = peer.prepare(Task(problem, batch["X"], batch["Y"], 1e-6, (4,)))
    found = ready.run()
    if isinstance(found, bool):
        assert found
        found = None if ready.numeric is None else ready.numeric()
    if found is not None:
        assert ways.relative_error(found, to_vector(problem.gradients())) < 1e-5


def is_png(file):
    return file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and file.stat().st_size > 5000


@pytest.mark.parametrize("name", ["naive", "peers", "scaling", "cold"])
def test_a_quick_run_prints_saves_and_plots(name, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = [name, "--quick", "--repeats", "1", "--save", "--force", "--out", str(tmp_path)]
    assert main(arguments) == 0
    saved = json.loads((tmp_path / f"{name}.json").read_text())
    assert saved["benchmark"] == name
    assert saved["results"]
    assert is_png(tmp_path / f"{name}.png")
    assert "naive loop" in capsys.readouterr().out


def test_the_naive_benchmark_shows_every_way_with_error_and_ratio(capsys):
    assert main(["naive", "--sizes", "20-5-3", "--batch", "8", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "20-5-3, M = 8, dense, float64, step 1e-06: 123 parameters, 246 forward passes" in out
    for way in (ways.NAIVE, ways.IN_PLACE, "fastcheck, replay", "fastcheck, auto", ways.PASSES):
        assert way in out
    assert ways.CHECK in out


def test_the_naive_benchmark_says_what_is_extrapolated(capsys):
    assert main(["naive", "--quick", "--repeats", "1", "--sample", "30"]) == 0
    out = capsys.readouterr().out
    assert "naive loop *" in out
    assert "extrapolated: the median of 3" in out
    assert "not run: fastcheck, loop" in out


def test_an_engine_over_the_budget_or_not_offered_is_named(capsys, monkeypatch):
    monkeypatch.setattr(passes, "offered", lambda engine: engine != "fused")
    assert main(["naive", "--quick", "--repeats", "1", "--budget", "1e-9"]) == 0
    out = capsys.readouterr().out
    assert "not run: fastcheck, fused, this version of fastcheck does not have it" in out
    assert "not run: fastcheck, replay, one run estimated" in out
    assert "not run: fastcheck.check" in out


def test_the_naive_suite_holds_several_cases():
    options = machine_options(naive)
    assert len(naive._cases(options)) == len(naive.CASES)
    options.data = "digits"
    (case,) = naive._cases(options)
    assert case.label == "784-10-10, M = 128, digits"


def test_scaling_leaves_out_what_is_over_its_budget(capsys):
    assert main(["scaling", "--quick", "--budget", "1e-9"]) == 0
    out = capsys.readouterr().out
    assert "not run: loops" in out
    assert "over the budget" in out


def test_scaling_measures_the_point_where_its_lines_cross_once():
    points = scaling.cases(machine_options(scaling))
    assert len(points) == len(set(points)) == 14
    assert {p.parameters for p in points} >= {805, 7960, 1_000_120}


def test_peers_that_are_absent_are_listed(capsys, monkeypatch):
    monkeypatch.setattr(peers, "_absent", lambda peer: True)
    rows = peers.run(machine_options(peers, "--quick"))
    absent = [row["name"] for row in rows if row.get("not_run") == "not installed"]
    assert absent == [peer.name for peer in peers.PEERS]
    assert "not installed" in capsys.readouterr().out


def test_a_process_that_fails_is_shown(tmp_path):
    with pytest.raises(FastcheckError, match="nonsense"):
        cold._process(["auto", "nonsense", "8"], tmp_path / "cache")


def test_dots_and_curves_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    taken = timing.Timing("x", 1.0, (0.1, 0.2, 0.4))
    dots = plots.dots(tmp_path / "a.png", "t", [plots.Panel("p", [plots.dot(taken, "loop")])])
    axes = [plots.Axes("p", "N", [plots.Curve("x", [(10, taken), (100, taken)])])]
    assert is_png(dots)
    assert is_png(plots.curves(tmp_path / "b.png", "t", axes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["naive", "--quick", "--batch", "0"], "`batch` is 0"),
        (["naive", "--quick", "--sizes", "20-5-3", "--step", "-1"], "`step`"),
    ],
)
def test_bad_arguments_end_with_2(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("repeats", ["0", "many"])
def test_repeats_must_be_a_positive_number(repeats, capsys):
    with pytest.raises(SystemExit):
        main(["naive", "--quick", "--repeats", repeats])
    assert "not a whole number of at least 1" in capsys.readouterr().err


def machine_options(module, *given):
    """Return a benchmark's options as its command line gives them."""
    from argparse import ArgumentParser

    parser = ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args(given)
