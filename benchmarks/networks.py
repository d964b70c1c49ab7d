"""Networks as people write them: a whole check against the loop of 2N forward passes.

The networks are those of `tests/networks`: recurrent, convolutional, attention, embeddings, objects
that keep their data, losses and activations in their usual spellings, each with a gradient written
by hand. The check is one call of `fastcheck.check` on the right gradient: tracing, cross-check,
error bars and verdict included. `first` is the first check of a network in this process, before any
kernel is compiled for it. The loop's passes all cost the same, so a sample of them is timed.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import fastcheck
from benchmarks import plots, results
from benchmarks.machine import describe, environment
from benchmarks.options import add_common
from benchmarks.tables import factor, seconds, table
from benchmarks.timing import Contender, Sampled, Timing, interleave, ratio
from benchmarks.ways import CHECK, NAIVE
from fastcheck.errors import FastcheckError
from fastcheck.params import ParamTree

SUMMARY = "networks as people write them: a check against the loop of 2N forward passes"
HEADERS = ("network", "parameters", "loop", "first", "check", "times faster (range)", "engines")
LEAST = 5.0
"""How many times as fast as the loop a check should be where the loop is not needed."""
_PASSES = 40


@dataclass(frozen=True)
class Measured:
    """One network.

    Attributes
    ----------
    name
        Its family and name.
    parameters
        N.
    needs_loop
        Whether it is known to need the loop engine.
    engines
        The engines that its tensors had in the last check.
    loop, check
        The loop, extrapolated, and the whole check.
    """

    name: str
    parameters: int
    needs_loop: bool
    engines: tuple[str, ...]
    loop: Timing
    check: Timing

    @property
    def times_faster(self) -> dict[str, float]:
        """The median and the range over the rounds."""
        return dict(vars(ratio(self.loop, self.check)))

    @property
    def too_slow(self) -> bool:
        """Whether it misses `LEAST` without needing the loop."""
        return not self.needs_loop and self.times_faster["median"] < LEAST

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "network": self.name,
            "parameters": self.parameters,
            "needs_loop": self.needs_loop,
            "engines": list(self.engines),
            "rows": [self.loop.to_dict(), self.check.to_dict()],
            "times_faster": self.times_faster,
        }


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--match", default="", metavar="TEXT", help="names that contain this")
    add_common(parser, "one network of each family, 1 round")


def run(arguments: Namespace) -> list[dict[str, Any]]:
    """Measure every network, print the table, and return it as plain data."""
    results.prepare(arguments)
    machine = environment()
    print(describe(machine), "", sep="\n")
    chosen = chosen_networks(arguments.match, arguments.quick)
    repeats = arguments.repeats or (1 if arguments.quick else 5)
    measured = [measure(network, repeats) for network in chosen]
    print(table(HEADERS, [_cells(one) for one in measured]))
    print(f"\nloop: 2N forward passes, extrapolated from {_PASSES} or more")
    for one in measured:
        if one.too_slow:
            print(f"less than {LEAST:g} times as fast as the loop: {one.name}")
    found = [one.to_dict() for one in measured]
    if arguments.save:
        settings = {name: getattr(arguments, name) for name in ("match", "quick")}
        print(f"\n{results.save('networks', machine, settings, found, arguments.out)}")
        print(_plot(machine, measured, arguments.out))
    return found


def chosen_networks(match: str, quick: bool = False) -> list[Any]:
    """Return the networks whose names contain `match`; the first of each family if `quick`.

    Raises
    ------
    FastcheckError
        There is none.
    """
    # SciPy is needed for one of them, and the other benchmarks run without.
    every = import_module("tests.networks.catalogue").NETWORKS
    found = [network for network in every if match in str(network)]
    if quick:
        found = list({network.family: network for network in reversed(found)}.values())[::-1]
    if not found:
        raise FastcheckError(f"no network is called anything with {match!r} in it.")
    return found


def measure(network: Any, repeats: int) -> Measured:
    """Time one network at its large size."""
    case = network.make(*network.large)
    grads = case.grads(case.params)
    count = sum(tensor.size for tensor in ParamTree.from_user(case.params))

    def one_pass(k: int) -> float:
        return float(np.squeeze(case.loss(case.params)))

    engines: set[str] = set()

    def check() -> None:
        report = fastcheck.check(case.loss, case.params, grads)
        if not report:
            raise FastcheckError(f"the check of a right gradient did not pass:\n{report}")
        engines.clear()
        engines.update(tensor.engine for tensor in report.tensors.values())

    loop = Sampled(NAIVE, one_pass, min(_PASSES, 2 * count), 2 * count)
    timed = interleave([loop, Contender(CHECK, check)], repeats)
    return Measured(str(network), count, bool(network.loop), tuple(sorted(engines)), *timed)


def _cells(one: Measured) -> list[str]:
    return [
        one.name,
        f"{one.parameters:,}",
        seconds(one.loop.median),
        seconds(one.check.first),
        seconds(one.check.median),
        factor(one.times_faster),
        " and ".join(one.engines),
    ]


def _plot(machine: dict[str, Any], measured: Sequence[Measured], folder: Path) -> Path:
    families: dict[str, list[plots.Dot]] = {}
    for one in measured:
        family, _, name = one.name.partition(": ")
        dots = families.setdefault(family, [])
        for timing, kind in ((one.loop, "loop"), (one.check, "fastcheck")):
            dots.append(plots.Dot(name, timing.median, timing.low, timing.high, kind))
    panels = [plots.Panel(family, dots) for family, dots in families.items()]
    title = plots.heading("One check of every parameter", machine)
    return plots.dots(folder / "networks.png", title, panels)
