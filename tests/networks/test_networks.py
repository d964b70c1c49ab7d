"""Networks as people write them: right gradients pass, planted bugs fail, and on which engine."""

from __future__ import annotations

from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.engines.base import Differences
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.replay import ReplayEngine
from fastcheck.fusion.dims import NotFusable
from fastcheck.keep import keep
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

from .catalogue import NETWORKS, Case, Network

SMALL = (5, 4)
STEP = 2.0**-10
MEMORY = 2**26
MOST_ELEMENTS = 10
"""How many elements of a tensor are compared with the loop: it calls the user's function."""

every = pytest.mark.parametrize("network", NETWORKS, ids=str)
traced = pytest.mark.parametrize("network", [n for n in NETWORKS if not n.loop], ids=str)
needing_loop = pytest.mark.parametrize("network", [n for n in NETWORKS if n.loop], ids=str)
bugs = pytest.mark.parametrize(
    ("network", "bug"),
    [
        pytest.param(network, bug, id=f"{network}, {bug}")
        for network in NETWORKS
        for bug in network.make(*SMALL).bugs
    ],
)


@cache
def small(network: Network) -> Case:
    return network.make(*SMALL)


def check(case: Case, bug: str | None = None, **options: Any) -> fastcheck.Report:
    grads = case.grads(case.params, bug)
    return fastcheck.check(case.loss, case.params, grads, **options)


# -- verdicts --------------------------------------------------------------------------------------


@traced
def test_the_right_gradient_passes_without_the_loop(network: Network) -> None:
    report = check(small(network))
    assert report.passed, report
    loops = {t.engine_reason for t in report.tensors.values() if t.engine == "loop"}
    assert not loops


@needing_loop
def test_what_needs_the_loop_passes_there_and_says_why(network: Network) -> None:
    report = check(small(network))
    assert report.passed, report
    reasons = {t.engine_reason for t in report.tensors.values() if t.engine == "loop"}
    assert reasons
    assert all(network.loop in reason for reason in reasons), reasons


@bugs
def test_a_planted_bug_fails_the_tensors_that_it_spoils(network: Network, bug: str) -> None:
    case = small(network)
    report = check(case, bug)
    assert sorted(report.failed) == sorted(case.bugs[bug].split()), report


# -- engines ---------------------------------------------------------------------------------------


class Engines:
    """The loop and the replay of one network, and its kernels."""

    def __init__(self, case: Case) -> None:
        self.tree = ParamTree.from_user(case.params)
        loss = LossFunction(case.loss, self.tree)
        self.loop = LoopEngine(loss, self.tree)
        with keep(loss.function, None):
            self.graph = simplify(trace(loss.function, self.tree))
        self.replays = {tensor.name: self._replay(tensor) for tensor in self.tree}
        self.kernels: dict[str, FusedEngine] = {}
        self.obstacles: dict[str, str] = {}
        for tensor in self.tree:
            try:
                self.kernels[tensor.name] = FusedEngine(self.replays[tensor.name], tensor, MEMORY)
            except NotFusable as why:
                self.obstacles[tensor.name] = str(why)

    def _replay(self, tensor: Any) -> ReplayEngine:
        def fallback(indices: Any, moves: Any) -> Any:
            return self.loop.differences(tensor.name, indices, moves, central=False).plus

        return ReplayEngine(self.graph, tensor, self.loop.loss, MEMORY, fallback)

    def sample(self, tensor: Any) -> Any:
        """Indices of a few elements, spread over the tensor."""
        return np.unique(np.linspace(0, tensor.size - 1, MOST_ELEMENTS).astype(int))


@cache
def engines(network: Network) -> Engines:
    return Engines(small(network))


def assert_equal(one: Differences, other: Differences, digits: float, rounding: float) -> None:
    for ours, theirs in ((one.plus, other.plus), (one.minus, other.minus)):
        np.testing.assert_allclose(ours, theirs, rtol=digits, atol=rounding)


@traced
def test_replayed_differences_equal_the_loop_s(network: Network) -> None:
    found = engines(network)
    rounding = 1e-13 * max(1.0, found.loop.magnitude, abs(found.loop.loss))
    for tensor in found.tree:
        indices = found.sample(tensor)
        steps = np.full(len(indices), STEP)
        slow = found.loop.differences(tensor.name, indices, steps)
        fast = found.replays[tensor.name].differences(tensor.name, indices, steps)
        assert_equal(fast, slow, 1e-9, rounding)


@traced
def test_tensors_without_a_kernel_are_known(network: Network) -> None:
    # Where a kernel has come to be made, its tensor's name is to be taken out of the network.
    found = engines(network)
    names = tuple(tensor.name for tensor in found.tree)
    known = names if network.no_kernel == ("all",) else network.no_kernel
    assert sorted(found.obstacles) == sorted(known), found.obstacles


@traced
def test_kernels_equal_the_replay(network: Network) -> None:
    found = engines(network)
    for name, kernel in found.kernels.items():
        replay = found.replays[name]
        tensor = next(tensor for tensor in found.tree if tensor.name == name)
        indices = found.sample(tensor)
        steps = np.full(len(indices), 2.0**-20)
        slow = replay.differences(name, indices, steps)
        fast = kernel.differences(name, indices, steps)
        assert_equal(fast, slow, 1e-9, 1e-13 * 2.0**-20 * max(1.0, replay.magnitude))


# -- speed -----------------------------------------------------------------------------------------

LEAST = 5.0
PASSES = 20
# `python -m benchmarks networks` measures all of them.
QUICK = {
    "convolutional: CNN by slices over the kernel's positions, added up": (64, 48),
    "normalisation: spatial batch norm, axes (0, 2, 3), keepdims": (64, 128),
    "losses: maxout, and a learned slope": (64, 512),
    "losses: cross-entropy: integer labels, from logits": (64, 1024),
    "objects: a network object with set_weights(flat)": (64, 96),
}


@pytest.mark.parametrize("name", QUICK)
def test_a_check_is_faster_than_the_loop_of_passes(name: str) -> None:
    case = {str(network): network for network in NETWORKS}[name].make(*QUICK[name])
    grads = case.grads(case.params)
    count = sum(tensor.size for tensor in ParamTree.from_user(case.params))
    loop, whole = [], []
    for _ in range(3):  # in turns, so that what disturbs one disturbs the other
        start = perf_counter()
        for _ in range(PASSES):
            case.loss(case.params)
        loop.append((perf_counter() - start) / PASSES * 2 * count)
        start = perf_counter()
        assert fastcheck.check(case.loss, case.params, grads)
        whole.append(perf_counter() - start)
    assert min(loop) > LEAST * min(whole), f"loop {min(loop):.3f} s, check {min(whole):.3f} s"
