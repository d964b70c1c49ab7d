"""The benchmarks run from the project's root, so that folder goes on the path here."""

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

# At the end: an installed fastcheck comes before the one in this folder.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import (
    cold,
    gpu,
    machine,
    naive,
    passes,
    plots,
    results,
    scaling,
    tables,
    timing,
    ways,
)
from benchmarks.__main__ import main
from benchmarks.cases import Case, sample
from benchmarks.ongpu import child, device, launches
from benchmarks.ongpu import cold as first_checks
from benchmarks.ongpu import peers as gpu_peers
from benchmarks.ongpu import ways as gpu_ways
from benchmarks.peers import benchmark as peers
from benchmarks.peers.base import Task, best_chunk
from benchmarks.plain import Exercise
from fastcheck import FastcheckError
from fastcheck.commands.naive import to_vector
from fastcheck.devices import kernels
from fastcheck.engines.device_engine import parts_of
from fastcheck.fusion.ongpu import CudaKernel

from .cuda.on_standin import RawModule

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


# -- on a GPU --------------------------------------------------------------------------------------


@pytest.fixture
def on_standin(standin_cupy, monkeypatch):
    """A function that puts a GPU in place which runs CUDA C on the CPU; PyTorch and JAX stay off.

    Its kernels have not been compiled yet.
    """

    def put(**settings):
        monkeypatch.setattr(kernels, "_loaded", {})
        monkeypatch.setattr(launches, "_busy", {})
        monkeypatch.setattr(gpu_peers, "find_spec", lambda package: None)
        return standin_cupy(**{"raw_module": RawModule, **settings})

    return put


TINY = ["gpu", "--quick", "--sizes", "6-4-3", "--batch", "9", "--repeats", "1"]


def test_no_round_begins_past_the_limit_but_the_fewest():
    clock, log = Clock(), []
    one = clock.worker("a", 4.0, log)
    (taken,) = timing.interleave([one], 9, clock=clock, fewest=2, limit=1.0)
    assert len(taken.seconds) == 2
    (taken,) = timing.interleave([one], 9, clock=clock, limit=15.0)
    assert len(taken.seconds) == 3


def test_a_contender_that_fails_takes_no_further_part():
    clock, log, told = Clock(), [], []
    runs = iter((1, 0))

    def breaks():
        1 / next(runs)

    def failed(name, fault):
        told.append((name, type(fault)))

    broken, sound = timing.Contender("x", breaks), clock.worker("a", 1.0, log)
    found = timing.interleave([broken, sound], 3, clock=clock, failed=failed)
    assert [(one.name, one.seconds) for one in found] == [("a", (1.0, 1.0, 1.0))]
    assert told == [("x", ZeroDivisionError)]
    with pytest.raises(StopIteration):
        timing.interleave([broken], 1, clock=clock)


def test_parts_are_scaled_to_their_tensors():
    clock = Clock()

    def run(seconds, values):
        def work():
            clock.now += seconds
            return values

        return work

    problem = SMALL.problem()
    sizes = [value.size for value in problem.params.values()]
    places = [passes.spread_evenly(size, 3) for size in sizes]
    parts = [(at, run(len(at), at)) for at in places]
    way = gpu_ways.in_parts("w", "peer", problem, 1e-6, "float64", parts)
    (taken,) = timing.interleave([way.contender], 1, clock=clock)
    assert taken.seconds == (sum(sizes),)
    assert (taken.name, taken.timed) == ("w, float64", 12)
    starts = [0, 60, 65, 80]
    assert way.picked.tolist() == [s + i for s, at in zip(starts, places, strict=True) for i in at]
    assert gpu_ways.in_parts("w", "", problem, 1, "", [(range(s), None) for s in sizes]).picked.size


def test_elements_are_spread_from_the_first_to_the_last():
    assert passes.spread_evenly(9, 3).tolist() == [0, 4, 8]
    assert passes.spread_evenly(3, 9).tolist() == [0, 1, 2]


