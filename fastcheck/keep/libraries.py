"""Telling the user's own code from that of installed libraries."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

_INSTALLED = ("site-packages", "dist-packages")


def top_package(module: str | None) -> str:
    return (module or "").partition(".")[0]


def is_machinery(module: str | None) -> bool:
    """Whether a module is fastcheck's own: its state during a check is not the user's.

    Its example problems are as good as the user's.
    """
    own = top_package(__name__)
    inside = module == own or (module or "").startswith(f"{own}.")
    return inside and not (module or "").startswith(f"{own}.problems")


def is_library(package: str) -> bool:
    """Whether a top-level package is built in, of the standard library, or installed.

    What such packages hold for themselves (caches, locks, pools) is theirs to change; undoing a
    part of it would break it.
    """
    if package in ("__main__", ""):
        return False
    if package in sys.builtin_module_names:
        return True
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None:
        return False
    path = Path(file)
    return any(part in _INSTALLED for part in path.parts) or any(
        path.is_relative_to(folder) for folder in _standard_folders()
    )


def _standard_folders() -> set[str]:
    return {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
