"""NVIDIA's compiler, which is found and says what is wrong."""

from __future__ import annotations

import shutil

import pytest

from . import nvrtc

GOOD = """
extern "C" __global__ void scale(REAL* x, REAL by, long long n) {
    __shared__ REAL row[64];
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    row[threadIdx.x % 64] = by;
    __syncthreads();
    if (i < n) x[i] *= row[0];
}
"""
BAD = """
extern "C" __global__ void scale(double* x) {
    x[threadIdx.x] = unheard_of;
}
"""
GREEDY = """
extern "C" __global__ void fill(double* x) {
    __shared__ double row[8192];
    row[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = row[8191 - threadIdx.x];
}
"""


@pytest.fixture(autouse=True)
def _compiler() -> None:
    nvrtc.need_compiler()


@pytest.fixture(params=["nvrtc", "nvcc"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each compiler that is there."""
    if request.param == "nvcc":
        if shutil.which("nvcc") is None:
            pytest.skip("there is no nvcc")
        monkeypatch.setattr(nvrtc, "library", lambda: None)
    elif nvrtc.library() is None:
        pytest.skip("there is no NVRTC")


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("real", ["float", "double"])
def test_good_code_compiles_for_each_architecture(arch: str, real: str) -> None:
    ptx = nvrtc.compile_ptx(GOOD, arch=arch, options=(f"-DREAL={real}",))
    assert f".target {arch}" in ptx
    assert ".entry scale" in ptx
    assert (".f64" in ptx) == (real == "double")


@pytest.mark.usefixtures("either")
def test_bad_code_raises_with_the_line() -> None:
    with pytest.raises(nvrtc.CompileError, match=r'kernel\.cu\(3\).*"unheard_of" is undefined'):
        nvrtc.compile_ptx(BAD)


@pytest.mark.usefixtures("either")
def test_more_static_shared_memory_than_a_block_can_have_is_refused() -> None:
    with pytest.raises(nvrtc.CompileError, match="too much shared data"):
        nvrtc.compile_ptx(GREEDY, arch="sm_90")


@pytest.mark.usefixtures("either")
def test_resources_of_each_kernel() -> None:
    local = """
    extern "C" __global__ void local(double* x) {
        double row[300];
        for (int i = 0; i < 300; ++i) row[i] = x[i];
        x[threadIdx.x] = row[(int)x[3]];
    }
    """
    found = nvrtc.resources(GOOD + local, "sm_90", ("-DREAL=double",))
    assert found is not None
    assert set(found) == {"scale", "local"}
    assert (found["scale"].stack_frame, found["scale"].shared) == (0, 512)
    assert found["local"].stack_frame == 2400
    assert found["local"].spill_stores == found["local"].spill_loads == 0
    assert 0 < found["scale"].registers < 64


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "library", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert nvrtc.resources(GOOD) is None
    with pytest.raises(nvrtc.CompileError, match="pip install nvidia-cuda-nvrtc"):
        nvrtc.compile_ptx(GOOD)


def test_ci_has_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "available", lambda: False)
    monkeypatch.setattr(nvrtc.platform, "system", lambda: "Linux")
    monkeypatch.setattr(nvrtc.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="neither NVRTC"):
        nvrtc.need_compiler()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="neither NVRTC"):
        nvrtc.need_compiler()
