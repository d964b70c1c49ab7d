"""The rules on a GPU's arrays, and in float32: every case of the other modules once more.

The laboratory passes each stack through the rule in NumPy's float64, whose answer the case itself
judges; on the stand-in for CuPy, which has to give the same; and in float32 on both, which has to
come near without a single float64 array on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcheck.devices import Device, resolve_devices
from fastcheck.differences import Bases, Context, Delta, cancels, context, propagate
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import elementwise

from . import test_arrays, test_elementwise, test_kinks, test_softmax
from .conftest import COPIES, Lab


class Everywhere(Lab):
    """A laboratory that asks every device and precision, and compares the answers."""

    def __init__(self, gpu: Device, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._gpu, self._machine, self._monkeypatch = gpu, machine, monkeypatch

    def propagate(self, node: Node, *deltas: Delta | None) -> Delta | None:
        wanted = super().propagate(node, *deltas)
        kinked = self.kinked
        for worth in (0, 2**62):  # asking always, and never
            self._monkeypatch.setattr(context, "_WORTH_A_WAIT", worth)
            found, marks = self._on_gpu(np.float64, node, deltas)
            self._alike(node, found, wanted, 1e-12)
            assert marks == kinked
        self._in_float32(node, deltas)
        return wanted

    def _on_gpu(self, dtype: Any, node: Node, deltas: Any) -> tuple[Delta | None, list[bool]]:
        made: list[Any] = []
        self._machine.on_array = made.append
        with self._gpu.active():
            bases = Bases(self._gpu, dtype)
            chunk = Context(bases, COPIES)
            given = [None if d is None else _moved(bases, d) for d in deltas]
            found = propagate(chunk, node, given)
            if found is not None:
                assert found.values.dtype == dtype
                found = Delta(found.values.get(), found.pins)
            self._machine.on_array = None
            if dtype == np.float32 and not node.primitive.discrete:
                assert not [array for array in made if array.dtype == np.float64]
            return found, chunk.kinked.get().tolist()

    def _in_float32(self, node: Node, deltas: Any) -> None:
        bases = Bases(dtype="float32")
        narrow = [None if d is None else _moved(bases, d) for d in deltas]
        exact = Context(Bases(), COPIES)
        with np.errstate(all="ignore"):
            wanted = propagate(exact, node, [None if d is None else _widened(d) for d in narrow])
            chunk = Context(bases, COPIES)
            found = propagate(chunk, node, narrow)
        assert found is None or found.values.dtype == np.float32
        other, marks = self._on_gpu(np.float32, node, deltas)
        assert marks == chunk.kinked.tolist()
        self._alike(node, other, found, 2e-5)
        if not np.array_equal(chunk.kinked, exact.kinked):
            return  # a tie that rounding has broken
        # Where digits are cancelled, those of the function's values are what is left; a function
        # that comes back from far out may cancel too.
        far = any(d is not None and abs(d.values).max(initial=0.0) > 1 for d in deltas)
        self._alike(node, found, wanted, 1e-5, 1e-6 if far or cancels(node) else 0.0)

    def _alike(
        self,
        node: Node,
        found: Delta | None,
        wanted: Delta | None,
        relative: float,
        of_value: float = 0.0,
    ) -> None:
        one, other = (self.stack(delta, node).astype(float) for delta in (found, wanted))
        sound = np.isfinite(other) & (abs(other) < 1e38)
        largest = float(np.max(abs(other[sound]), initial=0.0))
        value = float(np.max(abs(np.nan_to_num(np.asarray(node.value, float))), initial=0.0))
        error = abs(one[sound] - other[sound])
        assert np.all(error <= relative * largest + of_value * value + 1e-37)


def _moved(bases: Bases, delta: Delta) -> Delta:
    return Delta(bases.xp.asarray(np.asarray(delta.values, bases.dtype)), delta.pins)


def _widened(delta: Delta) -> Delta:
    return Delta(delta.values.astype(np.float64), delta.pins)


@pytest.fixture
def machine(standin_cupy: Any) -> Any:
    return standin_cupy()


@pytest.fixture
def gpu(machine: Any) -> Device:
    (device,) = resolve_devices("gpu")
    return device


@pytest.fixture
def lab(gpu: Device, machine: Any, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Everywhere(gpu, machine, monkeypatch)


@pytest.mark.parametrize("name", ["floor", "ceil", "rint", "trunc", "sign"])
def test_a_jump_that_only_rounding_to_float32_would_cross_is_not_crossed(lab, name) -> None:
    # In float32 these are 3, 2, 2.5 and 1.
    x = lab.parameter(np.array([3 - 1e-12, 2 + 1e-12, 2.5 - 1e-12, 1 - 1e-12]))
    node = lab.node(elementwise(getattr(np, name)), x)
    lab.context = Context(Bases(dtype="float32"), COPIES)
    delta = Delta(np.full((COPIES, 4), 1e-12, dtype=np.float32), {})
    assert propagate(lab.context, node, [delta]) is None
    assert not any(lab.kinked)


@pytest.fixture
def rng() -> np.random.Generator:
    """One seed only: what other seeds find, they find on the CPU."""
    return np.random.default_rng(0)


for _module in (test_arrays, test_elementwise, test_kinks, test_softmax):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and callable(_test):
            _place = _module.__name__.rpartition("_")[2]
            globals()[f"{_name}__{_place}"] = _test