def test_the_best_chunk_of_those_that_fit():
    clock, released = Clock(), []
    cost = {1024: 3.0, 256: 2.0, 64: 1.0}

    def make(chunk):
        def run():
            if chunk == 4096:
                raise MemoryError("4096 copies")
            clock.now += cost[chunk]

        return [(chunk, run)]

    def best(chunks, patience):
        free = lambda: released.append(1)  # noqa: E731
        (part,), setting = gpu_peers.best_that_fits(make, chunks, patience, free, clock)
        return part[0], setting

    assert best((1024, 4096, 256, 64), 100.0) == (64, "chunk 64 of 1024, 4096, 256, 64")
    assert released == [1]
    assert best((1024, 256, 64), 7.0) == (256, "chunk 256 of 1024, 256")
    with pytest.raises(MemoryError, match="4096 copies"):
        best((4096,), 1.0)


@pytest.mark.parametrize(("precision", "most"), [("float64", 1e-6), ("float32", 2e-2)])
@pytest.mark.parametrize(("package", "make"), [("torch", "torch_way"), ("jax", "jax_way")])
def test_stacked_copies_of_peers_are_the_same_gradient(package, make, precision, most, monkeypatch):
    module = pytest.importorskip(package)
    monkeypatch.setattr(gpu_peers, "_torch", lambda: (module, "cpu"))
    monkeypatch.setattr(gpu_peers, "_jax", lambda: (module, module.devices("cpu")[0]))
    if package == "jax":
        module.config.update("jax_enable_x64", True)
    problem = SMALL.problem()
    exact = to_vector(problem.gradients())
    for elements in (1000, 7):
        way = getattr(gpu_peers, make)(problem, 1e-6, precision, elements, (4,), 1.0)
        _, found = way.contender.measure(Clock())
        assert gpu_ways.largest_error(found, exact, way.picked) < most
        assert found.size == {1000: exact.size, 7: 7 + 5 + 7 + 3}[elements]
    assert way.setting.startswith("chunk 4 of 4, on ")


@pytest.mark.parametrize("package", ["torch", "jax"])
def test_a_peer_without_a_gpu_says_so(package, monkeypatch):
    pytest.importorskip(package)
    with pytest.raises(gpu_peers.AbsentError, match="sees no GPU"):
        getattr(gpu_peers, f"_{package}")()


