"""fastcheck's kernels while they run: device events around their launches, and compilations.

The functions of fastcheck that launch and load kernels are replaced for a while; nothing in
fastcheck itself is there for a benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from time import perf_counter
from typing import Any

from fastcheck.devices.kernels import is_loaded
from fastcheck.fusion import ongpu
from fastcheck.fusion.schedule import WIDTH

AGAIN = 20
"""Launches in a row, where the time of one launch is to be seen without the latency of its own."""
# What CuPy compiles everything by: of version 14, and of those before it.
_NVRTC = ("_compile_using_nvrtc_no_warning", "compile_using_nvrtc")
_BUSY_LINKS = 200_000
_BUSY = """
extern "C" __global__ void busy(double *x, long long links)
{
    double y = x[0];
    for (long long i = 0; i < links; ++i)
        y = y * 0.999999 + 1e-9;
    x[0] = y;
}
"""


@dataclass
class Launches:
    """What was launched.

    Attributes
    ----------
    seconds
        Between the device events before and after each launch; for a row of launches, of one.
    operations
        Floating-point operations of all copies: `Source.operations` counts those on vectors of
        `WIDTH` samples, loads among them.
    """

    operations: float = 0.0
    pairs: list[tuple[Any, Any, int]] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        """Wait for the device, and return the times in the order of the launches."""
        elapsed = import_module("cupy").cuda.get_elapsed_time
        for _, end, _ in self.pairs:
            end.synchronize()
        return [1e-3 * elapsed(start, end) / count for start, end, count in self.pairs]


@contextmanager
def watched(again: int = 1) -> Iterator[Launches]:
    """Put device events around every launch of a kernel, or around `again` of them in a row.

    A row waits behind a kernel that keeps the device busy, so that its launches follow upon each
    other however long the host takes for each. Repeating one changes nothing: it writes the same.
    """
    found = Launches()
    load, run_block = vars(ongpu)["cuda_function"], ongpu.CudaKernel._run_block
    event = import_module("cupy").cuda.Event

    def loaded(device: Any, source: str, name: str) -> Callable[..., None]:
        function = load(device, source, name)

        def launch(grid: Any, block: Any, arguments: Any) -> None:
            start, end = event(), event()
            if again > 1:
                _keep_busy(device)
            start.record()
            for _ in range(again):
                function(grid, block, arguments)
            end.record()
            found.pairs.append((start, end, again))

        return launch

    def counting(kernel: Any, chosen: Any, positions: Any, steps: Any, *results: Any) -> None:
        found.operations += WIDTH * kernel.source.operations * len(steps)
        run_block(kernel, chosen, positions, steps, *results)

    launching = _replaced(ongpu, "cuda_function", loaded)
    with launching, _replaced(ongpu.CudaKernel, "_run_block", counting):
        yield found


def _keep_busy(device: Any) -> None:
    """Occupy the current stream for half a millisecond or so."""
    if device not in _busy:
        module = device.xp.RawModule(code=_BUSY, options=("--std=c++17",))
        _busy[device] = module.get_function("busy"), device.xp.zeros(1)
    function, number = _busy[device]
    function((1,), (1,), (number, _BUSY_LINKS))


_busy: dict[Any, tuple[Any, Any]] = {}


@dataclass
class Compilations:
    """What was compiled.

    Attributes
    ----------
    modules
        Sources that CuPy was given.
    nvrtc
        Of them and of CuPy's own kernels, those that were in none of its caches, so that NVRTC
        compiled them; None where that cannot be seen.
    seconds
        What it took until fastcheck's kernels were loaded, from a cache or not.
    """

    modules: int = 0
    nvrtc: int | None = None
    seconds: float = 0.0


@contextmanager
def compilations() -> Iterator[Compilations]:
    """Count what CuPy compiles."""
    found = Compilations()
    cupy = import_module("cupy")
    compiler: Any = None
    with suppress(ImportError):
        compiler = import_module("cupy.cuda.compiler")
    make, load = cupy.RawModule, vars(ongpu)["cuda_function"]

    def made(*given: Any, **keywords: Any) -> Any:
        found.modules += 1
        return make(*given, **keywords)

    def loaded(device: Any, source: str, name: str) -> Any:
        if is_loaded(device, source, name):
            return load(device, source, name)
        start = perf_counter()
        try:
            return load(device, source, name)
        finally:
            found.seconds += perf_counter() - start

    with _replaced(cupy, "RawModule", made), _replaced(ongpu, "cuda_function", loaded):
        name = next((name for name in _NVRTC if hasattr(compiler, name)), None)
        if name is None:
            yield found
            return
        compile_it = getattr(compiler, name)
        found.nvrtc = 0

        def compiled(*given: Any, **keywords: Any) -> Any:
            found.nvrtc = (found.nvrtc or 0) + 1
            return compile_it(*given, **keywords)

        with _replaced(compiler, name, compiled):
            yield found


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
