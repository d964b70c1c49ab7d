"""CUDA C source run on the CPU: a stand-in for `cupy.RawModule` where there is no GPU.

The source is compiled unchanged by g++ behind `host.h`, which gives it the words of CUDA C. The
threads of a block run as fibers (`runtime.cpp`) that meet at barriers, shuffles and votes as they
do on a device; blocks run one after the other. What is undefined on a device and would go unseen
fails here or shows: diverged threads, shared memory that was never written, arguments of another
type than the parameter's, accesses to memory that is not there.

The order in which threads run is fixed; `backwards=True` turns it around, which brings out results
that depend on it, such as those of a barrier that is missing.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
HEADER, RUNTIME = HERE / "host.h", HERE / "runtime.cpp"

# What a device allows: the threads of a block in all and along each axis, and the blocks of a grid.
MAX_THREADS = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
# Dynamic shared memory without asking for more, and with.
DEFAULT_SHARED, MAX_SHARED = 48 * 1024, 227 * 1024

_COMMON = ("-std=c++17", "-fPIC", "-shared", "-w", "-U_FORTIFY_SOURCE", "-fstack-clash-protection")
# Neither aliasing rules nor signed overflow are what a test of a kernel's arithmetic is about, and
# errno is nothing that device code has.
_DEVICE = ("-fno-gnu-unique", "-fno-strict-aliasing", "-fno-math-errno", "-fno-trapping-math")

_LAUNCH = threading.Lock()  # fibers, and the static shared memory of a module, exist once


class CompileError(Exception):
    """The compiler refused the source; the message is its log."""


class LaunchError(Exception):
    """A launch that cannot be, or a kernel that failed while it ran."""


@cache
def compiler() -> str | None:
    """Return the C++ compiler, or None; the shim needs Linux and g++."""
    if platform.system() != "Linux":
        return None
    for name in (os.environ.get("CXX"), "g++", "c++"):
        path = shutil.which(name) if name else None
        if path and "Free Software Foundation" in _output(path, "--version"):
            return path
    return None


def need_compiler() -> None:
    """Skip the test that runs if there is no compiler; in CI, where one is promised, fail it."""
    if compiler() is not None:
        return
    reason = "running CUDA C on the CPU needs Linux and g++ (CXX may name it)"
    if os.environ.get("CI") and platform.system() == "Linux":
        pytest.fail(reason)
    pytest.skip(reason)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@cache
def _folder() -> Path:
    """Return the folder of what was compiled, which goes away with the process."""
    folder = tempfile.mkdtemp(prefix="fastcheck-cuda-on-cpu-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def _has_fma() -> bool:
    """Tell whether the processor multiplies and adds at once, in the instructions of x86."""
    info = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and info.exists() and " fma " in info.read_text()


def _build(source: str, suffix: str, flags: Sequence[str]) -> Path:
    """Compile a shared object, or find the one that was compiled from the same."""
    path = compiler()
    if path is None:
        raise CompileError("running CUDA C on the CPU needs Linux and g++ (CXX may name it)")
    parts = (source, *flags, HEADER.read_text())
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    library = _folder() / f"{name}.so"
    if not library.exists():
        text = library.with_suffix(suffix)
        text.write_text(source)
        command = [path, *_COMMON, *flags, f"-I{HERE}", str(text), "-o", f"{library}.part"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CompileError(done.stderr)
        os.replace(f"{library}.part", library)
    return library


@cache
def runtime() -> ctypes.CDLL:
    """Return the loaded runtime, whose names the modules that follow can see.

    `CUDA_HOST_FLAGS=-DCUDA_HOST_UCONTEXT` has it switch fibers by the system's own means, as it
    does on other processors than x86.
    """
    flags = ("-O3", "-fno-gnu-unique", *os.environ.get("CUDA_HOST_FLAGS", "").split())
    library = ctypes.CDLL(str(_build(RUNTIME.read_text(), ".cpp", flags)), mode=ctypes.RTLD_GLOBAL)
    library.cuda_host_launch.restype = ctypes.c_char_p
    return library


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[^\n]*", re.MULTILINE)
_DYNAMIC_SHARED = re.compile(
    r"extern\s+__shared__\s+(?P<align>(?:__align__|alignas)\s*\([^)]*\)\s*)?"
    r"(?P<type>[\w:<>\s]*[\w>])\s+(?P<name>\w+)\s*\[\s*\]\s*;"
)
_KERNEL = re.compile(
    r"(?P<template>\btemplate\s*<[^;{}]*>\s*)?(?:static\s+|inline\s+)*"
    r"__global__[^;{}]*?\bvoid\b\s*"
    r"(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?(?P<name>\w+)\s*\("
)


def kernel_names(code: str) -> list[str]:
    """Return the names of the kernels in the source, templates and macros left out."""
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", "", _COMMENT.sub(" ", code), flags=re.MULTILINE)
    found = _KERNEL.finditer(code)
    return list(dict.fromkeys(m["name"] for m in found if not m["template"]))


def _without(pattern: re.Pattern[str], text: str) -> str:
    """Blank out what a pattern matches; the lines keep their numbers."""
    return pattern.sub(lambda m: "\n" * m[0].count("\n"), text)


def _dynamic_shared(match: re.Match[str]) -> str:
    """Declare dynamic shared memory as a name for the pointer to it, on as many lines."""
    pointer = f"{match['type']}* const"
    return (
        f"static {pointer}& {match['name']} = "
        f"reinterpret_cast<{pointer}&>(::cuda_host::cuda_host_dynamic_shared);"
    ) + "\n" * match[0].count("\n")


def _definitions(options: Sequence[str]) -> list[str]:
    """Return the `-D` options as directives; other options are none of a CPU's."""
    lines, rest = [], iter(options)
    for option in rest:
        text = None
        if option in ("-D", "--define-macro"):
            text = next(rest)
        elif option.startswith("--define-macro="):
            text = option.removeprefix("--define-macro=")
        elif option.startswith("-D"):
            text = option[2:]
        if text is not None:
            name, _, value = text.strip().partition("=")
            lines.append(f"#define {name} {value or 1}")
    return lines


