"""CUDA C source through NVIDIA's own compiler, which needs no GPU: NVRTC, or nvcc in its place."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# Where the wheels of NVRTC put it, below a folder that Python imports from: of CUDA 13, and 12.
_IN_WHEELS = ("nvidia/cu13/lib/libnvrtc.so.13", "nvidia/cuda_nvrtc/lib/libnvrtc.so.12")
_FILE = "kernel.cu"  # its name in the compiler's messages


class CompileError(Exception):
    """The compiler refused the source; the message is its log."""


@dataclass(frozen=True)
class Resources:
    """What a thread of a kernel takes up, and the static shared memory of a block."""

    registers: int
    stack_frame: int
    spill_stores: int
    spill_loads: int
    shared: int


@dataclass(frozen=True)
class _Compiled:
    ptx: str
    log: str


def available() -> bool:
    """Tell whether there is a compiler: NVRTC or nvcc."""
    return library() is not None or shutil.which("nvcc") is not None


def need_compiler() -> None:
    """Skip the test that runs if there is no compiler; in CI, where one is promised, fail it."""
    if available():
        return
    reason = "there is neither NVRTC (pip install nvidia-cuda-nvrtc) nor nvcc"
    promised = platform.system() == "Linux" and platform.machine() == "x86_64"
    if os.environ.get("CI") and promised:
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def library() -> ctypes.CDLL | None:
    """Return NVRTC, from its wheel or from the system, or None where there is none."""
    found = [path for at in sys.path for name in _IN_WHEELS if (path := Path(at, name)).exists()]
    names = [*map(str, found), ctypes.util.find_library("nvrtc")]
    for name in filter(None, names):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def compile_ptx(code: str, *, arch: str = "sm_90", options: Sequence[str] = ()) -> str:
    """Return the PTX of CUDA C source.

    With an `arch` such as sm_90 the machine code is made as well, so that a kernel with too much
    shared memory is refused; with one such as compute_90 it is not.

    Raises
    ------
    CompileError
        With the compiler's log, which names the lines.
    """
    return _compiled(code, arch, options).ptx


def resources(
    code: str, arch: str = "sm_90", options: Sequence[str] = ()
) -> dict[str, Resources] | None:
    """Return what each kernel takes up, by its (mangled) name; None where there is no compiler."""
    if not available():
        return None
    log = _compiled(code, arch, (*options, "-Xptxas", "-v")).log
    entries = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    return {
        name: Resources(
            registers=_number(r"Used (\d+) registers", text),
            stack_frame=_number(r"(\d+) bytes stack frame", text),
            spill_stores=_number(r"(\d+) bytes spill stores", text),
            spill_loads=_number(r"(\d+) bytes spill loads", text),
            shared=_number(r"(\d+) bytes smem", text, missing=0),
        )
        for name, text in zip(entries[::2], entries[1::2], strict=True)
    }


def _number(pattern: str, text: str, missing: int | None = None) -> int:
    match = re.search(pattern, text)
    if match is not None:
        return int(match[1])
    if missing is None:
        raise ValueError(f"no {pattern!r} in the compiler's log:\n{text}")
    return missing


def _compiled(code: str, arch: str, options: Sequence[str]) -> _Compiled:
    nvrtc = library()
    options = (f"-arch={arch}", *options)
    if nvrtc is not None:
        return _by_nvrtc(nvrtc, code, options)
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        return _by_nvcc(nvcc, code, options)
    raise CompileError("there is neither NVRTC (pip install nvidia-cuda-nvrtc) nor nvcc")


def _by_nvrtc(nvrtc: ctypes.CDLL, code: str, options: Sequence[str]) -> _Compiled:
    program = ctypes.c_void_p()
    _check(
        nvrtc,
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), code.encode(), _FILE.encode(), 0, None, None
        ),
    )
    try:
        raw = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = nvrtc.nvrtcCompileProgram(program, len(options), raw)
        log = _text(nvrtc, program, "ProgramLog")
        if failed:
            raise CompileError(log.strip() or _error(nvrtc, failed))
        return _Compiled(_text(nvrtc, program, "PTX"), log)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    _check(nvrtc, nvrtc[f"nvrtcGet{what}Size"](program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _check(nvrtc, nvrtc[f"nvrtcGet{what}"](program, text))
    return text.value.decode()


def _check(nvrtc: Any, failed: int) -> None:
    if failed:
        raise CompileError(_error(nvrtc, failed))


def _error(nvrtc: Any, number: int) -> str:
    """Return NVRTC's name of an error."""
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    return str(nvrtc.nvrtcGetErrorString(number).decode())


def _by_nvcc(nvcc: str, code: str, options: Sequence[str]) -> _Compiled:
    """Do with two calls of nvcc what NVRTC does with one: PTX, then machine code for the log."""
    with tempfile.TemporaryDirectory(prefix="fastcheck-nvcc-") as folder:
        Path(folder, _FILE).write_text(code)
        arch = next(o.split("=")[1] for o in options if o.startswith("-arch="))
        kinds = ("-ptx", "-cubin") if arch.startswith("sm_") else ("-ptx",)
        for kind in kinds:
            done = subprocess.run(
                [nvcc, kind, *options, _FILE, "-o", f"out{kind}"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise CompileError(done.stdout + done.stderr)
        return _Compiled(Path(folder, "out-ptx").read_text(), done.stdout + done.stderr)
