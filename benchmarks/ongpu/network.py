"""One network on a GPU: all ways to differentiate it in turns, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.cases import Case, sample
from benchmarks.ongpu import peers, ways
from benchmarks.ongpu.launches import AGAIN, watched
from benchmarks.ongpu.ways import Way
from benchmarks.passes import Passes, best_passes
from benchmarks.tables import error, factor, named, seconds, spread, table
from benchmarks.timing import PAUSE, Timing, interleave, ratio
from benchmarks.ways import Indices, Skipped, Vector
from fastcheck.problems import Problem

HEADERS = (
    "way",
    "median",
    "range",
    "largest error",
    "times faster than NumPy's loop",
    "slower than passes",
    "than the call",
)
PRECISIONS = ("float64", "float32")
CHUNKS = (1024, 256, 4096)


@dataclass(frozen=True)
class Effort:
    """How much is done of everything, so that the run ends in time.

    Attributes
    ----------
    rounds, fewest
        At most and at least so many.
    limit
        Seconds of a network after which no other round begins.
    loops
        Parameters that a loop is timed on.
    most
        Elements of a tensor that stacked copies are timed on.
    patience
        Seconds after which no other chunk size is tried.
    processes
        Rounds of fresh processes.
    """

    rounds: int
    fewest: int
    limit: float
    loops: int
    most: int
    patience: float
    processes: int


@dataclass(frozen=True)
class Measured:
    """One network: its timings, and what was left out."""

    case: Case
    ways: list[Way]
    timings: list[Timing]
    rows: list[dict[str, Any]]
    floors: list[dict[str, Any]]
    skipped: list[Skipped] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            **self.case.to_dict(),
            "rounds": max((len(timing.seconds) for timing in self.timings), default=0),
            "rows": self.rows,
            "arithmetic": self.floors,
            "not_run": [vars(one) for one in self.skipped],
        }


def measure(
    case: Case,
    effort: Effort,
    peak: dict[str, float | None],
    *,
    step: float,
    seed: int,
    pause: float = PAUSE,
) -> Measured:
    """Time one network and print its table.

    Parameters
    ----------
    case, step, seed
        The network, the step h, and what seeds it.
    effort
        How much of everything is done.
    peak
        Operations a second of the device in each precision, None where unknown.
    pause
        Seconds before each run.
    """
    problem = case.problem(seed)
    count = case.parameters
    print(f"\n{case.label}, step {step:g}: {count:,} parameters, {2 * count:,} forward passes\n")
    on_cpu = best_passes(problem, step, device="cpu")
    reference = on_cpu.gradient()
    prepared: dict[str, Passes] = {}
    chosen, skipped = _ways(problem, step, effort, on_cpu, prepared, seed)

    def failed(name: str, fault: Exception) -> None:
        skipped.append(Skipped(name, _reason(fault)))

    timings = interleave(
        [way.contender for way in chosen],
        effort.rounds,
        pause=pause,
        fewest=effort.fewest,
        limit=effort.limit,
        failed=failed,
    )
    by_name = {way.contender.name: way for way in chosen}
    taken = [by_name[timing.name] for timing in timings]
    rows = _rows(taken, timings, reference)
    print(table(HEADERS, [_cells(*pair) for pair in zip(timings, rows, strict=True)]))
    floors = [_arithmetic(*pair, peak, timings) for pair in prepared.items()]
    if any(timing.extrapolated for timing in timings):
        print("*: extrapolated from a sample of the parameters")
    print(*map(_floor_line, floors), *skipped, sep="\n")
    return Measured(case, taken, timings, rows, floors, skipped)


def _ways(
    problem: Problem,
    step: float,
    effort: Effort,
    on_cpu: Passes,
    prepared: dict[str, Passes],
    seed: int,
) -> tuple[list[Way], list[Skipped]]:
    """Return all ways that can be set up, and why others cannot; `prepared` is filled."""
    picked = sample(problem, effort.loops, seed)
    chosen, skipped = [], []

    def add(name: str, make: Callable[[], Way | list[Way]]) -> None:
        try:
            made = make()
        except Exception as fault:
            skipped.append(Skipped(name, _reason(fault)))
        else:
            chosen.extend(made if isinstance(made, list) else [made])

    def passes(precision: str) -> list[Way]:
        prepared[precision] = ways.on_gpu(problem, step, precision)
        return ways.passes_alone(problem, step, precision, prepared[precision])

    add(ways.NAIVE, lambda: ways.numpy_loop(problem, step, picked))
    add(ways.CPU_CALL, lambda: ways.call(problem, step, "float64", "cpu"))
    add(ways.CPU_PASSES, lambda: ways.cpu_passes(problem, step, on_cpu))
    for precision in PRECISIONS:
        _add_of_precision(add, passes, problem, step, precision, effort, picked)
    return chosen, skipped


def _add_of_precision(
    add: Callable[[str, Callable[[], Way | list[Way]]], None],
    passes: Callable[[str], list[Way]],
    problem: Problem,
    step: float,
    precision: str,
    effort: Effort,
    picked: Indices,
) -> None:
    """Set up the ways on the GPU in one precision."""
    stacked = (problem, step, precision, effort.most, CHUNKS, effort.patience)
    makers: dict[str, Callable[[], Way | list[Way]]] = {
        ways.CUPY_LOOP: lambda: ways.cupy_loop(problem, step, precision, picked),
        peers.TORCH: lambda: peers.torch_way(*stacked),
        peers.JAX: lambda: peers.jax_way(*stacked),
        ways.REPLAY: lambda: ways.replay(problem, step, precision, effort.most),
        ways.CALL: lambda: ways.call(problem, step, precision, "gpu"),
        ways.PASSES: lambda: passes(precision),
    }
    for name, make in makers.items():
        print(f"setting up {name}, {precision} …", flush=True)
        add(f"{name}, {precision}", make)


def _reason(fault: Exception) -> str:
    if isinstance(fault, peers.AbsentError):
        return str(fault)
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}"


def _rows(
    taken: Sequence[Way], timings: Sequence[Timing], reference: Vector
) -> list[dict[str, Any]]:
    """Return each way's times, its error, and its ratios to the loop and to fastcheck's."""
    by_name = {timing.name: timing for timing in timings}

    def against(timing: Timing, name: str, precision: str, faster: bool = False) -> Any:
        other = by_name.get(f"{name}, {precision}")
        if other is None:
            return None
        return vars(ratio(other, timing) if faster else ratio(timing, other))

    return [
        {
            **timing.to_dict(),
            "way": way.name,
            "precision": way.precision,
            "step": way.step,
            "setting": way.setting,
            "largest_error": ways.largest_error(timing.outcome, reference, way.picked),
            "times_faster": against(timing, ways.NAIVE, "float64", faster=True),
            "times_slower_than_passes": against(timing, ways.PASSES, way.precision),
            "times_slower": against(timing, ways.CALL, way.precision),
        }
        for way, timing in zip(taken, timings, strict=True)
    ]


def _cells(timing: Timing, row: dict[str, Any]) -> list[str]:
    ratios = [row[name] for name in ("times_faster", "times_slower_than_passes", "times_slower")]
    return [
        named(timing),
        seconds(timing.median),
        spread(timing),
        error(row["largest_error"]),
        *("–" if one is None else factor(one) for one in ratios),
    ]


def _arithmetic(
    precision: str, passes: Passes, peak: dict[str, float | None], timings: Sequence[Timing]
) -> dict[str, Any]:
    """Compare the kernels' time with what their operations would take at the peak."""
    with watched(AGAIN) as launches:
        passes.gradient()
    kernels = launches.seconds
    most = peak[precision]
    floor = None if most is None else launches.operations / most
    whole = [one.median for one in timings if one.name == f"{ways.PASSES}, {precision}"]
    return {
        "precision": precision,
        "operations": launches.operations,
        "launches": len(kernels),
        "kernel_seconds": sum(kernels),
        "passes_seconds": whole[0] if whole else None,
        "floor_seconds": floor,
        "floor_share_of_kernels": _share(floor, sum(kernels)),
        "floor_share_of_passes": _share(floor, whole[0] if whole else None),
        "engines": passes.places,
    }


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _floor_line(found: dict[str, Any]) -> str:
    share = found["floor_share_of_kernels"]
    floor = "unknown" if share is None else f"{seconds(found['floor_seconds'])}, {share:.1%} of it"
    return (
        f"{found['precision']}: {found['launches']} kernel launches of "
        f"{seconds(found['kernel_seconds'])} in all, {found['operations']:.3g} operations; "
        f"arithmetic floor {floor}"
    )