def _contracts(options: Sequence[str]) -> bool:
    """Tell whether products and sums may fuse: on a device they do unless an option forbids."""
    chosen = [o.split("=")[1] for o in options if o.lstrip("-").startswith("fmad=")]
    return not chosen or chosen[-1] == "true"


def _translation(code: str, options: Sequence[str], names: Sequence[str]) -> str:
    """Return the C++ source of a module: the header, the code as it is, and its launchers."""
    includes = _INCLUDE.findall(_COMMENT.sub(" ", code))
    code = _DYNAMIC_SHARED.sub(_dynamic_shared, _without(_INCLUDE, code))
    code = re.sub(r"\bstatic(\s+)__shared__|\b__shared__(\s+)static\b", r"__shared__\1\2", code)
    lines = [
        '#include "host.h"',
        *includes,
        *_definitions(options),
        "namespace cuda_source { namespace {",
        '#line 1 "kernel.cu"',
        code,
        "} }",
        '#line 1 "launchers"',
    ]
    for i, name in enumerate(names):
        kernel = f"&cuda_source::{name}"
        lines += [
            f'extern "C" void cuda_host_call_{i}(void** a) {{ ::cuda_host::call({kernel}, a); }}',
            f'extern "C" int cuda_host_describe_{i}(::cuda_host::Parameter* p)'
            f" {{ return ::cuda_host::describe({kernel}, p); }}",
        ]
    lines += [
        '#define CUDA_HOST_BOUND __attribute__((weak, visibility("hidden")))',
        'extern "C" { extern char __start_cuda_shared[] CUDA_HOST_BOUND;',
        "extern char __stop_cuda_shared[] CUDA_HOST_BOUND; }",
        'extern "C" char* cuda_host_shared_start() { return __start_cuda_shared; }',
        'extern "C" char* cuda_host_shared_end() { return __stop_cuda_shared; }',
        "",
    ]
    return "\n".join(lines)


class _Parameter(ctypes.Structure):
    """`cuda_host::Parameter`."""

    _fields_ = (
        ("kind", ctypes.c_char),
        ("pointee_kind", ctypes.c_char),
        ("size", ctypes.c_int),
        ("pointee_size", ctypes.c_int),
        ("readonly", ctypes.c_bool),
        ("name", ctypes.c_char_p),
    )


