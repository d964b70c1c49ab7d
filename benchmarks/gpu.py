"""The whole numerical gradient on a GPU: fastcheck against loops and stacked copies by others.

All ways of one network, in float64 and float32, take turns in one run, warm; every way ends with
its numbers on the host. ``passes`` are fastcheck's for 2N forward passes with everything prepared,
``launches by events`` the same as the device sees them, ``numerical_gradient`` the call as a user
makes it. The loops are timed on a sample of parameters, and stacked copies of large networks on a
sample of each tensor; both are extrapolated. The error is max |n − r| against fastcheck's CPU
engine, relative to its largest element. Where differences cancel, float32 takes a step of 2⁻⁸.

The arithmetic floor is what the kernels' operations would take at the device's peak: a bound that
holds for this arithmetic, not what is reachable (the peak counts a multiply-add as two operations,
and `Source.operations` counts loads too).
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastcheck
from benchmarks import plots, results
from benchmarks.cases import MNIST, Case
from benchmarks.machine import describe, environment
from benchmarks.ongpu import cold, ways
from benchmarks.ongpu.device import cuda_version, describe_gpu
from benchmarks.ongpu.launches import compilations
from benchmarks.ongpu.network import Effort, Measured, measure
from benchmarks.options import add_common, add_network
from benchmarks.options import seconds as limit_in_seconds
from benchmarks.timing import PAUSE
from fastcheck.errors import FastcheckError
from fastcheck.problems import Problem

SUMMARY = "a GPU: fastcheck's engines against loops in NumPy and CuPy, PyTorch's and JAX's vmap"
CASES = (
    Case(batch=128),
    Case(batch=1024),
    Case((784, 100, 10), batch=128),
    Case((784, 100, 10), batch=1024),
    Case((784, 512, 512, 10), batch=32),
    Case((784, 512, 512, 10), batch=128),
)
QUICK = (CASES[0], CASES[4])
LARGEST_ERROR = 1e-9
"""What fastcheck's float64 on the GPU may differ by from its CPU engine."""


USUAL = Effort(7, 3, 15.0, 300, 32768, 3.0, 3)
BRIEF = Effort(3, 2, 8.0, 100, 8192, 1.5, 1)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    add_network(parser)
    parser.add_argument(
        "--limit",
        type=limit_in_seconds,
        metavar="S",
        help="seconds of a network after which no other round begins",
    )
    add_common(parser, "784-10-10 and 784-512-512-10 only, and fewer rounds")


def run(arguments: Namespace) -> list[dict[str, Any]]:
    """Measure every network, print the tables, and return them as plain data.

    Raises
    ------
    FastcheckError
        There is no GPU; or, after all is printed and saved, fastcheck's float64 on the GPU differs
        from its CPU engine, or a second check has compiled something.
    """
    device = describe_gpu()
    results.prepare(arguments)
    machine = {**environment(), **device}
    effort = _effort(arguments)
    cases = _cases(arguments)
    print(describe(machine), _described(device), sep="\n")
    compiled = _twice(cases[0].problem(arguments.seed))
    common = {"step": arguments.step, "seed": arguments.seed}
    pause = 0.0 if arguments.quick else PAUSE
    measured = [measure(case, effort, device["peak"], pause=pause, **common) for case in cases]
    first = _first_checks(cases[0], effort)
    found = [one.to_dict() for one in measured]
    if arguments.save:
        settings = {
            "step": arguments.step,
            "float32_step": ways.FLOAT32_STEP,
            "seed": arguments.seed,
            "quick": arguments.quick,
            **vars(effort),
        }
        everything = [*found, {"compiled": compiled}, {"first_check": first}]
        print(f"\n{results.save('gpu', machine, settings, everything, arguments.out)}")
        print(_plot(device, machine, measured, arguments.out))
    _complain(measured, compiled)
    return found


def _effort(arguments: Namespace) -> Effort:
    usual = BRIEF if arguments.quick else USUAL
    given = {"rounds": arguments.repeats, "limit": arguments.limit}
    chosen = {**vars(usual), **{name: v for name, v in given.items() if v is not None}}
    return Effort(**{**chosen, "fewest": min(chosen["fewest"], chosen["rounds"])})


def _cases(arguments: Namespace) -> Sequence[Case]:
    """Return the suite, or the one network that was described."""
    given = {
        name: getattr(arguments, name)
        for name in ("sizes", "batch", "data")
        if getattr(arguments, name) is not None
    }
    if given:
        return (Case(**{"sizes": MNIST, **given}),)
    return QUICK if arguments.quick else CASES


def _described(device: dict[str, Any]) -> str:
    peak = device["peak"]["float64"]
    most = "peak unknown" if peak is None else f"{peak / 1e12:.1f} TFLOP/s in float64 at most"
    return (
        f"{device['gpu']}, compute capability {device['capability']}, "
        f"{device['multiprocessors']} multiprocessors, {most}; driver {device['driver']}, "
        f"CUDA {cuda_version(device['cuda_runtime'])}, CuPy {device['cupy']}"
    )


def _twice(problem: Problem) -> dict[str, Any]:
    """Check twice, and return what each of the checks compiled."""
    found = {}
    for name in ("first check", "second check"):
        with compilations() as compiled:
            report = fastcheck.check(problem.loss, problem.params, problem.grads, device="gpu")
        places = {tensor.device for tensor in report.tensors.values()}
        found[name] = {**vars(compiled), "passed": bool(report), "devices": sorted(places)}
    return found


def _first_checks(case: Case, effort: Effort) -> dict[str, Any]:
    """Measure fresh processes; what goes wrong with them is recorded."""
    try:
        found = cold.measure(case.sizes, case.batch, effort.processes)
    except FastcheckError as fault:
        print(f"\nnot run: first checks of fresh processes, {fault}")
        return {"not_run": str(fault)}
    print(f"\n{cold.shown(found)}")
    return found


def _complain(measured: Sequence[Measured], compiled: dict[str, Any]) -> None:
    """Say what must not be, once everything is saved."""
    wrong = [
        f"{row['name']} of {one.case.label} is off by {row['largest_error']:.1e} of the largest "
        "element"
        for one in measured
        for way, row in zip(one.ways, one.rows, strict=True)
        if way.kind == "gpu" and way.precision == "float64"
        # NaN is wrong too.
        if not row["largest_error"] <= LARGEST_ERROR
    ]
    again = compiled["second check"]
    if again["modules"] or again["nvrtc"]:
        wrong.append("a second check of the same network has compiled something")
    if not again["passed"] or "cpu" in again["devices"]:
        devices = " and ".join(again["devices"])
        wrong.append(f"the check of a right gradient did not pass, or ran on {devices}")
    if wrong:
        raise FastcheckError("; ".join(wrong))


def _plot(
    device: dict[str, Any], machine: dict[str, Any], measured: Sequence[Measured], folder: Path
) -> Path:
    panels = [
        plots.Panel(
            one.case.label,
            [plots.dot(t, way.kind) for way, t in zip(one.ways, one.timings, strict=True)],
        )
        for one in measured
    ]
    where = {**machine, "cpu": f"{device['gpu']}; {machine['cpu']}"}
    title = plots.heading("One numerical gradient of all parameters, on a GPU", where)
    return plots.dots(folder / "gpu.png", title, panels)
