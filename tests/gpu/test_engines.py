"""The engines on a CUDA device against those of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcheck.devices.cuda import gpu_device
from fastcheck.devices.kernels import cuda_function
from fastcheck.fusion.code import FUNCTION

from ..cuda import nvrtc
from .conftest import Cuda, Slopes
from .networks import NETWORKS

Run = Callable[..., Slopes]
SMALL, USUAL = 2.0**-31, 1e-6
RELU, TANH = NETWORKS["ReLU and softmax"], NETWORKS["three layers"]


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_give_what_those_of_the_cpu_give(name: str, cuda: Cuda, slopes: Run) -> None:
    loss, params = NETWORKS[name].make()
    for step in (SMALL, USUAL):
        ours, theirs = (slopes(loss, params, step=step, device=d) for d in ("gpu", "cpu"))
        assert set(ours.engines.values()) == {"fused on gpu:0"}
        ours.assert_like(theirs, 1e-9)
    assert cuda.modules


@pytest.mark.parametrize("name", NETWORKS)
def test_float32_differs_by_its_rounding(name: str, cuda: Cuda, slopes: Run) -> None:
    loss, params = NETWORKS[name].make()
    ours = slopes(loss, params, precision="float32")
    theirs = slopes(loss, params, device="cpu")
    assert set(ours.engines.values()) == {"fused on gpu:0"}
    ours.assert_like(theirs, 1e-3)
    with pytest.raises(AssertionError):
        ours.assert_like(theirs, 1e-12)
    assert all("typedef float Real;" in source for source in cuda.modules)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("precision", "relative"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize("name", ["ReLU and softmax", "three layers", "flat", "mostly zeros"])
def test_the_replay_in_cupy_gives_what_numpys_gives(
    name: str, precision: str, relative: float, slopes: Run
) -> None:
    loss, params = NETWORKS[name].make()
    ours = slopes(loss, params, engine="replay", precision=precision)
    assert set(ours.engines.values()) == {"replay on gpu:0"}
    ours.assert_like(slopes(loss, params, engine="replay", device="cpu"), relative)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("engine", ["fused", "replay"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_two_runs_are_equal_to_the_last_bit(engine: str, precision: str, slopes: Run) -> None:
    loss, params = RELU.make()
    one, other = (slopes(loss, params, engine=engine, precision=precision) for _ in range(2))
    for name, values in one.values.items():
        np.testing.assert_array_equal(values, other.values[name])


@pytest.mark.parametrize("engine", ["fused", "replay"])
def test_two_devices_give_what_one_gives(engine: str, cuda: Cuda, slopes: Run) -> None:
    cuda.need(2)
    loss, params = RELU.make()
    both = slopes(loss, params, engine=engine, device="gpu:0,1")
    assert set(both.engines.values()) == {f"{engine} on gpu:0,1"}
    both.assert_like(slopes(loss, params, engine=engine), 1e-12)


@pytest.mark.parametrize("engine", ["fused", "replay"])
def test_the_second_device_alone(engine: str, cuda: Cuda, slopes: Run) -> None:
    cuda.need(2)
    loss, params = TANH.make()
    ours = slopes(loss, params, engine=engine, device="gpu:1")
    assert set(ours.engines.values()) == {f"{engine} on gpu:1"}
    ours.assert_like(slopes(loss, params, engine=engine, device="cpu"), 1e-9)


@pytest.mark.parametrize("engine", ["fused", "replay"])
def test_little_memory_means_more_parts_and_the_same_numbers(
    engine: str, cuda: Cuda, slopes: Run
) -> None:
    loss, params = RELU.make()
    launched: list[int] = []
    cuda.launching = lambda: launched.append(1)
    whole = slopes(loss, params, engine=engine)
    in_whole = len(launched)
    little = slopes(loss, params, engine=engine, memory="60kB")
    assert set(little.engines.values()) == {f"{engine} on gpu:0"}
    little.assert_like(whole, 1e-12)
    if engine == "fused" and not cuda.is_real:
        assert len(launched) > 2 * in_whole


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_every_kernel_is_compiled_for_the_device(precision: str, cuda: Cuda, slopes: Run) -> None:
    loss, params = RELU.make()
    slopes(loss, params, precision=precision)
    sources = list(cuda.modules)
    assert sources
    for source in sources:
        assert "differences(" in source
        if cuda.is_real:
            _assert_for_this_device(cuda_function(gpu_device(0), source, FUNCTION))
        else:
            nvrtc.need_compiler()
            assert ".entry differences" in nvrtc.compile_ptx(source, options=("--std=c++17",))


def _assert_for_this_device(function: Any) -> None:
    assert function.max_threads_per_block >= 256
    assert function.binary_version >= 50
    assert function.num_regs > 0