# Which kinds of NumPy type hold what a kind of C type does. Signedness is left to the kernel.
_NUMPY_KINDS = {"f": "f", "i": "iub", "p": "iu", "o": "V"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a kernel, as the compiler sees it."""

    kind: str  # p: pointer, f: floating, i: integer, o: other
    size: int
    pointee_kind: str
    pointee_size: int
    readonly: bool
    type: str

    def packed(self, argument: Any) -> Any:
        """Return the argument as it lies in the memory of parameters.

        Raises
        ------
        TypeError
            If a device would read something else than was meant.
        """
        if isinstance(argument, np.ndarray):
            return ctypes.c_uint64(self._address(argument))
        if isinstance(argument, np.generic):
            return self._scalar(argument)
        if isinstance(argument, bool):
            return self._scalar(np.bool_(argument))
        if isinstance(argument, int):
            return self._integer(argument)
        if isinstance(argument, float):
            return self._scalar(np.float64(argument))
        raise TypeError(f"{_said(argument)} is neither a NumPy array, nor a scalar, nor an int")

    def _address(self, array: np.ndarray) -> int:
        if self.kind != "p":
            raise TypeError(f"an array, but the kernel takes {self.type}")
        if not array.flags.c_contiguous:
            raise TypeError("an array that is not C-contiguous")
        if not (array.flags.writeable or self.readonly):
            raise TypeError(f"a read-only array, but the kernel takes {self.type}")
        if not self._holds(array.dtype):
            raise TypeError(f"an array of {array.dtype}, but the kernel takes {self.type}")
        return array.ctypes.data

    def _holds(self, dtype: np.dtype[Any]) -> bool:
        """Tell whether elements of the type are what the pointer points to; bytes may be any."""
        if self.pointee_kind in "vo" or dtype in (np.uint8, np.int8):
            return True
        return dtype.kind in _NUMPY_KINDS[self.pointee_kind] and dtype.itemsize == self.pointee_size

    def _scalar(self, value: np.generic) -> Any:
        if value.dtype.kind not in _NUMPY_KINDS[self.kind] or value.dtype.itemsize != self.size:
            raise TypeError(f"{_said(value)}, but the kernel takes {self.type}")
        return ctypes.create_string_buffer(value.tobytes(), self.size)

    def _integer(self, value: int) -> Any:
        # CuPy passes a long long, of which a device reads as many bytes as it needs.
        if self.kind not in "ip" or not -(2 ** (8 * self.size - 1)) <= value < 2 ** (8 * self.size):
            raise TypeError(f"the int {value}, but the kernel takes {self.type}")
        return ctypes.c_uint64(value)


def _said(value: Any) -> str:
    return f"{value!r} of type {type(value).__name__}"


def _parameters(describe: Any) -> list[Parameter]:
    """Return the parameters of a kernel, from what the compiler wrote about its type."""
    raw = (_Parameter * describe(None))()
    describe(raw)
    return [
        Parameter(
            kind=p.kind.decode(),
            size=p.size,
            pointee_kind=p.pointee_kind.decode(),
            pointee_size=p.pointee_size,
            readonly=p.readonly,
            type=re.split(r"with T = ", p.name.decode())[1].rstrip("]"),
        )
        for p in raw
    ]


class HostKernel:
    """A kernel of a `HostModule`: call it with a grid, a block and arguments."""

    def __init__(self, module: HostModule, library: ctypes.CDLL, name: str, index: int) -> None:
        self.name = name
        self.parameters = _parameters(library[f"cuda_host_describe_{index}"])
        self.max_dynamic_shared_size_bytes = DEFAULT_SHARED
        self._module, self._body = module, library[f"cuda_host_call_{index}"]
        bounds = [library.cuda_host_shared_start, library.cuda_host_shared_end]
        for bound in bounds:
            bound.restype = ctypes.c_void_p
        self._shared = [ctypes.c_void_p(bound()) for bound in bounds]

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
    ) -> None:
        """Run all blocks to their end.

        Raises
        ------
        TypeError
            If the arguments do not fit the parameters.
        LaunchError
            If no device could launch this, or the kernel fails while it runs.
        """
        sizes = (_sizes(grid), _sizes(block))
        self._check_launch(*sizes, shared_mem)
        packed = self._packed(args)
        pointers = [ctypes.cast(ctypes.byref(p), ctypes.c_void_p) for p in packed]
        with _LAUNCH:
            failure = self._module.runtime.cuda_host_launch(
                self._body,
                (ctypes.c_void_p * max(1, len(pointers)))(*pointers),
                *[(ctypes.c_uint * 3)(*size) for size in sizes],
                ctypes.c_size_t(shared_mem),
                *self._shared,
                ctypes.c_bool(self._module.backwards),
            )
        if failure is not None:
            raise LaunchError(f"kernel {self.name}, {failure.decode()}")

    def _packed(self, args: Sequence[Any]) -> list[Any]:
        if len(args) != len(self.parameters):
            raise TypeError(
                f"kernel {self.name} takes {len(self.parameters)} arguments, not {len(args)}"
            )
        packed = []
        for i, (parameter, argument) in enumerate(zip(self.parameters, args, strict=True)):
            try:
                packed.append(parameter.packed(argument))
            except TypeError as error:
                raise TypeError(f"kernel {self.name}, args[{i}] is {error}") from None
        return packed

    def _check_launch(self, grid: Sequence[int], block: Sequence[int], shared_mem: int) -> None:
        def refuse(what: str) -> None:
            raise LaunchError(f"kernel {self.name}: no device can launch {what}")

        if any(not 1 <= n <= most for n, most in zip(grid, MAX_GRID, strict=True)):
            refuse(f"a grid of {tuple(grid)} blocks; the most is {MAX_GRID}")
        if any(not 1 <= n <= most for n, most in zip(block, MAX_BLOCK, strict=True)):
            refuse(f"a block of {tuple(block)} threads; the most is {MAX_BLOCK}")
        if np.prod(block) > MAX_THREADS:
            refuse(f"a block of {np.prod(block)} threads; the most is {MAX_THREADS}")
        if not 0 <= shared_mem <= min(self.max_dynamic_shared_size_bytes, MAX_SHARED):
            refuse(
                f"{shared_mem} bytes of dynamic shared memory; max_dynamic_shared_size_bytes is "
                f"{self.max_dynamic_shared_size_bytes}, and can be {MAX_SHARED}"
            )


def _sizes(sizes: Sequence[int]) -> list[int]:
    """Return three sizes; those that are left out are 1."""
    if not 1 <= len(sizes) <= 3:
        raise LaunchError(f"a grid and a block have one to three sizes, not {len(sizes)}")
    return [*(int(n) for n in sizes), 1, 1][:3]


class HostModule:
    """CUDA C source, compiled for the CPU, with the interface of `cupy.RawModule`.

    Parameters
    ----------
    code
        The source. Its kernels are found by name; of templates, ask for `name<arguments>`.
    options
        Options as NVRTC takes them. `-D` is honoured and `--fmad`; others are ignored.
    contract
        Whether products and sums may fuse. By default they may unless `--fmad=false` is given, as
        on a device.
    backwards
        Whether blocks, warps and lanes run from the last to the first.
    optimisation
        The compiler's level of optimisation, 0 to 3.
    """

    def __init__(
        self,
        code: str,
        options: Sequence[str] = (),
        *,
        contract: bool | None = None,
        backwards: bool = False,
        optimisation: int = 1,
    ) -> None:
        self.code, self.options, self.backwards = code, tuple(options), backwards
        contract = _contracts(options) if contract is None else contract
        self._flags = (
            f"-O{optimisation}",
            f"-ffp-contract={'fast' if contract else 'off'}",
            "-fexpensive-optimizations",  # without which -O1 does not contract
            *(("-mfma",) if _has_fma() else ()),
            *_DEVICE,
        )
        self.runtime = runtime()
        self._names = kernel_names(code)
        self._library = self._load(self._names)

    def _load(self, names: Sequence[str]) -> ctypes.CDLL:
        source = _translation(self.code, self.options, names)
        return ctypes.CDLL(str(_build(source, ".cpp", self._flags)))

    def get_function(self, name: str) -> HostKernel:
        """Return the kernel of that name."""
        if name in self._names:
            return HostKernel(self, self._library, name, self._names.index(name))
        # A template, or a kernel that a macro defines; it gets a module of its own.
        return HostKernel(self, self._load([name]), name, 0)
