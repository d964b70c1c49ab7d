"""Compiles kernels with LLVM, and keeps them on disk for the next process."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fastcheck.fusion.code import FUNCTION
from fastcheck.fusion.source import Source

_MAGIC = b"fastcheck kernel 1\n"
_KEPT = 512
SECONDS_TO_START = 0.06
_SECONDS_A_KERNEL, _SECONDS_A_LINE = 0.005, 5e-5
_ARGUMENTS = (*[ctypes.c_void_p] * 9, ctypes.c_int64, ctypes.c_int64)
Function = Callable[..., None]
_MOST_LOADED = 256

_loaded: dict[str, Function] = {}
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # another thread may have held it when the process forked
    os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]
notes: list[str] = []
"""What was wrong with the cache on disk, each thing once; kernels are compiled all the same."""


def compiled(source: Source) -> Function:
    """Return the machine code of a kernel: from memory, from disk, or compiled now."""
    return compiled_text(source.text)


def compiled_text(text: str) -> Function:
    """Return the machine code of a function in LLVM's language, called as kernels are."""
    key = _key(text)
    with _lock:
        if key not in _loaded:
            code = _read(key)
            if code is None:
                code = _machine().compile(text)
                _write(key, code)
            if len(_loaded) >= _MOST_LOADED:
                del _loaded[next(iter(_loaded))]  # the oldest; who still runs it keeps it
            _loaded[key] = _machine().load(code)
        return _loaded[key]


def is_compiled(source: Source) -> bool:
    """Whether the kernel is at hand, in memory or on disk."""
    return is_compiled_text(source.text)


def is_compiled_text(text: str) -> bool:
    """Whether machine code is at hand, in memory or on disk."""
    key = _key(text)
    try:
        return key in _loaded or _file(key).exists()
    except (OSError, RuntimeError):  # a folder that may not be entered, or nobody's home
        return False


def seconds_to_compile(source: Source) -> float:
    """Estimate how long compiling a kernel takes; nothing, if it is at hand."""
    return 0.0 if is_compiled(source) else _SECONDS_A_KERNEL + _SECONDS_A_LINE * _lines(source)


def seconds_to_start(source: Source) -> float:
    """Estimate how long the first kernel of a process takes at most, LLVM not being loaded yet."""
    return SECONDS_TO_START + _SECONDS_A_KERNEL + _SECONDS_A_LINE * _lines(source)


def started() -> bool:
    """Whether LLVM is loaded: before that, nothing here is quick."""
    return "llvmlite.binding" in sys.modules


def has_many_registers() -> bool:
    """Whether the processor has 32 registers of eight float64."""
    import llvmlite.binding as llvm

    return bool(llvm.get_host_cpu_features().get("avx512f", False))


def _lines(source: Source) -> int:
    return source.text.count("\n")


class _Machine:
    """LLVM set up for this processor."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self._llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._options = {
            "cpu": llvm.get_host_cpu_name(),
            "features": llvm.get_host_cpu_features().flatten(),
            "opt": 2,
            "jit": True,
        }

    def _target(self) -> Any:
        return self._llvm.Target.from_default_triple().create_target_machine(**self._options)

    def compile(self, text: str) -> bytes:
        """Return the object code of a function."""
        module, target = self._llvm.parse_assembly(text), self._target()
        module.verify()  # code that is not well-formed would abort the process
        module.triple = target.triple
        module.data_layout = str(target.target_data)
        code: bytes = target.emit_object(module)
        return code

    def load(self, code: bytes) -> Function:
        """Return the function, which keeps alive what it needs."""
        # An engine owns its target: with a shared one, the first to go would take it away.
        engine = self._llvm.create_mcjit_compiler(self._llvm.parse_assembly(""), self._target())
        engine.add_object_file(self._llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address = engine.get_function_address(FUNCTION)
        function = ctypes.CFUNCTYPE(None, *_ARGUMENTS)(address)
        function.engine = engine  # type: ignore[attr-defined]
        return function


@cache
def _machine() -> _Machine:
    return _Machine()


@cache
def _host() -> str:
    """Return what machine code depends on besides its source."""
    import llvmlite
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features().flatten()
    return f"{llvmlite.__version__} {llvm.get_host_cpu_name()} {features} {sys.platform}"


def _key(text: str) -> str:
    return hashlib.sha256(f"{_host()}\n{text}".encode()).hexdigest()


# -- the cache on disk ----------------------------------------------------------------------------


def cache_folder() -> Path:
    """Return the folder of compiled kernels: FASTCHECK_CACHE_DIR, or the user's cache folder.

    Raises
    ------
    RuntimeError
        There is no home to have a cache in.
    """
    chosen = os.environ.get("FASTCHECK_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "fastcheck" / "kernels"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastcheck"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastcheck"


def _file(key: str) -> Path:
    return cache_folder() / f"{key}.kernel"


def _read(key: str) -> bytes | None:
    """Return a kernel from disk; None if there is none, or it is not what was written."""
    try:
        data = _file(key).read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as fault:
        _note(f"the kernel cache{_place()} cannot be read ({_reason(fault)})")
        return None
    digest, code = data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if not data.startswith(_MAGIC) or hashlib.sha256(code).digest() != digest:
        _note(f"a damaged kernel in {cache_folder()} was compiled anew")
        return None
    return code


def _write(key: str, code: bytes) -> None:
    """Keep a kernel on disk; where that is not possible, say so and go on."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(_MAGIC + hashlib.sha256(code).digest() + code)
            os.replace(name, _file(key))
        except OSError:
            os.unlink(name)
            raise
        _prune(folder)
    except (OSError, RuntimeError) as fault:
        _note(f"kernels cannot be kept{_place()} ({_reason(fault)}); set FASTCHECK_CACHE_DIR")


def _place() -> str:
    try:
        return f" in {cache_folder()}"
    except RuntimeError:
        return ""


def _reason(fault: Exception) -> str:
    return str(fault.strerror if isinstance(fault, OSError) else fault).rstrip(".")


def _prune(folder: Path) -> None:
    """Remove the oldest kernels where there are too many."""
    files = list(folder.glob("*.kernel"))
    if len(files) > _KEPT:
        files.sort(key=lambda file: file.stat().st_mtime)
        for file in files[: len(files) - _KEPT]:
            file.unlink(missing_ok=True)


def _note(what: str) -> None:
    if what not in notes:
        notes.append(what)
