"""Every test here runs twice: on the stand-in for CuPy, and, marked `gpu`, on a real device.

``pytest -m gpu`` on a machine with a CUDA device runs the second kind alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcheck.devices import kernels
from fastcheck.devices.cuda import gpu_device
from fastcheck.devices.gpu import gpu_status
from fastcheck.options import Options
from fastcheck.params import ParamTree
from fastcheck.run import Run
from fastcheck.verdict.tolerances import tolerance_for

from ..cuda.host import need_compiler
from ..cuda.on_standin import RawModule

Vector = NDArray[np.float64]


@dataclass
class Cuda:
    """CUDA devices, real or not.

    Attributes
    ----------
    xp
        CuPy, or what stands in for it.
    devices
        How many there are.
    machine
        The stand-in's; None on a real device.
    modules
        The sources that CuPy was given to compile.
    launching
        Called before each launch of fastcheck's kernels on the stand-in; a test may raise from it.
    """

    xp: Any
    devices: int
    machine: Any = None
    modules: list[str] = field(default_factory=list)
    launching: Callable[[], None] = lambda: None

    @property
    def is_real(self) -> bool:
        return self.machine is None

    def need(self, devices: int) -> None:
        """Skip the test if there are fewer devices."""
        if self.devices < devices:
            pytest.skip(f"this needs {devices} CUDA devices, and there is {self.devices}")


@pytest.fixture(params=["stand-in", pytest.param("device", marks=pytest.mark.gpu)])
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """The stand-in with two devices, or the real ones; no kernel has been compiled yet."""
    monkeypatch.setattr(kernels, "_loaded", {})
    gpu_device.cache_clear()
    found = _real() if request.param == "device" else _standin(monkeypatch)
    make = found.xp.RawModule

    def counted(*given: Any, **keywords: Any) -> Any:
        found.modules.append(keywords["code"])
        return make(*given, **keywords)

    monkeypatch.setattr(found.xp, "RawModule", counted)
    yield found
    gpu_device.cache_clear()


def _real() -> Cuda:
    return Cuda(import_module("cupy"), len(gpu_status().devices))


def _standin(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    need_compiler()
    install: Any = import_module("standin").install
    machine = install(monkeypatch, devices=2)
    found = Cuda(sys.modules["cupy"], 2, machine)

    def module(*given: Any, **keywords: Any) -> _Module:
        return _Module(RawModule(*given, **keywords), found)

    machine.raw_module = module
    return found


@dataclass(frozen=True)
class _Module:
    """A module whose kernels announce their launches."""

    module: RawModule
    owner: Cuda

    def get_function(self, name: str) -> Callable[..., None]:
        function = self.module.get_function(name)

        def launch(*given: Any, **keywords: Any) -> None:
            self.owner.launching()
            function(*given, **keywords)

        return launch


@dataclass(frozen=True)
class Slopes:
    """The numerical gradient of each tensor by the engine it was given, and what that was."""

    values: dict[str, Vector]
    engines: dict[str, str]

    def assert_like(self, other: Slopes, relative: float) -> None:
        """Compare each tensor, relative to its largest element."""
        assert self.values.keys() == other.values.keys()
        for name, theirs in other.values.items():
            size = np.abs(theirs).max()
            np.testing.assert_allclose(
                self.values[name], theirs, rtol=0, atol=relative * size, err_msg=name
            )


def slopes(
    loss: Callable[[Any], Any],
    params: Any,
    *,
    step: float = 2.0**-31,
    engine: str = "fused",
    device: str = "gpu",
    precision: str = "float64",
    memory: Any = None,
) -> Slopes:
    """Run the engines of all tensors at one step, and nothing around them."""
    tree = ParamTree.from_user(params)
    options = Options.validated(
        tree,
        method="central",
        step="auto",
        engine=engine,
        device=device,
        precision=precision,
        batched=False,
        memory=memory,
        progress=False,
        seed=0,
    )
    run = Run(loss, tree, options, tolerance_for([tensor.dtype for tensor in tree]))
    values, engines = {}, {}
    for tensor in tree:
        one = run.assign(tensor).engine
        indices = np.arange(tensor.size)
        found = one.differences(tensor.name, indices, np.full(tensor.size, step))
        values[tensor.name] = (found.plus + found.minus) / (2 * step)
        engines[tensor.name] = f"{one.name} on {one.device}"
    return Slopes(values, engines)


@pytest.fixture(name="slopes")
def _slopes() -> Callable[..., Slopes]:
    return slopes
