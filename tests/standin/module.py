"""The stand-in as a module, and how a test puts it in CuPy's place."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from . import machine as pretended
from .arrays import ndarray
from .cuda import MemoryPool, PinnedMemoryPool, make_cuda
from .functions import BUILT_IN, FUNCTIONS
from .machine import Machine, machine
from .recorded import RECORDED
from .ufuncs import UFUNCS, ufunc

_FROM_NUMPY = (
    "bool_ byte complex128 complex64 double dtype e euler_gamma finfo float16 float32 float64 "
    "floating generic iinfo inf int16 int32 int64 int8 int_ integer intc intp longlong nan newaxis "
    "number pi promote_types short signedinteger single uint16 uint32 uint64 uint8 "
    "unsignedinteger"
).split()


class _RandomState:
    """The state of CuPy's generator: as much as it takes to see whether it was touched."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)

    def random_sample(self, size: Any = None, dtype: Any = float) -> Any:
        return FUNCTIONS["asarray"](np.asarray(self.generator.random(size), dtype))


class RawModule:
    """`cupy.RawModule`: what it does is for the test to say."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        make = machine().raw_module
        if make is None:
            raise NotImplementedError("set `raw_module` of the stand-in's machine to run kernels")
        return make(*args, **kwargs)


class _Cupy(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in RECORDED["names"]:
            raise NotImplementedError(f"the stand-in for CuPy lacks cupy.{name}: add it")
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")


def make_cupy() -> ModuleType:
    """Return a module that looks like CuPy."""
    cupy = _Cupy("cupy")
    cupy.__version__ = RECORDED["version"]
    cupy.__path__ = []
    offered: dict[str, Any] = {name: getattr(np, name) for name in _FROM_NUMPY}
    offered |= FUNCTIONS | BUILT_IN | UFUNCS
    offered |= {
        "ndarray": ndarray,
        "ufunc": ufunc,
        "RawModule": RawModule,
        "cuda": make_cuda(),
        "get_default_memory_pool": MemoryPool,
        "get_default_pinned_memory_pool": PinnedMemoryPool,
        "random": SimpleNamespace(get_random_state=_RandomState, RandomState=_RandomState),
        "is_available": lambda: machine().devices > 0,
    }
    for name, thing in offered.items():
        setattr(cupy, name, thing)
    return cupy


def install(monkeypatch: Any, **settings: Any) -> Machine:
    """Put the stand-in in CuPy's place for one test, on a machine with these settings."""
    from fastcheck.devices.cuda import gpu_device

    new = Machine(**settings)
    monkeypatch.setattr(pretended, "_current", new)
    cupy = make_cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cupy.cuda)
    for name in ("runtime", "memory", "stream"):
        monkeypatch.setitem(sys.modules, f"cupy.cuda.{name}", getattr(cupy.cuda, name))
    special = ModuleType("cupyx.scipy.special")
    _fill_special(special)
    for name in ("cupyx", "cupyx.scipy"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cupyx.scipy.special", special)
    _count_as_installed(monkeypatch)
    gpu_device.cache_clear()
    return new


def _count_as_installed(monkeypatch: Any) -> None:
    """Have fastcheck take the stand-in for a library, and not for code of the user's."""
    from fastcheck.keep import libraries
    from fastcheck.trace import source

    folder = Path(__file__).parent
    monkeypatch.setattr(libraries, "_INSTALLED", (*libraries._INSTALLED, folder.name))
    for name in ("_INSTALLED", "_LIBRARIES"):
        monkeypatch.setattr(source, name, (*getattr(source, name), str(folder)))


def _fill_special(module: ModuleType) -> None:
    """The few special functions that are used, by SciPy."""
    from .arrays import new_array, strict

    try:
        import scipy.special
    except ImportError:
        return

    def offer(name: str) -> Any:
        def function(x: Any) -> Any:
            machine().launch(name)
            return new_array(getattr(scipy.special, name)(strict("x", x)._host))

        return function

    for name in ("erf", "erfc", "expit", "log_expit"):
        setattr(module, name, offer(name))


__all__ = ["Machine", "install", "make_cupy"]
