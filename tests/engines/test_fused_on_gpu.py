"""Kernels printed as CUDA against their twins on the CPU: the same numbers, the same refusals.

The CUDA source is compiled by NVIDIA's compiler, and run on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.devices import Device, kernels
from fastcheck.devices.cuda import gpu_device
from fastcheck.engines.fused import FusedEngine
from fastcheck.errors import InputError
from fastcheck.fusion import ongpu
from fastcheck.fusion.ongpu import CudaKernel

from ..cuda.nvrtc import compile_ptx, need_compiler
from ..cuda.on_standin import RawModule
from .test_fused import (
    LAYERS,
    LOSSES,
    MEMORY,
    Engines,
    Params,
    engines_of,
    network_grads,
    network_loss,
    parameters,
)

Gpu = Callable[..., Any]
_U32 = 2.0**-24


@pytest.fixture
def gpu(standin_cupy: Gpu, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    monkeypatch.setattr(kernels, "_loaded", {})
    return lambda **settings: standin_cupy(raw_module=RawModule, **settings)


def on_gpu(one: Engines, precision: str = "float64", memory: int = MEMORY) -> FusedEngine:
    device: Device = gpu_device(0)
    return FusedEngine(one.replay, one.tensor, memory, device=device, precision=precision)


def assert_twins(ours: Any, theirs: Any, relative: float) -> None:
    np.testing.assert_array_equal(ours[2], theirs[2])
    usable = ~theirs[2]
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        size = np.max(np.abs(other[usable]), initial=0.0)
        np.testing.assert_allclose(mine[usable], other[usable], rtol=0, atol=relative * size)


@pytest.mark.parametrize("name", LOSSES)
def test_a_cuda_kernel_is_the_twin_of_the_cpus(name: str, gpu: Gpu) -> None:
    gpu()
    need_compiler()
    for one in engines_of(name, 21)[::3]:
        engine = on_gpu(one)
        for exponent in (-31, -11):
            steps = np.full(one.tensor.size, 2.0**exponent)
            twin = one.fused.computed(one.indices(), steps)
            assert_twins(engine.computed(one.indices(), steps), twin, 1e-12)
        for kernel in engine.kernels():
            assert isinstance(kernel, CudaKernel)
            assert ".entry differences" in compile_ptx(kernel._code, options=("--std=c++17",))


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 64, 200])
@pytest.mark.parametrize("wanted", [1, 2**10, 2**30])
def test_teams_of_any_size_add_up_alike(
    samples: int, wanted: int, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ongpu, "_WANTED", wanted)
    gpu()
    for name in ("batch norm", "picked log-softmax behind ReLU"):
        one = engines_of(name, samples)[0]
        engine, steps = on_gpu(one), np.full(one.tensor.size, 2.0**-31)
        ours = engine.computed(one.indices(), steps)
        assert_twins(ours, one.fused.computed(one.indices(), steps), 1e-12)
        again = engine.computed(one.indices(), steps)
        np.testing.assert_array_equal(ours[0], again[0])


@pytest.mark.parametrize("name", ["log-softmax", "tanh", "three hidden layers", "layer norm"])
def test_float32_differs_by_its_rounding(name: str, gpu: Gpu) -> None:
    gpu()
    for one in engines_of(name, 21):
        engine, steps = on_gpu(one, "float32"), np.full(one.tensor.size, 2.0**-31)
        ours, theirs = (e.computed(one.indices(), steps) for e in (engine, one.fused))
        assert_twins(ours, theirs, 64 * _U32)
        # It really is float32.
        assert np.any(ours[0] != theirs[0])
        assert engine.unit_roundoff == _U32
        assert engine.careful is one.replay


@pytest.mark.parametrize("memory", [1, 400, 4_000])
def test_little_memory_means_parts_and_the_same_bits(memory: int, gpu: Gpu) -> None:
    gpu()
    one = engines_of("log-softmax", 21)[0]
    steps = np.full(one.tensor.size, 2.0**-31)
    whole = on_gpu(one).computed(one.indices(), steps)
    parts = on_gpu(one, memory=memory).computed(one.indices(), steps)
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_array_equal(parts[1], whole[1])


def test_less_at_a_time_where_the_memory_of_the_device_ends(gpu: Gpu) -> None:
    machine = gpu()
    one = engines_of("log-softmax", 21)[0]
    indices = np.tile(one.indices(), 200)
    steps = np.full(len(indices), 2.0**-31)
    engine = on_gpu(one)
    whole = engine.computed(indices, steps)
    machine.limit = machine.used[0] + 40_000
    engine = on_gpu(one)
    np.testing.assert_array_equal(engine.computed(indices, steps)[0], whole[0])
    assert machine.counts["releases"]


def test_a_device_without_any_memory_leaves_the_replay(gpu: Gpu) -> None:
    gpu(limit=100)
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params), device="gpu")
    assert report.passed
    assert {tensor.device for tensor in report.tensors.values()} == {"cpu"}
    reason = report.tensors["W1"].engine_reason
    assert "; on gpu:0 no kernel, because it could not be made (OutOfMemoryError: " in reason
    assert "; replaying it failed (InputError: `memory` is " in reason
    assert "W1, b1, W2, b2 computed on the CPU: no kernel, because" in " ".join(report.notes)


@pytest.mark.parametrize("device", ["gpu", "gpu:1", "gpu:0,1", "gpu:2,0,1"])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_checks_on_devices(device: str, precision: str, gpu: Gpu) -> None:
    gpu(devices=3)
    params = parameters(LAYERS)
    right = network_grads(params)
    options: dict[str, Any] = {"device": device, "precision": precision}
    report = fastcheck.check(network_loss, params, right, **options)
    assert report.passed, str(report)
    place = "gpu:0" if device == "gpu" else device
    assert {tensor.engine_and_device for tensor in report.tensors.values()} == {f"fused on {place}"}
    assert place in str(report)
    assert ("float32" in " ".join(report.notes)) == (precision == "float32")
    for name in right:
        wrong = right | {name: right[name] * 1.001}
        assert fastcheck.check(network_loss, params, wrong, **options).failed == (name,)


def test_a_second_check_compiles_nothing(gpu: Gpu) -> None:
    gpu()
    params = parameters(LAYERS)
    fastcheck.check(network_loss, params, network_grads(params), device="gpu")
    before = RawModule.compiled
    params = parameters(LAYERS, seed=6)
    assert fastcheck.check(network_loss, params, network_grads(params), device="gpu").passed
    assert RawModule.compiled == before


def test_a_kernel_that_is_wrong_is_not_used(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu()
    original = CudaKernel.run

    def wrong(self: CudaKernel, positions: Any, steps: Any) -> Any:
        plus, minus, refused = original(self, positions, steps)
        return plus * 1.001, minus, refused

    monkeypatch.setattr(CudaKernel, "run", wrong)
    params: Params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params), device="gpu")
    assert report.passed
    for tensor in report.tensors.values():
        assert tensor.engine_and_device == "replay on gpu:0"
        assert "; no kernel, because it changes the loss by" in tensor.engine_reason


def test_a_compiler_that_fails_leaves_the_replay(standin_cupy: Gpu) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("libnvrtc.so.13 is missing")

    standin_cupy(raw_module=broken)
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params), device="gpu")
    assert report.passed
    assert "libnvrtc.so.13 is missing" in report.tensors["W1"].engine_reason


@pytest.mark.parametrize("launch", range(1, 14))
@pytest.mark.parametrize("engine", ["auto", "replay"])
def test_whatever_fails_on_the_way_leaves_the_work_to_the_host(
    standin_cupy: Gpu, monkeypatch: pytest.MonkeyPatch, launch: int, engine: str
) -> None:
    monkeypatch.setattr(kernels, "_loaded", {})
    left = [launch if engine == "auto" else 20 * launch]

    def lost(_: str = "") -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise RuntimeError("cudaErrorLaunchFailure: unspecified launch failure")

    class Module(RawModule):
        def get_function(self, name: str) -> Callable[..., None]:
            function = super().get_function(name)

            def launch(*given: Any) -> None:
                lost()
                function(*given)

            return launch

    machine = standin_cupy(raw_module=Module)
    if engine == "replay":
        machine.on_launch = lost
    params = parameters(LAYERS)
    options: dict[str, Any] = {"device": "gpu", "engine": engine}
    report = fastcheck.check(network_loss, params, network_grads(params), **options)
    assert report.passed, str(report)
    left[0] = launch if engine == "auto" else 20 * launch
    wrong = network_grads(params)
    wrong["b1"] = wrong["b1"] * 1.001
    again = fastcheck.check(network_loss, params, wrong, **options)
    assert again.failed == ("b1",)
    if left[0] <= 0:
        reasons = [tensor.engine_reason for tensor in again.tensors.values()]
        assert "cudaErrorLaunchFailure" in " ".join([*again.notes, *reasons])
    if engine == "replay" and left[0] <= 0:
        assert "cpu" in {tensor.device for tensor in again.tensors.values()}


def test_an_error_of_the_loss_is_not_taken_for_one_of_the_device(gpu: Gpu) -> None:
    gpu()

    def loss(w: Any) -> Any:
        if not w[0] > 0.5:
            raise ZeroDivisionError("mine")
        return np.sum(w**2)

    w = np.array([0.5 + 2.0**-40, 1.0])
    with pytest.raises(ZeroDivisionError, match="mine"):
        fastcheck.check(loss, w, 2 * w, device="gpu")


@pytest.mark.parametrize("device", ["gpu", "gpu:1", "gpu:0,1"])
@pytest.mark.parametrize("engine", ["auto", "replay"])
def test_the_loss_is_called_where_the_user_is(device: str, engine: str, gpu: Gpu) -> None:
    gpu(devices=2)
    import threading

    import cupy

    mine, thread = cupy.cuda.Stream().use(), threading.get_ident()

    def loss(w: Any) -> Any:
        assert threading.get_ident() == thread
        assert cupy.cuda.Device().id == 0
        assert cupy.cuda.get_current_stream() is mine
        return np.sum(w**2) if w[0] > 0.5 else np.sum(w**2) + 0.0 * w[1]

    # A step that crosses over, so that copies are left to the loss.
    w = np.array([0.5 + 2.0**-40, 1.0, 2.0])
    options: dict[str, Any] = {"device": device, "engine": engine, "step": 2.0**-20}
    report = fastcheck.check(loss, w, 2 * w, **options)
    assert report.passed, str(report)
    assert report.tensors["params"].device == {"gpu": "gpu:0"}.get(device, device)
    assert report.tensors["params"].loss_calls
    assert cupy.cuda.get_current_stream() is mine
    assert cupy.cuda.Device().id == 0


def test_a_step_below_the_range_of_float32_is_left_to_float64(gpu: Gpu) -> None:
    gpu()
    X = np.random.default_rng(0).normal(size=(20, 4))
    size = 1e-30
    w = {"w": np.linspace(-1, 1, 4) * size}

    def loss(p: Params) -> Any:
        return np.mean(np.tanh(X @ (p["w"] / size)))

    right = X.T @ (1 - np.tanh(X @ (w["w"] / size)) ** 2) / 20 / size
    for engine in ("fused", "replay"):
        options: dict[str, Any] = {"device": "gpu", "precision": "float32", "engine": engine}
        options["step"] = 2e-44
        assert fastcheck.check(loss, w, {"w": right}, **options).passed
        wrong = right.copy()
        wrong[2] *= 1.019
        assert not fastcheck.check(loss, w, {"w": wrong}, **options).passed


def test_what_float32_cannot_tell_asks_for_float64(gpu: Gpu) -> None:
    gpu()
    X = np.random.default_rng(0).normal(size=(20, 4))
    params = {"w": np.full(4, 1e-3)}

    def loss(p: Params) -> Any:
        return 1e6 * np.sum(p["w"]) + 1e-3 * np.mean(np.tanh(X @ p["w"])) - 1e6 * np.sum(p["w"])

    right = 1e-3 * X.T @ (1 - np.tanh(X @ params["w"]) ** 2) / 20
    options: dict[str, Any] = {"device": "gpu", "precision": "float32"}
    report = fastcheck.check(loss, params, {"w": right}, **options)
    assert report.verdict in (fastcheck.Verdict.PASS, fastcheck.Verdict.INCONCLUSIVE)
    if report.verdict is fastcheck.Verdict.INCONCLUSIVE:
        assert 'Leave `precision` at "float64".' in report.tensors["w"].reason
    assert fastcheck.check(loss, params, {"w": right}, device="gpu").passed


def test_what_fails_without_having_been_asked_for_is_not_missed(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu()
    monkeypatch.setattr("fastcheck.engines.plan.seconds_to_start_gpu", lambda: 0.0)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("cudaErrorDevicesUnavailable")

    monkeypatch.setattr("standin.cuda.Stream.__init__", broken)
    gpu_device.cache_clear()
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert report.passed
    assert not report.notes
    with pytest.raises(InputError, match=r"cannot be used \(RuntimeError: cudaErrorDevices"):
        fastcheck.check(network_loss, params, network_grads(params), device="gpu")


def test_the_kernel_of_the_cpu_is_there_when_the_gpus_is_not(
    standin_cupy: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastcheck.engines.plan.seconds_to_start_gpu", lambda: 0.0)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler")

    standin_cupy(raw_module=broken)
    params = parameters(LAYERS)
    for options in ({"engine": "fused"}, {"engine": "fused", "device": "gpu"}):
        report = fastcheck.check(network_loss, params, network_grads(params), **options)
        assert report.passed
        assert {tensor.engine_and_device for tensor in report.tensors.values()} == {"fused"}
        assert "no compiler" in " ".join(report.notes)


def test_the_memory_of_the_device_is_given_back(gpu: Gpu) -> None:
    machine = gpu()
    params = parameters(LAYERS)
    for _ in range(3):
        fastcheck.check(network_loss, params, network_grads(params), device="gpu")
        assert machine.used[0] == 0
        assert machine.held[0] == 0


def test_a_long_check_goes_to_the_gpu_by_itself(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu()
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert {tensor.device for tensor in report.tensors.values()} == {"cpu"}
    monkeypatch.setattr("fastcheck.engines.plan.seconds_to_start_gpu", lambda: 0.0)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert report.passed
    assert {tensor.engine_and_device for tensor in report.tensors.values()} == {"fused on gpu:0"}
    report = fastcheck.check(network_loss, params, network_grads(params), device="cpu")
    assert {tensor.device for tensor in report.tensors.values()} == {"cpu"}


def test_without_a_gpu_a_long_check_stays_where_it_is(
    standin_cupy: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin_cupy(devices=0)
    monkeypatch.setattr("fastcheck.engines.plan.seconds_to_start_gpu", lambda: 0.0)
    params = parameters(LAYERS)
    report = fastcheck.check(network_loss, params, network_grads(params))
    assert report.passed
    assert {tensor.device for tensor in report.tensors.values()} == {"cpu"}


@pytest.mark.parametrize("device", ["gpu", "gpu:0,1"])
def test_an_explanation_names_the_device(device: str, gpu: Gpu) -> None:
    gpu(devices=2)
    plan = fastcheck.explain(network_loss, parameters(LAYERS), device=device)
    place = {"gpu": "gpu:0"}.get(device, device)
    for tensor in plan.tensors:
        assert (tensor.engine, tensor.device) == ("fused", place)
        assert tensor.operations
    assert f"fused: traced, and cross-checked against `loss`; on {place}" in " ".join(
        str(plan).split()
    )


def test_float32_on_the_cpu_is_for_stacks_alone() -> None:
    params = parameters(LAYERS)
    right = network_grads(params)
    report = fastcheck.check(network_loss, params, right, precision="float32", engine="replay")
    assert report.passed, str(report)
    for tensor in report.tensors.values():
        assert tensor.engine_and_device == "replay"
        assert tensor.engine_reason.endswith("; on cpu in float32")
        assert 1e-8 < tensor.resolution < 1e-3
    wrong = right | {"W2": right["W2"] * 1.001}
    options: dict[str, Any] = {"precision": "float32", "engine": "replay"}
    assert fastcheck.check(network_loss, params, wrong, **options).failed == ("W2",)
    report = fastcheck.check(network_loss, params, right, precision="float32", engine="fused")
    assert max(tensor.resolution for tensor in report.tensors.values()) < 1e-8
    assert not report.notes


def test_digits_that_cancel_are_not_left_to_float32() -> None:
    params = {"w": np.linspace(0.1, 0.9, 7)}

    def loss(p: Params) -> Any:
        return np.sum(np.i0(p["w"]) ** 2)

    h = 1e-6
    slope = (np.i0(params["w"] + h) ** 2 - np.i0(params["w"] - h) ** 2) / (2 * h)
    report = fastcheck.check(loss, params, {"w": slope}, precision="float32", tolerance=1e-6)
    assert report.passed, str(report)
    assert not report.notes