def test_without_a_gpu_nothing_is_run_or_written(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert main([*TINY, "--save", "--force", "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(
        "benchmarks: CuPy is not installed: `pip install 'cupy-cuda12x[ctk]'`"
    )
    assert shown.out == ""
    assert not list(tmp_path.iterdir())


def test_a_run_on_a_gpu_prints_saves_and_plots(on_standin, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    on_standin()
    assert main([*TINY, "--save", "--force", "--out", str(tmp_path)]) == 0
    saved = json.loads((tmp_path / "gpu.json").read_text())
    assert is_png(tmp_path / "gpu.png")
    here = saved["environment"]
    assert (here["gpu"], here["cuda_runtime"], here["capability"]) == ("Stand-in 0", 13000, "9.0")
    assert {"date", "driver", "cupy", "torch", "jax", "peak"} <= here.keys()
    network, compiled, first = saved["results"]
    assert compiled["compiled"]["first check"]["modules"] > 0
    assert compiled["compiled"]["second check"]["modules"] == 0
    # In processes of its own, where there is no stand-in: what happens depends on the machine.
    assert first["first_check"]
    rows = {row["name"]: row for row in network["rows"]}
    assert len(rows) == 3 + 2 * 5
    for name, row in rows.items():
        ours = row["way"] not in (gpu_ways.NAIVE, gpu_ways.CUPY_LOOP)
        most = {"float64": 1e-12, "float32": 1e-6} if ours else {"float64": 1e-6, "float32": 1e-2}
        assert row["largest_error"] <= most[row["precision"]], name
        assert len(row["seconds"]) == 1
    assert rows[f"{gpu_ways.PASSES}, float64"]["times_slower_than_passes"]["median"] == 1
    assert "fused on gpu:0: traced" in rows[f"{gpu_ways.PASSES}, float32"]["setting"]
    assert "replay on gpu:0: traced" in rows[f"{gpu_ways.REPLAY}, float64"]["setting"]
    for arithmetic in network["arithmetic"]:
        assert arithmetic["launches"] == 4
        assert 0 < arithmetic["floor_share_of_kernels"] < 1
    assert {one["why"] for one in network["not_run"]} == {
        "PyTorch is not installed",
        "JAX is not installed",
    }
    out = capsys.readouterr().out
    assert "Stand-in 0, compute capability 9.0, 132 multiprocessors, 33.5 TFLOP/s in float64" in out
    assert "float64: 4 kernel launches of" in out


def test_a_way_that_fails_on_the_gpu_is_recorded(on_standin, monkeypatch, capsys):
    on_standin()

    def too_large(*_):
        raise MemoryError("out of memory: 3 GiB")

    monkeypatch.setattr(gpu_ways, "cupy_loop", too_large)
    monkeypatch.setattr(gpu_ways.ByEvents, "measure", too_large)
    assert main(TINY) == 0
    out = capsys.readouterr().out
    assert f"not run: {gpu_ways.CUPY_LOOP}, float64, MemoryError: out of memory: 3 GiB" in out
    assert f"not run: {gpu_ways.EVENTS}, float32, MemoryError: out of memory: 3 GiB" in out
    assert f"\n{gpu_ways.PASSES}, float64 " in out


def test_a_gradient_of_the_gpu_that_is_off_ends_with_2(on_standin, monkeypatch, capsys):
    on_standin()
    whole = gpu_ways.call

    def off(problem, step, precision, device):
        way = whole(problem, step, precision, device)
        run = way.contender.run
        object.__setattr__(way.contender, "run", lambda: run() + (1e-6 if device == "gpu" else 0))
        return way

    monkeypatch.setattr(gpu_ways, "call", off)
    assert main(TINY) == 2
    error = capsys.readouterr().err
    assert f"{gpu_ways.CALL}, float64 of 6-4-3, M = 9, dense is off by" in error
    assert gpu_ways.PASSES not in error
    assert "float32" not in error


def test_a_second_check_that_compiles_ends_with_2():
    second = {"modules": 1, "nvrtc": None, "passed": True, "devices": ["gpu:0"]}
    compiled = {"second check": second}
    with pytest.raises(FastcheckError, match=r"a second check .* has compiled something"):
        gpu._complain([], compiled)


@pytest.mark.parametrize(
    ("passed", "devices"), [(True, ["cpu"]), (False, ["gpu:0"]), (True, ["cpu", "gpu:0"])]
)
def test_a_check_that_fails_or_is_left_to_the_host_ends_with_2(passed, devices):
    second = {"modules": 0, "nvrtc": 0, "passed": passed, "devices": devices}
    with pytest.raises(FastcheckError, match=f"did not pass, or ran on {' and '.join(devices)}"):
        gpu._complain([], {"second check": second})
    gpu._complain([], {"second check": {**second, "passed": True, "devices": ["gpu:0"]}})


@pytest.mark.parametrize("make", ["on_gpu", "replay"])
def test_passes_that_are_left_to_the_host_are_not_taken_for_the_gpus(make, monkeypatch):
    def on_host(problem, *given, **options):
        return passes.Passes(problem, "auto", 1e-6, device="cpu")

    monkeypatch.setattr(gpu_ways, "best_passes", on_host)
    monkeypatch.setattr(gpu_ways, "Passes", on_host)
    given = (SMALL.problem(), 1e-6, "float64", 9)[: 4 if make == "replay" else 3]
    with pytest.raises(FastcheckError, match="the host computes W1 by replay on cpu: traced"):
        getattr(gpu_ways, make)(*given)


def test_the_launches_are_timed_by_events_and_their_operations_counted(on_standin):
    on_standin()
    problem = SMALL.problem()
    # Small enough for the kernels of the usual step.
    prepared = gpu_ways.on_gpu(problem, 1e-10, "float64")
    gradient = prepared.gradient()
    each = [
        8 * kernel.source.operations * tensor.size
        for name, tensor in problem.params.items()
        for kernel in parts_of(prepared._engines[name])[0].kernels()
    ]
    for again in (1, 5):
        with launches.watched(again) as seen:
            assert np.array_equal(prepared.gradient(), gradient)
        assert len(seen.seconds) == 4
        assert min(seen.seconds) > 0
        assert seen.operations == pytest.approx(sum(each))
    assert CudaKernel._run_block.__name__ == "_run_block"


@pytest.mark.parametrize("names", [("_compile_using_nvrtc_no_warning",), ("compile_using_nvrtc",)])
def test_compilations_by_nvrtc_are_counted_whatever_its_name(names, on_standin, monkeypatch):
    on_standin()
    compiler = ModuleType("cupy.cuda.compiler")
    for name in names:
        setattr(compiler, name, lambda source: f"compiled {source}")
    monkeypatch.setitem(sys.modules, "cupy.cuda.compiler", compiler)
    with launches.compilations() as seen:
        assert getattr(compiler, names[0])("a") == "compiled a"
        sys.modules["cupy"].RawModule(code='extern "C" __global__ void f() {}')
    assert (seen.nvrtc, seen.modules) == (1, 1)
    getattr(compiler, names[0])("b")
    assert seen.nvrtc == 1


def test_a_first_check_in_stages(on_standin):
    on_standin()
    found = child.stages((6, 4, 3), 9)
    assert list(found["seconds"]) == [
        "import fastcheck",
        "make the network",
        "import CuPy",
        "make the device ready",
        "first check",
        "second check",
    ]
    assert found["first check"]["modules"] > 0
    assert 0 < found["first check"]["seconds"] <= found["seconds"]["first check"]
    assert found["second check"].pop("nvrtc") in (None, 0)  # unknown to the stand-in
    assert found["second check"] == {"modules": 0, "seconds": 0.0}


def test_first_checks_take_turns_and_the_warm_cache_was_filled_before(monkeypatch):
    caches = []

    def process(sizes, batch, cache):
        caches.append(cache.name)
        check = {"modules": 3, "nvrtc": 2 * (cache.name != "warm"), "seconds": float(len(caches))}
        return {"seconds": {"a": 0.5}, "first check": check, "second check": check}

    monkeypatch.setattr(first_checks, "_process", process)
    found = first_checks.measure((6, 4, 3), 9, 3)
    assert caches == ["warm", "empty0", "warm", "empty1", "warm", "empty2", "warm"]
    loading = "of the first check: kernels compiled or loaded"
    assert found["empty"]["medians"] == {"a": 0.5, loading: 4.0}
    assert found["warm"]["medians"] == {"a": 0.5, loading: 5.0}
    shown = first_checks.shown(found)
    assert "first check, empty cache: 3 kernel sources given to CuPy, 2 compilations by N" in shown


@pytest.mark.parametrize(
    ("capability", "precision", "most"),
    [
        ("9.0", "float64", 33.5e12),
        ("9.0", "float32", 66.9e12),
        ("8.0", "float64", 16.7e12),
        ("8.9", "float64", None),
    ],
)
def test_the_peak_of_a_device(capability, precision, most):
    found = device._peak(capability, 132, 1.98e9, precision)
    assert found == (None if most is None else pytest.approx(most, rel=2e-3))


def test_the_clock_is_among_the_attributes_where_the_properties_lack_it(on_standin, monkeypatch):
    on_standin()
    monkeypatch.setattr(sys.modules["cupy"].cuda.Device, "attributes", {"ClockRate": 1_500_000})
    assert device._clock({"clockRate": 1_980_000}) == 1.98e9
    assert device._clock({"multiProcessorCount": 1}) == 1.5e9
    monkeypatch.setattr(sys.modules["cupy"].cuda.Device, "attributes", {})
    assert device._clock({}) is None


def test_the_largest_error_is_relative_to_the_largest_element():
    reference = np.array([1.0, -4.0, 2.0])
    assert gpu_ways.largest_error([2.5], reference, np.array([2])) == 0.125
    assert math.isnan(gpu_ways.largest_error([math.nan], reference, np.array([0])))


def machine_options(module, *given):
    """Return a benchmark's options as its command line gives them."""
    from argparse import ArgumentParser

    parser = ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args(given)
