"""The stand-in for a device: what threads exchange, and what must not pass unseen."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from . import host
from .host import CompileError, HostModule, LaunchError

FULL = "0xffffffffu"
RNG = np.random.default_rng(7)
X86_ONLY = pytest.mark.skipif(platform.machine() != "x86_64", reason="others divide by zero")


@pytest.fixture(autouse=True)
def _compiler() -> None:
    host.need_compiler()


def run(body: str, *args: Any, block: Any = (32,), grid: Any = (1,), **options: Any) -> None:
    """Run a kernel named k, given by its parameters and body: '(double* x) { ... }'."""
    shared_mem = options.pop("shared_mem", 0)
    module = HostModule(f'extern "C" __global__ void k{body}', **options)
    module.get_function("k")(grid, block, args, shared_mem=shared_mem)


REDUCTIONS = """
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
    for (int offset = warpSize / 2; offset > 0; offset /= 2)
        value += __shfl_down_sync(0xffffffffu, value, offset);
    return __shfl_sync(0xffffffffu, value, 0);
}
template <class T>
__device__ T block_sum(T value) {
    __shared__ T sums[32];
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
    __syncthreads();
    value = threadIdx.x < blockDim.x / 32 ? sums[threadIdx.x] : (T)0;
    if (threadIdx.x < 32) value = warp_sum(value);
    if (threadIdx.x == 0) sums[0] = value;
    __syncthreads();
    value = sums[0];
    __syncthreads();
    return value;
}
extern "C" __global__ void __launch_bounds__(256)
sums(const REAL* __restrict__ x, REAL* rows, REAL* columns, long long n) {
    REAL value = 0;
    const REAL* row = x + blockIdx.x * n;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) value += __ldg(row + i);
    value = block_sum(value);
    if (threadIdx.x == 0) rows[blockIdx.x] = value;
    // Of another type in the same kernel: its shared array is another one.
    int threads = block_sum(1);
    if (threads != (int)blockDim.x) rows[blockIdx.x] = -1;
    for (long long i = threadIdx.x; i < n; i += blockDim.x) atomicAdd(&columns[i], row[i]);
}
"""


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("threads", [32, 256, 1024])
@pytest.mark.parametrize("real", ["float", "double"])
def test_sums_over_warps_and_blocks(real: str, threads: int, backwards: bool) -> None:
    dtype = np.float32 if real == "float" else np.float64
    x = RNG.normal(size=(7, 1000)).astype(dtype)
    rows, columns = np.full(7, np.nan, dtype), np.zeros(1000, dtype)
    module = HostModule(REDUCTIONS, (f"-DREAL={real}",), backwards=backwards)
    module.get_function("sums")((7,), (threads,), (x, rows, columns, 1000))
    tolerance = 1e-4 if real == "float" else 1e-12
    np.testing.assert_allclose(rows, x.sum(1), atol=tolerance)
    np.testing.assert_allclose(columns, x.sum(0), atol=tolerance)


def test_grid_stride_loop_in_three_dimensions() -> None:
    body = """(int* seen, unsigned n) {
        unsigned threads = blockDim.x * blockDim.y * blockDim.z;
        unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
        for (unsigned i = block * threads + thread; i < n; i += blocks * threads)
            seen[i] += 1 + block;
    }"""
    seen = np.zeros(1000, np.int32)
    run(body, seen, np.uint32(seen.size), grid=(3, 2, 2), block=(4, 3, 2))
    np.testing.assert_array_equal(seen, 1 + np.arange(1000) // 24 % 12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_table_of_pointers(dtype: Any) -> None:
    code = """
    extern "C" __global__ void gather(const REAL* const* arrays, REAL** outs, int n) {
        for (int a = 0; a < n; ++a)
            outs[a][threadIdx.x] = 2 * arrays[a][threadIdx.x] + a;
    }
    """
    arrays = [RNG.normal(size=8).astype(dtype) for _ in range(3)]
    outs = [np.zeros_like(a) for a in arrays]
    tables = [np.array([a.ctypes.data for a in each], np.uint64) for each in (arrays, outs)]
    real = "float" if dtype == np.float32 else "double"
    HostModule(code, ("-D", f"REAL={real}")).get_function("gather")((1,), (8,), (*tables, 3))
    for i, (array, out) in enumerate(zip(arrays, outs, strict=True)):
        np.testing.assert_array_equal(out, 2 * array + dtype(i))


TYPES = {
    "int": np.int32,
    "unsigned": np.uint32,
    "long long": np.int64,
    "float": np.float32,
    "double": np.float64,
}


@pytest.mark.parametrize("ctype", TYPES)
def test_shuffles_of_every_kind_by_width(ctype: str) -> None:
    body = f"""(const {ctype}* in, {ctype}* out, int width) {{
        int t = threadIdx.x;
        {ctype} v = in[t];
        out[t] = __shfl_sync({FULL}, v, 3, width);
        out[32 + t] = __shfl_up_sync({FULL}, v, 2, width);
        out[64 + t] = __shfl_down_sync({FULL}, v, 2, width);
        out[96 + t] = __shfl_xor_sync({FULL}, v, 5, width);
    }}"""
    lane = np.arange(32)
    values = (lane * 3 - 7).astype(TYPES[ctype])
    for width in (4, 8, 32):
        out = np.zeros((4, 32), TYPES[ctype])
        run(body, values, out, np.int32(width))
        at, start = lane % width, lane - lane % width
        xor = lane ^ 5
        sources = [
            start + 3 % width,
            np.where(at >= 2, lane - 2, lane),
            np.where(at + 2 < width, lane + 2, lane),
            np.where(xor < start + width, xor, lane),  # of earlier groups one may read
        ]
        np.testing.assert_array_equal(out, values[np.array(sources)])


def test_masks_split_a_warp_and_votes_count_their_lanes_alone() -> None:
    body = """(unsigned* out) {
        unsigned t = threadIdx.x, mask = t < 20 ? 0x000fffffu : 0xfff00000u;
        for (unsigned i = 0; i < (t < 20 ? 3 : 1); ++i) {
            out[t] = __ballot_sync(mask, t % 2);
            out[32 + t] = __any_sync(mask, t == 4);
            out[64 + t] = __all_sync(mask, t >= 20);
            __syncwarp(mask);
        }
        out[96 + t] = __syncthreads_or(t == 9) + 10 * __syncthreads_and(t == 9)
                    + 100 * __syncthreads_count(t < 5);
    }"""
    out = np.zeros((4, 32), np.uint32)
    run(body, out)
    low = np.arange(32) < 20
    np.testing.assert_array_equal(out[0], np.where(low, 0x000AAAAA, 0xAAA00000))
    np.testing.assert_array_equal(out[1], low)
    np.testing.assert_array_equal(out[2], ~low)
    np.testing.assert_array_equal(out[3], 501)


def test_threads_that_have_returned_are_absent() -> None:
    body = f"""(double* x, int n) {{
        __shared__ double shared[64];
        int t = threadIdx.x;
        if (t >= n) return;
        shared[t] = t;
        __syncthreads();
        x[t] = shared[n - 1 - t];
        x[64 + t] = __shfl_down_sync({FULL}, (double)t, 1);
    }}"""
    x = np.zeros(128)
    run(body, x, 40, block=(64,))
    np.testing.assert_array_equal(x[:40], np.arange(40)[::-1])
    np.testing.assert_array_equal(x[64:103], [*range(1, 32), 31, *range(33, 40)])
    assert np.isnan(x[103])  # lane 7 of the second warp reads from one that has returned


def test_block_that_is_no_multiple_of_a_warp() -> None:
    out = np.zeros(40, np.uint32)
    run(f"(unsigned* x) {{ x[threadIdx.x] = __ballot_sync({FULL}, 1); }}", out, block=(40,))
    np.testing.assert_array_equal(out, [0xFFFFFFFF] * 32 + [0xFF] * 8)


DIVERGED = {
    "half of a warp reaches the shuffle": (
        f"""(double* x) {{
            if (threadIdx.x < 16)
                x[0] = __shfl_xor_sync({FULL}, x[0], 1);
            __syncthreads();
        }}""",
        [
            r"block \(0, 0, 0\)",
            r"threads 0-15 wait at __shfl_xor_sync, line 3, mask 0xffffffff",
            r"threads 16-63 wait at __syncthreads, line 4",
        ],
    ),
    "a barrier in a branch": (
        """(double* x) {
            if (threadIdx.x % 2)
                __syncthreads();
            x[0] = 1;
            __syncthreads();
        }""",
        [r"threads 0, 2, 4, .*62 wait at __syncthreads, line 5", r"threads 1, 3.*, line 3"],
    ),
    "both branches have a barrier": (
        """(double* x) {
            if (threadIdx.x < 32)
                __syncthreads();
            else
                __syncthreads();
        }""",
        [r"threads 0-31 wait at __syncthreads, line 3", r"threads 32-63 .*line 5"],
    ),
    "masks that differ": (
        """(double* x) {
            if (threadIdx.x >= 32) return;
            __syncwarp(threadIdx.x < 8 ? 0xffffffffu : 0xffffff00u | threadIdx.x >> 4);
        }""",
        [r"threads 0-7 wait at __syncwarp, line 3, mask 0xffffffff", r"32-63 have returned"],
    ),
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("case", DIVERGED)
def test_divergence_fails_and_says_who_waits_where(case: str, backwards: bool) -> None:
    body, said = DIVERGED[case]
    with pytest.raises(LaunchError, match=r"kernel k, block .* have diverged") as caught:
        run(body, np.zeros(1), block=(64,), backwards=backwards)
    for pattern in said:
        assert re.search(pattern, str(caught.value)), str(caught.value)


def test_a_launch_works_after_one_that_failed() -> None:
    code = f"""extern "C" __global__ void k(int* x, int lanes) {{
        __syncthreads();
        if (threadIdx.x < lanes) x[threadIdx.x] = __shfl_sync({FULL}, 5, 0);
        else __syncthreads();
    }}"""
    kernel, x = HostModule(code).get_function("k"), np.zeros(32, np.int32)
    with pytest.raises(LaunchError, match="diverged"):
        kernel((2,), (32,), (x, 7))
    kernel((2,), (32,), (x, 32))
    np.testing.assert_array_equal(x, 5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("__shfl_sync(0xfffffffeu, x[0], 1)", "the mask .* lacks the thread"),
        ("__shfl_sync(0xffffffffu, x[0], 1, 12)", "width of a shuffle is a power of two"),
        ("x[0]; assert(x[0] > 2)", r"assert\(x\[0\] > 2\), line 2"),
        ("x[0]; __trap()", r"__trap\(\), line 2"),
        ("x[1ll << 40]", "where no array is"),
        ("((double**)nullptr)[3][0]", "access to address 0x18, where no array is"),
        ("((double**)uninitialised)[1][0]", "access to no valid address"),
        pytest.param("9 / (int)x[0]", "division of an integer by zero", marks=X86_ONLY),
        ("dynamic[1].x", "beyond the 16 bytes of dynamic shared memory"),
        ("deep(x, 1 << 20)", "beyond the 524288 bytes of its stack"),
    ],
)
def test_faults_fail_the_launch_alone(call: str, said: str) -> None:
    code = f"""
    __device__ __noinline__ double deep(double* x, int n) {{
        double local[100]; for (int i = 0; i < 100; ++i) local[i] = x[0] + n;
        return n ? deep(local, n - 1) + local[n % 100] : 0;
    }}
    extern "C" __global__ void k(double* x) {{
        extern __shared__ double2 dynamic[];
        __shared__ double* uninitialised[2];
#line 2
        x[0] = {call};
    }}"""
    kernel = HostModule(code).get_function("k")
    with pytest.raises(
        LaunchError, match=rf"kernel k, block \(0, 0, 0\), thread \(0, 0, 0\).*{said}"
    ):
        kernel((1,), (2,), (np.zeros(1),), shared_mem=16)


def test_thousands_of_local_numbers() -> None:
    body = """(double* x) {
        double local[8000];
        for (int i = 0; i < 8000; ++i) local[i] = threadIdx.x + i;
        __syncthreads();
        x[threadIdx.x] = local[7999 - (int)threadIdx.x];
    }"""
    x = np.zeros(256)
    run(body, x, block=(256,))
    np.testing.assert_array_equal(x, 7999)


def test_shared_memory_is_poisoned_before_every_block() -> None:
    body = """(double* x, int* y, const double* in) {
        __shared__ double fixed[4];
        __shared__ float single;
        extern __shared__ double dynamic[];
        double* out = x + 4 * blockIdx.x;
        out[0] = fixed[3];
        out[1] = single;
        out[2] = dynamic[1];
        out[3] = in[0];
        y[blockIdx.x] = ((int*)fixed)[0];
        for (int i = 0; i < 4; ++i) fixed[i] = single = dynamic[i % 2] = 1;
    }"""
    x, y = np.zeros((2, 4)), np.zeros(2, np.int32)
    run(body, x, y, np.ones(1), grid=(2,), block=(1,), shared_mem=16)
    assert np.isnan(x[:, :3]).all()
    assert (x[:, 3] == 1).all()
    assert (abs(y) > 2**30).all()


def test_the_other_order_shows_a_barrier_that_is_missing() -> None:
    body = """(double* x) {
        __shared__ double shared[64];
        shared[threadIdx.x] = threadIdx.x;
        if (threadIdx.x >= 32) x[threadIdx.x - 32] = shared[threadIdx.x - 32];
    }"""
    found = []
    for backwards in (False, True):
        x = np.zeros(32)
        run(body, x, block=(64,), backwards=backwards)
        found.append(bool(np.isnan(x).all()))
    assert found == [False, True]


def test_dynamic_shared_memory_outside_of_functions_and_in_templates() -> None:
    code = """
    extern __shared__ __align__(16) unsigned char bytes[];
    template <class T> __device__ T last(int n) {
        T* values = reinterpret_cast<T*>(bytes);
        values[threadIdx.x] = threadIdx.x;
        __syncthreads();
        return values[n - 1 - threadIdx.x];
    }
    template <class T> __global__ void reverse(T* x, int n) { x[threadIdx.x] = last<T>(n); }
    """
    x = np.zeros(64, np.float32)
    HostModule(code).get_function("reverse<float>")((1,), (64,), (x, 64), shared_mem=256)
    np.testing.assert_array_equal(x, np.arange(64)[::-1])


def test_rounding_is_as_written() -> None:
    body = """(const double* a, double* out) {
        out[0] = __dadd_rn(__dmul_rn(a[0], a[0]), -a[1]);
        out[1] = fma(a[0], a[0], -a[1]);
        out[2] = a[0] * a[0] - a[1];
        out[3] = __fma_rn(a[0], a[0], -a[1]);
    }"""
    a = np.array([1 + 2.0**-30, 1 + 2.0**-29])  # a₀² is a₁ + 2⁻⁶⁰, and rounds to a₁
    for contract, third in ((False, 0.0), (True, 2.0**-60 if host._has_fma() else 0.0)):
        out = np.ones(4)
        run(body, a, out, block=(1,), contract=contract)
        np.testing.assert_array_equal(out, [0.0, 2.0**-60, third, 2.0**-60])
    out = np.ones(4)
    run(body, a, out, block=(1,), options=("--fmad=false", "--std=c++17", "-lineinfo"))
    assert out[2] == 0.0


def test_scalars_arrive_as_they_are() -> None:
    body = """(double* out, double d, float f, long long q, int i, unsigned u, bool b) {
        out[0] = d; out[1] = f; out[2] = q; out[3] = i; out[4] = u; out[5] = b;
    }"""
    out = np.zeros(6)
    run(body, out, np.float64(0.1), np.float32(0.1), -(2**40), np.int32(-3), 2**32 - 1, True)
    np.testing.assert_array_equal(out, [0.1, np.float32(0.1), -(2**40), -3, 2**32 - 1, 1])


X = np.zeros((4, 4))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((X, X, 1), "takes 4 arguments, not 3"),
        ((X, X, 1, 1.0, 2), "takes 4 arguments, not 5"),
        ((X.T, X, 1, 1.0), r"args\[0\] is an array that is not C-contiguous"),
        ((X[:, :2], X, 1, 1.0), r"args\[0\] is an array that is not C-contiguous"),
        ((X.astype("f4"), X, 1, 1.0), r"args\[0\] is an array of float32, .* takes const double"),
        ((X, np.broadcast_to(0.0, ()), 1, 1.0), r"args\[1\] is a read-only array"),
        ((X, X, 1.0, 1.0), r"args\[2\] is .*float64, but the kernel takes int"),
        ((X, X, np.int64(1), 1.0), r"args\[2\] is .*int64, but the kernel takes int"),
        ((X, X, 2**40, 1.0), r"args\[2\] is the int 1099511627776, but the kernel takes int"),
        ((X, X, X, 1.0), r"args\[2\] is an array, but the kernel takes int"),
        ((X, X, 1, 1), r"args\[3\] is the int 1, but the kernel takes double"),
        ((X, X, 1, np.float32(1)), r"args\[3\] is .*float32, but the kernel takes double"),
        (([1.0], X, 1, 1.0), r"args\[0\] is \[1.0\] of type list is neither"),
        ((None, X, 1, 1.0), r"args\[0\] is None of type NoneType is neither"),
    ],
)
def test_arguments_that_a_device_would_misread_are_refused(args: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        run("(const double* a, double* b, int n, double s) {}", *args)


@pytest.mark.parametrize(
    ("grid", "block", "shared_mem", "said"),
    [
        ((1,), (2048,), 0, "block of .2048, 1, 1. threads"),
        ((1,), (64, 64), 0, "block of 4096 threads"),
        ((0,), (32,), 0, "grid of .0, 1, 1. blocks"),
        ((1, 65536), (32,), 0, "grid of .1, 65536, 1. blocks"),
        ((1,), (32,), 49160, "49160 bytes of dynamic shared memory"),
        ((1,), (1, 1, 1, 1), 0, "one to three sizes"),
    ],
)
def test_launches_that_no_device_allows(grid: Any, block: Any, shared_mem: int, said: str) -> None:
    with pytest.raises(LaunchError, match=said):
        run("() {}", grid=grid, block=block, shared_mem=shared_mem)


def test_more_shared_memory_where_it_is_asked_for() -> None:
    code = """extern "C" __global__ void k(double* x) {
        extern __shared__ double all[];
        all[12499 - (int)threadIdx.x] = 3;
        __syncthreads();
        x[threadIdx.x] = all[12468 + threadIdx.x];
    }"""
    kernel, x = HostModule(code).get_function("k"), np.zeros(32)
    kernel.max_dynamic_shared_size_bytes = 100_000
    kernel((1,), (32,), (x,), shared_mem=100_000)
    np.testing.assert_array_equal(x, 3)


def test_errors_name_the_line_of_the_source() -> None:
    with pytest.raises(CompileError, match=r"kernel\.cu:2:\d+: error: .*unheard_of"):
        HostModule('extern "C" __global__ void k(double* x) {\n x[0] = unheard_of; }')


def test_kernels_are_found_whatever_stands_around_their_names() -> None:
    code = """
    // __global__ void comment() {}
    #define KERNEL(name) extern "C" __global__ void name(int* x) { x[0] = 9; }
    template <class T> __global__ void general(T* x) { x[0] = 8; }
    extern "C" __global__ void __launch_bounds__(32 * (4), 2) before(int* x) { x[0] = 1; }
    extern "C" __global__ __launch_bounds__(128)
    void after(int* x)
    { x[0] = 2; }
    extern "C" { __global__ void declared(int*); }
    static __global__ void plain(int* x) { x[0] = 3; }
    extern "C" __global__ void declared(int* x) { x[0] = 4; }
    KERNEL(macro)
    """
    assert host.kernel_names(code) == ["before", "after", "declared", "plain"]
    module, found = HostModule(code), {}
    for name in ("before", "after", "declared", "plain", "macro", "general<int>"):
        x = np.zeros(1, np.int32)
        module.get_function(name)((1,), (1,), (x,))
        found[name] = int(x[0])
    assert list(found.values()) == [1, 2, 4, 3, 9, 8]


def test_the_same_source_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'extern "C" __global__ void once(int* x) { x[0] = N; }'
    HostModule(code, ("-DN=4",))
    compiled = []
    real_run = subprocess.run
    monkeypatch.setattr(
        host.subprocess, "run", lambda *a, **k: compiled.append(a) or real_run(*a, **k)
    )
    x = np.zeros(1, np.int32)
    HostModule(code, ("-DN=4",)).get_function("once")((1,), (1,), (x,))
    assert not compiled
    assert x[0] == 4
    HostModule(code, ("-DN=5",)).get_function("once")((1,), (1,), (x,))
    assert len(compiled) == 1
    assert x[0] == 5


def test_a_thousand_blocks_take_well_under_a_second() -> None:
    body = f"""(double* x) {{
        double v = threadIdx.x;
        for (int i = 0; i < 10; ++i) v += __shfl_xor_sync({FULL}, v, 1 << i % 5);
        x[blockIdx.x * blockDim.x + threadIdx.x] = v;
    }}"""
    x, times = np.zeros((1000, 256)), []
    for _ in range(3):
        start = perf_counter()
        run(body, x, grid=(1000,), block=(256,))
        times.append(perf_counter() - start)
    assert min(times[1:]) < 0.5
    sums = np.arange(256).reshape(8, 32).sum(1)
    np.testing.assert_array_equal(x, np.broadcast_to(sums.repeat(32) * 32.0, x.shape))


def test_launches_from_several_threads_take_turns() -> None:
    module = HostModule(REDUCTIONS, ("-DREAL=double",))
    x = RNG.normal(size=(50, 500))
    rows, columns = np.zeros((4, 50)), np.zeros((4, 500))

    def launch(i: int) -> None:
        for _ in range(5):
            module.get_function("sums")((50,), (64,), (x, rows[i], columns[i], 500))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(launch, range(4)))
    np.testing.assert_allclose(rows, np.broadcast_to(x.sum(1), rows.shape), atol=1e-12)
    np.testing.assert_allclose(columns, np.broadcast_to(5 * x.sum(0), columns.shape), atol=1e-11)


def test_fibers_of_the_system_do_the_same() -> None:
    """What processors other than x86 use."""
    tests = "sums_over or masks_split or divergence or faults_fail or returned"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", tests],
        env={**os.environ, "CUDA_HOST_FLAGS": "-DCUDA_HOST_UCONTEXT"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_ci_has_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "compiler", lambda: None)
    monkeypatch.setattr(host.platform, "system", lambda: "Linux")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs Linux and g"):
        host.need_compiler()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs Linux and g"):
        host.need_compiler()
