"""`HostModule` behind the stand-in for CuPy: a whole GPU engine that runs on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .host import HostKernel, HostModule, need_compiler


class RawModule:
    """What `cupy.RawModule` does, for arrays of the stand-in."""

    compiled: int = 0
    """How many there have been in this process."""

    def __init__(self, code: str, options: Sequence[str] = (), **_: Any) -> None:
        need_compiler()
        RawModule.compiled += 1
        self._module = HostModule(code, options)

    def get_function(self, name: str) -> Callable[..., None]:
        """Return a kernel that takes arrays of the stand-in."""
        kernel: HostKernel = self._module.get_function(name)

        def launch(grid: Any, block: Any, args: Sequence[Any], **options: Any) -> None:
            kernel(grid, block, [getattr(arg, "_host", arg) for arg in args], **options)

        return launch
